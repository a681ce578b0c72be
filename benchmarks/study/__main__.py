"""The study: when a selection pays for a model that learns from its own images, and when not.

python -m benchmarks.study --out study-runs                      what needs digits only
python -m benchmarks.study --out study-runs --mnist mnist.npz --cifar cifar10.zip --jobs 2
python -m benchmarks.study --out study-runs --part resample      one part

The command resumes where it was stopped. Every part has its results in
benchmarks/results/study_PART.csv; `python -m benchmarks.study.page` makes docs/reproduction.md
and its figures from these.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

from benchmarks.study import cifar, paradigms, reference, regimes, resample
from benchmarks.study import tasks as work
from benchmarks.support.record import RESULTS
from entroselect.cli.errors import plain_failures
from entroselect.cli.output import say

# In this order: the parts that tell most in a minute come first.
PARTS: dict[str, ModuleType] = {
    "resample": resample,
    "regimes": regimes,
    "reference": reference,
    "cifar": cifar,
    "claims": paradigms,
}


def main(arguments: list[str] | None = None) -> None:
    """The command line; exit status 1 if a task failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path("study-runs"), help="for run folders")
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--mnist", default="", help="an mnist.npz; without, digits only")
    parser.add_argument("--cifar", default="", help="CIFAR-10 as a .zip or folder of images")
    parser.add_argument("--jobs", type=int, default=1, help="tasks at a time, a thread each")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of those of the parts")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    parser.add_argument("--set", action="append", default=[], help="further options of every run")
    given = parser.parse_args(arguments)
    with plain_failures():
        for name, value in (("mnist", given.mnist), ("cifar", given.cifar)):
            if not value:
                say(f"without {name}: no --{name} FILE (make study {name.upper()}=FILE)")
        seeds = None if given.seeds is None else tuple(given.seeds)
        asked = work.Given(given.out, given.mnist, given.cifar, seeds, tuple(given.set))
        given.out.mkdir(parents=True, exist_ok=True)
        failed = 0
        for name in given.part:
            part, results = PARTS[name], given.results / f"study_{name}.csv"
            todo = part.tasks(asked)
            say(f"part {name}: {len(todo)} tasks, results in {results}")
            failed += work.run(todo, results, part.COLUMNS, given.jobs)
        if failed:
            raise ValueError(f"{failed} tasks failed; start the study again to try them again")


if __name__ == "__main__":
    main()
