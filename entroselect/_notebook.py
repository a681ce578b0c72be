"""How results look in a notebook: short tables in HTML, and the picture of a selection."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import _checks
from entroselect.results import Entropy, Neighbours, Selection, on_host

SHOWN = 8  # rows of a table


def selection_html(selection: Selection) -> str:
    """The picks that came first, and what holds for all."""
    columns = {"row": on_host(selection.indices), "distance": on_host(selection.distances)}
    if selection.thresholds is not None:
        columns["threshold"] = on_host(selection.thresholds)
    lines = zip(*(column[:SHOWN].tolist() for column in columns.values()), strict=True)
    told = f"{len(selection)} picks, radius {selection.radius:.6g}, {selection.backend}"
    if selection.counts is not None:
        told += f"; of each group: {_first(selection.counts)}"
    picks = ((place, *line) for place, line in enumerate(lines, 1))
    return _table(type(selection).__name__, told, ("pick", *columns), picks, len(selection))


def neighbours_html(found: Neighbours) -> str:
    """The neighbours of the first queries."""
    indices, distances = on_host(found.indices), on_host(found.distances)
    n, k = indices.shape
    told = f"{n} queries, {k} nearest of each, {found.backend}"
    if found.recall is not None:
        told += f", recall {found.recall:.3g}"
    lines = (
        (query, index, distance)
        for query in range(min(n, SHOWN))
        for index, distance in zip(indices[query, :1], distances[query, :1], strict=True)
    )
    return _table("Neighbours", told, ("query", "nearest", "distance"), lines, n)


def entropy_html(entropy: Entropy) -> str:
    """The number and what it was computed from."""
    known = {name: value for name, value in vars(entropy).items() if value is not None}
    told = f"{float(entropy):.6g} nats"
    return _table("Entropy", told, ("attribute", "value"), known.items(), len(known))


def plot(selection: Selection, features: Any, metric: str) -> Any:
    """The figure of `Selection.plot`."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "plot: needs matplotlib, which is not installed: pip install 'entroselect[cli]'"
        ) from error
    from entroselect.report import figures

    indices = on_host(selection.indices)
    pool = []  # none, or one
    if features is not None:
        rows = _checks.usable_rows("features", features, metric)
        _checks.distinct_indices("selection", indices, rows.n)
        values: NDArray[Any] = rows.take(slice(None))
        if rows.dtype == "bfloat16":
            values = rows.float64()
        pool = [np.unpackbits(values, axis=1) if _checks.is_of_bits(metric) else values]
    panels = 1 + len(pool)
    figure = figures.NotebookFigure(figsize=(5.4 * panels, 4.2), layout="constrained")
    left, *right = np.atleast_1d(figure.subplots(1, panels))
    distances = on_host(selection.distances)
    ranks = np.flatnonzero(np.isfinite(distances))
    figures.draw_radius(figures.style(left), {"greedy": (ranks, distances[ranks])})
    left.set(xlabel="picks before", ylabel="distance of the next pick to them")
    for axes, values in zip(right, pool, strict=True):
        figures.draw_scatter(figures.style(axes), values, values[indices], "greedy", metric)
    return figure


def _first(counts: dict[Any, int]) -> str:
    """The first groups, with how many rows of each."""
    shown = ", ".join(f"{label}: {count}" for label, count in list(counts.items())[:SHOWN])
    return shown if len(counts) <= SHOWN else f"{shown} ... and {len(counts) - SHOWN} more"


def _table(
    title: str, told: str, head: Iterable[str], lines: Iterable[Iterable[Any]], n: int
) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_number(value))}</td>" for value in line) + "</tr>"
        for line in lines
    )
    more = f"<p>... and {n - SHOWN} more</p>" if n > SHOWN else ""
    return (
        f"<div><strong>{escape(title)}</strong>: {escape(told)}"
        f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>{more}</div>"
    )


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
