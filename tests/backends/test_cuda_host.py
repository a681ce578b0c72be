"""The CUDA kernels' own logic, run on the CPU from the same sources under sanitizers."""

from __future__ import annotations

from pathlib import Path

from tests.support.processes import run

LISTS = ["frontier", "candidates", "refresh", "ranks", "farthest", "in-order", "conflicts"]


def test_the_kernels_agree_with_the_cpu_and_with_plain_loops(host_build: Path) -> None:
    """Canonical bits, codes, tiles, lists of rows, settling among ties; threads in both orders."""
    done = run([host_build / "cuda_check"], environment={"UBSAN_OPTIONS": "print_stacktrace=1"})
    once = ["canonical", "lengths", "halves", "coding", "tiles", "items", "recheck"]
    assert done.stdout.split() == [*once, *LISTS, *LISTS]


def test_no_barrier_is_missing(host_build: Path) -> None:
    """With a thread for each of a CUDA block's, ThreadSanitizer sees what its threads would race
    for."""
    done = run([host_build / "cuda_threads"], environment={"TSAN_OPTIONS": "halt_on_error=1"})
    assert done.stdout.split() == LISTS
