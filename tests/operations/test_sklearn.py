"""scikit-learn's estimators, scikit-activeml's strategies and anomalib's sampler: their interfaces,
the engine's answers."""

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
@pytest.mark.parametrize(
    "estimator",
    [FarthestFirst(k=0.5), ThresholdFilter(k=0.5), FarthestFirst(k=0.5, quotas="equal")],
)
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


def test_rows_are_balanced_by_their_targets() -> None:
    pandas = pytest.importorskip("pandas")
    targets = np.array(["a", "b", "c"])[np.arange(60) % 4 % 3]  # of "a" half
    for quotas in ("equal", "proportional", {"b": 1, "c": 2}):
        for estimator, function in (
            (FarthestFirst(9, quotas=quotas), greedy_select),
            (ThresholdFilter(9, quotas=quotas), threshold_select),
        ):
            oracle = function(ROWS, 9, groups=targets, quotas=quotas)
            for y in (targets, pandas.Series(targets, dtype="category")):
                found = estimator.fit(ROWS, y)
                assert found.sample_indices_.tolist() == oracle.indices.tolist()
                assert found.counts_ == oracle.counts
    assert FarthestFirst(9).fit(ROWS, targets).counts_ is None
    balanced = FarthestFirst(9, quotas="equal")
    pa = pytest.importorskip("pyarrow")
    holes = pa.array(["a", None, "b"] * 20).dictionary_encode()
    with pytest.raises(ValueError, match=r"y: row 1 .* has the label None"):
        balanced.fit(ROWS, holes)
    assert sorted(balanced.fit_resample(ROWS, targets)[1]) == list("aaabbbccc")
    with pytest.raises(ValueError, match="y: quotas requires y to be passed"):
        balanced.fit(ROWS)
    with pytest.raises(ValueError, match=r"y: row 3 \(the first\) has the label NaN"):
        balanced.fit(ROWS, np.where(np.arange(60) == 3, np.nan, 1.0))
    with pytest.raises(TypeError, match="y: expected integers or strings"):
        balanced.fit(ROWS, np.where(np.arange(60) == 3, np.inf, 1.0))


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
    with pytest.raises(TypeError, match=r"embedding: expected a torch tensor.* got list"):
        KCenterGreedy(ROWS.tolist(), 0.5)
    with pytest.raises(ValueError, match=r"embedding: expected two axes.* got shape \(60,\)"):
        KCenterGreedy(embedding[:, 0], 0.5)


@pytest.mark.filterwarnings("ignore")  # scikit-activeml's own, of imports
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_query_is_that_of_scikit_activemls_core_set(metric: Any) -> None:
    """Rows of which no two distances are equal: CoreSet draws among those."""
    pool = pytest.importorskip("skactiveml.pool")
    from entroselect.skactiveml import FarthestFirst as Strategy

    y = np.full(60, np.nan)
    y[[4, 17, 23]] = 0, 1, 1
    others = np.random.default_rng(1).normal(size=(30, 4))
    for candidates in (None, np.array([3, 4, 59, 40, 11, 12, 13, 20]), others):
        given = {"X": ROWS, "y": y, "candidates": candidates, "batch_size": 6}
        theirs = pool.CoreSet(metric=metric).query(**given, return_utilities=True)
        ours = Strategy(metric=metric).query(**given, return_utilities=True)
        np.testing.assert_array_equal(ours[0], theirs[0])
        distances = ours[1] if metric == "euclidean" else ours[1] ** 2 / 2
        np.testing.assert_allclose(distances, theirs[1], rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(Strategy(metric=metric).query(**given), ours[0])
        assert (np.nanargmax(ours[1], axis=1) == ours[0]).all()


@pytest.mark.filterwarnings("ignore")
def test_a_query_without_labels_and_of_bad_arguments() -> None:
    pytest.importorskip("skactiveml")
    from entroselect.skactiveml import FarthestFirst as Strategy

    strategy, nothing = Strategy(random_state=5), [np.nan] * 60
    picks, utilities = strategy.query(ROWS, nothing, batch_size=4, return_utilities=True)
    oracle = reference.greedy_select(ROWS, 4, start=int(picks[0]))
    assert picks.tolist() == oracle.indices.tolist()
    assert utilities[0].tolist() == [0] * 60
    assert np.nanmax(utilities[1:], axis=1).tolist() == oracle.distances[1:].tolist()
    assert strategy.query(ROWS, nothing, batch_size=4).tolist() == picks.tolist()
    firsts = {int(Strategy(random_state=seed).query(ROWS, nothing)[0]) for seed in range(9)}
    assert len(firsts) > 3
    labels = np.array(["a"] * 58 + [None, None], dtype=object)
    words = Strategy(missing_label=None)
    assert sorted(words.query(ROWS, labels, batch_size=3).tolist()) == [58, 59]
    folded = strategy.query(ROWS.reshape(60, 2, 2), nothing, batch_size=4)
    assert folded.tolist() == picks.tolist()
    with pytest.raises(ValueError, match="metric: expected one of"):
        Strategy(metric="l1").query(ROWS, nothing)
