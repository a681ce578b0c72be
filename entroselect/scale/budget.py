"""How a memory limit is divided, and the bytes that a row takes: one model for both.

The first part has the most bytes per row that the compiled core keeps besides the row's values:
codes of bfloat16, cells in use, cosine, all rows refreshed at once. The core returns these numbers;
csrc/ derives each of them next to the structures that it counts. Docstrings and docs/scale.md state
the sums.

The second part divides a limit. A selection that reads rows (`Budget`) and a search for neighbours
in tiles (`Demand`) keep different things, so each divides it in its own way. Below the smallest
limit that works, `check_least` raises the one error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from entroselect import _core
from entroselect._settings import threads
from entroselect.engine import PICKS_OVER_ROUND, PICKS_PER_ROUND
from entroselect.io.source import Source
from entroselect.scale.batches import Batches, numpy_dtype
from entroselect.scale.process_group import ProcessGroup

# Blocks and tiles of fewer rows than this cost more than they bring.
LEAST_ROWS = 64

# Room for the candidates of a round, per pick that it aims at; 1.1 to 2.1 were measured.
CANDIDATES = 4

# Codes of fewer rows than n over this save too little.
CODED_SHARE = 8

# Tiles of more bytes than this are no faster.
MOST_TILE_BYTES = 1 << 28

# Bytes per row of a pool that is read, of any width: bound, count of picks met and mark all along;
# during a round its place in a traversal, its number among the rows to be read, and flags. Saving
# a checkpoint takes less: the counts twice more, as 8 bytes and as 4.
KEPT = 8 + 4 + 4
ROUND = 8 + 8 + 4
BYTES_PER_ROW = KEPT + ROUND


def pool_bytes(d: int) -> int:
    """Bytes per row of a pool in memory, besides its values: 2 d + 80. A pick takes less."""
    return _core.pool_bytes_per_row(d)


def whole_pool_bytes(d: int) -> int:
    """As `pool_bytes`, for a pool that may be a k-d tree: then 17 d + 26 if that is more."""
    return _core.whole_pool_bytes_per_row(d)


def point_bytes(d: int) -> int:
    """Bytes per point that a search holds, besides its values: 2 d + 96, or 18 d + 64 for a k-d
    tree."""
    return _core.point_bytes_per_row(d, False)


def suspect_bytes(d: int, k: int) -> int:
    """Bytes per row of a set in which each row's nearest other row is searched; 0 for k > 1."""
    return _core.pair_bytes_per_row(d) if k == 1 else 0


def length_bytes(metric: str) -> int:
    """Bytes per query and per point for the lengths that cosine divides by."""
    return _core.query_bytes_per_row(metric == "cosine")


def search_bytes(d: int, k: int) -> int:
    """Bytes that a search takes besides those per row."""
    return _core.search_bytes(d, k, threads())


def check_least(
    limit: int | None, least: int, what: str, ranks: ProcessGroup | None = None
) -> None:
    """Raises ValueError, on all processes, if the limit of one is below what it needs at least; the
    error names a limit that is enough for all of them. `what` is what takes the memory."""
    limits = [least if limit is None else limit]
    every = [least]
    if ranks is not None:
        found = np.concatenate(ranks.all_gather(np.array([(limits[0], least)], dtype=np.int64)))
        limits, every = found[:, 0].tolist(), found[:, 1].tolist()
    short = [limit for limit, least in zip(limits, every, strict=True) if limit < least]
    if short:
        raise ValueError(
            f"memory_limit: {short[0]} bytes are too few for {what}; the smallest that works is "
            f"{max(every)}"
        )


# Selection


def pool_needs(source: Source, picks: int, mixed: bool, kept: int = 0) -> tuple[int, int]:
    """(bytes with which the rows of a source are held as a pool in memory, the smallest limit with
    which they are read instead). `mixed`: picks begin with vectors of another dtype; `kept`: bytes
    that are needed in addition."""
    d, row_bytes = source.d, source.d * numpy_dtype(source.dtype).itemsize
    # Rows of an array are in memory anyway; others would be read into it.
    held = 0 if source.format == "array" else row_bytes
    in_memory = kept + source.n * (held + whole_pool_bytes(d))
    in_memory += picks * (row_bytes + pool_bytes(d))
    # Picks of two dtypes are kept as float64.
    streamed = Budget.least(
        kept + BYTES_PER_ROW * source.n + source.overhead, 8 * d if mixed else row_bytes, d
    )
    return (streamed if source.n == 0 else in_memory), streamed


def gathered_bytes(row_bytes: int, d: int) -> int:
    """Bytes per row that rank 0 settles: a record of 24 bytes and the row, as it is sent, received
    and put in order, and the pool over the rows."""
    return 3 * (24 + row_bytes) + pool_bytes(d)


def gathered_least(row_bytes: int, d: int) -> int:
    """Bytes that rank 0 needs at least for rows of all processes."""
    return LEAST_ROWS * gathered_bytes(row_bytes, d)


def gathered_rows(left: int, row_bytes: int, d: int) -> int:
    """How many rows rank 0 has room for, with `left` bytes besides the least."""
    return LEAST_ROWS + max(0, left) // gathered_bytes(row_bytes, d)


@dataclass(frozen=True)
class Budget:
    """How a selection that reads its rows spends the memory limit: a third each for a tile being
    read and one being compared, for the block, and for picks.

    Attributes:
        tile: rows read at a time.
        block: rows among which a round settles picks, at most.
        picks: picks that rows are compared with at a time.
        kept: how many further tiles of `picks` picks stay in memory.
        coded: rows whose codes are kept, in what the others have no use for.
    """

    tile: int
    block: int
    picks: int
    kept: int
    coded: int

    @staticmethod
    def least(fixed: int, row_bytes: int, d: int) -> int:
        """The smallest limit that works when `fixed` bytes are always needed."""
        return fixed + 3 * LEAST_ROWS * (3 * row_bytes + pool_bytes(d))

    @classmethod
    def of(
        cls,
        limit: int,
        n: int,
        row_bytes: int,
        d: int,
        overhead: int,
        expected: int = 0,
        codes: tuple[int, int] | None = None,
    ) -> Budget:
        """The parts of a limit in bytes; `overhead` is what reading keeps for itself, `expected`
        how many picks there will be, `codes` the bytes of a coded row and of a coded pick (None:
        there are no codes).

        Raises:
            ValueError: naming memory_limit and the smallest that works.
        """
        fixed = BYTES_PER_ROW * n + overhead
        check_least(limit, cls.least(fixed, row_bytes, d), f"{n} rows of {row_bytes} bytes")
        held = row_bytes + pool_bytes(d)
        read = held + 2 * row_bytes  # being compared, being read, and what the caller has had
        left = limit - fixed
        third = left // 3
        tiles = blocks = stored = third
        picks, coded = min(third // 2, MOST_TILE_BYTES) // held, 0
        if codes is not None:
            tiles = min(third, left // 16)
            few = CANDIDATES * max(PICKS_PER_ROUND, expected // PICKS_OVER_ROUND)
            blocks = min(third, few * (held + row_bytes))
            fewer = min(picks, LEAST_ROWS + expected // 16)
            stored = min(third, expected * row_bytes + 2 * fewer * held)
            # A thirty-second is left for what the allocator keeps.
            spare = left - left // 32 - tiles - blocks - stored - expected * codes[1]
            coded = min(n, spare // codes[0])
            if coded * CODED_SHARE < n or tiles < LEAST_ROWS * read:
                tiles, blocks, stored, coded = third, third, third, 0
            else:
                picks = fewer
        tile = min(tiles, MOST_TILE_BYTES) // read
        block = blocks // (held + row_bytes)  # they are copied once
        kept = max(1, (stored - picks * held) // (picks * row_bytes))
        return cls(tile, block, picks, kept, coded)


# Nearest neighbours


@dataclass(frozen=True)
class TilePlan:
    """The numbers of rows of a block and of a tile."""

    block: int
    tile: int


@dataclass(frozen=True)
class Demand:
    """Bytes that a search needs: `once`, in all; (bytes per row, number of rows) of a block and of
    a tile; `whole`, an upper bound for holding everything at once."""

    once: int
    block: tuple[int, int]
    tile: tuple[int, int]
    whole: int

    @property
    def least(self) -> int:
        """The smallest limit that works."""
        return min(self.whole, self.once + 4 * LEAST_ROWS * max(self.block[0], self.tile[0]))

    def plan(self, limit: int) -> TilePlan:
        """Up to a quarter of what is left of a limit for tiles, the rest for the block."""
        (block_bytes, block_rows), (tile_bytes, tile_rows) = self.block, self.tile
        left = limit - self.once
        tile_part = min(left // 4, max(MOST_TILE_BYTES, LEAST_ROWS * tile_bytes))
        if block_bytes * block_rows <= left - left // 4:  # then tiles may be larger
            tile_part = left - block_bytes * block_rows
        tiles = max(1, min(tile_rows, tile_part // max(1, tile_bytes)))
        blocks = (left - tiles * tile_bytes) // max(1, block_bytes)
        return TilePlan(max(1, min(block_rows, blocks)), tiles)


def demand_alone(queries: Batches, points: Batches | None, k: int) -> Demand:
    """What a search in one process needs."""
    own = queries if points is None else points
    once = search_bytes(own.d, k) + own.spare + (0 if own is queries else queries.spare)
    length = length_bytes(own.metric)
    coded = point_bytes(own.d) + length
    tile = coded + max(3 * rows.row_bytes + rows.spare_bytes for rows in (queries, own))
    if points is None:
        block = own.row_bytes + coded + suspect_bytes(own.d, k)
        whole = once + own.n * (block + own.spare_bytes)
    else:
        block = queries.row_bytes + length
        whole = once + queries.n * (block + queries.spare_bytes)
        whole += own.n * (own.row_bytes + own.spare_bytes + coded)
    return Demand(once, (block, queries.n), (tile, own.n), whole)


def demand_pairs(rows: Batches, points: Batches) -> Demand:
    """What sums over all pairs of rows and points need: a sum per row, and for every row of a block
    its length, the distance to a point and its square."""
    once = rows.spare + (0 if points is rows else points.spare) + 8 * rows.n
    length = length_bytes(rows.metric)
    tile = length + max(3 * side.row_bytes + side.spare_bytes for side in (rows, points))
    block = rows.row_bytes + length + 16
    whole = once + rows.n * (block + rows.spare_bytes)
    whole += points.n * (points.row_bytes + points.spare_bytes + length)
    return Demand(once, (block, rows.n), (tile, points.n), whole)


def demand_ranks(queries: Batches, own: Batches, k: int, shards: list[tuple[int, str]]) -> Demand:
    """What a search in several processes needs, which exchange blocks of points; `own`: this
    process's points."""
    once = search_bytes(own.d, k) + own.spare + (0 if own is queries else queries.spare)
    length = length_bytes(own.metric)
    tile = length + max(3 * rows.row_bytes + rows.spare_bytes for rows in (queries, own))
    # Read or received, and twice more in the hands of the transport.
    itemsize = max(numpy_dtype(dtype).itemsize for _, dtype in shards)
    block = 3 * own.d * itemsize + point_bytes(own.d) + length + suspect_bytes(own.d, k)
    most = max(n for n, _ in shards)
    whole = once + most * block + queries.n * tile
    return Demand(once, (block, most), (tile, queries.n), whole)


def plan_alone(queries: Batches, points: Batches | None, k: int, limit: int) -> TilePlan | None:
    """How one process divides a limit; None: everything fits at once."""
    demand = demand_alone(queries, points, k)
    return None if limit >= demand.whole else demand.plan(limit)


def plan_ranks(
    queries: Batches, own: Batches, k: int, shards: list[tuple[int, str]], limit: int | None
) -> TilePlan:
    """How one of several processes divides its limit."""
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
    check_least(limit, least, f"{n} queries of {d} columns", ranks)
