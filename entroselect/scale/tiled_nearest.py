"""Nearest neighbours of rows that are not all in memory, or not all in one process.

A block of one side (queries or points) stays in memory while the other side is read in tiles; the
next tile is read while one is compared. A query's list of neighbours is kept from tile to tile, so
that few pairs of a later tile need an exact distance. Blocks are as large as the memory limit
allows (scale/budget.py), since every block costs another pass over the other side.
"""

from __future__ import annotations

import numpy as np

from entroselect._progress import Report
from entroselect.backends.base import Backend
from entroselect.io.rows import Rows
from entroselect.results import Neighbours
from entroselect.scale import budget
from entroselect.scale.batches import Batches, numpy_dtype
from entroselect.scale.budget import TilePlan
from entroselect.scale.process_group import ProcessGroup

# A place in a list that holds no neighbour yet has distance infinity and this index.
NO_NEIGHBOUR = np.iinfo(np.int64).max

# Processes send the dtype of their rows as its place in this list.
DTYPES = ("float64", "float32", "float16", "uint8", "bfloat16")


class Compared:
    """What is known of n queries after some tiles, and how far the search has come. Subclasses say
    what is found out about a tile.

    Attributes:
        k: neighbours per query, as far as memory is concerned.
        tiles: blocks and tiles that were compared so far.
    """

    def __init__(
        self, n: int, k: int, backend: Backend, metric: str, pairs: int, report: Report | None
    ) -> None:
        """For n queries, which make `pairs` pairs with their points."""
        self.k, self.tiles = k, 0
        self._backend, self._metric, self._report = backend, metric, report
        self._n, self._pairs, self._done = n, pairs, 0

    def compare(self, first: int, queries: Rows, points: Rows | None, offset: int) -> None:
        """Compares queries, numbered from `first` on, with points, numbered from `offset` on;
        without points, with each other."""
        if queries.n == 0:
            return
        pairs = queries.n * (queries.n if points is None else points.n)

        def share(done: int, of: int) -> None:
            assert self._report is not None
            self._report(self._n * (self._done + pairs * done // of) // self._pairs, self._n)

        self._find(first, queries, points, offset, None if self._report is None else share)
        self._done += pairs

    def _find(
        self, first: int, queries: Rows, points: Rows | None, offset: int, report: Report | None
    ) -> None:
        raise NotImplementedError


class NeighbourLists(Compared):
    """The neighbours of all queries found so far.

    Attributes:
        squared, indices: (queries, k), sorted.
    """

    def __init__(
        self, n: int, k: int, backend: Backend, metric: str, pairs: int, report: Report | None
    ) -> None:
        super().__init__(n, k, backend, metric, pairs, report)
        self.squared = np.full((n, k), np.inf)
        self.indices = np.full((n, k), NO_NEIGHBOUR)

    def _find(
        self, first: int, queries: Rows, points: Rows | None, offset: int, report: Report | None
    ) -> None:
        part = slice(first, first + queries.n)
        squared, indices = self.squared[part], self.indices[part]
        self._backend.update_neighbours(
            queries, points, offset, squared, indices, self._metric, report
        )

    def neighbours(self, queries: Batches, traffic: Traffic) -> Neighbours:
        """The lists as a result, which lies where the queries do."""
        distances, indices = np.sqrt(self.squared, out=self.squared), self.indices
        if queries.rows is not None:  # then results go where they are, perhaps to a GPU
            distances, indices = queries.rows.like(distances), queries.rows.like(indices)
        profile = {**traffic.since(), "tiles": self.tiles}
        return Neighbours(distances, indices, self._backend.name, profile=profile)


def in_tiles(
    queries: Batches,
    points: Batches | None,
    k: int,
    backend: Backend,
    plan: TilePlan,
    report: Report | None,
) -> Neighbours:
    """The neighbours of rows that are not all in memory; arguments are checked."""
    own = queries if points is None else points
    traffic = Traffic(queries, own, None)
    lists = NeighbourLists(queries.n, k, backend, own.metric, queries.n * own.n, report)
    if plan.block < queries.n:
        own.read_again()
    if points is None:
        search_within(queries, lists, plan)
    else:
        search_against(queries, points, lists, plan)
    return lists.neighbours(queries, traffic)


def in_processes(
    queries: Batches,
    points: Batches | None,
    k: int,
    shards: list[tuple[int, str]],
    backend: Backend,
    limit: int | None,
    ranks: ProcessGroup,
    report: Report | None,
) -> Neighbours:
    """The neighbours of this process's queries among the points of all; arguments are checked.
    `shards`: how many points every process has, and their dtype."""
    traffic = Traffic(queries, queries if points is None else points, ranks)
    pairs = queries.n * sum(n for n, _ in shards)
    lists = NeighbourLists(queries.n, k, backend, queries.metric, pairs, report)
    if limit is not None:
        queries.read_again()
    search_ranks(queries, points, shards, lists, limit, ranks)
    return lists.neighbours(queries, traffic)


def search_within(pool: Batches, lists: Compared, plan: TilePlan) -> None:
    """Every row against all others. A block of rows is compared with itself, then with each later
    tile, in both directions; about n**2 / (2 block) rows are read."""
    for first in range(0, pool.n, plan.block):
        last = min(first + plan.block, pool.n)
        block = pool.piece(first, last, plan.tile)
        lists.tiles += 1
        lists.compare(first, block, None, first)
        for start, tile in pool.pieces(last, pool.n, plan.tile):
            lists.tiles += 1
            lists.compare(first, block, tile, start)
            lists.compare(start, tile, block, first)
        del block  # before the next one is made


def search_against(queries: Batches, points: Batches, lists: Compared, plan: TilePlan) -> None:
    """Every query against all points: queries are read once, points once for every block."""
    for first in range(0, queries.n, plan.block):
        block = queries.piece(first, min(first + plan.block, queries.n), plan.tile)
        lists.tiles += 1
        for start, tile in points.pieces(0, points.n, plan.tile):
            lists.tiles += 1
            lists.compare(first, block, tile, start)
        del block


def search_ranks(
    queries: Batches,
    points: Batches | None,
    shards: list[tuple[int, str]],
    lists: Compared,
    limit: int | None,
    ranks: ProcessGroup,
) -> None:
    """The queries of every process against the points of all. Blocks of points are broadcast, rank
    after rank; each process reads its own queries once per block."""
    own = queries if points is None else points
    plan = budget.plan_ranks(queries, own, lists.k, shards, limit)
    size = min(int(block[0]) for block in ranks.all_gather(np.array([plan.block])))
    offset = 0  # number of the first point of rank `root`
    for root, (count, dtype) in enumerate(shards):
        mine = root == ranks.rank
        for first in range(0, count, size):
            last = min(first + size, count)
            with ranks.shared_errors():
                block = Rows(np.empty((0, own.d), numpy_dtype(dtype)), dtype)
                if mine:
                    block = own.piece(first, last, plan.tile)
            sent = ranks.broadcast(block.take(slice(None)), root)
            lists.tiles += 1
            with ranks.shared_errors():
                if not mine:
                    block = Rows(sent, dtype)
                elif points is None:
                    lists.compare(first, block, None, offset + first)
                itself = (first, last) if mine and points is None else (0, 0)
                for begin, end in ((0, itself[0]), (itself[1], queries.n)):
                    for start, tile in queries.pieces(begin, end, plan.tile):
                        lists.tiles += 1
                        lists.compare(start, tile, block, offset + first)
            del block, sent
        offset += count


def shards_of_all(own: Batches, ranks: ProcessGroup) -> list[tuple[int, str]]:
    """The number of points of every process, and their dtype."""
    every = ranks.all_gather(np.array([own.n, DTYPES.index(own.dtype)]))
    return [(int(n), DTYPES[code]) for n, code in every]


class Traffic:
    """Bytes read from files and exchanged with other processes from now on."""

    def __init__(self, queries: Batches, points: Batches, ranks: ProcessGroup | None) -> None:
        self._pieces = (queries, points)
        self._ranks = ranks
        self._before = self._now()

    def _now(self) -> dict[str, int]:
        # One file may be both.
        sources = {id(p.source): p.source for p in self._pieces if p.source is not None}
        now = {"bytes_read": sum(source.bytes_read for source in sources.values())}
        if self._ranks is not None:
            now["bytes_sent"] = self._ranks.bytes_sent
            now["bytes_received"] = self._ranks.bytes_received
        return now

    def since(self) -> dict[str, int]:
        """Counts by name."""
        return {name: count - self._before[name] for name, count in self._now().items()}
