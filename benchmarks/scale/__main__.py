"""Pools larger than memory and several processes, measured in small: benchmarks/results/scale.csv.

    python -m benchmarks.scale disk --out FOLDER      a pool of 20 GB on that disk, 2 GiB of memory
    python -m benchmarks.scale processes              1 to 4 processes on one pool
    python -m benchmarks.scale growth                 what a selection takes as the pool grows
    python -m benchmarks.scale all --out FOLDER
    python -m benchmarks.scale table                  the tables of docs/scale.md

A row is written only if its index list equals that of the same selection in memory; the pool of
20 GB alone, which does not fit, is not compared. The pools in FOLDER are deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.scale.runs import MEASURED, PARTS, select
from benchmarks.scale.tables import PAGE, render
from benchmarks.support.record import PROVENANCE, RESULTS, Row, provenance, read, rounded, write_csv
from benchmarks.support.tables import rewrite


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.scale", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("what", choices=[*PARTS, "all", "table", "select"])
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--results", type=Path, default=RESULTS / "scale.csv")
    parser.add_argument("--given", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.what == "select":
        *given, out = json.loads(options.given)
        Path(out).write_text(json.dumps(select(*given)))
    elif options.what == "table":
        rewrite(PAGE, render(options.results))
    else:
        for name in PARTS if options.what == "all" else [options.what]:
            measure(name, options.out, options.results)
    return 0


def measure(part: str, folder: Path, results: Path) -> None:
    """Runs one part, with its pools in `folder`, and puts its rows in the place of older ones."""
    rows = []
    for row in PARTS[part](folder):
        made = rounded({name: row.get(name, "") for name in MEASURED} | provenance(), 4)
        rows.append(made)
        print({name: made[name] for name in MEASURED}, flush=True)
    write(results, part, rows)


def write(path: Path, part: str, rows: list[Row]) -> None:
    """Replaces the rows of one part; atomic."""
    kept = [row for row in read(path) if row["part"] != part]
    order = list(PARTS)
    every = sorted([*kept, *rows], key=lambda row: order.index(row["part"]))
    write_csv(path, (*MEASURED, *PROVENANCE), every)


if __name__ == "__main__":
    raise SystemExit(main())
