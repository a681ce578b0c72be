"""Compiles the filter's kernel in every form that is asked for, all at the same time: Triton keeps
what it has compiled for the processes that follow, which would take a minute for it one by one.

    python -m benchmarks.gpu.precompile
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from typing import Any

import torch

from benchmarks.gpu.common import backend, normal
from entroselect.backends.cuda import autotune
from entroselect.backends.cuda.filter import Filter, Task
from entroselect.io.open import as_rows

# Whether the codes of rows are kept, and whether only the nearest columns are wanted.
FORMS = tuple(itertools.product((True, False), (True, False)))

# Of the tiles' depths, narrow rows have one of their own, and in one form only.
WIDE, NARROW = 96, 20


def passes(tile: Any, kept: bool, tighten: bool, device: str) -> None:
    """Small passes in one shape of tiles, with and without pairs that are skipped."""
    for d in (WIDE, NARROW) if kept and tighten else (WIDE,):
        held = backend()._hold(as_rows("rows", normal(200, d, device)), "euclidean")
        with held.on_device():
            made = Filter(held, tile)
            coded = made.frame.code(held, None, 0, held.n)
            squared = torch.full((held.n,), 1.0, dtype=torch.float64, device=held.device)
            for skip in (None, 0):
                task = Task(
                    held, coded if kept else None, coded, squared, lambda found: None,
                    tighten=tighten, skip=skip,
                )  # fmt: skip
                made.run(task, torch.arange(held.n, device=held.device), 0, held.n)


def main() -> int:
    """Starts itself once for each shape of tiles and form; 1 if one of them failed."""
    tiles = autotune.table(torch.device("cuda", torch.cuda.current_device()))
    if len(sys.argv) > 1:
        place, form = map(int, sys.argv[1:])
        passes(tiles[place], *FORMS[form], device="cuda")
        return 0
    began, failed = time.perf_counter(), 0
    every = list(itertools.product(range(len(tiles)), range(len(FORMS))))
    this = [sys.executable, "-m", "benchmarks.gpu.precompile"]
    running = [subprocess.Popen([*this, *map(str, each)]) for each in every]
    for (place, form), process in zip(every, running, strict=True):
        if process.wait():
            failed += 1
            kept, tighten = FORMS[form]
            print(f"FAILED: {tiles[place]}, codes kept: {kept}, only the nearest: {tighten}")
    print(f"{len(every) - failed} of {len(every)} in {time.perf_counter() - began:.1f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
