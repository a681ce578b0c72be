"""scikit-learn's estimators and anomalib's sampler: their interfaces, the engine's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from entroselect import greedy_select, reference, threshold_select
from entroselect.anomalib import KCenterGreedy

pytest.importorskip("sklearn", "1.6")

from entroselect.sklearn import FarthestFirst, ThresholdFilter

ROWS = np.random.default_rng(0).normal(size=(60, 4))


@pytest.mark.filterwarnings("ignore")  # scikit-learn's own, of checks that it skips
@pytest.mark.parametrize("estimator", [FarthestFirst(k=0.5), ThresholdFilter(k=0.5)])
def test_estimators_are_what_scikit_learn_expects(estimator: Any) -> None:
    from sklearn.utils.estimator_checks import check_estimator

    check_estimator(estimator)


def test_the_answers_are_the_functions() -> None:
    found = FarthestFirst(12, start="center", metric="cosine").fit(ROWS)
    oracle = greedy_select(ROWS, 12, start="center", metric="cosine")
    np.testing.assert_array_equal(found.sample_indices_, oracle.indices)
    np.testing.assert_array_equal(found.distances_, oracle.distances)
    assert found.radius_ == oracle.radius
    found = ThresholdFilter(12, decay=0.8).fit(ROWS)
    np.testing.assert_array_equal(
        found.sample_indices_, threshold_select(ROWS, 12, decay=0.8).indices
    )
    shuffled = [ThresholdFilter(12, shuffle=True, random_state=s).fit(ROWS) for s in (1, 1, 2)]
    assert shuffled[0].sample_indices_.tolist() == shuffled[1].sample_indices_.tolist()
    assert shuffled[0].sample_indices_.tolist() != shuffled[2].sample_indices_.tolist()
    starts = {
        FarthestFirst(2, start="random", random_state=s).fit(ROWS).sample_indices_[0]
        for s in range(9)
    }
    assert len(starts) > 3


def test_resampling_keeps_rows_and_targets_together() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, columns=list("abcd"))
    target = pandas.Series([f"t{row}" for row in range(60)])
    rows, targets = FarthestFirst(7).fit_resample(frame, target)
    assert isinstance(rows, pandas.DataFrame)
    assert list(targets) == [f"t{row}" for row in rows.index]
    np.testing.assert_array_equal(rows.to_numpy(), ROWS[rows.index])
    assert FarthestFirst(7).fit_resample(ROWS).shape == (7, 4)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        FarthestFirst(1).fit_resample(ROWS, range(59))


def test_the_coreset_of_patchcore() -> None:
    torch = pytest.importorskip("torch")
    embedding = torch.from_numpy(ROWS)
    sampler = KCenterGreedy(embedding, 0.15, seed=3)
    oracle = reference.greedy_select(ROWS, 9, start="random", seed=3)
    assert sampler.select_coreset_idxs() == oracle.indices.tolist()
    assert len(sampler.select_coreset_idxs()) == 9
    coreset = sampler.sample_coreset()
    assert isinstance(coreset, torch.Tensor)
    np.testing.assert_array_equal(coreset, ROWS[oracle.indices])
    oracle = reference.greedy_select(ROWS, 9, selected=[4, 5])
    for before in ([4, 5], np.array([4, 5]), torch.tensor([4, 5])):
        assert sampler.select_coreset_idxs(before) == oracle.indices.tolist()
    assert 0 not in KCenterGreedy(embedding, 0.99).select_coreset_idxs(np.array([0]))
    folded = KCenterGreedy(embedding.reshape(60, 2, 2), 0.15, seed=3)
    assert folded.select_coreset_idxs() == sampler.select_coreset_idxs()
    assert folded.sample_coreset().shape == (9, 2, 2)
    with pytest.raises(ValueError, match="sampling_ratio"):
        KCenterGreedy(embedding, 1.5)
    with pytest.raises(TypeError, match="embedding: expected a torch tensor.* got list"):
        KCenterGreedy(ROWS.tolist(), 0.5)
    with pytest.raises(ValueError, match=r"embedding: expected two axes.* got shape \(60,\)"):
        KCenterGreedy(embedding[:, 0], 0.5)
