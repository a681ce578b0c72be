"""`python -m entroselect.cli.demo`: three ways to keep half of scikit-learn's digits, compared."""

from __future__ import annotations

import argparse
import textwrap
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table as Terminal

from entroselect import greedy_select, threshold_select
from entroselect.cli.errors import plain_failures
from entroselect.cli.output import say, show
from entroselect.cli.result_folder import new_folder
from entroselect.report import figures
from entroselect.report.page import Section, Table, render
from entroselect.report.selection import left_out_farthest, left_out_nearest, picked_first
from entroselect.report.spread import Cover, Spread, cover, rising_ranks, spread
from entroselect.report.tables import number
from entroselect.results import Int64

HEAD = [
    "",
    "size",
    "entropy (nats)",
    "geometric mean distance",
    "mean nearest distance",
    "radius",
]


def main(arguments: list[str] | None = None) -> None:
    """Runs the demo; failures as in entroselect/cli/errors.py."""
    parser = argparse.ArgumentParser(prog="python -m entroselect.cli.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-report"), help="folder to make")
    with plain_failures():
        run(parser.parse_args(arguments).out)


def run(out: Path) -> None:
    """Prints the comparison and writes out/index.html; an earlier one there is replaced."""
    with new_folder(out, force=True) as folder:
        digits = load()
        picks = choose(digits, len(digits) // 2)
        spreads = {"whole pool": spread(digits, "euclidean", "auto")}
        covers = {}
        for name, indices in picks.items():
            spreads[name] = spread(digits[indices], "euclidean", "auto")
            ranks = rising_ranks(1, len(indices), 30)
            covers[name] = cover(digits, digits[indices], ranks, "euclidean", "auto")
        body = lines(spreads, covers)
        page = compose(digits, picks, spreads, covers, body)
        folder.write("index.html", page)
    table = Terminal(*HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for line in body:
        table.add_row(*line)
    show(table)
    for paragraph in reading(spreads, covers):
        show(textwrap.fill(paragraph, 79))
    say(f"written: {out / 'index.html'}")


def load() -> NDArray[Any]:
    """The 1,797 digits, 64 pixels of 0 to 16 each."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise RuntimeError("the demo needs scikit-learn: pip install 'entroselect[demo]'") from None
    pixels: NDArray[Any] = load_digits().data
    return pixels.astype(np.uint8)


def choose(digits: NDArray[Any], k: int) -> dict[str, Int64]:
    """k rows by each method."""
    drawn = np.random.default_rng(0).choice(len(digits), k, replace=False)
    return {
        "greedy": greedy_select(digits, k).indices,
        "threshold": threshold_select(digits, k).indices,
        "random": drawn.astype(np.int64),
    }


def lines(spreads: dict[str, Spread], covers: dict[str, Cover]) -> list[list[str]]:
    """The body of the table under HEAD."""
    body = []
    for name, part in spreads.items():
        measured = part.describe()
        radius = float(covers[name].radii[-1]) if name in covers else 0.0
        body.append(
            [
                name,
                f"{part.rows:,}",
                number(measured["entropy_nats"]),
                number(measured["geometric_mean_distance"]),
                number(measured["mean_nearest_distance"]),
                number(radius),
            ]
        )
    return body


def reading(spreads: dict[str, Spread], covers: dict[str, Cover]) -> list[str]:
    """Two paragraphs that explain the figures."""
    entropy = {
        name: float(part.entropy) for name, part in spreads.items() if part.entropy is not None
    }
    radii = {name: float(found.radii[-1]) for name, found in covers.items()}
    more = entropy["greedy"] - entropy["random"]
    return [
        f"Of halves of one size, greedy's stands {'farther' if more > 0 else 'less far'} apart: "
        f"{abs(more):.1f} nats {'more' if more > 0 else 'less'} entropy than the random half, and "
        f"no digit left out is farther than {radii['greedy']:.1f} (the radius) from one that was "
        f"kept, against {radii['random']:.1f}.",
        "Most spread out is not best for everything: what is unlike all else is taken first, be "
        "it rare, damaged or mislabelled. Look at what was picked before training on it.",
    ]


def compose(
    digits: NDArray[Any],
    picks: dict[str, Int64],
    spreads: dict[str, Spread],
    covers: dict[str, Cover],
    body: list[list[str]],
) -> str:
    """The page."""
    images = figures.Images(digits, (8, 8))
    sections = [
        Section(
            "Radius",
            "The largest distance of any digit to its nearest chosen one, as rows were chosen. "
            "Greedy always takes the digit worst covered so far, and threshold nearly so; a random "
            "draw leaves the unusual ones out.",
            [figures.radius_curves({n: (c.ranks, c.radii) for n, c in covers.items()})],
        ),
        Section(
            "Distance to the nearest other row",
            "Greedy and threshold leave no near-duplicates: nothing stands at the left. The random "
            "half thins out everything alike and keeps the shape of the whole pool.",
            [figures.distance_histograms({n: s.distances for n, s in spreads.items()})],
        ),
    ]
    sections.insert(0, picked_first(images, picks["greedy"], "greedy"))
    for section in (left_out_nearest, left_out_farthest):
        sections += [section(images, picks[name], covers[name], name) for name in picks]
    k, whole = len(picks["greedy"]), spreads["whole pool"].entropy
    duplicates = 0 if whole is None else whole.zero_distances
    return render(
        "Half of the digits, three ways",
        [
            f"scikit-learn's {len(digits):,} handwritten digits of 8 x 8 pixels. Each method keeps "
            f"{k}. Greedy takes, one by one, the digit farthest from all chosen before it; "
            "threshold goes through the pool and takes every digit farther than a decaying "
            "threshold from those accepted; random draws (seed 0).",
            "Higher entropy and larger distances mean a more varied set; a smaller radius means "
            "that nothing in the pool is far from what was kept. Compare the three halves with "
            "each other: fewer rows stand farther apart even when drawn at random, and the random "
            "half shows how much of the gain is that. Distances are Euclidean, between pixels.",
            *reading(spreads, covers),
            f"Digits with an exact duplicate in the pool: {duplicates}."
            + (" Entropy counts one of each." if duplicates else ""),
        ],
        Table(HEAD, body),
        sections,
        f"entroselect {version('entroselect')}. The pool has radius 0 because it contains itself.",
    )


if __name__ == "__main__":
    main()
