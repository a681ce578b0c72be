"""Nearest neighbours of rows that are not all in memory, or not all in one process.

A block of one side stays in memory while the other side passes by in tiles; the next tile is read
while one is compared. What is known of a query's neighbours goes on from tile to tile, so that
few pairs of a later tile are looked at twice. Blocks are as large as the memory limit allows,
since every block costs another pass over the other side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from entroselect._progress import Report
from entroselect._settings import threads
from entroselect.backends.base import Backend
from entroselect.io.rows import Rows
from entroselect.results import Neighbours
from entroselect.scale.batches import Batches, numpy_dtype
from entroselect.scale.process_group import ProcessGroup, too_few

# In a list, a place that holds no neighbour yet: (infinity, NO_NEIGHBOUR).
NO_NEIGHBOUR = np.iinfo(np.int64).max

# A block or a tile of fewer rows than this is not worth its reading.
LEAST_ROWS = 64

# Tiles beyond this are no faster.
MOST_BYTES = 1 << 28

# Processes tell each other the type of their rows as a place in this.
DTYPES = ("float64", "float32", "float16", "uint8", "bfloat16")


@dataclass(frozen=True)
class TilePlan:
    """How many rows are in a block and in a tile."""

    block: int
    tile: int


class NeighbourLists:
    """What is known of the neighbours of all queries, and how far the search has come.

    Attributes:
        squared, indices: (queries, k), sorted.
        tiles: blocks and tiles that were looked at so far.
    """

    def __init__(
        self, n: int, k: int, backend: Backend, metric: str, pairs: int, report: Report | None
    ) -> None:
        """For n queries that make so many pairs with their points."""
        self.squared = np.full((n, k), np.inf)
        self.indices = np.full((n, k), NO_NEIGHBOUR)
        self.tiles = 0
        self._backend, self._metric, self._report = backend, metric, report
        self._pairs, self._done = pairs, 0

    def compare(self, first: int, queries: Rows, points: Rows | None, offset: int) -> None:
        """Compares queries, `first` being the number of the first of them, with points whose
        numbers begin at `offset`; without points, with each other."""
        if queries.n == 0:
            return
        pairs = queries.n * (queries.n if points is None else points.n)
        part = slice(first, first + queries.n)

        def share(done: int, of: int) -> None:
            assert self._report is not None
            n = len(self.squared)
            self._report(n * (self._done + pairs * done // of) // self._pairs, n)

        self._backend.update_neighbours(
            queries,
            points,
            offset,
            self.squared[part],
            self.indices[part],
            self._metric,
            None if self._report is None else share,
        )
        self._done += pairs


def run(
    queries: Batches,
    points: Batches | None,
    k: int,
    shards: list[tuple[int, str]],
    backend: Backend,
    limit: int | None,
    ranks: ProcessGroup | None,
    report: Report | None,
) -> Neighbours:
    """The answer to arguments that are all right; `shards` says how many points every process
    has, and their type."""
    own = queries if points is None else points
    traffic = Traffic(queries, own, ranks)
    plan = None
    if ranks is None and limit is not None:
        plan = plan_alone(queries, points, k, limit)
    if ranks is None and plan is None:
        against = None if points is None else points.whole()
        found = backend.nearest(queries.whole(), against, k, own.metric, report)
        return replace(found, profile={**traffic.since(), "tiles": 1})
    pairs = queries.n * sum(n for n, _ in shards)
    lists = NeighbourLists(queries.n, k, backend, own.metric, pairs, report)
    if plan is None:
        assert ranks is not None
        if limit is not None:
            queries.read_again()
        search_ranks(queries, points, shards, lists, limit, ranks)
    elif points is None:
        if plan.block < queries.n:
            queries.read_again()
        search_within(queries, lists, plan)
    else:
        if plan.block < queries.n:
            points.read_again()
        search_against(queries, points, lists, plan)
    distances, indices = np.sqrt(lists.squared, out=lists.squared), lists.indices
    if queries.rows is not None:  # perhaps on a GPU
        distances, indices = queries.rows.like(distances), queries.rows.like(indices)
    profile = {**traffic.since(), "tiles": lists.tiles}
    return Neighbours(distances, indices, backend.name, profile=profile)


def search_within(pool: Batches, lists: NeighbourLists, plan: TilePlan) -> None:
    """Every row against all others: a block meets itself, then it and each later tile meet each
    other, so that about n**2 / (2 block) rows are read."""
    for first in range(0, pool.n, plan.block):
        last = min(first + plan.block, pool.n)
        block = pool.piece(first, last, plan.tile)
        lists.tiles += 1
        lists.compare(first, block, None, first)
        for start, tile in pool.pieces(last, pool.n, plan.tile):
            lists.tiles += 1
            lists.compare(first, block, tile, start)
            lists.compare(start, tile, block, first)
        del block  # before there is another


def search_against(
    queries: Batches, points: Batches, lists: NeighbourLists, plan: TilePlan
) -> None:
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
    lists: NeighbourLists,
    limit: int | None,
    ranks: ProcessGroup,
) -> None:
    """The queries of every process against the points of all. Blocks of points go round, rank
    after rank; each process reads its own queries once for each."""
    own = queries if points is None else points
    plan = plan_ranks(queries, own, lists.squared.shape[1], shards, limit)
    size = min(int(block[0]) for block in ranks.all_gather(np.array([plan.block])))
    offset = 0  # of the points of the process whose turn it is
    for root, (count, dtype) in enumerate(shards):
        mine = root == ranks.rank
        for first in range(0, count, size):
            last = min(first + size, count)
            with ranks.shared_errors():
                block = own.piece(first, last, plan.tile) if mine else no_rows(own.d, dtype)
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
    """How many rows every process has, and their type."""
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


def no_rows(d: int, dtype: str) -> Rows:
    """No rows of d columns."""
    return Rows(np.empty((0, d), "uint16" if dtype == "bfloat16" else dtype), dtype)


# What a search takes beside the values of rows and the lists. The numbers are those of csrc/: codes
# of at most 2 bytes a column and what stands beside them, or a tree; for cosine, lengths.


def coded_bytes(pool: Batches) -> int:
    """For every point."""
    d = pool.d
    filter_bytes = 2 * d + 96
    tree_bytes = 18 * d + 64 if d <= 8 else 0
    return max(filter_bytes, tree_bytes) + length_bytes(pool)


def length_bytes(pool: Batches) -> int:
    """For every row."""
    return 8 if pool.metric == "cosine" else 0


def suspect_bytes(pool: Batches, k: int) -> int:
    """For every row of a set that is searched for nearest pairs (csrc/all_pairs.cpp)."""
    return 8 + pool.d * 16 // 10 if k == 1 else 0


def search_bytes(d: int, k: int) -> int:
    """Once: the sample behind the filter's frame and, for each thread, 60 queries with codes,
    lists, and as many suspects as may come together."""
    suspects = 2 * 16 * (max(1024, 4 * k) + 32) + 64 * k
    return 65536 + 1024 * d + threads() * (60 * suspects + 1100 * d + 65536)


@dataclass(frozen=True)
class Demand:
    """What a search takes: once, for every row of a block and of a tile, with how many there are,
    and `whole`, which is certainly enough for all at once."""

    once: int
    block: tuple[int, int]
    tile: tuple[int, int]
    whole: int

    @property
    def least(self) -> int:
        """Bytes with which it still works."""
        return min(self.whole, self.once + 4 * LEAST_ROWS * max(self.block[0], self.tile[0]))

    def plan(self, limit: int) -> TilePlan:
        """Up to a quarter of what is left of a limit for tiles, the rest for the block."""
        (block_bytes, block_rows), (tile_bytes, tile_rows) = self.block, self.tile
        left = limit - self.once
        tile_part = min(left // 4, max(MOST_BYTES, LEAST_ROWS * tile_bytes))
        if block_bytes * block_rows <= left - left // 4:  # then tiles may be larger
            tile_part = left - block_bytes * block_rows
        tiles = max(1, min(tile_rows, tile_part // max(1, tile_bytes)))
        blocks = (left - tiles * tile_bytes) // max(1, block_bytes)
        return TilePlan(max(1, min(block_rows, blocks)), tiles)


def demand_alone(queries: Batches, points: Batches | None, k: int) -> Demand:
    """For one process."""
    own = queries if points is None else points
    once = search_bytes(own.d, k) + own.spare + (0 if own is queries else queries.spare)
    coming = max(3 * pool.row_bytes + pool.spare_bytes for pool in (queries, own))
    tile = coming + coded_bytes(own)
    if points is None:
        block = own.row_bytes + coded_bytes(own) + suspect_bytes(own, k)
        whole = once + own.n * (block + own.spare_bytes)
    else:
        block = queries.row_bytes + length_bytes(queries)
        whole = once + queries.n * (block + queries.spare_bytes)
        whole += own.n * (own.row_bytes + own.spare_bytes + coded_bytes(own))
    return Demand(once, (block, queries.n), (tile, own.n), whole)


def demand_ranks(queries: Batches, own: Batches, k: int, shards: list[tuple[int, str]]) -> Demand:
    """For blocks of points that are exchanged; `own` are those of this process."""
    once = search_bytes(own.d, k) + own.spare + (0 if own is queries else queries.spare)
    tile = max(3 * pool.row_bytes + pool.spare_bytes for pool in (queries, own))
    tile += length_bytes(queries)
    # Read or received, and twice more in the hands of the transport.
    itemsize = max(numpy_dtype(dtype).itemsize for _, dtype in shards)
    block = 3 * own.d * itemsize + coded_bytes(own) + suspect_bytes(own, k)
    most = max(n for n, _ in shards)
    whole = once + most * block + queries.n * tile
    return Demand(once, (block, most), (tile, queries.n), whole)


def plan_alone(queries: Batches, points: Batches | None, k: int, limit: int) -> TilePlan | None:
    """For one process; None: all fits at once."""
    demand = demand_alone(queries, points, k)
    return None if limit >= demand.whole else demand.plan(limit)


def plan_ranks(
    queries: Batches, own: Batches, k: int, shards: list[tuple[int, str]], limit: int | None
) -> TilePlan:
    """For several processes."""
    if limit is None:
        return TilePlan(max(1, max(n for n, _ in shards)), max(1, queries.n))
    return demand_ranks(queries, own, k, shards).plan(limit)


def check_limit(
    limit: int | None,
    searches: list[tuple[Batches, Batches | None, int]],
    shards: list[tuple[int, str]],
    ranks: ProcessGroup | None,
) -> None:
    """Raises ValueError, on all processes, unless the limit is enough for each of some searches,
    given as (queries, points, k)."""
    least = 0
    for queries, points, k in searches:
        if ranks is None:
            demand = demand_alone(queries, points, k)
        else:
            demand = demand_ranks(queries, queries if points is None else points, k, shards)
        least = max(least, demand.least)
    n, d = searches[0][0].n, searches[0][0].d
    too_few(limit, least, f"{n} queries of {d} columns", ranks)
