"""The round loops of selection, over a handful of primitives.

A row's distance to the picks only ever decreases. So each pool row carries a *bound*, at least its
squared distance to the nearest pick, and a stale bound is still an upper bound. A round takes the
rows with the largest bounds (the frontier), lowers only those, each until it is up to date or
below the *rival*, the best bound left outside, and settles picks among them for as long as the
best of them beats the rival: nothing else can overtake. Rows far below the frontier are never
touched. See docs/exactness.md for why the result equals the textbook loop's.

Pools supply the primitives: `_core.Pool` and `backends.cuda.pool.Pool` over rows in memory,
`scale.streamed_pool.StreamedPool` over rows on disk, `scale.sharded_pool.ShardedPool` over the rows
of several processes. The last two settle the picks of a round in a pool of the first kind, over
the rows of the block alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from entroselect import _settings
from entroselect._thresholds import next_threshold, smallest_square
from entroselect.results import Float64, Int64

# Picks per round that the frontier's size aims at: 256, or a sixteenth of those made before; and
# the least size that this leads to.
PICKS_PER_ROUND = 256
PICKS_OVER_ROUND = 16
LEAST_BLOCK = 1024
# Rows of a frontier that beat the rival when up to date: 1.1 to 2.1 per pick were measured.
CANDIDATES_PER_PICK = 2

# What every pool counts: pairs that the filter scored, pairs rechecked, pairs compared exactly
# while picks were settled, and rows that were refreshed.
COUNTED = ("pairs", "rechecks", "settled", "refreshed")


class Pool(Protocol):
    """The primitives that a round loop needs. Rows are pool indices; distances are canonical and
    squared."""

    n: int
    d: int

    @property
    def count(self) -> int:
        """Picks so far, given vectors included."""

    @property
    def available(self) -> int:
        """Pool rows that may still be picked."""

    def add_picks(self, rows: Int64) -> None:
        """Picks pool rows, at any distance."""

    def add_vectors(self, values: Any, dtype: str) -> None:
        """Picks vectors that are not in the pool."""

    def refresh(self, rows: Int64 | None = None, enough: float = 0.0) -> None:
        """Updates the bounds of the given rows (None: all): to the distance to the nearest of all
        picks, or to any upper bound of it that is below `enough`."""

    def frontier(self, size: int) -> tuple[Int64, float, int]:
        """About `size` rows with the largest bounds; bound and index of the best left out."""

    def settle(
        self, rows: Int64, rival: float, rival_index: int, limit: int, floor: float
    ) -> tuple[Int64, Float64, float]:
        """Picks up to `limit` of the rows, farthest first, while they beat the rival and are at
        `floor` or above. Also returns the next pick's squared distance, -1 where undecided."""

    def next_in_order(self, order: Int64, start: int, size: int, floor: float) -> tuple[Int64, int]:
        """Up to `size` unpicked rows with bounds of at least `floor`, in order from a position;
        and the position after them."""

    def settle_in_order(self, rows: Int64, limit: int, floor: float) -> tuple[Int64, Float64]:
        """Picks up to `limit` of the rows, in the order given, each if still at `floor`."""

    def widest(self) -> float:
        """The largest bound of any unpicked row, 0 when there is none."""

    def profile(self) -> dict[str, Any]:
        """Counters, all of `COUNTED` among them."""


class SubPool(Pool, Protocol):
    """A pool over a part of the rows of a larger one: of one process, or of one block."""

    def exclude(self, rows: Int64) -> None:
        """Marks these rows as picked; their vectors are added separately, by `add_vectors`."""

    def bounds(self, rows: Int64) -> Float64:
        """Their bounds, -1 where picked."""

    def state(self) -> tuple[Float64, Int64]:
        """(bounds, met) of all rows; row i has been compared with the first met[i] picks at
        least."""

    def restart(self, bounds: Float64, met: Int64) -> None:
        """Resets the pool to no picks.

        Args:
            bounds: starting bound of each row, -1 if it may not be picked.
            met: how many of the picks that will be added next each row has already been compared
                with; at most the number added before the next `refresh`.
        """


@dataclass
class SelectionState:
    """How far a selection has come: its picks, and where a pass of the threshold filter stands."""

    picks: list[Int64] = field(default_factory=list)
    squared: list[Float64] = field(default_factory=list)
    thresholds: list[Float64] = field(default_factory=list)
    rounds: int = 0
    position: int = 0  # in the traversal order
    tau: float = 0.0
    floor: float = -1.0  # of squares in this pass; negative before the first

    @property
    def done(self) -> int:
        """Rows picked."""
        return sum(map(len, self.picks))

    def add(self, found: Int64, at: Float64) -> None:
        """More picks, with their squared distances."""
        self.picks.append(found)
        self.squared.append(at)
        self.thresholds.append(np.zeros(len(found)) + self.tau)

    def joined(self) -> tuple[Int64, Float64, Float64]:
        """(picks, squared distances, thresholds) in three arrays."""
        nothing = np.empty(0, dtype=np.int64)
        return (
            np.concatenate([nothing, *self.picks]),
            np.concatenate([np.empty(0), *self.squared]),
            np.concatenate([np.empty(0), *self.thresholds]),
        )


class Rounds:
    """Checks that every round makes progress, so that the loops end. It always does while the rows
    stay the same. If another thread writes to them, a loop could run forever or return rows that
    do not exist; then this raises."""

    def __init__(self, pool: Pool) -> None:
        self._n = pool.n
        self._best_left = (math.inf, 0)

    def passed(self, found: Int64, next_squared: float, rival: float, rival_index: int) -> None:
        """A round of farthest-first must settle picks, or decide the distance of the next one, or
        lower every row of its frontier below the rival, so that the next rival is a later row.

        Raises:
            RuntimeError: it did none of these.
        """
        self.picked(found)
        left = (math.inf, 0) if len(found) else (rival, -rival_index)
        if not (len(found) or next_squared >= 0 or left < self._best_left):
            raise _unsteady()
        self._best_left = left

    def picked(self, found: Int64) -> None:
        """Raises RuntimeError unless the picks of a round are rows of the pool."""
        if len(found) and found.view(np.uint64).max() >= self._n:  # so are negative numbers
            raise _unsteady()


def _unsteady() -> RuntimeError:
    return RuntimeError(
        "features: rows changed while they were being compared (another thread or process writes "
        "to them?); there is no answer, start again and leave them alone meanwhile"
    )


# Called after every round with the state of the selection.
AfterRound = Callable[[SelectionState], None]


def block_size(pool: Pool) -> int:
    """Frontier size of the first round: ENTROSELECT_BLOCK, or n / 8 within 256 to 8,192, so that
    rounds are few and the rows' codes stay in cache; at most half of what the pool has room for,
    since a frontier may be twice as large as asked for. At most 1,024 rows are one block."""
    given = _settings.block()
    usual = pool.n if pool.n <= LEAST_BLOCK else max(PICKS_PER_ROUND, min(8192, pool.n // 8))
    return given or max(1, min(usual, (_capacity(pool) or 2 * usual) // 2))


def next_block_size(pool: Pool, size: int, picks: int) -> int:
    """Frontier size of the next round, so that it settles about a sixteenth of the picks made so
    far (at least 256, at most what there is room for): rounds then grow with log k, not with n. A
    smaller frontier lowers the rival sooner, so rows are compared with fewer picks; but every round
    looks at all bounds. The size changes by at most 4 times, within 1,024 and n / 8, or what the
    pool says (`picks_per_round`, `block_limit`)."""
    if _settings.block() is not None or pool.n <= LEAST_BLOCK:
        return size
    least = getattr(pool, "picks_per_round", PICKS_PER_ROUND)
    wanted = max(least, pool.count // PICKS_OVER_ROUND)
    wanted = min(wanted, (_capacity(pool) or pool.n) // CANDIDATES_PER_PICK)
    change = min(4.0, max(0.25, wanted / max(1, picks)))
    most = min(pool.n // 8, getattr(pool, "block_limit", pool.n))
    return int(min(max(size * change, LEAST_BLOCK), max(PICKS_PER_ROUND, most)))


def _capacity(pool: Pool) -> int | None:
    """The most candidates that a pool of `scale` has room for, None for other pools."""
    return getattr(pool, "capacity", None)


def _next_inner_size(block: Pool, size: int, picks: int) -> int:
    """Frontier size of the next round inside a block, whose picks are few: half of it (at least
    1,024) after more than 256 picks, twice (at most the first size) after fewer than 64."""
    if _settings.block() is not None:
        return size
    if picks > PICKS_PER_ROUND:
        return min(size, max(LEAST_BLOCK, size // 2))
    return min(2 * size, block_size(block)) if picks < PICKS_PER_ROUND // 4 else size


def farthest_first(
    pool: Pool,
    k: int,
    min_distance: float | None,
    first: int,
    state: SelectionState,
    after_round: AfterRound | None,
    weighted: bool = False,
) -> float:
    """Greedy max-min until the state has k picks; returns the radius. `first` starts an empty
    selection. `weighted`: the pool has weights (weighted.py), for `min_distance` and radius too."""
    if pool.count == 0:
        start = np.array([first], dtype=np.int64)
        pool.add_picks(start)
        state.add(start, np.array([np.inf]))
    floor = (min_distance or 0.0) if weighted else smallest_square(min_distance or 0.0)
    size = block_size(pool)
    pool.refresh(None, math.inf)
    next_squared = -1.0  # squared distance of the next pick; negative while undecided
    done = state.done
    rounds = Rounds(pool)
    while pool.available and (next_squared < 0 or (done < k and next_squared >= floor)):
        rows, rival, rival_index = pool.frontier(size)
        pool.refresh(rows, rival)
        found, at, next_squared = pool.settle(rows, rival, rival_index, k - done, floor)
        rounds.passed(found, next_squared, rival, rival_index)
        state.add(found, at)
        done += len(found)
        state.rounds += 1
        size = next_block_size(pool, size, len(found))
        if after_round is not None:
            after_round(state)
    return _radius(pool, next_squared, weighted)


def settle_block(
    pool: Pool, rival: float, rival_index: int, limit: int, floor: float
) -> tuple[Int64, Float64, float]:
    """Does what `Pool.settle` does, for all rows of a block, in rounds. The rival's place is
    between rows rival_index - 1 and rival_index of the block: at equal bounds, rows before that
    place come first."""
    picks, squared = [np.empty(0, dtype=np.int64)], [np.empty(0)]
    next_squared, done, last, size, rounds = -1.0, 0, False, block_size(pool), Rounds(pool)
    while pool.available and next_squared < 0 and not last:
        rows, inner, inner_index = pool.frontier(size)
        last = rival > inner or (rival == inner and rival_index <= inner_index)
        if last:
            inner, inner_index = rival, rival_index
        pool.refresh(rows, inner)
        found, at, next_squared = pool.settle(rows, inner, inner_index, limit - done, floor)
        rounds.passed(found, next_squared, inner, inner_index)
        picks.append(found)
        squared.append(at)
        done += len(found)
        size = _next_inner_size(pool, size, len(found))
    return np.concatenate(picks), np.concatenate(squared), next_squared


def settle_block_in_order(block: Pool, limit: int, floor: float) -> tuple[Int64, Float64]:
    """Does what `Pool.settle_in_order` does, for all rows of a block, in rounds."""
    order = np.arange(block.n)
    picks, squared, done, position = [order[:0]], [np.empty(0)], 0, 0
    size = block_size(block)
    while position < block.n and done < limit:
        found, at, position = accept_in_order(block, order, position, size, limit - done, floor)
        picks.append(found)
        squared.append(at)
        done += len(found)
    return np.concatenate(picks), np.concatenate(squared)


def threshold_decay(
    pool: Pool,
    k: int,
    order: Int64,
    threshold: float | None,
    decay: float | None,
    state: SelectionState,
    after_round: AfterRound | None,
) -> float:
    """Threshold filter until the state has k picks or, without decay, one pass has ended; returns
    the radius."""
    size = block_size(pool)
    rounds = Rounds(pool)
    if state.floor < 0:
        started = pool.count > 0
        if not started:
            pool.add_picks(order[:1])
        pool.refresh()
        widest = pool.widest()
        state.tau = math.sqrt(widest) if threshold is None else threshold
        if not started:
            state.add(order[:1], np.array([np.inf]))
            state.position = 1
        state.floor = _begin_pass(state, widest, decay is not None)
    done = state.done
    while done < k:
        accepted = done if state.position == 0 else -1  # before a pass from the start
        while state.position < len(order) and done < k:
            begin = state.position
            found, at, state.position = accept_in_order(
                pool, order, begin, size, k - done, state.floor
            )
            rounds.picked(found)
            state.add(found, at)
            done += len(found)
            if done == k:  # a selection that resumes begins after the last pick
                state.position = begin + int(np.flatnonzero(order[begin:] == found[-1])[0]) + 1
            state.rounds += 1
            if hasattr(pool, "capacity"):  # windows of rows that are read or shared are dear
                size = next_block_size(pool, size, len(found))
            if after_round is not None:
                after_round(state)
        if done == k or decay is None:
            break
        state.position = 0
        # Passes that cannot accept anything are skipped; the thresholds stay the same sequence.
        widest = pool.widest()
        if accepted == done and not widest < state.floor:
            raise _unsteady()  # rows still at the floor were up to date, and yet not accepted
        state.tau = next_threshold(state.tau, decay, math.sqrt(widest))
        state.floor = _begin_pass(state, widest)
    return settled_radius(pool, size)


def accept_in_order(
    pool: Pool, order: Int64, position: int, size: int, limit: int, floor: float
) -> tuple[Int64, Float64, int]:
    """One round of a pass: (picks, squared distances, position after it)."""
    size = min(size, _capacity(pool) or size)  # what `refresh` dropped would have stale bounds
    rows, position = pool.next_in_order(order, position, size, floor)
    pool.refresh(rows, floor)
    return *pool.settle_in_order(rows, limit, floor), position


def _begin_pass(state: SelectionState, widest: float, copies: bool = True) -> float:
    """The smallest squared distance that a pass accepts. When only exact copies of accepted rows
    are left, it is 0, and they are accepted in order, if `copies`."""
    if widest == 0.0 and copies:
        state.tau = 0.0
        return 0.0
    return smallest_square(math.nextafter(state.tau, math.inf))


def settled_radius(pool: Pool, size: int, weighted: bool = False) -> float:
    """The largest distance, or weighted distance, of any pool row to the picks."""
    next_squared = -1.0
    rounds = Rounds(pool)
    while pool.available and next_squared < 0:
        rows, rival, rival_index = pool.frontier(size)
        pool.refresh(rows, rival)
        found, _, next_squared = pool.settle(rows, rival, rival_index, 0, 0.0)
        rounds.passed(found, next_squared, rival, rival_index)
    return _radius(pool, next_squared, weighted)


def _radius(pool: Pool, left: float, weighted: bool) -> float:
    return (left if weighted else math.sqrt(left)) if pool.available else 0.0


def profile(pool: Pool, picks: int, rounds: int, began: float, opened: float) -> dict[str, Any]:
    """The pool's counters and clocks, and what follows from them; `began` and `opened` are times
    of `time.perf_counter`."""
    counted = pool.profile()
    looked_at = counted["pairs"] + counted["settled"]
    return {
        "rounds": rounds,
        "picks_per_round": picks / max(1, rounds),
        "share_of_pairs": looked_at / (pool.n * max(1, pool.count)),
        "rechecks_per_row": (counted["rechecks"] + counted["settled"]) / pool.n,
        **counted,
        "open_seconds": opened - began,
        "total_seconds": time.perf_counter() - began,
    }
