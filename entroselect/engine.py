"""The round loops of selection, over a handful of primitives.

Distances to the chosen rows only ever decrease. So each pool row carries a *bound*, at least its
squared distance to the nearest pick, and a stale bound is still an upper bound. A round takes the
rows with the largest bounds (the frontier), lowers only those, each until it is up to date or
below the *rival*, the best bound left outside, and settles picks among them for as long as the
best of them beats the rival: nothing else can overtake. Rows far below the frontier are never
touched. See docs/exactness.md for why the result equals the textbook loop's.

A backend supplies the primitives; today that is `_core.Pool` on the CPU.
"""

from __future__ import annotations

import math
import os
import time
from typing import Any, Protocol

import numpy as np

from entroselect._progress import Report
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


def block_size(pool: Pool) -> int:
    """Frontier rows per round, at first: ENTROSELECT_BLOCK, or enough that rounds are few and the
    rows' filter copies stay in cache."""
    given = os.environ.get("ENTROSELECT_BLOCK")
    if given:
        if not given.isdecimal() or int(given) < 1:
            raise ValueError(f"ENTROSELECT_BLOCK: expected an integer >= 1, got {given!r}")
        return int(given)
    return max(256, min(8192, pool.n // 8))


def next_block_size(pool: Pool, size: int, picks: int) -> int:
    """Frontier rows for the round after one of that size that settled so many picks. Where rounds
    settle many, smaller ones lower the rival faster, so that rows have to meet fewer picks."""
    if os.environ.get("ENTROSELECT_BLOCK"):
        return size
    if picks > PICKS_PER_ROUND:
        return min(size, max(LEAST_BLOCK, size // 2))
    return min(2 * size, block_size(pool)) if picks < PICKS_PER_ROUND // 4 else size


def farthest_first(
    pool: Pool, k: int, min_distance: float | None, report: Report | None, first: int
) -> tuple[Int64, Float64, float, int]:
    """Greedy max-min: (picks, distances, radius, rounds). `first` starts an empty selection."""
    picks: list[Int64] = []
    squared: list[Float64] = []
    done = 0
    if pool.count == 0:
        start = np.array([first], dtype=np.int64)
        pool.pick(start)
        picks.append(start)
        squared.append(np.array([np.inf]))
        done = 1
    floor = 0.0 if min_distance is None else smallest_square(min_distance)
    size = block_size(pool)
    pool.refresh(None, math.inf)
    ahead = -1.0  # squared distance of the next pick; negative while undecided
    rounds = 0
    while pool.available and (ahead < 0 or (done < k and ahead >= floor)):
        rows, rival, rival_index = pool.frontier(size)
        pool.refresh(rows, rival)
        found, at, ahead = pool.resolve(rows, rival, rival_index, k - done, floor)
        picks.append(found)
        squared.append(at)
        done += len(found)
        rounds += 1
        size = next_block_size(pool, size, len(found))
        if report is not None:
            report(done, k)
    radius = math.sqrt(ahead) if pool.available else 0.0
    return np.concatenate(picks), np.sqrt(np.concatenate(squared)), radius, rounds


def threshold_decay(
    pool: Pool,
    k: int,
    order: Int64,
    threshold: float | None,
    decay: float,
    report: Report | None,
) -> tuple[Int64, Float64, Float64, float, int]:
    """Threshold filter: (picks, distances, thresholds, radius, rounds)."""
    picks: list[Int64] = []
    squared: list[Float64] = []
    thresholds: list[Float64] = []
    size = block_size(pool)

    def accept(found: Int64, at: Float64) -> int:
        picks.append(found)
        squared.append(at)
        thresholds.append(np.full(len(found), tau))
        if report is not None:
            report(sum(map(len, picks)), k)
        return len(found)

    done = 0
    started = pool.count > 0
    if not started:
        pool.pick(order[:1])
    pool.refresh()
    tau = math.sqrt(pool.widest()) if threshold is None else threshold
    if not started:
        done = accept(order[:1], np.array([np.inf]))
    position = 0 if started else 1
    rounds = 0
    widest = pool.widest()
    while done < k:
        # One pass. With nothing but copies of accepted rows left, they are taken in order.
        if widest == 0.0:
            tau = 0.0
        floor = 0.0 if widest == 0.0 else smallest_square(math.nextafter(tau, math.inf))
        while position < len(order) and done < k:
            rows, position = pool.ahead(order, position, size, floor)
            pool.refresh(rows, floor)
            done += accept(*pool.resolve_in_order(rows, k - done, floor))
            rounds += 1
        position = 0
        # Passes that cannot accept anything are skipped; the thresholds stay the same sequence.
        widest = pool.widest()
        tau *= decay
        while 0.0 < math.sqrt(widest) <= tau:
            tau *= decay
    radius = _settled_radius(pool, size)
    return (
        np.concatenate(picks),
        np.sqrt(np.concatenate(squared)),
        np.concatenate(thresholds),
        radius,
        rounds,
    )


def _settled_radius(pool: Pool, size: int) -> float:
    """The largest distance of any pool row to what is chosen."""
    ahead = -1.0
    while pool.available and ahead < 0:
        rows, rival, rival_index = pool.frontier(size)
        pool.refresh(rows, rival)
        _, _, ahead = pool.resolve(rows, rival, rival_index, 0, 0.0)
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


def smallest_square(distance: float) -> float:
    """The smallest float64 s with sqrt(s) >= distance, so that comparisons of squares decide
    exactly as comparisons of the reported distances would."""
    square = distance * distance
    while math.sqrt(square) < distance:
        square = math.nextafter(square, math.inf)
    while square > 0 and math.sqrt(math.nextafter(square, 0.0)) >= distance:
        square = math.nextafter(square, 0.0)
    return square
