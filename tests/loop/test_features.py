"""The encoder that features come from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")

from entroselect.loop import data, features


@pytest.mark.slow
def test_the_encoder_tells_labels_apart_and_is_kept(tmp_path: Path) -> None:
    digits = data.load("digits")
    extract = features.spaces(["encoder"], digits, folder=tmp_path)["encoder"]
    found = extract(digits)
    assert found.shape == (1797, 64)
    again = features.spaces(["encoder"], digits, folder=tmp_path)["encoder"]
    np.testing.assert_array_equal(again(digits), found)
    # The nearest other digit in this space is nearly always of the same class.
    from entroselect import nearest_distances

    nearest = nearest_distances(found).indices[:, 0]
    assert (digits.labels[nearest] == digits.labels).mean() > 0.97  # type: ignore[index]


@pytest.mark.slow
def test_the_encoder_learns_without_labels(tmp_path: Path) -> None:
    digits = dataclasses.replace(data.load("digits"), labels=None).take(np.arange(300))
    assert features.spaces(["encoder"], digits, folder=tmp_path)["encoder"](digits).std() > 0


@pytest.mark.parametrize("space", ["dinov2", "inception"])
def test_missing_weights_are_named(space: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"measure\.(weights|spaces): .*"):
        features.spaces([space], data.load("digits"), folder=tmp_path, weights="nowhere")
