"""`make gpu-check`: for a machine with a GPU and no network. Builds in place with CUDA, then runs
benchmarks.gpu.smoke, the measurements, the tests that need a GPU, and compute-sanitizer on a small
case, each as a stage of its own. Installs nothing.

    python -m benchmarks.gpu.check [--seconds 540] [--results FOLDER] [--only STAGE,...]

In FOLDER, written as the check goes: SUMMARY.txt (also printed at the end), logs.txt (all that the
stages print), gpu.csv (measurements), profile.txt (where the time of one selection goes).

Needs torch, triton, pybind11, setuptools, pytest, numpy, nvcc and cmake. Standard library only, so
that it can say what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.stages import Stage, Stages, summary

BEGAN = time.monotonic()

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "gpu"

# Seconds for everything, counted from the start of the process.
SECONDS = 540.0

# Their tests need a GPU, or show more on one.
TESTS = ("device", "certificate", "autotune", "pool", "")

# Options of pytest where a plugin is installed. The thread names a test whose kernel does not end;
# tests spend most of their time in their oracles, so several run at a time.
OPTIONS = {
    "pytest_timeout": ["--timeout=60", "--timeout-method=thread"],
    "xdist": ["-n", "8"],
}

# Small enough for memcheck; touches every kernel that selection launches.
SMALL = """
import torch
from entroselect import greedy_select, nearest_distances, threshold_select
pool = torch.randn((700, 40), device="cuda").round(decimals=1)
greedy_select(pool, 300); threshold_select(pool, 300); nearest_distances(pool)
greedy_select(pool, 20, start="center", metric="cosine")
"""

# Prints what is missing, or the machine and its compute capability.
PROBE = """
import importlib.util, json, sys
from importlib.metadata import version
needed = ("torch", "triton", "pybind11", "setuptools", "pytest", "numpy")
missing = [name for name in needed if importlib.util.find_spec(name) is None]
told = {"why_not": f"{sys.executable} cannot import {missing[0]}" if missing else ""}
if not missing and int(version("setuptools").split(".")[0]) < 77:
    told["why_not"] = f"setuptools {version('setuptools')} is too old: the build needs 77 or newer"
elif not missing:
    import torch
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        told["architecture"] = f"{major}{minor}"
        told["card"] = (
            f"{torch.cuda.get_device_name()}, Python {sys.version.split()[0]}, "
            f"torch {torch.__version__}, triton {version('triton')}"
        )
        plugins = ("pytest_timeout", "xdist")
        told["plugins"] = [name for name in plugins if importlib.util.find_spec(name)]
    else:
        told["why_not"] = "torch finds no GPU"
print(json.dumps(told))
"""

# Fails where backend "cuda" would not run, so that nothing after it falls back to a CPU.
RUNS = "import sys; from entroselect import _dispatch; sys.exit(_dispatch.why_not_cuda() or 0)"


def machine() -> dict[str, Any]:
    """ "why_not": what is missing on this machine, "" if nothing is; then its "card" with versions,
    its "architecture" as nvcc numbers it, and the "plugins" of pytest that are of use."""
    for tool in ("nvcc", "cmake"):
        if shutil.which(tool) is None:
            return {"why_not": f"{tool} was not found"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"why_not": f"{sys.executable}: {done.stderr.strip().splitlines()[-1]}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def environment(found: Mapping[str, Any]) -> dict[str, str]:
    """What every stage runs in: CUDA or nothing, for this card alone."""
    given = dict(os.environ)
    paths = [str(ROOT), *filter(None, [given.get("PYTHONPATH")])]
    given.pop("TRITON_INTERPRET", None)
    given.setdefault("CUDAARCHS", f"{found['architecture']}-real")
    given.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
    return given | {
        "ENTROSELECT_CUDA": "on",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }


def stages(results: Path, plugins: Sequence[str]) -> list[Stage]:
    """All stages in order: what teaches most about a first run comes first."""
    python = sys.executable

    def measure(part: str, seconds: float, shown: int) -> Stage:
        words = ["--seconds", "{seconds}", "--results", str(results)]
        return Stage(part, [[python, "-m", "benchmarks.gpu.measure", part, *words]], seconds,
                     shown=shown)  # fmt: skip

    # The metadata tells the package its version; nothing is installed.
    build = [python, "setup.py", "--quiet", "egg_info", "build_ext", "--inplace"]
    files = [f"tests/backends/test_cuda{name and '_'}{name}.py" for name in TESTS]
    pytest = [
        python, "-m", "pytest", "-q", "--maxfail=3", "--tb=short", "-rf", "-W", "default",
        "-p", "no:cacheprovider", *(word for name in plugins for word in OPTIONS[name]),
    ]  # fmt: skip
    sanitizer = [
        "compute-sanitizer", "--target-processes", "application-only", "--kernel-name",
        "kns=entroselect", "--report-api-errors", "no", "--error-exitcode", "1",
    ]  # fmt: skip
    return [
        Stage("build", [build, [python, "-c", RUNS]], 170, needed=True),
        Stage("precompile", [[python, "-m", "benchmarks.gpu.precompile"]], 60),
        Stage("smoke", [[python, "-m", "benchmarks.gpu.smoke"]], 110, needed=True,
              environment={"CUDA_LAUNCH_BLOCKING": "1"}),
        measure("certificate", 60, 8),
        measure("kernels", 50, 18),
        measure("headline", 110, 7),
        measure("passes", 80, 24),
        measure("profile", 45, 14),
        Stage("tests", [[*pytest, *files]], 120),
        *(Stage(tool, [[*sanitizer, "--tool", tool, python, "-c", SMALL]], 60)
          for tool in ("memcheck", "racecheck")),
    ]  # fmt: skip


def check(chosen: Sequence[Stage], title: str, results: Path, end: float, given: Any) -> int:
    """Runs the stages; prints how each ended, and at the end the summary. 1 if any failed."""
    made = Stages(results / "logs.txt", ROOT, given, end)

    def interrupted(number: int, frame: Any) -> None:
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.SIG_IGN)
        raise KeyboardInterrupt

    ends = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupted) for number in ends]
    told = [title]
    try:
        for stage in chosen:
            print(f"== {stage.name}", flush=True)
            try:
                print(f"== {made.run(stage)}", flush=True)
            finally:  # written after each stage, for a reader of a check that was killed
                told = summary(title, made.outcomes)
                (results / "SUMMARY.txt").write_text("\n".join(told) + "\n")
    except KeyboardInterrupt:
        print("== interrupted", flush=True)
    print("\n".join(told), flush=True)
    for number, handler in zip(ends, before, strict=True):
        signal.signal(number, handler)
    return int(len(made.outcomes) < len(chosen) or any(each.failed for each in made.outcomes))


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds, tests and measures backend 'cuda'.")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--only", default="", metavar="STAGE,...", help="these stages alone")
    arguments = parser.parse_args()
    found = machine()
    if found["why_not"]:
        print(f"gpu-check: cannot run here: {found['why_not']}")
        return 1
    results = arguments.results.resolve()
    every = stages(results, found["plugins"])
    only = list(filter(None, arguments.only.split(",")))
    unknown = set(only) - {stage.name for stage in every}
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))}: expected some of "
                     f"{', '.join(stage.name for stage in every)}")  # fmt: skip
    results.mkdir(parents=True, exist_ok=True)
    chosen = [stage for stage in every if not only or stage.name in only]
    commit = os.environ.get("ENTROSELECT_COMMIT", "")
    title = f"gpu-check on {found['card']}{commit and f', commit {commit}'}"
    return check(chosen, title, results, BEGAN + arguments.seconds, environment(found))


if __name__ == "__main__":
    sys.exit(main())
