"""The CPU backend: the engine's primitives over the C++ core, for one instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np

from entroselect import _core, _settings
from entroselect._checks import is_of_bits
from entroselect._settings import cells, threads
from entroselect._thresholds import largest_square
from entroselect.exchange import Exchanged, Objective
from entroselect.io.rows import Rows
from entroselect.results import Float64, Int64, Neighbourhoods, Neighbours

# Nearest other rows that anchored selection has at hand for every row; within them lie nearly all
# that are nearer than the nearest member where members are a tenth of the rows or more.
LISTED = 64


class Cpu:
    """Opens pools and finds neighbours with the kernels of one instruction set."""

    takes = frozenset(
        {"selection", "nearest", "within", "batch", "pairs", "exchange"}
        | {"memory_limit", "group", "checkpoint", "candidates", "groups", "weights", "bits"}
    )
    loops = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.isa = name.removeprefix("cpu:")

    def new_pool(
        self, rows: Rows, metric: str, sub: bool = False, limit: int | None = None
    ) -> _core.Pool:
        """The pool behind the primitives of entroselect/engine.py; with `sub`, also behind those
        of engine.SubPool, which a k-d tree does not have. `limit` concerns GPUs only."""
        if sub and not is_of_bits(metric):  # trees are for whole pools
            form = "bf16" if _settings.filter_form() == "bf16" else "int8"
        else:
            form = _filter_form(rows.d, metric)
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
        squared, indices = self._nearest(queries, points, k, metric, progress)
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
            _filter_form(queries.d, metric),
            threads(),
            progress,
            squared,
            indices,
            offset,
        )

    def within(
        self, queries: Rows, points: Rows | None, distance: float, metric: str, progress: Any
    ) -> Neighbourhoods:
        """All points at most `distance` from each query; points=None means all queries."""
        targets = queries if points is None else points
        begin, indices, squared = _core.within(
            queries.values,
            queries.dtype,
            targets.values,
            targets.dtype,
            points is None,
            largest_square(distance),
            metric == "cosine",
            self.isa,
            _filter_form(queries.d, metric),
            threads(),
            progress,
        )
        return Neighbourhoods(begin, indices, np.sqrt(squared, out=squared), self.name)

    def center(self, rows: Rows, metric: str, farthest: bool = False) -> int:
        """The row nearest to the mean row, or farthest from it; of equals, the first."""
        mean = np.zeros(rows.d)
        add_rows(rows, metric, mean)
        mean /= rows.n
        squared = distances_to(rows, metric, mean)
        return int(np.argmax(squared) if farthest else np.argmin(squared))

    def _nearest(
        self, queries: Rows, points: Rows | None, k: int, metric: str, progress: Any
    ) -> tuple[Float64, Int64]:
        targets = queries if points is None else points
        return _core.nearest(
            queries.values,
            queries.dtype,
            targets.values,
            targets.dtype,
            points is None,
            k,
            metric == "cosine",
            self.isa,
            _filter_form(queries.d, metric),
            threads(),
            progress,
        )

    def add_distances(self, rows: Rows, points: Rows, metric: str, totals: Float64) -> None:
        """Adds to the total of every row its canonical distances to the points, in place."""
        _core.add_distances(
            rows.values,
            rows.dtype,
            points.values,
            points.dtype,
            metric == "cosine",
            self.isa,
            threads(),
            totals,
        )

    def batch_centers(self, rows: Rows, lengths: Int64, farthest: bool) -> Int64:
        """The point of every cloud nearest to its mean, or farthest from it; see base.Backend."""
        return _core.batch_centers(rows.values, rows.dtype, lengths, farthest, self.isa, threads())

    def batch_greedy(
        self, rows: Rows, lengths: Int64, starts: Int64, k: int
    ) -> tuple[Int64, Float64, Float64]:
        """Greedy max-min for every cloud of a batch; see base.Backend."""
        indices, squared, radius = _core.batch_greedy(
            rows.values, rows.dtype, lengths, starts, k, self.isa, threads()
        )
        return indices, np.sqrt(squared, out=squared), np.sqrt(radius, out=radius)

    def exchange(
        self,
        rows: Rows,
        metric: str,
        objective: Objective,
        first: Int64 | None,
        most: int,
        progress: Any,
    ) -> Exchanged:
        """Members of the pool that minimise the objective; see base.Backend."""
        squared, others = np.empty((rows.n, 0)), np.empty((rows.n, 0), np.int32)
        if objective.weight > 0 and rows.n > 1:
            length = min(LISTED, rows.n - 1)
            squared, indices = self._nearest(rows, None, length, metric, None)
            others = indices.astype(np.int32)
        core = _core.Exchange(
            rows.values,
            rows.dtype,
            metric == "cosine",
            self.isa,
            threads(),
            objective.attraction,
            objective.k,
            objective.per,
            objective.weight,
            objective.scale_squared,
            objective.floor,
            squared,
            others,
            progress,
        )
        core.begin(first)
        made = core.run(most)
        return Exchanged(*core.members(), core.nearest(), made)


def _filter_form(d: int, metric: str) -> str:
    """The form of filter that ENTROSELECT_FILTER names, checked against the number of columns; of
    bits, which need no filter, the metric."""
    if is_of_bits(metric):
        return metric
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
