"""The tables and figures of docs/reproduction.md, from the committed results of the study.

python -m benchmarks.study.page            rewrites the page's tables and draws the figures
python -m benchmarks.study.page --check    exits 1 if the page is out of date
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.study import tables
from benchmarks.study.checks import Found
from benchmarks.support.record import RESULTS, ROOT, Row, read
from benchmarks.support.tables import rewrite, unique

PAGE = ROOT / "docs" / "reproduction.md"
IMAGES = ROOT / "docs" / "images"
PARTS = ("regimes", "claims", "resample", "reference", "cifar")

Results = dict[str, list[Row]]

# Of parts without a run of the loop: the heading, what the figure shows, and the table.
SECTIONS: dict[str, tuple[str, str, Callable[[Sequence[Row]], list[str]]]] = {
    "resample": ("Without a network", "fd at iteration 8 against h", tables.resampled),
    "reference": (
        "The reference: how large, and what a biased one does",
        "fd against the size of the reference",
        tables.references,
    ),
    "cifar": (
        "Real images with near-copies and corrupted ones among them: CIFAR-10",
        "fd against entropy, and what was taken",
        tables.cifar,
    ),
}


def results(folder: Path) -> Results:
    """The rows of each part."""
    return {part: read(folder / f"study_{part}.csv") for part in PARTS}


def found_in(given: Results) -> dict[str, Found]:
    """The measures of each setting of the loop."""
    return tables.settings([*given["regimes"], *given["claims"]])


def picture(name: str, what: str) -> str:
    """A figure on the page."""
    return f"![{what}](images/study_{name}.png)"


def render(given: Results) -> str:
    """The text between the markers of docs/reproduction.md."""
    if not any(given.values()):
        return "No results yet: `make study` makes them."
    found, text = found_in(given), []
    if given["regimes"]:
        text += [picture("curve", "fd of the next model against entropy of the chosen set"), ""]
        text += [*tables.regimes(found), "", *tables.advice(found), ""]
        text += ["## The two regimes, by iteration", ""]
        text += [picture("regimes", "fd, entropy and GS by iteration"), ""]
    for part, (title, what, lines) in SECTIONS.items():
        if given[part]:
            text += [f"## {title}", "", picture(part, what), "", *lines(given[part]), ""]
    if given["claims"]:
        title = "Real images kept, fresh ones, guidance, two models"
        text += [f"## {title}", "", *tables.groups(found), ""]
    if has_shares(found):
        text += [picture("kept", "fd against the kept share"), ""]
    if found:
        text += ["## Each claim", "", *tables.claimed(found), ""]
    return "\n".join([*text, footnote(given)])


def has_shares(found: dict[str, Found]) -> bool:
    """Whether another share than half was kept anywhere."""
    return any(here.common("keep 0.2")[0] for here in found.values())


def footnote(given: Results) -> str:
    """Where the figures come from."""
    every = [row for rows in given.values() for row in rows]
    seeds = {part: len({row["seed"] for row in rows}) for part, rows in given.items() if rows}
    counts = ", ".join(f"{part} {count}" for part, count in seeds.items())
    return (
        f"Mean ± standard deviation over seeds ({counts}). Commit "
        f"{unique(row['commit'] for row in every)}, {unique(row['cpu'] for row in every)}, torch "
        f"{unique(row['torch'] for row in every)}."
    )


def draw(given: Results, folder: Path) -> None:
    """The figures that the page shows."""
    from benchmarks.study import figures

    found = found_in(given)
    if given["regimes"]:
        figures.curve(found, folder / "study_curve.png")
        figures.courses(found, folder / "study_regimes.png")
    if given["resample"]:
        figures.resampled(given["resample"], folder / "study_resample.png")
    if given["reference"]:
        figures.references(given["reference"], folder / "study_reference.png")
    if given["cifar"]:
        figures.cifar(given["cifar"], folder / "study_cifar.png")
    if has_shares(found):
        figures.kept(found, folder / "study_kept.png")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.study.page", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--images", type=Path, default=IMAGES)
    options = parser.parse_args(arguments)
    given = results(options.results)
    stale = rewrite(options.page, render(given), check=options.check)
    if options.check:
        if stale:
            print(f"{options.page}: out of date, run python -m benchmarks.study.page")
        return int(stale)
    draw(given, options.images)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
