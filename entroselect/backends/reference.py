"""Backend "reference": entroselect/reference.py, the textbook loops in float64."""

from __future__ import annotations

from typing import Any

from entroselect import reference
from entroselect.backends.base import not_taken
from entroselect.io.rows import Rows
from entroselect.results import Neighbours


class Reference:
    """Selects and finds neighbours of rows in memory, in one process."""

    name = reference.NAME
    takes = frozenset({"selection", "nearest"})
    loops = reference

    def nearest(
        self, queries: Rows, points: Rows | None, k: int, metric: str, progress: Any
    ) -> Neighbours:
        """k nearest points of each query; points=None means the other queries."""
        return reference.nearest_distances(queries, points, k, metric=metric, progress=progress)

    new_pool = update_neighbours = center = not_taken
