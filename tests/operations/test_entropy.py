"""Entropy and neighbour metrics: closed forms, independent estimators, duplicates."""

from __future__ import annotations

import math
import pickle
import re
from typing import Any, Literal

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln

from entroselect import (
    generalization_score,
    greedy_select,
    kl_entropy,
    mean_nearest_distance,
    reference,
)
from entroselect.entropy import _digamma, log_unit_ball_volume
from tests.conftest import normal
from tests.support.pools import POOLS


@pytest.mark.parametrize("n", [1, 2, 10, 31, 32, 33, 1000, 10**6])
def test_digamma(n: int) -> None:
    assert _digamma(n) == pytest.approx(digamma(n), abs=2e-15, rel=2e-15)


def test_unit_ball_volumes() -> None:
    assert math.exp(log_unit_ball_volume(1)) == pytest.approx(2)
    assert math.exp(log_unit_ball_volume(2)) == pytest.approx(math.pi)
    assert math.exp(log_unit_ball_volume(3)) == pytest.approx(4 / 3 * math.pi)
    # the values printed with the method (32x32x3 images, 28x28 images, 384 features)
    assert log_unit_ball_volume(3072) == pytest.approx(-7979.817, abs=1e-3)
    assert log_unit_ball_volume(784) == pytest.approx(-1503.905, abs=1e-3)
    assert log_unit_ball_volume(384) == pytest.approx(-601.199, abs=1e-3)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_closed_forms_of_normal_and_uniform(d: int, k: int) -> None:
    rng = np.random.default_rng(0)
    expected = 0.5 * d * math.log(2 * math.pi * math.e) + d * math.log(2.5)
    assert kl_entropy(2.5 * rng.standard_normal((20000, d)), k=k) == pytest.approx(
        expected, abs=0.04
    )
    assert kl_entropy(4 * rng.random((20000, d)), k=k) == pytest.approx(
        d * math.log(4), abs=0.02 + 0.03 * d
    )


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_an_independent_estimator(d: int, k: int, backend: str) -> None:
    """The same formula on SciPy's tree, digamma and gamma function."""
    rows = normal(3000, d, dtype=np.float64)
    radii = cKDTree(rows).query(rows, k=k + 1)[0][:, k]
    volume = 0.5 * d * math.log(math.pi) - gammaln(0.5 * d + 1)
    expected = digamma(3000) - digamma(k) + volume + d * np.mean(np.log(radii))
    assert kl_entropy(rows, k, backend=backend) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["wide", "offset_1e6", "tiny_scale", "images", "one_column"])
def test_equal_to_the_reference(name: str, backend: str) -> None:
    """To the last bit on the reference's neighbours, and the number of the oracle, which adds its
    terms up exactly."""
    pool = POOLS[name]()
    ours = kl_entropy(pool, k=2, backend=backend)
    same = kl_entropy(pool, k=2, backend="reference")
    assert float(ours) == float(same)
    assert ours.geometric_mean_distance == same.geometric_mean_distance
    assert ours.backend == backend
    assert same.backend == "reference"
    oracle = reference.kl_entropy(pool, k=2)
    assert ours == pytest.approx(oracle, rel=1e-13)
    assert ours.geometric_mean_distance == pytest.approx(oracle.geometric_mean_distance, rel=1e-13)
    assert (ours.n, ours.d, ours.k) == (oracle.n, oracle.d, oracle.k)


@pytest.mark.parametrize("duplicates", ["floor", "drop"])
@pytest.mark.parametrize("name", ["duplicates", "one_column"])
def test_duplicates_equal_to_the_reference(name: str, duplicates: Literal["floor", "drop"]) -> None:
    pool = POOLS[name]()
    ours = kl_entropy(pool, duplicates=duplicates)
    oracle = reference.kl_entropy(pool, duplicates=duplicates)
    assert ours == pytest.approx(oracle, rel=1e-13)
    assert (ours.n, ours.zero_distances) == (oracle.n, oracle.zero_distances)


@pytest.mark.parametrize(
    ("pool", "k", "options"),
    [
        ("duplicates", 1, {}),
        ("duplicates", 3, {}),
        ("duplicates", 10**6, {}),
        ("duplicates", 0, {}),
        ("duplicates", 1.5, {}),
        ("duplicates", 1, {"duplicates": "keep"}),
        ("duplicates", 1, {"duplicates": "floor", "floor": 0}),
        ("duplicates", 1, {"floor": "1"}),
        ("constant", 2, {"duplicates": "drop"}),
    ],
)
def test_the_reference_refuses_in_the_same_words(
    pool: str, k: Any, options: dict[str, Any]
) -> None:
    rows = np.ones((6, 3)) if pool == "constant" else POOLS[pool]()
    with pytest.raises((TypeError, ValueError)) as ours:
        kl_entropy(rows, k, **options)
    with pytest.raises(ours.type, match=f"^{re.escape(str(ours.value))}$"):
        reference.kl_entropy(rows, k, **options)


def test_finite_at_any_width() -> None:
    for d in (1, 384, 3072, 20000):
        assert math.isfinite(kl_entropy(normal(20, d)))


def test_geometric_mean_distance_gives_the_entropy_back() -> None:
    found = kl_entropy(normal(500, 12))
    rebuilt = (
        digamma(found.n)
        - digamma(found.k)
        + log_unit_ball_volume(found.d)
        + found.d * math.log(found.geometric_mean_distance)
    )
    assert rebuilt == pytest.approx(float(found), rel=1e-12)


def test_scaling_adds_d_log_scale() -> None:
    rows = normal(400, 30, dtype=np.float64)
    assert kl_entropy(8 * rows) - kl_entropy(rows) == pytest.approx(30 * math.log(8), abs=1e-9)


def test_selection_raises_entropy() -> None:
    rows = normal(2000, 16)
    chosen = rows[greedy_select(rows, 1000).indices]
    random = rows[np.random.default_rng(0).permutation(2000)[:1000]]
    assert kl_entropy(chosen) > kl_entropy(random)


def test_works_as_a_float() -> None:
    found = kl_entropy(normal(100, 3))
    assert isinstance(found, float)
    assert found + 1 == float(found) + 1
    assert f"{found:.3f}" == f"{float(found):.3f}"
    assert (found.n, found.d, found.k, found.zero_distances) == (100, 3, 1, 0)
    copy = pickle.loads(pickle.dumps(found))
    assert (copy, copy.n, copy.geometric_mean_distance) == (
        found,
        100,
        found.geometric_mean_distance,
    )
    assert "nats" in repr(found)


def test_duplicates_are_an_error_by_default() -> None:
    rows = np.array([[0.0], [1.0], [1.0], [5.0]])
    with pytest.raises(ValueError, match=r"features: 2 of 4 rows .* row 1\).*duplicates='drop'"):
        kl_entropy(rows)


def test_duplicates_floor() -> None:
    rows = np.array([[0.0], [1.0], [1.0], [5.0]])
    found = kl_entropy(rows, duplicates="floor", floor=1e-3)
    logs = [math.log(1), math.log(1e-3), math.log(1e-3), math.log(4)]
    assert found == pytest.approx(
        digamma(4) - digamma(1) + math.log(2) + float(np.mean(logs)), rel=1e-12
    )
    assert found.zero_distances == 2


def test_duplicates_drop_keeps_one_of_each(backend: str) -> None:
    rows = POOLS["duplicates"]()
    for k in (1, 2, 6):
        found = kl_entropy(rows, k, duplicates="drop", backend=backend)
        assert found.n == 60
        assert float(found) == float(kl_entropy(np.unique(rows, axis=0), k)) or found == (
            pytest.approx(kl_entropy(np.unique(rows, axis=0), k), rel=1e-12)
        )
    assert kl_entropy(rows, 1, duplicates="drop").zero_distances == 300


def test_drop_with_too_few_distinct_rows() -> None:
    with pytest.raises(ValueError, match="only 1 distinct rows"):
        kl_entropy(np.ones((5, 2)), duplicates="drop")


def test_k_needs_enough_rows() -> None:
    with pytest.raises(ValueError, match=r"k: .* needs at least 11 rows, features has 10"):
        kl_entropy(normal(10, 2), 10)


@pytest.mark.parametrize("kind", ["l2", "mse"])
def test_generalization_score(kind: str) -> None:
    generated, training = POOLS["images"]()[:60], POOLS["images"]()[60:]
    nearest = cKDTree(training.astype(float)).query(generated.astype(float))[0]
    expected = nearest.mean() if kind == "l2" else (nearest**2).mean() / 27
    assert generalization_score(generated, training, kind=kind) == pytest.approx(expected)


def test_a_memorising_model_scores_zero() -> None:
    training = normal(50, 6)
    assert generalization_score(training[:9], training) == 0.0


def test_generalization_score_names_its_arguments() -> None:
    good, bad = normal(5, 3), normal(5, 3)
    bad[2, 1] = np.nan
    with pytest.raises(ValueError, match="generated: values must be finite; row 2"):
        generalization_score(bad, good)
    with pytest.raises(ValueError, match="training: values must be finite; row 2"):
        generalization_score(good, bad)
    with pytest.raises(ValueError, match="generated: has 3 columns but training has 4"):
        generalization_score(good, normal(5, 4))
    with pytest.raises(ValueError, match="kind: expected one of l2, mse, got 'cosine'"):
        generalization_score(good, good, kind="cosine")


def test_mean_nearest_distance() -> None:
    rows = normal(300, 4, dtype=np.float64)
    expected = cKDTree(rows).query(rows, k=2)[0][:, 1].mean()
    assert mean_nearest_distance(rows) == pytest.approx(expected)
    with pytest.raises(ValueError, match="features: at least 2 rows"):
        mean_nearest_distance(rows[:1])
