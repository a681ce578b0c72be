"""Measures backend "cuda" on a GPU, in parts: how far scores err, each primitive and its kernels,
whole calls, where the time of a selection goes. `make gpu-check` runs each part as a stage.

    python -m benchmarks.gpu.measure [PART ...] [--seconds 120] [--results FOLDER] [--quick]

Each figure is written to gpu.csv in the folder, and printed, as soon as it is known. Exit status 1:
an answer was wrong or a measurement failed.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.gpu.calls import greedy, nearest, profiled
from benchmarks.gpu.certificate import certificate
from benchmarks.gpu.common import Wrong, first_line, line, machine
from benchmarks.gpu.kernels import filter_pass, primitives
from benchmarks.support import record
from entroselect.backends.cuda import autotune

# What a part is given unless told otherwise; of it, what one measurement may take, and after what
# share no further case begins, since a case takes what it takes.
SECONDS, SHARE, BEGIN = 120.0, 1 / 60, 0.75

# Lines of a profile that are printed.
PRINTED = 14

RESULTS = record.RESULTS / "gpu"

# A function that yields rows of results, and its arguments before the device and the seconds.
Case = tuple[Callable[..., Iterator[record.Row]], tuple[int, ...]]

CASES: dict[str, list[Case]] = {
    "certificate": [(certificate, (10,))],
    "kernels": [
        (primitives, (131_072, 768, 8192)),
        (primitives, (131_072, 64, 8192)),
    ],
    "headline": [
        (greedy, (10_000, 64, 1_000)),
        (greedy, (1_000_000, 768, 100_000)),
        (greedy, (1_000_000, 384, 50_000)),
        (greedy, (1_000_000, 384, 500_000)),
    ],
    "passes": [
        *((filter_pass, (131_072, d, 8192)) for d in (768, 384, 64)),
        (nearest, (100_000, 128)),
        (nearest, (1_000_000, 768)),
        (nearest, (1_000_000, 128)),
        (greedy, (100_000, 3, 10_000)),
        *((filter_pass, (131_072, d, 8192)) for d in (128, 1536)),
    ],
    "profile": [
        (profiled, (1_000_000, 768, 10_000)),
        (profiled, (1_000_000, 768, 100_000)),
    ],
}


def run(part: str, device: str, seconds: float, results: Path, quick: bool) -> list[str]:
    """Runs a part's cases until the time is over; returns what failed. Rows are written one by
    one."""
    began = time.perf_counter()
    failed = []
    for measure, shape in CASES[part]:
        if quick:
            shape = tuple(min(size, most) for size, most in zip(shape, (150, 32, 20), strict=False))
        name = f"{measure.__name__} {shape}"
        if time.perf_counter() - began > BEGIN * seconds:
            print(f"skipped, no time left: {name}", flush=True)
            continue
        rows: list[record.Row] = []
        left = 0.0 if quick else seconds - (time.perf_counter() - began)
        try:
            for row in measure(*shape, device, left if part == "certificate" else left * SHARE):
                table = row.pop("table", None)
                rows.append(row)
                record.write(results / "gpu.csv", rows)
                print(line(row), flush=True)
                if table:
                    (results / "profile.txt").write_text("\n".join(table) + "\n")
                    print("\n".join(table[1:PRINTED]), flush=True)
        except (torch.OutOfMemoryError, MemoryError) as error:
            print(f"skipped, too large for this GPU: {name}: {first_line(error)}", flush=True)
        except Exception as error:
            if not isinstance(error, Wrong):
                traceback.print_exc(limit=-4)
            failed.append(f"{name}: {first_line(error)}")
    return failed


def shapes_chosen() -> str:
    """The tile shape for each class of widths, and the times of all that were tried."""
    lines = []
    for (device, width), choice in autotune.CHOICES.items():
        lines.append(f"tiles for widths to {width} on {device}: {choice.tile}")
        for tile, taken in choice.timed.items():
            what = taken if isinstance(taken, str) else f"{taken:.3f} ms"
            lines.append(f"    {tile}: {what}")
    return "\n".join(lines) or "tiles: none timed, the first of the table everywhere"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures backend 'cuda'.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(CASES)}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each part")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="every case in miniature")
    arguments = parser.parse_args()
    parts = arguments.parts or list(CASES)
    if set(parts) - set(CASES):
        parser.error(f"PART: expected some of {', '.join(CASES)}, got {' '.join(parts)}")
    print(f"{machine()}, torch {torch.__version__}", flush=True)
    failed: list[str] = []
    for part in parts:
        failed += run(part, "cuda", arguments.seconds, arguments.results, arguments.quick)
        if part == "headline":
            print(shapes_chosen())
    for what in failed:
        print(f"FAILED: {what}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
