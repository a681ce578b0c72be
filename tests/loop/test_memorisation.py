"""FLD, the memorised fraction and the generalisation score: copies are told from new samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from entroselect.loop import metrics
from tests.support.feature_sets import FAR, rng, whole

# FLD


def fld_sets(name: str) -> Any:
    training, test, new = rng().standard_normal((3, 400, 8))
    draw = rng(1)
    modes = 5 * draw.standard_normal((10, 8))

    def mixture(n: int, k: int) -> np.ndarray:
        return np.asarray(modes[draw.integers(0, k, n)] + draw.standard_normal((n, 8)))

    a, b, ten, five = mixture(400, 10), mixture(300, 10), mixture(350, 10), mixture(350, 5)
    return {
        "new": (training, test, new),
        "half copies": (training, test, np.r_[training[:200], new[:200]]),
        "shifted": (training, test, new + 2),
        "narrow": (training, test, 0.5 * new),
        "10 modes": (a, b, ten),
        "5 modes": (a, b, five),
        "5 modes, offset": (a + FAR, b + FAR, five + FAR),
    }[name]


# By the authors' code (its float64, means and deviations over 20 draws of the halves).
AUTHORS = {
    "new": (-1.381, 0.581),
    "half copies": (9.189, 0.581),
    "shifted": (72.685, 0.581),
    "narrow": (-8.551, 0.581),
    "10 modes": (-4.484, 0.512),
    "5 modes": (86.345, 0.512),
    "5 modes, offset": (86.345, 0.512),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", AUTHORS)
def test_fld_is_the_number_of_the_authors_code(name: str) -> None:
    """Ours draws other halves for the baseline; all else is the same."""
    mean, deviation = AUTHORS[name]
    assert metrics.fld(*fld_sets(name)) == pytest.approx(mean, abs=2 * deviation)
    baseline = metrics.fld(*fld_sets("10 modes" if "modes" in name else "new"))
    mean -= AUTHORS["10 modes" if "modes" in name else "new"][0]
    assert metrics.fld(*fld_sets(name)) - baseline == pytest.approx(mean, abs=1e-3)  # type: ignore[operator]


def test_fld_of_copies_has_no_bound() -> None:
    training, test, _ = fld_sets("new")
    copies = metrics.fld(training, test, training)
    assert copies is not None
    assert copies > 1e6


def test_fld_leaves_out_columns_that_do_not_vary() -> None:
    sets = fld_sets("shifted")
    wider = [np.hstack([x, np.full((len(x), 2), 0.1)]) for x in sets]
    assert metrics.fld(*wider) == pytest.approx(metrics.fld(*sets), rel=1e-9)


@pytest.mark.slow
def test_fld_tells_copies_from_new_samples() -> None:
    rng = np.random.default_rng(0)
    training, test, new = rng.standard_normal((3, 400, 6))
    good = metrics.fld(training, test, new)
    copies = metrics.fld(training, test, training + 1e-4 * rng.standard_normal((400, 6)))
    shifted = metrics.fld(training, test, new + 2)
    assert good < 15
    assert copies > good + 10
    assert shifted > good + 10


def test_a_set_of_copies_has_no_entropy_and_counts_as_memorised() -> None:
    rng = np.random.default_rng(0)
    training = rng.standard_normal((60, 4)).astype(np.float32)
    made = np.repeat(training[:1], 30, axis=0)
    found = metrics.measure(training, made, training)
    assert found["generated"]["entropy"] is None
    assert found["generated"]["duplicates"] == 30
    assert found["memorised_fraction"] == 1
    assert found["generalization_score"] == 0
    assert found["fld"] is None
    fresh = metrics.measure(training, rng.standard_normal((30, 4)), training)
    assert fresh["memorised_fraction"] < 0.3


# memorised fraction, generalisation score


def test_memorised_is_strictly_closer() -> None:
    """Real rows 4 apart: with a share of 0.5, an image at 2 is not memorised and a copy is."""
    real = np.arange(0.0, 40, 4)[:, None]
    made = np.array([[0.0], [2.0], [1.75], [100.0]])
    found = metrics.measure(real, made, real, memorised=0.5)
    assert found["memorised_fraction"] == 0.5
    assert found["generalization_score"] == (0 + 2 + 1.75 + 64) / 4
    assert found["generalization_score_mse"] == (0 + 4 + 1.75**2 + 64**2) / 4
    assert found["mean_nearest_distance"] == 4
    doubled = np.repeat(real, 2, axis=0)
    assert metrics.measure(real, made, doubled)["memorised_fraction"] is None


def test_what_is_invariant_does_not_move_with_the_data() -> None:
    a, b, c = (whole(n, 5, 60, seed=n) for n in (40, 50, 60))
    found, moved = metrics.measure(a, b, c), metrics.measure(a + FAR, b + FAR, c + FAR)
    for name, value in found.items():
        if name not in ("kid", "vendi_score"):  # these depend on where the origin is
            assert moved[name] == (
                pytest.approx(value, rel=1e-12) if value is not None else None
            ), name
