"""Backend "reference": entroselect/reference.py, the textbook loops in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from entroselect import reference
from entroselect.backends.base import not_taken
from entroselect.io.rows import Rows
from entroselect.results import Float64, Neighbours


class Reference:
    """Selects, finds neighbours and adds distances of rows in memory, in one process."""

    name = reference.NAME
    takes = frozenset({"selection", "nearest", "pairs"})
    loops = reference

    def nearest(
        self, queries: Rows, points: Rows | None, k: int, metric: str, progress: Any
    ) -> Neighbours:
        """k nearest points of each query; points=None means the other queries."""
        return reference.nearest_distances(queries, points, k, metric=metric, progress=progress)

    def add_distances(self, rows: Rows, points: Rows, metric: str, totals: Float64) -> None:
        """Adds the distances of every row to the points to totals, point after point."""
        values = reference.canonical_rows(rows, metric)
        for point in reference.canonical_rows(points, metric):
            totals += np.sqrt(reference.squared_distances(values, point))

    new_pool = update_neighbours = center = not_taken
