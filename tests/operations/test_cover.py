"""deduplicate and Selection.assign against the oracle."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import (
    Cover,
    deduplicate,
    greedy_select,
    neighbours_within,
    open_pool,
    reference,
    threshold_select,
)
from tests.conftest import normal
from tests.support.pools import POOLS, without_zero_rows


def same(ours: Cover, oracle: Cover) -> None:
    for name in ("indices", "picks", "distances", "sizes", "duplicate_of"):
        found, expected = getattr(ours, name), getattr(oracle, name)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def distances_of(pool: Any, metric: str) -> list[float]:
    """0, and two distances that pairs of the pool have: few and many rows are within them."""
    if len(pool) == 1:
        return [0.0]
    k = min(40, len(pool))
    found = reference.nearest_distances(pool[:9], pool, k=k, metric=metric).distances
    return [0.0, *np.quantile(found, [0.05, 0.9], method="nearest")]


@pytest.mark.parametrize("name", POOLS)
def test_adversarial_pools(name: str, backend: str) -> None:
    rng = np.random.default_rng(0)
    for metric in ("euclidean", "cosine"):
        pool = POOLS[name]()[:90]
        pool = without_zero_rows(pool) if metric == "cosine" else pool
        scores = rng.integers(0, 5, len(pool))
        best_first = sorted(range(len(pool)), key=lambda row: (-scores[row], row))
        for distance in distances_of(pool, metric):
            options = {"metric": metric, "backend": backend}
            oracle = reference.deduplicate(pool, distance, metric=metric)
            same(deduplicate(pool, distance, **options), oracle)
            oracle = reference.deduplicate(pool, distance, metric=metric, order=best_first)
            same(deduplicate(pool, distance, scores=scores, **options), oracle)


def test_what_is_promised(backend: str) -> None:
    pool = POOLS["digits"]()
    scores = np.random.default_rng(1).random(len(pool))
    distance = distances_of(pool[:300], "euclidean")[2]
    found = deduplicate(pool, distance, scores=scores, backend=backend)
    kept = pool[found.indices]
    pairs = neighbours_within(kept, distance=distance)
    assert pairs.indices.tolist() == list(range(len(kept)))  # each is near to itself alone
    assert (found.distances <= distance).all()
    assert (found.duplicate_of[found.indices] == found.indices).all()
    assert found.sizes.sum() == len(pool)
    near = neighbours_within(pool, kept, distance=distance)
    best = np.maximum.reduceat(scores[found.indices][near.indices], near.indptr[:-1])
    assert (best >= scores).all()  # no row gave way to worse ones alone


def test_rows_exactly_at_the_distance_are_duplicates(backend: str) -> None:
    line = np.arange(12.0)[:, None] * np.array([[3.0, 0, 0, 4.0, 0, 0, 0]])
    found = deduplicate(line, 5.0, backend=backend)
    assert found.indices.tolist() == [0, 2, 4, 6, 8, 10]
    assert found.duplicate_of.tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10]
    assert deduplicate(line, math.nextafter(5.0, 0), backend=backend).sizes.tolist() == [1] * 12
    assert deduplicate(line, order=range(11, -1, -1), distance=5).indices.tolist() == [
        11, 9, 7, 5, 3, 1,
    ]  # fmt: skip


def test_similarity() -> None:
    """cos >= 0 is a right angle and less, which is exact; the conversion is that of the docs."""
    rows = np.array([[2.0, 0], [0, 3], [-1, 0], [5, 1e-9], [-3, -3]])
    found = deduplicate(rows, similarity=0)
    assert found.indices.tolist() == [0, 2]
    assert found.duplicate_of.tolist() == [0, 0, 2, 0, 2]
    assert deduplicate(rows, similarity=1e-15).indices.tolist() == [0, 1, 2]
    assert deduplicate(rows, similarity=-1).indices.tolist() == [0]
    assert deduplicate(rows, similarity=1).indices.tolist() == [0, 1, 2, 3, 4]
    pool = normal(300, 6)
    found = deduplicate(pool, similarity=0.7)
    same(found, deduplicate(pool, math.sqrt(2 - 2 * 0.7), metric="cosine"))
    unit = pool / np.linalg.norm(pool.astype("f8"), axis=1)[:, None]
    cosines = unit[found.indices] @ unit[found.indices].T - np.eye(len(found.indices))
    assert cosines.max() < 0.7
    assert ((unit * unit[found.duplicate_of]).sum(axis=1) > 0.7 - 1e-9).all()


@pytest.mark.parametrize("limit", ["7MB", "60MB"])
def test_within_a_memory_limit(limit: str, tmp_path: Path) -> None:
    """Read in pieces, and from a checkpoint; most rows are kept, or few."""
    pool = np.concatenate([normal(500, 20), normal(250, 20) + np.float32(1e-3)])
    np.save(tmp_path / "pool.npy", pool)
    source = open_pool(tmp_path / "pool.npy")
    for distance in (0.02, 7.0):
        oracle = reference.deduplicate(pool, distance)
        same(deduplicate(source, distance, memory_limit=limit), oracle)
        file = tmp_path / f"{distance}.state"
        for _ in range(2):
            found = deduplicate(source, distance, memory_limit=limit, checkpoint=file)
            same(found, oracle)
        with pytest.raises(ValueError, match="belongs to another selection"):
            deduplicate(source, distance + 1, checkpoint=file)


def test_a_limit_too_small_for_the_search_is_an_error_before_the_pass(tmp_path: Path) -> None:
    np.save(tmp_path / "pool.npy", normal(3000, 40))
    source = open_pool(tmp_path / "pool.npy")
    with pytest.raises(ValueError, match="memory_limit: 6000000 bytes are too few") as error:
        deduplicate(source, 5.0, memory_limit=6_000_000)
    assert source.bytes_read == 0
    least = int(str(error.value).rsplit(" ", 1)[1])
    assert len(deduplicate(source, 5.0, memory_limit=least).indices) > 100


def test_rows_that_change_meanwhile_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = normal(100, 6)

    def change(done: int, total: int) -> None:
        if done == 100:  # of 200: the rows are kept, their duplicates are not found yet
            pool[:] = normal(100, 6, seed=1) * 50

    with pytest.raises(RuntimeError, match="features: rows changed"):
        deduplicate(pool, 2.0, progress=change)


def test_progress_goes_once_to_the_end() -> None:
    calls: list[tuple[int, int]] = []
    deduplicate(normal(300, 6), 2.0, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (600, 600)
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(calls))


# Selection.assign


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", ["integer_grid", "duplicates", "near_duplicates", "images"])
def test_every_row_goes_to_the_pick_nearest_to_it(name: str, metric: str, backend: str) -> None:
    """Of equally near picks to the first: the grid is full of them."""
    pool = without_zero_rows(POOLS[name]())[:250]
    picked = threshold_select(pool, 40, seed=3, metric=metric)
    found = picked.assign(pool, metric=metric, backend=backend)
    values = reference.canonical_rows(reference._checks.usable_rows("", pool), metric)
    squared = reference.squared_distances(values[:, None], values[picked.indices])
    assert found.picks.tolist() == squared.argmin(axis=1).tolist()
    assert found.distances.tolist() == np.sqrt(squared.min(axis=1)).tolist()
    assert found.distances.max() == picked.radius
    assert found.sizes.tolist() == [int((found.picks == pick).sum()) for pick in range(40)]
    assert found.indices is picked.indices or (found.indices == picked.indices).all()
    assert found.backend == backend


def test_copies_of_a_pick_stand_for_nothing() -> None:
    pool = np.repeat([[0.0], [5.0]], 3, axis=0)
    found = greedy_select(pool, 5).assign(pool)
    assert found.sizes.tolist() == [3, 3, 0, 0, 0]
    assert found.duplicate_of.tolist() == [0, 0, 0, 3, 3, 3]


def test_assigned_from_a_file(tmp_path: Path) -> None:
    pool = POOLS["images"]()
    np.save(tmp_path / "pool.npy", pool)
    picked = greedy_select(pool, 30)
    found = picked.assign(open_pool(tmp_path / "pool.npy"), memory_limit="8MB")
    same(found, picked.assign(pool))


def test_a_pool_too_small_for_the_picks_is_named() -> None:
    picked = greedy_select(normal(50, 3), 20)
    with pytest.raises(ValueError, match=r"selection: index \d+ .* is outside the pool, which has"):
        picked.assign(normal(10, 3))
    none = greedy_select(normal(50, 3), 5, selected=[0], min_distance=1000.0)
    with pytest.raises(ValueError, match="selection: has no picks"):
        none.assign(normal(50, 3))
