"""The CUDA kernels' own logic, run on the CPU from the same sources under sanitizers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def test_the_kernels_agree_with_the_cpu_and_with_plain_loops(host_build: Path) -> None:
    """Canonical bits, halves, coding, settling picks among ties; threads in both orders."""
    environment = {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run(
        [str(host_build / "cuda_check")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    orders = ["farthest", "in-order"] * 2
    assert done.stdout.split() == ["canonical", "lengths", "halves", "coding", *orders]
