"""The tables and figures of docs/reproduction.md, from the committed results of the study.

python -m benchmarks.study.tables            rewrites the page's tables and draws the figures
python -m benchmarks.study.tables --check    exits 1 if the page is out of date
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.study.claims import Found, claims, spread
from benchmarks.support.record import RESULTS, ROOT, Row, read
from benchmarks.support.tables import rewrite, table, unique

PAGE = ROOT / "docs" / "reproduction.md"
IMAGES = ROOT / "docs" / "images"

# The arms of one question, beside the first of them.
GROUPS: dict[str, tuple[str, ...]] = {
    "Replace": (
        "none",
        "greedy",
        "threshold",
        "greedy floor",
        "greedy floor 0.4",
        "greedy near real",
        "random near real",
        "keep 0.8",
        "keep 0.8 floor",
        "greedy pixels",
        "variance",
    ),
    "Accumulate": (
        "accumulate none",
        "accumulate greedy",
        "accumulate threshold",
        "accumulate greedy floor",
        "guided none",
        "guided greedy",
    ),
    "Replace, N / 8": ("small none", "small greedy", "small greedy near real"),
    "Accumulate, N / 8": (
        "small accumulate none",
        "small accumulate greedy",
        "small guided none",
        "small guided greedy",
    ),
    "Fresh data": ("fresh random", "fresh greedy", "fresh greedy floor"),
    "Three times the training": ("long none", "long greedy", "long greedy near real"),
}
SHOWN = (
    ("entropy", "pixels", "entropy[pixels]"),
    ("entropy", "encoder", "entropy"),
    ("gs", "encoder", "GS"),
    ("fd", "encoder", "fd"),
    ("fd", "pixels", "fd[pixels]"),
    ("precision", "encoder", "precision"),
    ("recall", "encoder", "recall"),
    ("real", "encoder", "real share of D"),
)


def data_sets(rows: Sequence[Row]) -> list[Found]:
    """The measures of each data set."""
    return [Found(rows, name) for name in dict.fromkeys(row["data"] for row in rows)]


def render(rows: Sequence[Row], pools: Sequence[Row] = ()) -> str:
    """The text between the markers of docs/reproduction.md."""
    if not rows:
        return "No results yet."
    sets = data_sets(rows)
    text = ["### Claims", "", *table(*claimed(sets)), ""]
    for found in sets:
        for title, arms in GROUPS.items():
            lines = compared(found, arms)
            if len(lines) > 1:
                text += [f"### {title}: {found.data}", "", *table(header(), lines), ""]
    if pools:
        text += ["### Chosen from the first pool, before any training", "", *chosen(pools), ""]
    return "\n".join([*text, footnote(sets)])


def claimed(sets: Sequence[Found]) -> tuple[list[str], list[list[str]]]:
    """A line per claim and data set that has the runs for it."""
    lines = []
    for number, text, check in claims():
        for found in sets:
            answer = check(found)
            if answer is not None:
                lines.append([number, text, found.data, answer.found, answer.agrees])
    return ["", "claimed", "on", "found", "agrees"], lines


def header() -> list[str]:
    """Of the tables of arms."""
    return [
        "arm",
        "iteration",
        *(name for _, _, name in SHOWN),
        "fd of the first arm there, and in how many seeds it is higher",
    ]


def compared(found: Found, arms: Sequence[str]) -> list[list[str]]:
    """Arms at the last iteration that they share with the first, and how fd compares with its."""
    lines = real_images(found, "small none" if arms[0].startswith("small") else "none")
    for arm in arms:
        end, seeds = found.common(arms[0], arm)
        if not end:
            continue
        values = [spread(found.at(arm, name, end, space, seeds)) for name, space, _ in SHOWN]
        ours, first = (found.at(a, "fd", end, "encoder", seeds) for a in (arm, arms[0]))
        wins = sum(a < b for a, b in zip(ours, first, strict=True))
        verdict = "" if arm == arms[0] else f"{spread(first)}, {wins} of {len(seeds)}"
        lines.append([arm, str(end), *values, verdict])
    return lines


def real_images(found: Found, arm: str) -> list[list[str]]:
    """The measures of as many other real images in the place of the first generated ones."""
    rows = [row for row in found.rows if row["iteration"] == "0" and row["arm"] == arm]
    if not rows:
        return []
    cells = [
        spread([float(row[name]) for row in rows if row["space"] == space])
        for name, space, _ in SHOWN
    ]
    return [["*other real images*", "", *cells, ""]]


def chosen(pools: Sequence[Row]) -> list[str]:
    """The picks of study/pools.py: mean and deviation over seeds, a line per way."""
    names = ("entropy", "fd", "fd_pixels", "precision", "recall")
    ways: dict[tuple[str, ...], list[Row]] = {}
    for row in pools:
        floor = "" if float(row["share"]) == 0 else f"{row['share']} {row['leaves_out']}"
        space = "" if row["method"] == "random" else row["space"]
        ways.setdefault((row["data"], row["pool"], row["method"], space, floor), []).append(row)
    lines = []
    for way, rows in ways.items():
        once = {row["seed"]: row for row in rows}.values()
        lines.append([*way, *(spread([float(row[name]) for row in once]) for name in names)])
    header = ["images", "pool of", "choice", "in", "left out", *names]
    return table([name.replace("fd_pixels", "fd[pixels]") for name in header], lines)


def footnote(sets: Sequence[Found]) -> str:
    """Sizes and where the figures come from."""
    every = [row for found in sets for row in found.rows]
    sizes = []
    for found in sets:
        _, seen = found.common("none")
        n = found.at("none", "training_n", 1, "encoder", seen)
        sizes += [f"{found.data}: N = {n[0]:.0f} of {unique(r['pixels'] for r in found.rows)}"]
    seeds = len({row["seed"] for row in every})
    return (
        f"Mean ± standard deviation over {seeds} seeds. {'; '.join(sizes)} pixels. Entropy in nats "
        f"of G_n, GS and fd in the encoder's space where nothing else is said. Commit "
        f"{unique(row['commit'] for row in every)}, {unique(row['cpu'] for row in every)}, torch "
        f"{unique(row['torch'] for row in every)}."
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.study.tables", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    parser.add_argument("--results", type=Path, default=RESULTS / "study_small.csv")
    parser.add_argument("--pools", type=Path, default=RESULTS / "study_pools.csv")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--images", type=Path, default=IMAGES)
    options = parser.parse_args(arguments)
    rows = read(options.results)
    stale = rewrite(options.page, render(rows, read(options.pools)), check=options.check)
    if options.check:
        if stale:
            print(f"{options.page}: out of date, run python -m benchmarks.study.tables")
        return int(stale)
    from benchmarks.study.figures import draw

    draw(data_sets(rows), options.images)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
