"""Points within a distance of rows that are not all in memory, or not all in one process: the tiles
of tiled_nearest.py, of which each gives its own part of the answer."""

from __future__ import annotations

import numpy as np

from entroselect._progress import Report
from entroselect.backends.base import Backend
from entroselect.io.rows import Rows
from entroselect.results import Neighbourhoods
from entroselect.scale import budget, tiled_nearest
from entroselect.scale.batches import Batches
from entroselect.scale.process_group import ProcessGroup

# A search holds what one for two neighbours holds: for one there would be a list of pairs too.
MEMORY_OF = 2


class Parts(tiled_nearest.Compared):
    """The points found so far, part by part."""

    def __init__(
        self,
        n: int,
        distance: float,
        backend: Backend,
        metric: str,
        pairs: int,
        report: Report | None,
    ) -> None:
        super().__init__(n, MEMORY_OF, backend, metric, pairs, report)
        self._distance = distance
        self._parts: list[tuple[int, Neighbourhoods]] = []  # with the number of the first query

    def _find(
        self, first: int, queries: Rows, points: Rows | None, offset: int, report: Report | None
    ) -> None:
        found = self._backend.within(queries, points, self._distance, self._metric, report)
        found.indices[:] += offset
        self._parts.append((first, found))

    def joined(self, traffic: tiled_nearest.Traffic) -> Neighbourhoods:
        """All parts as one. Every query meets its points in ascending order, whatever the tiles
        are, so that its parts follow one another."""
        indptr = np.zeros(self._n + 1, dtype=np.int64)
        for first, part in self._parts:
            indptr[first + 1 : first + len(part.indptr)] += np.diff(part.indptr)
        np.cumsum(indptr, out=indptr)
        indices, distances = np.empty(indptr[-1], dtype=np.int64), np.empty(indptr[-1])
        filled = indptr[:-1].copy()  # the next place of every query
        while self._parts:
            first, part = self._parts.pop(0)
            counts = np.diff(part.indptr)
            queries = slice(first, first + len(counts))
            places = np.arange(len(part.indices)) + np.repeat(
                filled[queries] - part.indptr[:-1], counts
            )
            indices[places], distances[places] = part.indices, part.distances
            filled[queries] += counts
        profile = {**traffic.since(), "tiles": self.tiles}
        return Neighbourhoods(indptr, indices, distances, self._backend.name, profile)


def search(
    queries: Batches,
    points: Batches | None,
    distance: float,
    shards: list[tuple[int, str]],
    backend: Backend,
    limit: int | None,
    ranks: ProcessGroup | None,
    report: Report | None,
) -> Neighbourhoods:
    """The points of all processes within `distance` of this process's queries; arguments are
    checked. `shards`: how many points every process has, and their dtype."""
    own = queries if points is None else points
    traffic = tiled_nearest.Traffic(queries, own, ranks)
    pairs = queries.n * sum(n for n, _ in shards)
    parts = Parts(queries.n, distance, backend, own.metric, pairs, report)
    if ranks is not None:
        if limit is not None:
            queries.read_again()
        tiled_nearest.search_ranks(queries, points, shards, parts, limit, ranks)
        return parts.joined(traffic)
    plan = None if limit is None else budget.plan_alone(queries, points, MEMORY_OF, limit)
    if plan is None:
        parts.tiles = 1
        parts.compare(0, queries.whole(), None if points is None else points.whole(), 0)
        return parts.joined(traffic)
    if plan.block < queries.n:
        own.read_again()
    if points is None:
        tiled_nearest.search_within(queries, parts, plan)
    else:
        tiled_nearest.search_against(queries, points, parts, plan)
    return parts.joined(traffic)
