"""Backend "reference": entroselect/reference.py, the textbook loops in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from entroselect import reference, reference_exchange
from entroselect.backends.base import not_taken
from entroselect.exchange import Exchanged, Objective
from entroselect.io.rows import Rows
from entroselect.results import Float64, Int64, Neighbourhoods, Neighbours


class Reference:
    """Selects and finds neighbours of rows in memory, in one process."""

    name = reference.NAME
    takes = frozenset(
        {"selection", "nearest", "pairs", "exchange", "within", "batch"}
        | {"candidates", "groups", "weights", "bits"}
    )
    loops = reference

    def nearest(
        self, queries: Rows, points: Rows | None, k: int, metric: str, progress: Any
    ) -> Neighbours:
        """k nearest points of each query; points=None means the other queries."""
        return reference.nearest_distances(queries, points, k, metric=metric, progress=progress)

    def within(
        self, queries: Rows, points: Rows | None, distance: float, metric: str, progress: Any
    ) -> Neighbourhoods:
        """All points at most `distance` from each query; points=None means all queries."""
        return reference.neighbours_within(
            queries, points, distance=distance, metric=metric, progress=progress
        )

    def add_distances(self, rows: Rows, points: Rows, metric: str, totals: Float64) -> None:
        """Adds to the total of every row its distances to the points, in place."""
        reference.add_distances(rows, points, metric, totals)

    def batch_centers(self, rows: Rows, lengths: Int64, farthest: bool) -> Int64:
        """The point of every cloud nearest to its mean, or farthest from it; see base.Backend."""
        start = "farthest-from-center" if farthest else "center"
        clouds = _clouds(rows, lengths)
        return np.array([reference.first_pick(each, start, None, "euclidean") for each in clouds])

    def batch_greedy(
        self, rows: Rows, lengths: Int64, starts: Int64, k: int
    ) -> tuple[Int64, Float64, Float64]:
        """The textbook loop over one cloud after another; see base.Backend."""
        found = [
            reference.greedy_select(cloud, k, start=int(start))
            for cloud, start in zip(_clouds(rows, lengths), starts, strict=True)
        ]
        return (
            np.array([each.indices for each in found]),
            np.array([each.distances for each in found]),
            np.array([each.radius for each in found]),
        )

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
        return reference_exchange.exchange(rows, metric, objective, first, most, progress)

    new_pool = update_neighbours = center = not_taken


def _clouds(rows: Rows, lengths: Int64) -> Iterator[Rows]:
    n = rows.n // len(lengths)
    for cloud, length in enumerate(lengths):
        yield Rows(rows.values[cloud * n : cloud * n + length], rows.dtype)
