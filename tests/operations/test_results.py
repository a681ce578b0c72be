"""What results are, besides numbers."""

from __future__ import annotations

import typing

import numpy as np
import pytest

import entroselect
from entroselect import greedy_select, kl_entropy
from entroselect.results import AnyMetric

ROWS = np.random.default_rng(0).normal(size=(40, 3))


def test_a_selection_stands_for_its_indices():
    picked = greedy_select(ROWS, 9)
    assert len(picked) == 9
    assert list(picked) == picked.indices.tolist()
    assert picked[0] == picked.indices[0]
    assert picked[-1] == picked.indices[-1]
    assert picked[:4].tolist() == greedy_select(ROWS, 4).indices.tolist()
    assert picked[[0, 2]].tolist() == picked.indices[[0, 2]].tolist()
    assert int(picked.indices[3]) in picked
    assert np.array_equal(ROWS[picked], ROWS[picked.indices])
    assert np.array_equal(ROWS.astype(np.float32)[picked, 1], ROWS.astype("f4")[picked.indices, 1])
    assert np.array_equal(np.asarray(picked), picked.indices)
    assert np.asarray(picked, dtype=np.int32).dtype == np.int32
    assert np.array_equal(np.delete(ROWS, picked, axis=0), np.delete(ROWS, picked.indices, axis=0))
    with pytest.raises(IndexError):
        picked[9]


def test_a_copy_is_a_copy():
    picked = greedy_select(ROWS, 9)
    assert np.array(picked) is not picked.indices
    np.array(picked)[:] = 0
    assert picked[1] != 0
    assert picked.__array__() is picked.indices
    with pytest.raises(ValueError, match="int64"):
        picked.__array__(np.int32, copy=False)


def test_selections_are_themselves():
    one, other = greedy_select(ROWS, 9), greedy_select(ROWS, 9)
    assert one == one
    assert one != other
    assert len({one, other}) == 2


def test_torch_takes_the_indices():
    torch = pytest.importorskip("torch")
    picked = greedy_select(ROWS, 9)
    assert np.array_equal(torch.from_numpy(ROWS)[picked.indices], ROWS[picked])


def test_an_empty_selection():
    none = greedy_select(ROWS, 5, selected=[0, 1], min_distance=1000.0)
    assert not none
    assert list(none) == []
    assert ROWS[none].shape == (0, 3)


@pytest.mark.parametrize("name", ["greedy_select", "threshold_select", "nearest_distances"])
def test_words_are_known_to_type_checkers(name):
    hints = typing.get_type_hints(getattr(entroselect, name))
    assert hints["metric"] == AnyMetric
    assert AnyMetric == typing.Literal["euclidean", "cosine", "tanimoto", "hamming"]
    duplicates = typing.get_type_hints(kl_entropy)["duplicates"]
    assert duplicates == typing.Literal["error", "floor", "drop"]
