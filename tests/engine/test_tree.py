"""The tree that serves narrow rows, against the oracle, up to its widest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from entroselect import greedy_select, nearest_distances, reference, threshold_select
from tests.conftest import BACKENDS, best_first, normal, same_neighbours, same_selection

WIDEST = 8


def _clusters(d: int) -> Any:
    random = np.random.default_rng(d)
    centres = random.standard_normal((9, d)) * 100
    return (centres[random.integers(9, size=500)] + random.standard_normal((500, d))).astype("f4")


POOLS = {
    "normal": lambda d: normal(517, d),
    "lattice": lambda d: np.random.default_rng(d).integers(0, 3, (400, d)).astype(np.uint8),
    "copies": lambda d: np.random.default_rng(1).permutation(np.repeat(normal(60, d), 7, axis=0)),
    "all equal": lambda d: np.full((300, d), 0.1, dtype=np.float32),
    "clusters": _clusters,
    "offset": lambda d: (normal(300, d) + 1e6).astype(np.float32),
    "line": lambda d: np.outer(np.arange(333.0), np.ones(d)),
    "extremes": lambda d: normal(300, d, dtype=np.float64) * np.logspace(145, -170, d),
    "underflow": lambda d: normal(200, d, dtype=np.float64) * 1e-161,
    "one leaf": lambda d: normal(32, d),
    "one more": lambda d: normal(33, d),
}


@pytest.fixture(autouse=True)
def _tree(monkeypatch: pytest.MonkeyPatch, _default_environment: None) -> None:
    monkeypatch.setenv("ENTROSELECT_FILTER", "tree")


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("d", best_first([2, 1, *range(3, WIDEST + 1)]))
def test_whole_answers(name: str, d: int) -> None:
    pool = POOLS[name](d)
    start = pool.mean(axis=0, dtype=np.float64) + np.zeros((40, d))  # the same vector 40 times
    whole = reference.greedy_select(pool, len(pool))
    after = reference.greedy_select(pool, 50 if len(pool) > 50 else 5, selected=start)
    order = np.random.default_rng(3).permutation(len(pool))
    tau = float(np.median(whole.distances[1:]))
    passes = reference.threshold_select(pool, len(pool) // 2, threshold=tau, order=order)
    near = reference.nearest_distances(pool, k=1)
    many = reference.nearest_distances(pool, k=min(40, len(pool) - 1))
    other = normal(61, d).astype(np.float64)
    apart = reference.nearest_distances(other, pool, k=3)
    for backend in BACKENDS:
        same_selection(greedy_select(pool, len(pool), backend=backend), whole)
        again = greedy_select(pool, len(after.indices), selected=start, backend=backend)
        same_selection(again, after)
        same_selection(
            threshold_select(pool, len(pool) // 2, threshold=tau, order=order, backend=backend),
            passes,
        )
        same_neighbours(nearest_distances(pool, backend=backend), near)
        same_neighbours(nearest_distances(pool, k=many.indices.shape[1], backend=backend), many)
        same_neighbours(nearest_distances(other, pool, k=3, backend=backend), apart)


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_threads_change_nothing(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTROSELECT_THREADS", threads)
    pool = np.round(normal(5000, 3), 1)  # copies and ties, and enough to be built in parts
    same_selection(greedy_select(pool, 1500), reference.greedy_select(pool, 1500))
    same_neighbours(nearest_distances(pool, k=2), reference.nearest_distances(pool, k=2))


def test_cosine() -> None:
    pool = normal(400, 3)
    oracle = reference.greedy_select(pool, 200, metric="cosine")
    same_selection(greedy_select(pool, 200, metric="cosine"), oracle)


def test_stops_below_a_distance_and_goes_on_from_selected_rows() -> None:
    pool = normal(1000, 2)
    oracle = reference.greedy_select(pool, 900, min_distance=0.2, selected=[5, 7, 900])
    same_selection(greedy_select(pool, 900, min_distance=0.2, selected=[5, 7, 900]), oracle)


def test_most_subtrees_are_left_alone() -> None:
    """Work, not time: a tree that pruned nothing would score every pair."""
    pool = normal(20000, 3)
    picked = greedy_select(pool, 2000)
    assert picked.profile is not None
    assert picked.profile["pairs"] < 0.05 * 20000 * 2000


def test_a_million_copies_take_a_moment() -> None:
    """Ties are entered only where a lower index could lie, or this would take an hour."""
    found = nearest_distances(np.zeros((300_000, 3), dtype=np.float32))
    assert found.indices[0, 0] == 1
    assert not found.indices[1:].any()
    assert math.isclose(found.distances.max(), 0.0)


def test_wide_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="ENTROSELECT_FILTER: a tree takes rows of at most 8"):
        greedy_select(normal(20, 9), 2)
