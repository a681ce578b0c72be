"""The CPU backend: the engine's primitives over the C++ core, for one instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np

from entroselect import _core, _settings
from entroselect._settings import cells, threads
from entroselect.io.rows import Rows
from entroselect.reference import canonical_rows
from entroselect.results import Float64, Int64, Neighbours


class Cpu:
    """Opens pools and finds neighbours with the kernels of one instruction set."""

    takes = frozenset({"selection", "nearest", "pairs", "memory_limit", "group", "checkpoint"})
    loops = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.isa = name.removeprefix("cpu:")

    def new_pool(
        self, rows: Rows, metric: str, sub: bool = False, limit: int | None = None
    ) -> _core.Pool:
        """The pool behind the primitives of entroselect/engine.py; with `sub`, also behind those
        of engine.SubPool, which a k-d tree does not have. `limit` concerns GPUs only."""
        if sub:  # trees are for whole pools
            form = "bf16" if _settings.filter_form() == "bf16" else "int8"
        else:
            form = _filter_form(rows.d)
        return _core.Pool(
            rows.values,
            rows.dtype,
            metric == "cosine",
            self.isa,
            form,
            cells(),
            threads(),
        )

    def nearest(
        self, queries: Rows, points: Rows | None, k: int, metric: str, progress: Any
    ) -> Neighbours:
        """k nearest points of each query; points=None means the other queries."""
        targets = queries if points is None else points
        squared, indices = _core.nearest(
            queries.values,
            queries.dtype,
            targets.values,
            targets.dtype,
            points is None,
            k,
            metric == "cosine",
            self.isa,
            _filter_form(queries.d),
            threads(),
            progress,
        )
        return Neighbours(np.sqrt(squared, out=squared), indices, self.name)

    def update_neighbours(
        self,
        queries: Rows,
        points: Rows | None,
        offset: int,
        squared: Float64,
        indices: Int64,
        metric: str,
        progress: Any,
    ) -> None:
        """Compares queries with further points, whose numbers begin at `offset`, and updates the
        lists of squared distances and indices in place."""
        targets = queries if points is None else points
        _core.nearest(
            queries.values,
            queries.dtype,
            targets.values,
            targets.dtype,
            points is None,
            squared.shape[1],
            metric == "cosine",
            self.isa,
            _filter_form(queries.d),
            threads(),
            progress,
            squared,
            indices,
            offset,
        )

    def add_distances(self, rows: Rows, points: Rows, metric: str, totals: Float64) -> None:
        """Adds the canonical distances of every row to the points to totals, point after point."""
        vectors = canonical_rows(points, metric)
        for vector in vectors:
            totals += np.sqrt(distances_to(rows, metric, vector))

    def center(self, rows: Rows, metric: str) -> int:
        """The row nearest to the mean row; of equals, the first."""
        mean = np.zeros(rows.d)
        add_rows(rows, metric, mean)
        mean /= rows.n
        return int(np.argmin(distances_to(rows, metric, mean)))


def _filter_form(d: int) -> str:
    """The form of filter that ENTROSELECT_FILTER names, checked against the number of columns."""
    form = _settings.filter_form()
    if form == "tree" and d > _core.TREE_WIDTH:
        raise ValueError(
            f"{_settings.FILTER}: a tree takes rows of at most {_core.TREE_WIDTH} columns, these "
            f"have {d}"
        )
    return form


def add_rows(rows: Rows, metric: str, total: Float64) -> None:
    """Adds the rows to a float64 total (d,), one after the other, in place."""
    _core.add_rows(rows.values, rows.dtype, metric == "cosine", total, threads())


def distances_to(rows: Rows, metric: str, vector: Float64) -> Float64:
    """Canonical squared distance of every row to a float64 vector."""
    return _core.distances_to(rows.values, rows.dtype, vector, metric == "cosine", threads())
