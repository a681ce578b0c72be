"""neighbours_within against the oracle, scikit-learn and SciPy."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroselect import neighbours_within, open_pool, reference
from entroselect.scale import budget
from tests.conftest import BACKENDS, normal
from tests.support.pools import POOLS, without_zero_rows


def same(ours: Any, oracle: Any) -> None:
    """Every pair, every distance to the last bit."""
    for name in ("indptr", "indices", "distances"):
        found, expected = getattr(ours, name), getattr(oracle, name)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def distances_of(pool: Any, metric: str) -> list[float]:
    """0, a distance that a pair of the pool has, and the number below it."""
    found = reference.nearest_distances(pool[:9], pool, k=min(20, len(pool)), metric=metric)
    some = float(np.quantile(found.distances, 0.8, method="nearest"))
    return [0.0, some, math.nextafter(some, 0)]


@pytest.mark.parametrize("name", [name for name in POOLS if name != "one_row"])
def test_adversarial_pools(name: str, backend: str) -> None:
    for metric in ("euclidean", "cosine"):
        pool = POOLS[name]()[:90]
        pool = without_zero_rows(pool) if metric == "cosine" else pool
        for distance in distances_of(pool, metric):
            options = {"distance": distance, "metric": metric}
            oracle = reference.neighbours_within(pool, **options)
            same(neighbours_within(pool, **options, backend=backend), oracle)


@pytest.mark.slow
@given(
    queries=st.integers(1, 150),
    points=st.integers(1, 150),
    d=st.one_of(st.integers(1, 40), st.integers(41, 600)),
    levels=st.sampled_from([2, 5, 100, 10**6]),
    share=st.floats(0, 1),
    backend=st.sampled_from(BACKENDS),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_any_queries_and_points(queries, points, d, levels, share, backend, threads, seed) -> None:
    rng = np.random.default_rng(seed)
    q = rng.integers(0, levels, (queries, d)).astype("f4")
    p = rng.integers(0, levels, (points, d)).astype("f8")
    some = reference.nearest_distances(q[:1], p, points).distances[0]
    distance = some[int(share * (points - 1))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENTROSELECT_THREADS", str(threads))
        found = neighbours_within(q, p, distance=distance, backend=backend)
    same(found, reference.neighbours_within(q, p, distance=distance))


def test_as_scikit_learn_and_scipy_find_them() -> None:
    """Whole numbers, so that nothing is rounded: the same pairs, those exactly at the distance
    among them, and a row in its own list."""
    neighbors = pytest.importorskip("sklearn.neighbors")
    spatial = pytest.importorskip("scipy.spatial")
    pool = np.random.default_rng(0).integers(0, 6, (400, 7)).astype(np.float64)
    queries = pool[:130] + np.eye(7)[0]
    for asked in (None, queries):
        rows, points = (pool, None) if asked is None else (asked, pool)
        found = neighbours_within(rows, points, distance=5.0)
        lists = np.split(found.indices, found.indptr[1:-1])
        assert (found.distances == 5.0).sum() > 100
        fitted = neighbors.NearestNeighbors(radius=5.0, algorithm="brute").fit(pool)
        theirs, places = fitted.radius_neighbors(rows, sort_results=False)
        tree = spatial.cKDTree(pool).query_ball_point(rows, 5.0, return_sorted=True)
        for query in range(len(rows)):
            assert lists[query].tolist() == sorted(places[query].tolist()) == tree[query]
        order = np.concatenate([np.argsort(row) for row in places]) + np.repeat(
            found.indptr[:-1], np.diff(found.indptr)
        )
        np.testing.assert_allclose(found.distances, np.concatenate(theirs)[order], rtol=1e-12)
    within = neighbours_within(pool, distance=0.5)
    assert within.indices[within.indptr[:-1]].tolist() == [
        int((pool == row).all(axis=1).argmax()) for row in pool
    ]


@pytest.mark.parametrize("threads", [1, 3])
def test_more_suspects_than_are_kept_at_a_time(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every point passes the filter, half of them lie beyond the distance by a rounding."""
    monkeypatch.setenv("ENTROSELECT_THREADS", str(threads))
    points = np.zeros((3001, 9))
    points[::2, 3] = 1 + 2.0**-52
    points[1::2, 3] = 1
    found = neighbours_within(np.zeros((70, 9)), points, distance=1.0)
    assert np.diff(found.indptr).tolist() == [1500] * 70
    assert found.indices.tolist() == list(range(1, 3001, 2)) * 70
    assert (found.distances == 1).all()


def test_panels_of_rows_that_are_coded_well_and_badly(backend: str) -> None:
    """Eight panels of points share thresholds: the first has short rows, whose codes are exact, and
    the others long ones. Queries at the centre have exact codes as well, so that the residuals of
    the long rows alone say how far off a score may be."""
    points = normal(2048, 64)
    points[np.arange(2048) % 256 < 32] *= np.float32(1e-3)
    queries = normal(3, 64) * np.float32(1e-3)
    distances = reference.nearest_distances(queries[:1], points, 2048).distances[0]
    for distance in distances[300::200]:
        found = neighbours_within(queries, points, distance=distance, backend=backend)
        same(found, reference.neighbours_within(queries, points, distance=distance))


def test_what_no_pair_and_what_every_pair_is_within(backend: str) -> None:
    pool = normal(200, 20)
    found = neighbours_within(pool, pool + 100, distance=1.0, backend=backend)
    assert found.indptr.tolist() == [0] * 201
    assert len(found.indices) == len(found.distances) == 0
    found = neighbours_within(pool, distance=1e200, backend=backend)
    assert found.indices.tolist() == list(range(200)) * 200


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", ["integer_grid", "images", "duplicates"])
def test_in_tiles(name: str, metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists of a query come from several tiles, those before its own block too."""
    pool = without_zero_rows(POOLS[name]())[:200]
    np.save(tmp_path / "pool.npy", pool)
    source = open_pool(tmp_path / "pool.npy")
    distance = distances_of(pool, metric)[1]
    for block, tile in ((70, 30), (31, 64)):
        monkeypatch.setattr(budget, "plan_alone", lambda *_: budget.TilePlan(block, tile))  # noqa: B023
        options = {"distance": distance, "metric": metric, "memory_limit": "1GiB"}
        found = neighbours_within(source, **options)
        assert found.profile["tiles"] > 5
        same(found, reference.neighbours_within(pool, distance=distance, metric=metric))
        found = neighbours_within(pool[:90], source, **options)
        oracle = reference.neighbours_within(pool[:90], pool, distance=distance, metric=metric)
        same(found, oracle)


def test_the_smallest_limit_works(tmp_path: Path) -> None:
    pool = normal(4000, 64)
    np.save(tmp_path / "pool.npy", pool)
    source = open_pool(tmp_path / "pool.npy")
    with pytest.raises(ValueError, match="memory_limit: 1 bytes are too few") as error:
        neighbours_within(source, distance=8.0, memory_limit=1)
    least = int(str(error.value).rsplit(" ", 1)[1])
    found = neighbours_within(source, distance=8.0, memory_limit=least)
    assert found.profile["tiles"] > 10
    same(found, neighbours_within(pool, distance=8.0))


def test_progress_reaches_the_end() -> None:
    calls: list[tuple[int, int]] = []
    neighbours_within(
        normal(500, 8), distance=1, progress=lambda done, total: calls.append((done, total))
    )
    assert calls[-1] == (500, 500)
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(calls))


def test_it_is_refused_where_it_is_not_served() -> None:
    pytest.importorskip("faiss")
    with pytest.raises(ValueError, match="'faiss' finds no points within a distance; use 'cpu'"):
        neighbours_within(normal(9, 2), distance=1, backend="faiss")
    with pytest.raises(ValueError, match="memory_limit: backend 'reference' holds all rows"):
        neighbours_within(normal(9, 2), distance=1, backend="reference", memory_limit="1GB")
