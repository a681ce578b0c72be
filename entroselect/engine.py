"""The round loops of selection, over a handful of primitives.

Distances to the chosen rows only ever decrease. So each pool row carries a *bound*, at least its
squared distance to the nearest pick, and a stale bound is still an upper bound. A round takes the
rows with the largest bounds (the frontier), lowers only those, each until it is up to date or
below the *rival*, the best bound left outside, and settles picks among them for as long as the
best of them beats the rival: nothing else can overtake. Rows far below the frontier are never
touched. See docs/exactness.md for why the result equals the textbook loop's.

Who supplies the primitives: `_core.Pool` and `cuda.Pool` for rows in memory, `streamed.Streamed`
for rows on disk, `sharded.Sharded` for rows of several processes. The last two settle picks in
blocks, which are pools of the first kind.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from entroselect._float_environment import in_default_float_environment
from entroselect.results import Float64, Int64

# What the size of a block aims at, and its least value.
PICKS_PER_ROUND = 256
LEAST_BLOCK = 1024


class Pool(Protocol):
    """What a round loop needs. Rows are pool indices; distances are canonical and squared."""

    n: int
    d: int
    count: int  # rows and vectors chosen so far
    available: int  # pool rows not chosen

    def pick(self, rows: Int64) -> None:
        """Chooses pool rows, whatever their distance."""

    def extend(self, values: Any, dtype: str) -> None:
        """Chooses vectors that are not in the pool."""

    def refresh(self, rows: Int64 | None = None, enough: float = 0.0) -> None:
        """Brings the bounds of the given rows (None: of all) up to date with every choice, or to
        any upper bound below `enough`."""

    def frontier(self, size: int) -> tuple[Int64, float, int]:
        """About `size` rows with the largest bounds; bound and index of the best left out."""

    def resolve(
        self, rows: Int64, rival: float, rival_index: int, limit: int, floor: float
    ) -> tuple[Int64, Float64, float]:
        """Picks up to `limit` of the rows, farthest first, while they beat the rival and are at
        `floor` or above. Also returns the next pick's squared distance, -1 where undecided."""

    def ahead(self, order: Int64, start: int, size: int, floor: float) -> tuple[Int64, int]:
        """Up to `size` unchosen rows with bounds of at least `floor`, in order from a position;
        and the position after them."""

    def resolve_in_order(self, rows: Int64, limit: int, floor: float) -> tuple[Int64, Float64]:
        """Picks up to `limit` of the rows, in the order given, each if still at `floor`."""

    def widest(self) -> float:
        """The largest bound of any unchosen row, 0 when there is none."""

    def profile(self) -> dict[str, Any]:
        """Counters."""


class Block(Pool, Protocol):
    """A pool that can be a part of a larger one, or a block of it."""

    def exclude(self, rows: Int64) -> None:
        """These rows may not be picked any more: they are chosen, through `extend`."""

    def bounds(self, rows: Int64) -> Float64:
        """Their bounds, -1 where chosen."""

    def state(self) -> tuple[Float64, Int64]:
        """(bounds, met) of all rows: how many of the leading choices each has certainly met."""

    def restart(self, bounds: Float64, met: Int64) -> None:
        """Forgets all choices; sets the bounds (-1: may not be picked) and how many of the choices
        to come each row has met, at most as many as come before the next refresh."""


@dataclass
class Trail:
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
        self.thresholds.append(np.full(len(found), self.tau))

    def joined(self) -> tuple[Int64, Float64, Float64]:
        """(picks, squared distances, thresholds) in three arrays."""
        nothing = np.empty(0, dtype=np.int64)
        return (
            np.concatenate([nothing, *self.picks]),
            np.concatenate([np.empty(0), *self.squared]),
            np.concatenate([np.empty(0), *self.thresholds]),
        )


class Rounds:
    """What every round must bring for the loops to end. With rows that stay as they are it always
    does; rows that another thread writes to meanwhile would keep them going for ever, or make them
    return rows that are not there."""

    def __init__(self, pool: Pool) -> None:
        self._n = pool.n
        self._best_left = (math.inf, 0)

    def passed(self, found: Int64, ahead: float, rival: float, rival_index: int) -> None:
        """A round of farthest-first settled picks, or what comes next. If not, it lowered every row
        of its frontier below the rival, so that the next rival is a later one.

        Raises:
            RuntimeError: it did not.
        """
        self.picked(found)
        left = (math.inf, 0) if len(found) else (rival, -rival_index)
        if not (len(found) or ahead >= 0 or left < self._best_left):
            raise _unsteady()
        self._best_left = left

    def picked(self, found: Int64) -> None:
        """Rows of the pool were picked."""
        if len(found) and (int(found.min()) < 0 or int(found.max()) >= self._n):
            raise _unsteady()


def _unsteady() -> RuntimeError:
    return RuntimeError(
        "features: rows changed while they were being compared (another thread or process writes "
        "to them?); there is no answer, start again and leave them alone meanwhile"
    )


# Called after every round with how far the selection has come.
Watch = Callable[[Trail], None]


def block_size(pool: Pool) -> int:
    """Frontier rows per round, at first: ENTROSELECT_BLOCK, what the pool asks for, or enough that
    rounds are few and the rows' filter copies stay in cache."""
    given = os.environ.get("ENTROSELECT_BLOCK")
    if given:
        if not given.isdecimal() or int(given) < 1:
            raise ValueError(f"ENTROSELECT_BLOCK: expected an integer >= 1, got {given!r}")
        return int(given)
    asked: int | None = getattr(pool, "block", None)
    return asked if asked is not None else max(256, min(8192, pool.n // 8))


def next_block_size(pool: Pool, size: int, picks: int) -> int:
    """Frontier rows for the round after one of that size that settled so many picks. Where rounds
    settle many, smaller ones lower the rival faster, so that rows have to meet fewer picks."""
    if os.environ.get("ENTROSELECT_BLOCK") or getattr(pool, "block", None) is not None:
        return size
    if picks > PICKS_PER_ROUND:
        return min(size, max(LEAST_BLOCK, size // 2))
    return min(2 * size, block_size(pool)) if picks < PICKS_PER_ROUND // 4 else size


def farthest_first(
    pool: Pool,
    k: int,
    min_distance: float | None,
    first: int,
    trail: Trail,
    watch: Watch | None,
) -> float:
    """Greedy max-min until the trail has k picks; returns the radius. `first` starts an empty
    selection."""
    if pool.count == 0:
        start = np.array([first], dtype=np.int64)
        pool.pick(start)
        trail.add(start, np.array([np.inf]))
    floor = 0.0 if min_distance is None else smallest_square(min_distance)
    size = block_size(pool)
    pool.refresh(None, math.inf)
    ahead = -1.0  # squared distance of the next pick; negative while undecided
    done = trail.done
    rounds = Rounds(pool)
    while pool.available and (ahead < 0 or (done < k and ahead >= floor)):
        rows, rival, rival_index = pool.frontier(size)
        pool.refresh(rows, rival)
        found, at, ahead = pool.resolve(rows, rival, rival_index, k - done, floor)
        rounds.passed(found, ahead, rival, rival_index)
        trail.add(found, at)
        done += len(found)
        trail.rounds += 1
        size = next_block_size(pool, size, len(found))
        if watch is not None:
            watch(trail)
    return math.sqrt(ahead) if pool.available else 0.0


def settle(
    pool: Pool, rival: float, rival_index: int, limit: int, floor: float
) -> tuple[Int64, Float64, float]:
    """Rounds inside a block: what `Pool.resolve` does, for all of its rows. The rival stands
    between rows rival_index - 1 and rival_index of the block."""
    picks, squared, ahead, done, last = [], [], -1.0, 0, False
    size = block_size(pool)
    rounds = Rounds(pool)
    while pool.available and ahead < 0 and not last:
        rows, inner, inner_index = pool.frontier(size)
        last = rival > inner or (rival == inner and rival_index <= inner_index)
        if last:
            inner, inner_index = rival, rival_index
        pool.refresh(rows, inner)
        found, at, ahead = pool.resolve(rows, inner, inner_index, limit - done, floor)
        rounds.passed(found, ahead, inner, inner_index)
        picks.append(found)
        squared.append(at)
        done += len(found)
        size = next_block_size(pool, size, len(found))
    nothing = np.empty(0, dtype=np.int64)
    return np.concatenate([nothing, *picks]), np.concatenate([np.empty(0), *squared]), ahead


def settle_in_order(block: Pool, limit: int, floor: float) -> tuple[Int64, Float64]:
    """What `Pool.resolve_in_order` does, for all rows of a block, in rounds."""
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
    decay: float,
    trail: Trail,
    watch: Watch | None,
) -> float:
    """Threshold filter until the trail has k picks; returns the radius."""
    size = block_size(pool)
    rounds = Rounds(pool)
    if trail.floor < 0:
        started = pool.count > 0
        if not started:
            pool.pick(order[:1])
        pool.refresh()
        widest = pool.widest()
        trail.tau = math.sqrt(widest) if threshold is None else threshold
        if not started:
            trail.add(order[:1], np.array([np.inf]))
            trail.position = 1
        trail.floor = _begin_pass(trail, widest)
    done = trail.done
    while done < k:
        accepted = done if trail.position == 0 else -1  # before this pass, if it is seen whole
        while trail.position < len(order) and done < k:
            begin = trail.position
            found, at, trail.position = accept_in_order(
                pool, order, begin, size, k - done, trail.floor
            )
            rounds.picked(found)
            trail.add(found, at)
            done += len(found)
            if done == k:  # whoever goes on for more begins after the last
                trail.position = begin + int(np.flatnonzero(order[begin:] == found[-1])[0]) + 1
            trail.rounds += 1
            if watch is not None:
                watch(trail)
        if done == k:
            break
        trail.position = 0
        # Passes that cannot accept anything are skipped; the thresholds stay the same sequence.
        widest = pool.widest()
        if accepted == done and not widest < trail.floor:
            raise _unsteady()  # every row at its floor has met every choice and was not accepted
        trail.tau *= decay
        while 0.0 < math.sqrt(widest) <= trail.tau:
            trail.tau *= decay
        trail.floor = _begin_pass(trail, widest)
    return _settled_radius(pool, size)


def accept_in_order(
    pool: Pool, order: Int64, position: int, size: int, limit: int, floor: float
) -> tuple[Int64, Float64, int]:
    """One round of a pass: (picks, squared distances, position after it)."""
    rows, position = pool.ahead(order, position, size, floor)
    pool.refresh(rows, floor)
    return *pool.resolve_in_order(rows, limit, floor), position


def _begin_pass(trail: Trail, widest: float) -> float:
    """The least square that a pass accepts. With nothing but copies of accepted rows left, they
    are taken in order."""
    if widest == 0.0:
        trail.tau = 0.0
        return 0.0
    return smallest_square(math.nextafter(trail.tau, math.inf))


def _settled_radius(pool: Pool, size: int) -> float:
    """The largest distance of any pool row to what is chosen."""
    ahead = -1.0
    rounds = Rounds(pool)
    while pool.available and ahead < 0:
        rows, rival, rival_index = pool.frontier(size)
        pool.refresh(rows, rival)
        found, _, ahead = pool.resolve(rows, rival, rival_index, 0, 0.0)
        rounds.passed(found, ahead, rival, rival_index)
    return math.sqrt(ahead) if pool.available else 0.0


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


@in_default_float_environment
def smallest_square(distance: float) -> float:
    """The smallest float64 s with sqrt(s) >= distance, so that comparisons of squares decide
    exactly as comparisons of the reported distances would."""
    square = distance * distance
    while math.sqrt(square) < distance:
        square = math.nextafter(square, math.inf)
    while square > 0 and math.sqrt(math.nextafter(square, 0.0)) >= distance:
        square = math.nextafter(square, 0.0)
    return square
