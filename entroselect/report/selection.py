"""The page behind `select --report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect._checks import is_of_bits
from entroselect.io.errors import printable
from entroselect.report import figures
from entroselect.report.page import Section, Table, render
from entroselect.report.spread import Cover, Spread
from entroselect.report.tables import measures, number
from entroselect.results import Float64, Int64

FIRST_PICKS = 45
PAIRS = 12


def selection_page(
    rows: NDArray[Any],
    indices: Int64,
    distances: Float64 | None,
    covered: Cover | None,
    spreads: dict[str, Spread],
    summary: dict[str, Any],
) -> str:
    """Self-contained HTML about one selection from the pool `rows`. Its cover must be measured.

    `distances`: of the picks, None where the method measures none. `summary`: the contents of
    report.json.
    """
    assert covered is not None
    method, metric = summary["options"]["method"], summary["options"]["metric"]
    pool, key = Path(summary["options"]["pool"]), summary["input"]["key"]
    columns = summary["input"]["columns"]
    shape = figures.image_shape(tuple(summary["input"]["shape"]), rows)
    sections = []
    if shape is None and is_of_bits(metric):
        pass  # numbers that stand for eight bits make no picture
    elif shape is None:
        sections.append(_scatter(rows, indices, method, metric))
    else:
        images = figures.Images(rows, shape)
        sections.append(picked_first(images, indices, method))
        sections.append(left_out_nearest(images, indices, covered, method))
        sections.append(left_out_farthest(images, indices, covered, method))
    if len(indices):
        sections.append(_radius(distances, len(indices), covered, method, summary["radius"]))
    if spreads:
        sections.append(_histograms(spreads, method))
    versions = summary["versions"]
    sections = [section for section in sections if section.pictures]
    return render(
        f"{method.capitalize()} selection from {printable(pool.name)}",
        [
            f"{summary['picked']:,} of {len(rows):,} rows of {columns:,} columns, chosen "
            f"{_METHODS[method]}, in {summary['seconds']['select']:.2f} seconds. Every pool row "
            f"is within {summary['radius']:.6g} of a chosen one ({metric} distance).",
            "Entropy is the Kozachenko-Leonenko estimate in nats over the distinct rows, of "
            "Euclidean distances whatever the metric. Fewer rows stand farther apart even when "
            "they are drawn at random, so columns of different size do not compare; the fair "
            "comparison is with --method random at the same size."
            + _SAMPLED
            * any(part.rows < part.of for part in spreads.values())
            if spreads
            else "Entropy and nearest distances were not measured (--no-entropy).",
        ],
        _table(summary["spread"], metric),
        sections,
        f"entroselect {versions['entroselect']}, backend {summary['backend']}, "
        f"{summary['threads']} threads, NumPy {versions['numpy']}. Input: {printable(pool)}"
        + ("" if key is None else f", array {printable(key)}")
        + ". All options stand in report.json.",
    )


_SAMPLED = (
    " Where fewer rows were measured than there are, a sample was drawn and measured by itself; "
    "--entropy measures all."
)
_METHODS = {
    "greedy": "one by one, each the farthest from all chosen before it",
    "threshold": "pass after pass, each farther than a decaying threshold from all before it",
    "anchored": "together, so that they are like the anchor and spread out",
    "random": "at random",
}


def picked_first(images: figures.Images, indices: Int64, method: str) -> Section:
    """The first picks as images."""
    first = indices[:FIRST_PICKS]
    return Section(
        f"Picked first ({method})",
        f"The first {len(first)} rows chosen, in reading order.",
        [figures.image_grid(images(first))],
    )


def left_out_nearest(
    images: figures.Images, indices: Int64, covered: Cover, method: str
) -> Section:
    """The rows left out that lie nearest to the selection, as images; for `covered` see
    `left_out`."""
    return Section(
        f"Left out, nearest to the selection ({method})",
        "Upper line: rows left out that lie closest to a chosen one. Lower line: that chosen row, "
        "with the distance between the two. The selection can best do without these.",
        _pairs(images, left_out(indices, covered)[:PAIRS], indices, covered),
    )


def left_out_farthest(
    images: figures.Images, indices: Int64, covered: Cover, method: str
) -> Section:
    """The rows left out that lie farthest from the selection, as images; for `covered` see
    `left_out`."""
    return Section(
        f"Left out, farthest from the selection ({method})",
        "Upper line: rows left out that lie farthest from every chosen one. Lower line: the chosen "
        "row nearest to each. A larger selection would gain these.",
        _pairs(images, left_out(indices, covered)[::-1][:PAIRS], indices, covered),
    )


def left_out(indices: Int64, covered: Cover) -> Int64:
    """Pool rows not in `indices`, nearest to the selection first.

    `covered`: a cover by picks of which the last are those of `indices`. Pool rows whose nearest
    pick is an earlier one are left out of the list.
    """
    before = covered.ranks[-1] - len(indices)
    rest = np.ones(len(covered.distances), dtype=bool)
    rest[indices] = False
    rows = np.flatnonzero(rest & (covered.nearest >= before))
    return rows[np.argsort(covered.distances[rows], kind="stable")]


def _pairs(images: figures.Images, rows: Int64, indices: Int64, covered: Cover) -> list[str]:
    if not len(rows):
        return []
    before = covered.ranks[-1] - len(indices)
    partners = indices[covered.nearest[rows] - before]
    return [figures.image_pairs(images(rows), images(partners), covered.distances[rows])]


def _scatter(rows: NDArray[Any], indices: Int64, method: str, metric: str) -> Section:
    return Section(
        "Picked rows in the pool",
        "The pool projected on its first two principal components, with the rows picked on top. "
        "A spread-out selection reaches the rim and thins out where the pool is dense.",
        [figures.scatter(rows, rows[indices], method, metric)],
    )


def _radius(
    distances: Float64 | None, count: int, covered: Cover, method: str, radius: float
) -> Section:
    if distances is not None and len(covered.ranks) == 1:
        # The distance of the next pick is the radius of those before it.
        ranks: Int64 = np.arange(1, count + 1)
        radii: Float64 = np.append(distances[1:], radius)
    else:
        ranks, radii = covered.ranks - (covered.ranks[-1] - count), covered.radii
    return Section(
        "Radius",
        "The largest distance of any pool row to its nearest chosen one, as rows were chosen. "
        "Where the curve flattens, more rows add little that is new.",
        [figures.radius_curves({method: (ranks, radii)})],
    )


def _histograms(spreads: dict[str, Spread], method: str) -> Section:
    distances = {
        label: spreads[name].distances
        for name, label in (("before", "whole pool"), ("after", method))
        if len(spreads[name].distances)
    }
    return Section(
        "Distance to the nearest other row",
        "How far each row is from its nearest neighbour, in the whole pool and among the rows "
        "picked. Near-duplicates stand at the left.",
        [figures.distance_histograms(distances)] if distances else [],
    )


def _table(spreads: dict[str, dict[str, Any]], metric: str) -> Table:
    return Table(
        ["", *spreads],
        [
            [label, *(number(part[name]) for part in spreads.values())]
            for name, label in measures(metric).items()
            if spreads
        ],
    )
