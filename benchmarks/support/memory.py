"""Peak memory of one call beyond the pool itself.

    python -m benchmarks.support.memory OPERATION POOL N D K

Runs in a process of its own, because the peak of a process cannot be lowered by freeing. Prints
MiB, or nothing on systems that do not report it (Linux does).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.support.harness import Case
from benchmarks.support.record import ROOT

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")  # "5" sets the peak to what is resident now


def peak_extra_mib(operation: str, case: Case) -> str:
    """MiB that "greedy" or "entropy" adds to the resident memory at its peak; "" if unknown."""
    command = [sys.executable, "-m", "benchmarks.support.memory", operation, case.pool]
    command += [str(size) for size in (case.n, case.d, case.k)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _resident(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise KeyError(field)


def main(operation: str, pool: str, n: int, d: int, k: int) -> None:
    """Measures in this process."""
    from benchmarks.support.pools import POOLS
    from entroselect import greedy_select, kl_entropy

    if not STATUS.exists():
        return
    rows = POOLS[pool](n, d)
    call = {"greedy": lambda x: greedy_select(x, min(k, len(x))), "entropy": kl_entropy}[operation]
    call(rows[:100])  # so that threads and libraries are not measured
    try:
        RESET.write_text("5")
    except OSError:
        return
    before = _resident("VmRSS")
    call(rows)
    print(f"{(_resident('VmHWM') - before) / 1024:.0f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
