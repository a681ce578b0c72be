"""threshold_select against the oracle."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroselect import nearest_distances, open_pool, reference, threshold_select
from entroselect.scale.budget import pool_needs
from tests.conftest import BACKENDS, normal, same_selection
from tests.support.pools import POOLS


@pytest.mark.parametrize("seed", [None, 4])
@pytest.mark.parametrize("name", POOLS)
def test_adversarial_pools(name: str, seed: int | None, backend: str) -> None:
    pool = POOLS[name]()
    oracle = reference.threshold_select(pool, len(pool), seed=seed)
    same_selection(threshold_select(pool, len(pool), seed=seed, backend=backend), oracle)


@pytest.mark.slow
@given(
    n=st.integers(1, 200),
    d=st.one_of(st.integers(1, 40), st.integers(41, 600)),
    fraction=st.floats(0.01, 1),
    levels=st.sampled_from([2, 5, 100, 10**6]),
    metric=st.sampled_from(["euclidean", "cosine"]),
    backend=st.sampled_from(BACKENDS),
    block=st.integers(1, 300),
    threads=st.integers(1, 3),
    decay=st.floats(0.05, 0.99),
    start=st.one_of(st.none(), st.floats(0, 2000, allow_subnormal=False)),
    seed=st.integers(0, 2**32),
)
def test_any_pool(
    n, d, fraction, levels, metric, backend, block, threads, decay, start, seed
) -> None:
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, levels, (n, d)).astype(np.float32)
    if metric == "cosine":
        pool[:, 0] = 1
    options = {"threshold": start, "decay": decay, "seed": seed, "metric": metric}
    k = max(1, int(fraction * n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENTROSELECT_BLOCK", str(block))
        patch.setenv("ENTROSELECT_THREADS", str(threads))
        ours = threshold_select(pool, k, backend=backend, **options)
    same_selection(ours, reference.threshold_select(pool, k, **options))


@pytest.mark.parametrize("decay", [0.3, 0.7, 0.95])
def test_it_is_as_near_to_the_best_as_promised(decay: float) -> None:
    k = 4
    for seed in range(20):
        pool = np.random.default_rng(seed).standard_normal((12, 2)) ** 3
        apart = np.linalg.norm(pool[:, None] - pool, axis=2)
        sets = np.array(list(combinations(range(len(pool)), k)))
        least_radius = apart[sets].min(axis=1).max(axis=1).min()
        pairs = [apart[sets[:, i], sets[:, j]] for i, j in combinations(range(k), 2)]
        widest_apart = np.min(pairs, axis=0).max()
        ours = threshold_select(pool, k, decay=decay, seed=seed)
        assert ours.radius <= 2 / decay * least_radius * (1 + 1e-12)
        assert min(ours.distances[1:]) >= decay / 2 * widest_apart * (1 - 1e-12)
        assert ours.radius <= ours.thresholds[-1] / decay * (1 + 1e-12)


@pytest.mark.parametrize("block", [1, 5, 64, 1000])
def test_block_size_changes_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = POOLS["digits"]()
    oracle = reference.threshold_select(pool, 900, seed=1)
    monkeypatch.setenv("ENTROSELECT_BLOCK", str(block))
    same_selection(threshold_select(pool, 900, seed=1), oracle)


def test_accepted_rows_are_apart_and_cover_the_pool() -> None:
    pool = normal(2000, 10)
    found = threshold_select(pool, 300, threshold=6.0)
    assert found.thresholds is not None
    last = found.thresholds[-1]
    apart = nearest_distances(pool[found.indices]).distances.min()
    assert apart > last
    assert found.radius <= last / 0.95
    assert found.radius == nearest_distances(pool, pool[found.indices]).distances.max()
    assert np.all(np.diff(found.thresholds) <= 0)
    assert found.thresholds[0] == 6.0


def test_pool_order_unless_told_otherwise() -> None:
    pool = normal(500, 6)
    natural = threshold_select(pool, 50, threshold=2.0)
    assert natural.indices[0] == 0
    np.testing.assert_array_equal(
        natural.indices, threshold_select(pool, 50, threshold=2.0, order=np.arange(500)).indices
    )
    order = np.random.default_rng(9).permutation(500)
    given_order = threshold_select(pool, 50, threshold=2.0, order=order)
    seeded = threshold_select(pool, 50, threshold=2.0, seed=9)
    same_selection(given_order, seeded)
    assert given_order.indices[0] == order[0]


@pytest.mark.parametrize("name", POOLS)
def test_one_pass(name: str, backend: str) -> None:
    """Without decay: all rows that are farther than the threshold from those before, or k of them;
    copies never, whatever the threshold."""
    pool = POOLS[name]()[:150]
    apart = reference.nearest_distances(pool[:9], pool, k=min(30, len(pool))).distances
    some = float(np.quantile(apart, 0.8, method="nearest"))
    scores = np.random.default_rng(2).integers(0, 4, len(pool)).astype("f4")
    for options in (
        {"threshold": some},
        {"threshold": some, "k": min(3, len(pool)), "seed": 1},
        {"threshold": 0.0, "scores": scores},
        {"threshold": some, "scores": scores.astype("u1"), "selected": pool[:2] + 1},
    ):
        found = threshold_select(pool, decay=None, backend=backend, **options)
        same_selection(found, reference.threshold_select(pool, decay=None, **options))
        assert "k" in options or found.radius <= options["threshold"]


def test_one_pass_may_accept_nothing() -> None:
    pool = normal(50, 3)
    found = threshold_select(pool, threshold=1e9, decay=None, selected=[7])
    assert len(found) == 0
    assert found.radius == nearest_distances(pool, pool[7:8]).distances.max()


def test_memory_for_as_many_picks_as_rows(tmp_path: Path) -> None:
    """How many a pass accepts is not known when it is decided whether the pool fits."""
    np.save(tmp_path / "pool.npy", normal(2000, 30))
    source = open_pool(tmp_path / "pool.npy")
    whole = pool_needs(source, source.n, False)[0]
    read = [
        threshold_select(source, threshold=0.0, decay=None, memory_limit=whole - less).profile.get(
            "bytes_read"
        )
        for less in (0, 1)
    ]
    assert read[0] is None
    assert read[1] is not None


def test_scores_order_the_passes() -> None:
    """Largest first, lowest row of equals first, also where -x or a float is another number."""
    pool = np.arange(6.0)[:, None]
    for scores in ([1, 9, 1, 9, 0, 9], [2**62, 2**62 + 1, 2**62, 2**62 + 1, 0, 2**62 + 1]):
        options = {"threshold": 0.5, "scores": np.array(scores)}
        found = threshold_select(pool, 6, **options)
        assert found.indices.tolist() == [1, 3, 5, 0, 2, 4]
        same_selection(found, reference.threshold_select(pool, 6, **options))
    unsigned = threshold_select(pool, 6, threshold=0.5, scores=np.array([0, 1, 2, 200, 0, 3], "u1"))
    assert unsigned.indices.tolist() == [3, 5, 2, 1, 0, 4]


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.95, 0.99999])
def test_passes_that_accept_nothing_are_skipped_one_product_at_a_time(decay: float) -> None:
    """The thresholds are those of the loop that multiplies, to the last bit, and a threshold equal
    to the largest distance does not accept it."""
    pool = np.array([[0.0], [1.0], [3.0]])
    options = {"threshold": 1e3, "decay": decay}
    same_selection(
        threshold_select(pool, 3, **options), reference.threshold_select(pool, 3, **options)
    )
    tau = 777.7
    for _ in range(500):
        tau *= decay
    exact = np.array([[0.0], [tau]])
    options["threshold"] = 777.7
    found = threshold_select(exact, 2, **options)
    assert found.thresholds is not None
    assert found.thresholds[1] == (tau * decay if tau else 0)


def test_only_copies_left_are_taken_in_order_at_threshold_0() -> None:
    pool = np.repeat([[0.0], [5.0], [9.0]], 3, axis=0)
    found = threshold_select(pool, 9)
    assert found.indices.tolist() == [0, 6, 3, 1, 2, 4, 5, 7, 8]
    assert found.thresholds is not None
    assert found.thresholds[3:].tolist() == [0.0] * 6


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_selected(metric: str, backend: str) -> None:
    pool = POOLS["digits"]()[:400]
    for selected in ([3, 1, 399], pool[:20] + 1.0):
        options = {"selected": selected, "metric": metric, "seed": 2}
        oracle = reference.threshold_select(pool, 100, **options)
        assert np.isfinite(oracle.distances).all()
        same_selection(threshold_select(pool, 100, backend=backend, **options), oracle)


def test_threshold_zero_takes_distinct_rows_first() -> None:
    pool = POOLS["duplicates"]()
    found = threshold_select(pool, len(pool), threshold=0.0)
    assert len(np.unique(pool[found.indices[:60]], axis=0)) == 60
    assert np.all(found.distances[60:] == 0)
