"""What a pool must know and do, in plain NumPy: the model of tests/engine/test_pool_conformance.py.

Distances are those of entroselect.reference. A row is better than another if its bound is larger,
or equal and its index lower.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from entroselect import reference
from entroselect._float_environment import in_default_float_environment
from entroselect.io.open import as_rows
from entroselect.results import on_host

ALL = 10**9  # more picks than there are


class Model:
    """Every distance of every row to every pick, and what was told of earlier picks."""

    @in_default_float_environment
    def __init__(self, pool: Any, metric: str) -> None:
        self.metric = metric
        self.values = reference.canonical_rows(as_rows("pool", pool), metric)
        self.bits = metric in ("tanimoto", "hamming")
        self.n = len(pool)
        self.restart(np.full(self.n, np.inf), np.zeros(self.n, np.int64))

    def restart(self, bounds: Any, met: Any) -> None:
        self.start, self.met = bounds.copy(), met.copy()
        self.squared = np.empty((self.n, 0))

    @property
    def count(self) -> int:
        return self.squared.shape[1]

    @property
    def available(self) -> Any:
        """Rows that may be picked."""
        return np.flatnonzero(self.start >= 0)

    def add_picks(self, rows: Any) -> None:
        self._compare(self.values[rows])
        self.exclude(rows)

    def add_vectors(self, vectors: Any) -> None:
        self._compare(reference.canonical_rows(as_rows("vectors", vectors), self.metric))

    def exclude(self, rows: Any) -> None:
        self.start[rows] = -1

    @in_default_float_environment
    def _compare(self, vectors: Any) -> None:
        for vector in vectors:
            found = reference.squared_distances(self.values, vector, self.metric)[:, None]
            self.squared = np.concatenate([self.squared, found], axis=1)

    def nearest(self, met: Any = ALL) -> Any:
        """Squared distance of each row to the first `met` picks, without those that it had met at
        the restart; -1 where it may not be picked."""
        place = np.arange(self.count)
        unmet = (place >= self.met[:, None]) & (place < np.broadcast_to(met, self.n)[:, None])
        found = np.where(unmet, self.squared, np.inf).min(axis=1, initial=np.inf)
        return np.where(self.start < 0, -1, np.minimum(self.start, found))

    def settle(
        self, rows: Any, rival: float, rival_index: int, limit: int, floor: float
    ) -> tuple[list[int], list[float], float]:
        """The best of the rows, again and again, as long as it is better than the rival."""
        picks: list[int] = []
        squared: list[float] = []
        while True:
            known = self.nearest()
            best = min(rows, key=lambda row: (-known[row], row), default=-1)
            if best < 0 or known[best] < 0 or (known[best], -best) < (rival, -rival_index):
                return picks, squared, -1.0
            if len(picks) == limit or known[best] < floor:
                return picks, squared, known[best]
            picks.append(int(best))
            squared.append(known[best])
            self.add_picks([best])

    def settle_in_order(self, rows: Any, limit: int, floor: float) -> tuple[list[int], list[float]]:
        """Each of the rows that is still at the floor when its turn comes."""
        picks: list[int] = []
        squared: list[float] = []
        for row in rows:
            known = self.nearest()[row]
            if len(picks) < limit and known >= max(floor, 0):
                picks.append(int(row))
                squared.append(known)
                self.add_picks([row])
        return picks, squared


def bounds_of(pool: Any, model: Model) -> Any:
    """The bounds of all rows; those of a pool that does not show them are always up to date."""
    return pool.bounds(np.arange(pool.n)) if hasattr(pool, "bounds") else model.nearest()


def check(pool: Any, model: Model, fresh: Any = (), enough: float = 0.0) -> None:
    """Counts are right; bounds are never too small, and exact or below `enough` where fresh; what
    a row is said to have met it has met."""
    bounds, exact = bounds_of(pool, model), model.nearest()
    assert pool.count == model.count
    assert pool.available == len(model.available)
    assert pool.widest() == max(0.0, bounds.max())
    assert np.all((bounds == -1) == (exact == -1))
    assert np.all(bounds >= exact)
    fresh = np.array(fresh, dtype=np.int64)
    fresh = fresh[(bounds[fresh] >= enough) & (bounds[fresh] >= 0)]
    np.testing.assert_array_equal(bounds[fresh], exact[fresh])
    if hasattr(pool, "state"):
        found, met = pool.state()
        assert isinstance(found, np.ndarray)
        assert (found.dtype, met.dtype) == (np.float64, np.int64)
        np.testing.assert_array_equal(found, bounds)
        assert met.max(initial=0) <= model.count
        assert np.all(bounds <= model.nearest(met))
        assert np.all((met[fresh] == model.count) | (bounds[fresh] == 0))


def check_frontier(pool: Any, model: Model, size: int) -> tuple[Any, float, int]:
    """Nothing left out of a frontier is better than the rival, which is one of them."""
    bounds = bounds_of(pool, model)
    found, rival, rival_index = pool.frontier(size)
    rows = on_host(found)
    if len(rows) == 0 and len(model.available):  # picks may be settled among all rows
        assert rival == -1
        return found, rival, rival_index
    assert len(set(rows.tolist())) == len(rows) <= 2 * size + 6
    assert np.all(bounds[rows] >= 0)
    left = np.setdiff1d(model.available, rows)
    best = min(left.tolist(), key=lambda row: (-bounds[row], row), default=None)
    assert rival == (-1 if best is None else bounds[best])
    assert best is None or rival_index == best
    return found, rival, rival_index


def check_settle(pool: Any, model: Model, size: int, limit: int, floor: float) -> int:
    """A round of farthest-first; returns how many rows it picked."""
    rows, rival, rival_index = check_frontier(pool, model, size)
    pool.refresh(rows, rival)
    among = on_host(rows) if len(rows) else model.available
    check(pool, model, among, rival)
    picks, squared, next_squared = pool.settle(rows, rival, rival_index, limit, floor)
    expected = model.settle(among.tolist(), rival, rival_index, limit, floor)
    assert (picks.tolist(), squared.tolist(), next_squared) == expected
    check(pool, model)
    return len(picks)


def check_in_order(
    pool: Any, model: Model, order: Any, start: int, size: int, limit: int, floor: float
) -> int:
    """A round of the threshold filter; returns the position after it."""
    bounds = bounds_of(pool, model)
    rows, end = pool.next_in_order(order, start, size, floor)
    places = np.flatnonzero(bounds[order] >= max(floor, 0))
    places = places[places >= start][:size]
    assert on_host(rows).tolist() == order[places].tolist()
    assert end == (places[-1] + 1 if len(places) == size else len(order))
    pool.refresh(rows, floor)
    check(pool, model, on_host(rows), floor)
    picks, squared = pool.settle_in_order(rows, limit, floor)
    expected = model.settle_in_order(order[places], limit, floor)
    assert (picks.tolist(), squared.tolist()) == expected
    check(pool, model)
    return int(end)
