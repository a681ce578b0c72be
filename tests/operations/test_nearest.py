"""nearest_distances against the oracle."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroselect import nearest_distances, reference
from tests.conftest import BACKENDS, normal, same_neighbours
from tests.support.pools import POOLS

SEVERAL = [name for name in POOLS if name != "one_row"]


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", SEVERAL)
def test_adversarial_pools(name: str, k: int, backend: str) -> None:
    pool = POOLS[name]()
    k = min(k, len(pool) - 1)
    oracle = reference.nearest_distances(pool, k=k)
    same_neighbours(nearest_distances(pool, k=k, backend=backend), oracle)


@pytest.mark.slow
@given(
    queries=st.integers(1, 150),
    points=st.integers(1, 150),
    d=st.one_of(st.integers(1, 40), st.integers(41, 1024)),
    fraction=st.floats(0, 1, allow_subnormal=False),
    levels=st.sampled_from([2, 5, 100, 10**6]),
    metric=st.sampled_from(["euclidean", "cosine"]),
    backend=st.sampled_from(BACKENDS),
    threads=st.integers(1, 3),
    dtypes=st.tuples(*[st.sampled_from(["float32", "float64", "int32"])] * 2),
    seed=st.integers(0, 2**32),
)
def test_any_queries_and_points(
    queries, points, d, fraction, levels, metric, backend, threads, dtypes, seed
) -> None:
    rng = np.random.default_rng(seed)
    q = rng.integers(0, levels, (queries, d)).astype(dtypes[0])
    p = rng.integers(0, levels, (points, d)).astype(dtypes[1])
    if metric == "cosine":
        q[:, 0] = p[:, 0] = 1
    k = max(1, int(fraction * points))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENTROSELECT_THREADS", str(threads))
        ours = nearest_distances(q, p, k, metric=metric, backend=backend)
    same_neighbours(ours, reference.nearest_distances(q, p, k, metric=metric))


def test_all_neighbours_of_a_pool_full_of_ties() -> None:
    pool = POOLS["binary_vectors"]()
    k = len(pool) - 1
    same_neighbours(nearest_distances(pool, k=k), reference.nearest_distances(pool, k=k))


def test_one_query_and_nearly_all_points() -> None:
    points = normal(20000, 4)
    same_neighbours(
        nearest_distances(points[:1] + 1, points, 19999),
        reference.nearest_distances(points[:1] + 1, points, 19999),
    )


def test_more_suspects_than_are_kept_at_a_time() -> None:
    """2,000 points at the same distance: every one passes the filter, lowest index wins."""
    points = np.zeros((2000, 3))
    found = nearest_distances(np.ones((4, 3)), points, k=7)
    np.testing.assert_array_equal(found.indices, np.tile(np.arange(7), (4, 1)))


def test_rows_far_less_exact_than_most(backend: str) -> None:
    """Among normal rows, a far one whose nearest is another far one, of far longer code steps.

    The nearest of row 900 is row 10, while that of row 10 is row 11: only row 900's end of the
    pair can find it, and row 10's large residual must not be judged by that of its neighbours.
    """
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((1000, 64)).astype(np.float32)
    far, aside = rng.standard_normal((2, 64)).astype(np.float32)
    pool[10] = 100 * far
    pool[11] = 100 * far - 4 * aside
    pool[900] = 100 * far + 40 * aside
    found = nearest_distances(pool, backend=backend)
    assert found.indices[900, 0] == 10
    assert found.indices[10, 0] == 11
    same_neighbours(found, reference.nearest_distances(pool))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_near_code_does_not_hide_a_nearer_row(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Roundings that move the query's code towards one point and away from the nearest one.

    The frame has centre 0 and scale 1; `step` is that of bfloat16 codes from 1 to 2. The codes of
    the two points are 60 and 61 steps from the query's, the points 60 + 2a and 61 - 2a steps.
    """
    monkeypatch.setenv("ENTROSELECT_FILTER", "bf16")
    step, a = 2.0**-7, 0.3
    points = np.zeros((300, 16))
    points[::10, 0] = 1.0
    points[5::10, 0] = -1.0
    query = np.zeros((1, 16))
    query[0, 0] = 1.5 - a * step
    points[[3, 271], 0] = 1.5 + (60 + a) * step, 1.5 - (61 - a) * step
    found = nearest_distances(query, points, backend=backend)
    assert found.indices[0, 0] == 271
    same_neighbours(found, reference.nearest_distances(query, points))


def test_itself_is_excluded_but_copies_are_not() -> None:
    pool = POOLS["duplicates"]()
    found = nearest_distances(pool, k=4)
    assert np.all(found.distances == 0)
    assert not np.any(found.indices == np.arange(len(pool))[:, None])
    against = nearest_distances(pool, pool)
    assert np.all(against.indices[:, 0] <= np.arange(len(pool)))


def test_offset_where_float32_fails() -> None:
    pool = normal(1000, 32) + np.float32(1000)
    same_neighbours(nearest_distances(pool), reference.nearest_distances(pool))


def test_gathering_the_indices_gives_the_distances() -> None:
    queries, points = normal(500, 20), normal(700, 20, seed=1)
    found = nearest_distances(queries, points, k=3)
    for neighbour in range(3):
        gathered = points[found.indices[:, neighbour]].astype(np.float64)
        squared = reference.squared_distances(queries.astype(np.float64), gathered)
        np.testing.assert_array_equal(np.sqrt(squared), found.distances[:, neighbour])


def test_one_query_against_many() -> None:
    points = normal(5000, 40)
    same_neighbours(
        nearest_distances(points[:1] + 1, points, 10),
        reference.nearest_distances(points[:1] + 1, points, 10),
    )


def test_progress_reaches_the_end() -> None:
    calls: list[tuple[int, int]] = []
    nearest_distances(normal(3000, 16), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (3000, 3000)
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(calls))
