"""Entropy and its relatives over backend "faiss": bounds that hold, copies, what recall says."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

from entroselect import (
    generalization_score,
    kl_entropy,
    mean_nearest_distance,
    nearest_distances,
)
from entroselect.backends import faiss as faiss_backend
from entroselect.entropy import _divergence, _mean_log_ratio
from tests.conftest import normal

pytest.importorskip("faiss")

BAD = "faiss:IVF32,Flat"  # looks at one cell of 32


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("name", ["normal", "offset", "clusters"])
def test_bounds_bracket_the_exact_entropy(name: str, k: int) -> None:
    pool = normal(5000, 10)
    if name == "offset":
        pool = pool.astype(np.float64) + 1e7
    if name == "clusters":
        pool[:2500] *= 0.01
    exact = kl_entropy(pool, k)
    found = kl_entropy(pool, k, backend=BAD)
    assert found.recall is not None
    assert found.excess is not None
    assert found.low is not None
    assert found.recall < 0.95
    assert found.low <= exact < found  # the index is bad enough to be seen
    assert found.excess == pytest.approx(found - exact, rel=0.3)
    assert found - found.low < 3 * found.excess
    for word in ("recall=", "excess=", "low="):
        assert word in repr(found)
        assert word not in repr(exact)
    copy = pickle.loads(pickle.dumps(found))
    assert (copy, copy.recall, copy.low) == (found, found.recall, found.low)
    assert exact.recall is exact.excess is exact.low is None


def test_an_exact_index_gives_the_exact_entropy() -> None:
    pool = normal(3000, 6)
    found = kl_entropy(pool, backend="faiss:Flat")
    assert float(found) == float(kl_entropy(pool))
    assert (found.recall, found.excess) == (1.0, 0.0)
    assert found.low is not None
    assert 0 < found - found.low < 0.2  # 1,000 of 3,000 rows are no proof
    few = kl_entropy(pool[:900], backend="faiss:Flat")
    assert few.low == few  # all rows are
    floored = kl_entropy(pool, duplicates="floor", floor=1e-6, backend="faiss:Flat")
    assert floored.low is not None
    assert floored.low < found.low  # a copy might have been missed


def test_coverage_of_the_bound() -> None:
    """Rare large misses: at most one sample in twenty may put the bound below the truth."""
    rng = np.random.default_rng(0)
    for misses in (2, 10, 60):
        exact = np.exp(rng.random(4000))
        distances = exact.copy()
        distances[:misses] = math.e
        truth = float(np.mean(np.log(distances / exact)))
        failed = 0
        for _ in range(200):
            sample = rng.choice(4000, 400, replace=False)
            mean, highest = _mean_log_ratio(distances, sample, exact[sample], exact.min())
            assert mean <= highest
            failed += highest < truth
        assert failed <= 10


def test_coin_flips() -> None:
    """For zeros and ones the bound is near that of Clopper and Pearson."""
    from scipy.stats import beta

    distances = np.full(10**6, math.e)
    for hits in (0, 3, 40):
        exact = np.full(1000, math.e)
        exact[:hits] = 1.0
        _, highest = _mean_log_ratio(distances, np.arange(1000), exact, 1.0)
        clopper = beta.ppf(0.95, hits + 1, 1000 - hits)
        assert clopper <= highest < clopper * 1.35
    assert _divergence(0.0, 0.5) == pytest.approx(math.log(2))
    assert _divergence(1.0, 1.0) == 0.0


def test_duplicates() -> None:
    pool = np.repeat(normal(800, 8), 2, axis=0)
    with pytest.raises(ValueError, match=r"features: 1600 of 1600 rows .*duplicates='drop'"):
        kl_entropy(pool, backend="faiss:Flat")
    for spec in ("faiss:Flat", BAD):
        dropped = kl_entropy(pool, 2, duplicates="drop", backend=spec)
        exact = kl_entropy(pool, 2, duplicates="drop")
        assert dropped.n == exact.n == 800
        assert dropped.low is not None
        assert dropped.low - 1e-9 <= exact <= dropped + 1e-9
        floored = kl_entropy(pool, 2, duplicates="floor", floor=1e-3, backend=spec)
        assert floored.low is not None
        assert floored.low <= kl_entropy(pool, 2, duplicates="floor", floor=1e-3) <= floored
    with pytest.raises(ValueError, match="only 1 distinct rows"):
        kl_entropy(np.ones((50, 3)), duplicates="drop", backend="faiss")


def test_copies_that_the_index_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample finds them: an error by default, otherwise no lower bound."""
    pool = normal(500, 4)
    pool[400:] = pool[:100]

    def no_copies(
        self: Any, index: Any, frame: Any, queries: Any, width: int, progress: Any
    ) -> Any:
        found = nearest_distances(queries, k=width).indices
        return np.where(np.abs(found - np.arange(queries.n)[:, None]) == 400, -1, found)

    monkeypatch.setattr(faiss_backend.Faiss, "_candidates", no_copies)
    with pytest.raises(ValueError, match=r"features: 200 of 500 rows"):
        kl_entropy(pool, backend="faiss:Flat")
    found = kl_entropy(pool, duplicates="drop", backend="faiss:Flat")
    assert (found.low, found.excess, found.n) == (-math.inf, math.inf, 500)
    floored = kl_entropy(pool, duplicates="floor", backend="faiss:Flat")
    assert floored.low is not None
    assert math.isfinite(floored.low)
    assert floored.low - 1e-9 <= kl_entropy(pool, duplicates="floor") < floored


def test_metrics_take_it() -> None:
    rows, others = normal(400, 7), normal(500, 7, seed=2)
    assert mean_nearest_distance(rows, backend="faiss:Flat") == mean_nearest_distance(rows)
    assert generalization_score(rows, others, backend="faiss:Flat") == generalization_score(
        rows, others
    )


def test_exact_results_do_not_speak_of_recall() -> None:
    exact = nearest_distances(normal(50, 3))
    assert exact.recall is exact.sample is None
    assert "recall" not in repr(exact)
    found = nearest_distances(normal(50, 3), backend="faiss")
    assert "recall=1.0" in repr(found)
    assert "sample" not in repr(found)
