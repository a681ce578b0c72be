"""`make gpu-check`: for a machine with a GPU and no network. Builds in place, runs the tests that
concern the CUDA backend, compute-sanitizer on a small case, then benchmarks.gpu.measure. Installs
nothing.

Needs torch, triton, pybind11, setuptools, pytest, numpy, nvcc and cmake. Takes under ten minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
MORE_TESTS = (TESTS / "backends/test_instruction_sets.py", TESTS / "operations/test_reference.py")

# Small enough for memcheck; touches every kernel that selection launches.
SMALL = """
import torch
from entroselect import greedy_select, nearest_distances, threshold_select
pool = torch.randn((700, 40), device="cuda").round(decimals=1)
greedy_select(pool, 300); threshold_select(pool, 300); nearest_distances(pool)
greedy_select(pool, 20, start="center", metric="cosine")
"""


def why_not() -> str:
    """What is missing on this machine, "" if nothing is."""
    for module in ("torch", "triton", "pybind11", "setuptools", "pytest", "numpy"):
        probe = [sys.executable, "-c", f"import {module}"]
        if subprocess.run(probe, capture_output=True, check=False).returncode:
            return f"{sys.executable} cannot import {module}"
    for tool in ("nvcc", "cmake"):
        if shutil.which(tool) is None:
            return f"{tool} was not found"
    probe = [sys.executable, "-c", "import torch; assert torch.cuda.is_available()"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return "torch finds no GPU"
    return ""


def tests_to_run() -> list[Path]:
    """The files whose tests concern the CUDA backend."""
    return [*sorted((TESTS / "backends").glob("test_cuda*.py")), *MORE_TESTS]


# Seconds for everything; of them, what a step must leave for the steps after it.
SECONDS, FOR_MEASUREMENTS, FOR_THE_END = 600.0, 200.0, 15.0


def step(what: str, command: list[str], seconds: float) -> bool:
    """Runs a command with its output shown, prints how it ended; skips it without time left."""
    if seconds < 5:
        print(f"== {what}: skipped, no time left", flush=True)
        return True
    print(f"== {what}", flush=True)
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
    try:
        code = subprocess.run(
            command, cwd=ROOT, env=environment, timeout=seconds, check=False
        ).returncode
        ended = "passed" if code == 0 else f"FAILED ({code})"
    except subprocess.TimeoutExpired:
        code, ended = 1, f"FAILED (no end after {seconds:.0f} s)"
    print(f"== {what}: {ended}, {time.monotonic() - began:.0f} s", flush=True)
    return code == 0


def main() -> int:
    missing = why_not()
    if missing:
        print(f"gpu-check: cannot run here: {missing}")
        return 1
    end = time.monotonic() + SECONDS

    def left(kept: float) -> float:
        return end - FOR_THE_END - kept - time.monotonic()

    python = sys.executable
    # The metadata tells the package its version; nothing is installed.
    build = [python, "setup.py", "--quiet", "egg_info", "build_ext", "--inplace"]
    if not step("build", build, left(FOR_MEASUREMENTS)):
        return 1
    pytest = [python, "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider"]
    tests = [str(path) for path in tests_to_run()]
    good = step("tests", [*pytest, *tests], left(FOR_MEASUREMENTS))
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        print("skipped, not found: compute-sanitizer")
    for tool in ("memcheck", "racecheck") if sanitizer else ():
        check = [sanitizer or "", "--tool", tool, "--error-exitcode", "1", python, "-c", SMALL]
        good &= step(tool, check, min(60, left(FOR_MEASUREMENTS)))
    # They look at the clock between cases, so the last one needs some of the time.
    measure = [python, "-m", "benchmarks.gpu.measure", "--seconds", f"{max(0.0, left(60)):.0f}"]
    good &= step("measurements", measure, left(0))
    if not good:
        print("gpu-check: something failed, see above")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
