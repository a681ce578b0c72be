"""The CUDA kernels' own logic, run on the CPU from the same sources under sanitizers."""

from __future__ import annotations

from pathlib import Path

from tests.support.processes import run


def test_the_kernels_agree_with_the_cpu_and_with_plain_loops(host_build: Path) -> None:
    """Canonical bits, halves, coding, settling picks among ties; threads in both orders."""
    done = run([host_build / "cuda_check"], environment={"UBSAN_OPTIONS": "print_stacktrace=1"})
    orders = ["farthest", "in-order", "conflicts"] * 2
    assert done.stdout.split() == ["canonical", "lengths", "halves", "coding", "recheck", *orders]


def test_no_barrier_is_missing_where_picks_are_settled(host_build: Path) -> None:
    """With a thread for each of a CUDA block's, ThreadSanitizer sees what its threads would race
    for."""
    done = run([host_build / "cuda_threads"], environment={"TSAN_OPTIONS": "halt_on_error=1"})
    assert done.stdout.split() == ["farthest", "in-order", "conflicts"]
