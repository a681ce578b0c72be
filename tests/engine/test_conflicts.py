"""Picks from the pairs that conflict: those of the textbook loop, with ties, copies, bounds of zero
and infinity, a rival between equals, limits and floors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from entroselect import reference
from entroselect.backends.cpu import Cpu
from entroselect.io.open import as_rows
from tests.conftest import BACKENDS, normal
from tests.support.conflict_model import by_conflicts, textbook
from tests.support.pools import POOLS

NAMES = ["integer_grid", "duplicates", "near_duplicates", "offset_1e6", "unequal_clusters"]


def pairs_of(values: Any) -> Any:
    rows = reference.canonical_rows(as_rows("pool", values), "euclidean")
    return np.stack([reference.squared_distances(rows, row) for row in rows])


def settled(values: Any, bounds: Any, backend: str, rival: tuple[float, int], *rest: Any) -> Any:
    """What the compiled pool settles; its bounds and counts of picks met after it, and how many
    distances it computed in micro-blocks."""
    pool = Cpu(backend).new_pool(as_rows("pool", values), "euclidean", sub=True)
    pool.restart(bounds, np.zeros(len(values), np.int64))
    picks, squared, following = pool.settle(np.arange(len(values)), *rival, *rest)
    return (picks.tolist(), squared.tolist(), following), *pool.state(), pool.profile()["settled"]


def check(values: Any, bounds: Any, backend: str = BACKENDS[0]) -> None:
    squared = pairs_of(values)
    best = np.argsort(-bounds, kind="stable")
    middle = int(best[len(best) // 2])
    tied = np.flatnonzero(bounds == bounds[middle])
    between = (float(bounds[middle]), int(tied[len(tied) // 2]))
    floor = float(np.median(squared[squared > 0]))
    for rival, limit, least in (
        ((-1.0, -1), 10**9, 0.0),
        (between, 10**9, 0.0),
        ((-1.0, -1), len(bounds) // 3, 0.0),
        ((-1.0, -1), 0, 0.0),
        ((-1.0, -1), 10**9, floor),
    ):
        expected = textbook(squared, bounds, rival, limit, least)
        assert by_conflicts(squared, bounds, rival, limit, least) == expected
        found, left, met, _ = settled(values, bounds, backend, rival, limit, least)
        assert found == expected
        picks = expected[0]
        assert np.all(left[picks] == -1)
        exact = np.minimum(bounds, squared[picks].min(axis=0, initial=np.inf))
        assert np.all((left >= exact) | (left == -1))
        current = (met == len(picks)) & (left >= 0)
        np.testing.assert_array_equal(left[current], exact[current])


@pytest.mark.parametrize("name", NAMES)
def test_picks_and_bounds_are_those_of_the_textbook_loop(name: str) -> None:
    values = POOLS[name]()[:200]
    squared = pairs_of(values)
    # Some rows are picks already, and copies of them are at 0. With few picks most pairs conflict.
    check(values, squared[::3].min(axis=0))
    known = squared[:3].min(axis=0)
    check(values, known)
    check(values, np.where(np.arange(len(values)) % 7 == 0, -1.0, known))
    check(values, np.where(np.arange(len(values)) % 5 == 0, np.inf, known))
    check(values, np.full(len(values), np.inf))


def listed_in_parts() -> tuple[Any, Any, Any]:
    """(values, bounds, expected): more rows than are listed together, at integer distances; a few
    pairs per row conflict."""
    values = np.rint(3 * normal(2300, 12)).astype(np.float32)
    squared = pairs_of(values)
    bounds = np.minimum(squared[:40].min(axis=0), 40.0)
    rival = (11.0, 1000)
    expected = textbook(squared, bounds, rival, 10**9, 0.0)
    assert by_conflicts(squared, bounds, rival, 10**9, 0.0) == expected
    return values, bounds, (rival, expected)


@pytest.fixture(scope="module")
def parts() -> Any:
    return listed_in_parts()


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_rows_than_are_listed_together(backend: str, parts: Any) -> None:
    values, bounds, (rival, expected) = parts
    found, _, _, in_micro_blocks = settled(values, bounds, backend, rival, 10**9, 0.0)
    assert found == expected
    assert in_micro_blocks == 0


def test_rows_of_full_groups_are_passed_over() -> None:
    """They keep their distances to the picks; a group is full after none, a few or many of its
    rows."""
    values = np.rint(3 * normal(400, 12)).astype(np.float32)
    squared = pairs_of(values)
    bounds = np.minimum(squared[:40].min(axis=0), 40.0)
    groups, left = (np.arange(400) % 4).astype(np.int32), np.array([3, 0, 20, 999])
    pool = Cpu(BACKENDS[0]).new_pool(as_rows("pool", values), "euclidean", sub=True)
    pool.restart(bounds, np.zeros(400, np.int64))
    pool.limit_groups(groups, left)
    picks, at, _ = pool.settle(np.arange(400), 11.0, 400, 10**9, 0.0)
    assert pool.profile()["settled"] == 0  # by conflicts

    known, expected = bounds.copy(), []
    while (best := int(np.argmax(np.where(left[groups] > 0, known, -1.0)))) >= 0:
        if left[groups[best]] == 0 or known[best] < 11.0:
            break
        expected.append((best, known[best]))
        left[groups[best]] -= 1
        known = np.where(known < 0, known, np.minimum(known, squared[best]))
        known[best] = -1.0
    assert list(zip(picks.tolist(), at.tolist(), strict=True)) == expected
    assert left.min() == 0
    found, met = pool.state()
    current = (met == len(picks)) & (found >= 0)
    np.testing.assert_array_equal(found[current], known[current])
