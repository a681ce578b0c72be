"""A pool of which only some rows may be picked: candidates, and groups until they are full.

The engine's rounds stay as they are. Rows that may not be picked are set aside: their bounds are
remembered, and the pool takes them for picked (`exclude`). Within a round the pool itself passes
over rows whose group has become full (`limit_groups`); after the round they are set aside too. A
full group never opens again, and bounds only fall, so what is remembered stays an upper bound. At
the end the rows are put back with it, and the radius is found as the distance of a next pick is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from entroselect import engine
from entroselect._quotas import Constraint, Groups, Mask
from entroselect.results import Float64, Int64


class LimitedPool(engine.SubPool, Protocol):
    """What a pool must do besides, so that its rows can be set aside."""

    def put_back(self, rows: Int64, bounds: Float64) -> None:
        """Makes excluded rows available again, with bounds that they had before; these count for
        the picks that they had met then."""

    def limit_groups(self, groups: Groups, left: Int64) -> None:
        """From now on `settle` and `settle_in_order` pick at most left[g] rows of group g.

        Args:
            groups: (n,), the group of every row; kept, not copied.
            left: (groups,).
        """


class SettlesInBlocks:
    """The part of a pool that settles picks in sub-pools, over blocks of its rows, which keeps the
    quotas of its groups."""

    _groups: Groups | None = None
    _left: Int64

    def limit_groups(self, groups: Groups, left: Int64) -> None:
        """At most left[g] rows of group g are picked from now on."""
        self._groups, self._left = groups, left.copy()

    @contextmanager
    def within_quotas(self, block: Any, rows: Int64) -> Iterator[Any]:
        """The sub-pool over a block of these rows, which picks no more than the quotas let it."""
        if self._groups is None:
            yield block
            return
        allowed = np.ones(len(rows), dtype=bool)
        limited = ConstrainedPool(block, block, 0, allowed, self._groups[rows], self._left)
        yield limited
        limited.put_back()

    def count_towards_quotas(self, rows: Int64) -> None:
        """These rows have been picked in a block."""
        if self._groups is not None:
            np.subtract.at(self._left, self._groups[rows], 1)


class ConstrainedPool:
    """engine.Pool over another pool, some of whose rows are set aside."""

    def __init__(
        self, pool: Any, local: Any, first: int, allowed: Mask, groups: Groups, left: Int64
    ) -> None:
        """
        Args:
            pool: the primitives, of all processes.
            local: the LimitedPool of this process's rows; `pool` itself in a single process.
            first: the number of its first row in the whole pool.
            allowed, groups: (n,) of the whole pool, unpicked rows that may be picked and groups.
            left: (groups,), how many of each may still be picked.
        """
        self._pool, self._local, self._first = pool, local, first
        self.n, self.d = pool.n, pool.d
        self._allowed, self._groups, self._left = allowed, groups, left.copy()
        self._unpicked = np.bincount(groups[allowed], minlength=len(left))
        self._own = groups[first : first + local.n]
        self._members: tuple[Int64, Int64] | None = None
        self._begun = False
        self._rows: list[Int64] = []  # set aside, by number in the local pool
        self._bounds: list[Float64] = []
        pool.limit_groups(groups, self._left)

    @classmethod
    def of(
        cls, pool: Any, local: Any, first: int, constraint: Constraint, picks: Int64
    ) -> ConstrainedPool:
        """For a selection that has made these picks."""
        allowed = constraint.allowed.copy()
        allowed[picks] = False
        taken = np.bincount(constraint.groups[picks], minlength=len(constraint.quotas))
        left = constraint.quotas - taken
        return cls(pool, local, first, allowed, constraint.groups, left)

    @property
    def count(self) -> int:
        """Picks so far."""
        count: int = self._pool.count
        return count

    @property
    def available(self) -> int:
        """Rows that may be picked."""
        return int(self._unpicked[self._left > 0].sum())

    @property
    def capacity(self) -> int | None:
        """As of the other pool; AttributeError if it has none."""
        capacity: int | None = self._pool.capacity
        return capacity

    def add_picks(self, rows: Int64) -> None:
        """Picks rows."""
        self._pool.add_picks(rows)
        self._took(rows)
        self._pool.limit_groups(self._groups, self._left)

    def add_vectors(self, values: Any, dtype: str) -> None:
        """Picks vectors that are not in the pool."""
        self._pool.add_vectors(values, dtype)

    def refresh(self, rows: Int64 | None = None, enough: float = 0.0) -> None:
        """Updates bounds. Before rows are set aside for the first time, all of them have met the
        first pick."""
        self._pool.refresh(rows, enough)
        if rows is None:
            self._begin()

    def frontier(self, size: int) -> tuple[Int64, float, int]:
        """About `size` rows with the largest bounds, and the best left out."""
        self._begin()
        found: tuple[Int64, float, int] = self._pool.frontier(size)
        return found

    def settle(
        self, rows: Int64, rival: float, rival_index: int, limit: int, floor: float
    ) -> tuple[Int64, Float64, float]:
        """Picks rows, farthest first, and sets the groups aside that are full now."""
        found, squared, next_squared = self._pool.settle(rows, rival, rival_index, limit, floor)
        self._took(found)
        return found, squared, next_squared

    def next_in_order(self, order: Int64, start: int, size: int, floor: float) -> tuple[Int64, int]:
        """The next rows of a traversal, and the position after them."""
        found: tuple[Int64, int] = self._pool.next_in_order(order, start, size, floor)
        return found

    def settle_in_order(self, rows: Int64, limit: int, floor: float) -> tuple[Int64, Float64]:
        """Picks rows in order, and sets the groups aside that are full now."""
        found, squared = self._pool.settle_in_order(rows, limit, floor)
        self._took(found)
        return found, squared

    def widest(self) -> float:
        """The largest bound of any row that may be picked."""
        self._begin()
        widest: float = self._pool.widest()
        return widest

    def profile(self) -> dict[str, Any]:
        """Counters."""
        profile: dict[str, Any] = self._pool.profile()
        return profile

    def state(self) -> tuple[Float64, Int64]:
        """(bounds, met) of all local rows, for a checkpoint: also of those set aside."""
        bounds, met = self._local.state()
        bounds = bounds.copy()
        for rows, remembered in zip(self._rows, self._bounds, strict=True):
            bounds[rows] = remembered
        return bounds, met

    def put_back(self) -> None:
        """Ends the constraint: all rows that are not picked are available again."""
        if self._rows:
            self._local.put_back(np.concatenate(self._rows), np.concatenate(self._bounds))
            self._rows, self._bounds = [], []
        self._pool.limit_groups(self._groups, np.full_like(self._left, self.n))

    def _begin(self) -> None:
        """Sets aside the rows that may not be picked from the start."""
        if self._begun:
            return
        self._begun = True
        closed = ~(self._allowed & (self._left > 0)[self._groups])
        self._set_aside(np.flatnonzero(closed[self._first : self._first + self._local.n]))

    def _took(self, found: Int64) -> None:
        if len(found) == 0:
            return
        groups = self._groups[found]
        np.subtract.at(self._left, groups, 1)
        np.subtract.at(self._unpicked, groups, 1)
        full = np.unique(groups)
        full = full[self._left[full] == 0]
        if len(full) and self._begun:
            self._set_aside(self._members_of(full))

    def _members_of(self, full: Int64) -> Int64:
        """Local rows of these groups."""
        if self._members is None:
            order = np.argsort(self._own, kind="stable")
            sizes = np.bincount(self._own, minlength=len(self._left))
            self._members = order, np.concatenate([[0], np.cumsum(sizes)])
        order, begin = self._members
        return np.concatenate([order[begin[g] : begin[g + 1]] for g in full.tolist()])

    def _set_aside(self, rows: Int64) -> None:
        bounds = self._local.bounds(rows)
        there = bounds >= 0  # neither picked nor set aside already
        rows, bounds = rows[there], bounds[there]
        if len(rows):
            self._local.exclude(rows)
            self._rows.append(rows)
            self._bounds.append(bounds)
