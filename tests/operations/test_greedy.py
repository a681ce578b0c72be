"""greedy_select against the oracle: whole index lists, on every backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroselect import anchored_select, greedy_select, reference, threshold_select
from entroselect.greedy import STARTS
from tests.conftest import BACKENDS, normal, same_selection
from tests.support.pools import POOLS, without_zero_rows


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", POOLS)
def test_adversarial_pools(
    name: str, metric: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = POOLS[name]()
    if metric == "cosine":
        pool = without_zero_rows(pool)
        monkeypatch.setenv("ENTROSELECT_BLOCK", "100")  # else most of these pools are one block
    oracle = reference.greedy_select(pool, len(pool), metric=metric)
    same_selection(greedy_select(pool, len(pool), metric=metric, backend=backend), oracle)


@pytest.mark.parametrize("block", [1, 2, 7, 63, 64, 65, 500, 100000])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["digits", "unequal_clusters", "duplicates"])
def test_block_size_and_threads_change_nothing(
    name: str, block: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = POOLS[name]()
    k = len(pool) // 3
    oracle = _oracle(name, k)
    monkeypatch.setenv("ENTROSELECT_BLOCK", str(block))
    monkeypatch.setenv("ENTROSELECT_THREADS", str(threads))
    same_selection(greedy_select(pool, k), oracle)


_ORACLES: dict[tuple[str, int], reference.Selection] = {}


def _oracle(name: str, k: int) -> reference.Selection:
    if (name, k) not in _ORACLES:
        _ORACLES[name, k] = reference.greedy_select(POOLS[name](), k)
    return _ORACLES[name, k]


@pytest.mark.slow
@given(
    n=st.integers(1, 220),
    d=st.one_of(st.integers(1, 40), st.integers(41, 1024)),
    fraction=st.floats(0.01, 1),
    dtype=st.sampled_from(["float16", "float32", "float64", "uint8", "int16", "int64", "bool"]),
    levels=st.sampled_from([2, 5, 100, 10**6]),
    metric=st.sampled_from(["euclidean", "cosine"]),
    backend=st.sampled_from(BACKENDS),
    block=st.integers(1, 300),
    threads=st.integers(1, 4),
    start=st.one_of(st.sampled_from(STARTS), st.integers(0, 10**6)),
    seed=st.integers(0, 2**32),
)
def test_any_pool(
    n, d, fraction, dtype, levels, metric, backend, block, threads, start, seed
) -> None:
    rng = np.random.default_rng(seed)
    limit = {"bool": 2, "uint8": 256, "float16": 2000, "int16": 30000}.get(dtype, 10**9)
    pool = (rng.integers(0, min(levels, limit), (n, d)) * 1.0).astype(dtype)
    if metric == "cosine":
        pool[:, 0] = 1
    start = start if isinstance(start, str) else start % n
    options = {"start": start, "metric": metric, "seed": seed if start == "random" else None}
    k = max(1, int(fraction * n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENTROSELECT_BLOCK", str(block))
        patch.setenv("ENTROSELECT_THREADS", str(threads))
        ours = greedy_select(pool, k, backend=backend, **options)
    same_selection(ours, reference.greedy_select(pool, k, **options))


@pytest.mark.slow
def test_a_larger_pool() -> None:
    pool = normal(12000, 48)
    same_selection(greedy_select(pool, 800), reference.greedy_select(pool, 800))


def test_the_fast_path_is_the_one_taken() -> None:
    pool = normal(8000, 128)
    found = greedy_select(pool, 800)
    assert found.backend.startswith("cpu:")
    profile = found.profile
    assert 0 < profile["pairs"] < 0.8 * 8000 * 800  # lazy: not every pair is ever looked at
    # certified: exact distances are computed for a sliver of the pairs
    assert profile["rechecks"] + profile["settled"] < 0.03 * 8000 * 800


def test_rounds_follow_the_logarithm_of_k_not_n() -> None:
    """Blocks of a fixed size would take a number of rounds proportional to n: 68 at 8,192 rows."""
    profile = greedy_select(normal(200_000, 8), 2000, backend="cpu").profile
    assert profile["rounds"] < 3 * math.log(2000)
    assert profile["share_of_pairs"] < 0.3


def test_clusters_too_tight_for_bytes_are_coded_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bytes alone would leave two and a half times as many pairs to exact distances."""
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((3, 64))[rng.integers(0, 3, 3000)]
    pool = (pool + 0.02 * rng.standard_normal((3000, 64))).astype(np.float32)
    found = greedy_select(pool, 300)
    monkeypatch.setenv("ENTROSELECT_FILTER", "bf16")
    finer = greedy_select(pool, 300)
    same_selection(found, reference.greedy_select(pool, 300))
    before_the_change = 10 * len(pool)
    assert found.profile["rechecks"] < 1.1 * finer.profile["rechecks"] + before_the_change


def test_every_prefix_is_the_selection_for_that_k() -> None:
    pool = POOLS["digits"]()
    whole = greedy_select(pool, 300)
    for k in (1, 2, 17, 150):
        part = greedy_select(pool, k)
        np.testing.assert_array_equal(part.indices, whole.indices[:k])
        np.testing.assert_array_equal(part.distances, whole.distances[:k])
        assert part.radius == whole.distances[k]


def test_distances_never_increase() -> None:
    for name in ("unequal_clusters", "integer_grid", "one_outlier"):
        pool = POOLS[name]()
        distances = greedy_select(pool, len(pool)).distances
        assert math.isinf(distances[0])
        assert np.all(np.diff(distances[1:]) <= 0)


def test_k_equal_to_n_picks_every_row_once() -> None:
    pool = POOLS["duplicates"]()
    found = greedy_select(pool, len(pool))
    np.testing.assert_array_equal(np.sort(found.indices), np.arange(len(pool)))
    assert found.radius == 0.0


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_selected_indices_continue_a_selection(metric: str, backend: str) -> None:
    pool = POOLS["unequal_clusters"]()
    whole = greedy_select(pool, 120, metric=metric)
    rest = greedy_select(pool, 70, selected=whole.indices[:50], metric=metric, backend=backend)
    np.testing.assert_array_equal(rest.indices, whole.indices[50:])
    np.testing.assert_array_equal(rest.distances, whole.distances[50:])
    assert rest.radius == whole.radius


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_selected_vectors_count_as_chosen(dtype: type, metric: str, backend: str) -> None:
    pool = POOLS["digits"]()[:500]
    vectors = (np.random.default_rng(5).integers(1, 17, (37, 64))).astype(dtype)
    oracle = reference.greedy_select(pool, 60, selected=vectors, metric=metric)
    assert math.isfinite(oracle.distances[0])
    same_selection(
        greedy_select(pool, 60, selected=vectors, metric=metric, backend=backend), oracle
    )


def test_nothing_selected_is_a_fresh_start() -> None:
    pool = normal(50, 4)
    for nothing in ([], np.empty((0, 4)), None):
        same_selection(greedy_select(pool, 9, selected=nothing), greedy_select(pool, 9))


def test_selected_may_leave_one_row() -> None:
    found = greedy_select(normal(10, 3), 1, selected=[0, 1, 2, 3, 5, 6, 7, 8, 9])
    assert found.indices.tolist() == [4]
    assert found.radius == 0.0


@pytest.mark.parametrize("start", ["random", "center", "farthest-from-center", 7])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_starts(start: str | int, metric: str, backend: str) -> None:
    pool = normal(300, 19) + 3
    seed = 11 if start == "random" else None
    oracle = reference.greedy_select(pool, 30, start=start, seed=seed, metric=metric)
    same_selection(
        greedy_select(pool, 30, start=start, seed=seed, metric=metric, backend=backend), oracle
    )


def test_center_is_the_row_nearest_to_the_mean() -> None:
    pool = normal(400, 5, dtype=np.float64)
    squared = ((pool - pool.mean(axis=0)) ** 2).sum(axis=1)
    assert greedy_select(pool, 1, start="center").indices[0] == np.argmin(squared)
    farthest = greedy_select(pool, 1, start="farthest-from-center")
    assert farthest.indices[0] == np.argmax(squared)


@pytest.mark.parametrize(
    "select",
    [
        greedy_select,
        threshold_select,
        anchored_select,
        reference.greedy_select,
        reference.threshold_select,
    ],
)
def test_a_share_of_the_rows(select: Any) -> None:
    pool = normal(125, 4)
    for share, k in ((0.2, 25), (0.1, 12), (np.float32(0.1), 12), (0.9, 112), (1e-9, 1)):
        found = select(pool, share)
        assert found.indices.tolist() == select(pool, k).indices.tolist()  # halves go to even
    for share in (0.0, 1.0, 1.5, -0.5, math.nan):
        with pytest.raises(TypeError, match="k: expected an integer, or a share of the rows"):
            select(pool, share)
    with pytest.raises(ValueError, match="k: must be at least 1 and at most 5"):
        greedy_select(pool, 0.5, selected=range(120))


def test_min_distance_stops_and_is_compared_with_the_reported_distance() -> None:
    pool = POOLS["digits"]()
    whole = greedy_select(pool, 800)
    for place in (5, 100, 640):
        limit = float(whole.distances[place])
        at = greedy_select(pool, 800, min_distance=limit)
        above = greedy_select(pool, 800, min_distance=math.nextafter(limit, math.inf))
        np.testing.assert_array_equal(at.distances, whole.distances[whole.distances >= limit])
        np.testing.assert_array_equal(above.distances, whole.distances[whole.distances > limit])
        assert at.radius < limit
        same_selection(at, reference.greedy_select(pool, 800, min_distance=limit))


def test_min_distance_beyond_everything_leaves_the_first_pick() -> None:
    found = greedy_select(normal(100, 4), 50, min_distance=1e200)
    assert found.indices.tolist() == [0]
    assert found.radius > 0
    none = greedy_select(normal(100, 4), 50, min_distance=1e200, selected=[3])
    assert len(none) == 0
    assert none.radius > 0


def test_translation_by_a_power_of_two_grid_changes_nothing() -> None:
    """Integers shifted by 2**20 keep their exact distances, so the picks must not move."""
    pool = np.random.default_rng(0).integers(0, 256, (600, 24)).astype(np.float32)
    moved = greedy_select(pool + np.float32(2**20), 200)
    same_selection(moved, greedy_select(pool, 200))


def test_the_pool_is_not_modified() -> None:
    pool = normal(100, 8)
    pool.flags.writeable = False
    before = pool.copy()
    greedy_select(pool, 20)
    np.testing.assert_array_equal(pool, before)
