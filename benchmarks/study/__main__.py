"""The study of the paper's claims: which runs it takes, and what was measured in them.

python -m benchmarks.study --out study-runs                      digits only
python -m benchmarks.study --out study-runs --mnist mnist.npz    and MNIST
python -m benchmarks.study --scale full ...                      larger, for a GPU or a long night

Every run is a folder of the loop, so the command resumes where it was stopped. After each run its
measures are in benchmarks/results/study_SCALE.csv; `python -m benchmarks.study.tables` makes
docs/reproduction.md and its figures from that.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.study import runs
from benchmarks.support.record import RESULTS
from entroselect.cli.errors import plain_failures, say


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path("study-runs"), help="for run folders")
    parser.add_argument("--mnist", default="", help="an mnist.npz; without, digits only")
    parser.add_argument("--scale", choices=runs.SCALES, default="small")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(runs.SEEDS))
    parser.add_argument("--results", type=Path, help="the CSV, instead of the committed one")
    parser.add_argument("--set", action="append", default=[], help="further options of every run")
    given = parser.parse_args(arguments)
    results = given.results or RESULTS / f"study_{given.scale}.csv"
    with plain_failures():
        sources = {"digits": "digits"}
        if not given.mnist:
            say("digits only: no MNIST was named (--mnist FILE, or make study MNIST=FILE)")
        elif given.scale in runs.SHRUNK:
            sources["mnist"] = runs.shrunk(Path(given.mnist), given.out / "mnist-8x8.npz")
        else:
            sources["mnist"] = given.mnist
        runs.study(given.out, results, given.scale, sources, given.seeds, given.set)


if __name__ == "__main__":
    main()
