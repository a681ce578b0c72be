# Every target makes what it needs. PYTHON chooses the interpreter of .venv (3.10 to 3.14).
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# What an editable install is made of; Python files are used from where they are.
SOURCES = $(shell find csrc kernels/cuda -type f) CMakeLists.txt setup.py pyproject.toml constraints.txt

CXX_SOURCES = $(shell find csrc kernels/cuda tests/native -type f)

.PHONY: help demo docs test test-fast test-ftz test-versions fuzz lint format bench bench-table gpu-check study study-table clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/demo  ## selection and a small loop on digit images; writes demo-report/index.html, demo-loop/report.html
	.venv/bin/python -m entroselect.cli.demo --out demo-report
	.venv/bin/python -m entroselect.cli.demo_loop --out demo-loop

test-fast: .venv/test  ## all tests but those marked slow, in two processes (about a minute)
	.venv/bin/python -m pytest tests -m "not slow" -n 2

test: test-fast  ## all tests (a quarter of an hour), in two processes: the quick ones, then the slow ones
	.venv/bin/python -m pytest tests -m slow -n 2 --durations=15

test-ftz: .venv/test  ## all tests while subnormal numbers count as 0 in the calling thread
	.venv/bin/python -m pytest tests --flush-to-zero

PINS ?= oldest
TORCH ?= 2.13.0

test-versions:  ## quick tests with the oldest versions the extras allow (PINS=newest; TORCH=pins, or none); writes docs/status.md
	$(PYTHON) -m tests.support.versions --pins $(PINS) --torch $(TORCH)

FUZZ_SECONDS ?= 60

fuzz: .venv/test  ## damaged and hostile files against every reader for a minute (FUZZ_SECONDS=600); 1 if any got through
	.venv/bin/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

lint: .venv/lint  ## style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/clang-format --dry-run --Werror $(CXX_SOURCES)

format: .venv/lint  ## rewrites what lint would complain about
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .
	.venv/bin/clang-format -i $(CXX_SOURCES)

docs: .venv/docs  ## the documentation as a site, in build/site; fails at a broken link
	.venv/bin/python -m mkdocs build

bench: .venv/test  ## all benchmarks (about 25 minutes on a quiet machine), then the tables
	.venv/bin/python -m pytest benchmarks
	$(MAKE) bench-table

bench-table: .venv/test  ## tables and picture from benchmarks/results/*.csv
	.venv/bin/python -m benchmarks.support.tables
	.venv/bin/python -m benchmarks.support.tables --plot

gpu-check:  ## with an NVIDIA GPU, no network needed: builds, tests and measures backend "cuda" (9 minutes)
	$(PYTHON) -m benchmarks.gpu.check

# Images for the study; without them it has its parts with digits.
MNIST ?= $(ENTROSELECT_BENCH_DATA)
CIFAR ?=
JOBS ?= 2

study: .venv/test  ## when a selection pays, run and compared (hours; resumes where it was; MNIST=FILE, CIFAR=FILE)
	.venv/bin/python -m benchmarks.study --out study-runs --mnist "$(MNIST)" --cifar "$(CIFAR)" --jobs $(JOBS)
	$(MAKE) study-table

study-table: .venv/test  ## tables and figures of docs/reproduction.md from benchmarks/results/study_*.csv
	.venv/bin/python -m benchmarks.study.page

clean:  ## removes what the other targets made
	rm -rf .venv build demo-report demo-loop study-runs *.egg-info entroselect/*.so

.venv/bin/python:
	$(PYTHON) -m venv .venv

# The build tools are installed first and used without isolation, so that constraints.txt rules
# them too. Installs are editable; cmake builds again only what changed.
.venv/build: .venv/bin/python constraints.txt
	$(PIP) pybind11 'setuptools>=77' wheel
	@touch $@

.venv/demo: .venv/build $(SOURCES)
	$(PIP) --no-build-isolation --editable '.[demo]'
	@touch $@

# Tests try the benchmarks in small, so they need the peers too. fpsample comes as source only and
# is built first, in isolation, since it wants build tools of its own.
.venv/test: .venv/build $(SOURCES)
	$(PIP) fpsample
	$(PIP) --no-build-isolation --editable '.[test,bench]'
	@touch $@

.venv/docs: .venv/build $(SOURCES)
	$(PIP) --no-build-isolation --editable '.[docs]'
	@touch $@

.venv/lint: .venv/test
	$(PIP) --no-build-isolation --editable '.[lint]'
	@touch $@
