"""diagnose, and the rule for the size of a reference."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from entroselect import Diagnosis, diagnose, energy_distance, generalization_score, kl_entropy
from entroselect.io.open import as_rows
from entroselect.measures import diagnosis
from entroselect.measures.energy import EnergyTerms
from entroselect.measures.manifold import manifold
from entroselect.measures.noise import ReferenceSize, deviation, reference_size
from tests.conftest import normal

REAL, TRAINING = normal(300, 6, seed=1), normal(300, 6, seed=2)
ALIKE = normal(400, 6, seed=3)
SCATTERED = 1.4 * normal(400, 6, seed=4)
# Near copies of a third of the training rows.
REPEATED = TRAINING[np.random.default_rng(5).integers(0, 100, 400)] + 0.01 * normal(400, 6, seed=6)


@pytest.mark.parametrize(
    ("features", "verdict", "says"),
    [
        (ALIKE, "unclear", "Neither"),
        (SCATTERED, "scatters", "failure"),
        (REPEATED, "repeats", "repeats itself"),
        (TRAINING[np.arange(400) % 100], "repeats", "repeats itself"),
    ],
)
def test_verdicts(features: Any, verdict: str, says: str) -> None:
    for seed in range(4):
        found = diagnose(features, REAL, seed=seed)
        assert found.verdict == verdict
        assert says in str(found)
        assert diagnosis.CAUTION.split()[-1] in str(found)
        assert max(map(len, str(found).splitlines())) <= 79


def test_advice_for_every_verdict_and_size() -> None:
    """The reference only where it is large enough, greedy_select only where features repeat."""
    for features, verdict in ((ALIKE, "unclear"), (SCATTERED, "scatters"), (REPEATED, "repeats")):
        large, small = diagnose(features, REAL), diagnose(features, REAL[:24], k=400)
        assert (large.verdict, large.size.enough, small.size.enough) == (verdict, True, False)
        assert "anchored_select(features, k, reference" in large.advice
        assert f"it has 24 rows, and about {small.size.needed} are needed" in small.advice
        assert "anchored_select" not in small.advice
        assert ("would collect" in large.advice) == (verdict == "scatters")
    small = diagnose(TRAINING[np.arange(400) % 100], REAL[:24], k=400)
    assert "greedy_select(features, k), which" in small.advice
    small = diagnose(5 * ALIKE, REAL[:9], k=400)
    assert (small.verdict, small.size.enough) == ("scatters", True)
    assert "would collect" in small.advice


def test_numbers_of_equal_sets_sizes() -> None:
    found = diagnose(SCATTERED[:300], REAL, training=TRAINING)
    assert (found.rows, found.columns, found.reference_rows, found.picks) == (300, 6, 300, 150)
    assert found.entropy == float(kl_entropy(SCATTERED[:300]))
    assert found.reference_entropy == float(kl_entropy(REAL))
    assert found.entropy_gap == found.entropy - found.reference_entropy
    assert found.generalization_score == pytest.approx(
        generalization_score(SCATTERED[:300], TRAINING), rel=1e-14
    )
    assert found.real_generalization_score == pytest.approx(
        generalization_score(REAL, TRAINING), rel=1e-14
    )
    balls = manifold(REAL, SCATTERED[:300], 5)
    assert (found.precision, found.recall) == (balls["precision"], balls["recall"])
    assert found.memorised == 0.0
    terms = EnergyTerms(SCATTERED[:300], REAL)
    pairs = 300 / 299
    assert found.size == reference_size(
        terms.cross,
        terms.one * pairs,
        terms.other * pairs,
        deviation(as_rows("", REAL)),
        m=300,
        k=150,
    )
    assert found.size.distance == pytest.approx(
        energy_distance(SCATTERED[:300], REAL) / terms.cross, abs=2.5 / 300
    )


def test_the_spread_is_that_of_independent_sets() -> None:
    """Halves of one set vary about as whole sets do from each other."""
    gaps = []
    for seed in range(30):
        one, other = normal(200, 6, seed=100 + seed), normal(200, 6, seed=200 + seed)
        gaps.append(kl_entropy(one) - kl_entropy(other))
    found = [diagnose(ALIKE[:200], REAL[:200], seed=seed).entropy_spread for seed in range(6)]
    assert np.mean(found) == pytest.approx(np.std(gaps), rel=0.35)


def test_scores_against_the_training_rows() -> None:
    copies = diagnose(REPEATED, REAL, training=TRAINING)
    assert copies.memorised == 1.0
    assert copies.generalization_score is not None
    assert copies.generalization_score < 0.05
    # A reference that is the training set: each row against the others.
    own = diagnose(ALIKE, TRAINING, training=TRAINING)
    nearest = np.linalg.norm(TRAINING[:, None] - TRAINING[None], axis=2)
    np.fill_diagonal(nearest, np.inf)
    assert own.real_generalization_score == pytest.approx(nearest.min(axis=1).mean(), rel=1e-5)
    assert diagnose(ALIKE, REAL).generalization_score is None
    twice = np.concatenate([REAL, REAL])
    assert diagnose(ALIKE, twice, training=TRAINING).memorised is None


def test_copies_do_not_end_it() -> None:
    found = diagnose(np.concatenate([ALIKE, ALIKE[:100]]), np.concatenate([REAL, REAL[:20]]))
    assert (found.rows, found.reference_copies) == (300, 20 / 320)
    assert found.copies == pytest.approx(0.2)
    assert found.verdict == "repeats"
    alike = diagnose(np.ones((5, 2)), np.ones((7, 2)))
    assert (alike.rows, alike.entropy, alike.entropy_spread) == (1, None, None)
    assert alike.copies == pytest.approx(0.8)
    assert "nats" in str(alike)
    json.dumps(alike.to_dict(), allow_nan=False)
    few = diagnose([[0.0], [1.0]], [[0.0], [2.0]], training=[[0.0], [3.0]])
    assert (few.rows, few.entropy_spread, few.precision) == (2, None, None)
    assert few.verdict == "unclear"


def test_large_sets_are_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "MOST_ROWS", 120)
    found = diagnose(SCATTERED, REAL, training=TRAINING, seed=1)
    assert (found.rows, found.reference_rows, found.picks) == (120, 300, 200)
    assert found.size.noise == pytest.approx(1 / 300, rel=0.2)  # of all its rows
    assert diagnose(SCATTERED, REAL, training=TRAINING, seed=1) == found
    assert diagnose(SCATTERED, REAL, training=TRAINING, seed=2) != found


def test_dictionary_and_progress() -> None:
    done: list[tuple[int, int]] = []
    found = diagnose(
        ALIKE, REAL, training=TRAINING, progress=lambda *now: done.append(now), backend="reference"
    )
    assert done == [(step, 4) for step in range(1, 5)]
    assert found == diagnose(ALIKE, REAL, training=TRAINING)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["verdict"] == "unclear"
    assert values["size"]["enough"] is True
    assert set(Diagnosis.__dataclass_fields__) < set(values)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"features": ALIKE[:1]}, "features: at least 2 rows needed, got 1"),
        ({"reference": REAL[:1]}, "reference: at least 2 rows needed, got 1"),
        ({"training": REAL[:1]}, "training: at least 2 rows needed, got 1"),
        ({"reference": REAL[:, :4]}, "reference: has 4 columns but features has 6"),
        ({"training": REAL[:, :4]}, "training: has 4 columns but features has 6"),
        ({"reference": REAL * np.nan}, "reference: values must be finite"),
        ({"k": 401}, r"k: must be at least 1 and at most 400 \(there are 400 features\), got 401"),
        ({"neighbours": 0}, "neighbours: must be at least 1, got 0"),
        ({"seed": -1}, "seed: must be at least 0, got -1"),
        ({"backend": "no"}, "backend: expected one of"),
    ],
)
def test_bad_arguments_are_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        diagnose(**{"features": ALIKE, "reference": REAL, **given})


# The size of a reference


def test_reference_size_by_hand() -> None:
    # distance 2 - .9 - 1 = .1, less 2 / m; k = 90 random picks are .9 / 90 off besides; 3 / .11
    expected = ReferenceSize(pytest.approx(0.1), pytest.approx(0.02), 28, True)
    assert reference_size(1.0, 0.9, 1.0, 1.0, m=50, k=90) == expected
    assert reference_size(3.0, 2.7, 3.0, 1.0, m=50, k=90) == expected  # no unit
    assert [reference_size(1.0, 0.9, 1.0, 1.0, m=m, k=90).enough for m in (27, 28)] == [False, True]
    # A distance that is measured better: (1 + 2 / 4) / .11
    assert reference_size(1.0, 0.9, 1.0, 0.25, m=50, k=90).needed == 14
    # As many rows as picks are always enough.
    assert reference_size(1.0, 1.0, 1.0, 1.0, m=50, k=50).needed == 50
    assert reference_size(1.0, 1.1, 1.0, 1.0, m=50, k=55).needed == 55
    assert reference_size(1.0, 0.98, 1.0, 1.0, m=50, k=30).needed == 30
    assert reference_size(0.0, 0.0, 0.0, 0.0, m=2, k=5).enough
    assert reference_size(1.0, 1.0, 0.0, 0.0, m=2, k=5) == ReferenceSize(1.0, 0.0, 1, True)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_sampling_errors_are_what_the_rule_says(metric: Any) -> None:
    """m rows are 1 / m of their mean distance from their distribution, and that varies as said;
    known from many more of its rows, and from two halves, which are four times as far apart."""
    m, whole = 40, normal(1500, 3, seed=7)
    errors, halves, deviations = [], [], []
    for seed in range(60):
        rows = normal(m, 3, seed=300 + seed)
        terms = EnergyTerms(rows, whole, metric)
        errors.append((2 * terms.cross - terms.one - terms.other) / terms.cross * m - m / 1500)
        halves.append(energy_distance(rows[::2], rows[1::2], metric=metric) / terms.cross * m)
        deviations.append(deviation(as_rows("", rows), metric))
    assert np.mean(errors) == pytest.approx(1, rel=0.15)
    assert np.mean(halves) == pytest.approx(4, rel=0.15)
    # E_V = U-statistic + within / m; its variation is that of a degenerate one.
    assert deviation(as_rows("", whole), metric) == pytest.approx(np.std(errors), rel=0.3)
    assert np.mean(deviations) == pytest.approx(deviation(as_rows("", whole), metric), rel=0.1)


def test_deviation_of_few_and_equal_rows() -> None:
    assert deviation(as_rows("", np.ones((9, 2)))) == 0.0
    assert deviation(as_rows("", [[0.0], [1.0]])) == pytest.approx(2**0.5)  # the most there is
