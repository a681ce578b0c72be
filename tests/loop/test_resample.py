"""The generator without a network, and when a selection for diversity helps it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from entroselect import frechet_distance
from entroselect.loop import data
from entroselect.loop.resample import Resample
from entroselect.loop.selection import choose

LINE = np.arange(0.0, 50.0, 5.0)[:, None]  # each row's nearest is at 5


def made(share: float, towards: int, rows: Any, n: int = 4000) -> Any:
    generator = Resample(share, towards)
    generator.fit(rows, seed=0)
    return generator.sample(n, seed=1)


def test_a_copy_moves_by_that_share_of_the_nearest_distance() -> None:
    assert set(np.unique(made(0, 0, LINE))) == set(LINE.ravel())
    rows = np.random.default_rng(0).standard_normal((40, 6)) * 1000
    near = np.sort(np.linalg.norm(rows[:, None] - rows, axis=2), axis=1)[:, 1]
    moved = made(0.01, 0, rows)
    length = np.linalg.norm(moved[:, None] - rows, axis=2).min(axis=1)
    assert np.sqrt(np.mean(length**2)) == pytest.approx(0.01 * np.median(near), rel=0.03)


def test_a_copy_moves_towards_one_of_its_nearest() -> None:
    moved = made(0.5, 2, LINE)
    apart = np.abs(moved - LINE.T).min(axis=1)
    assert 0 < apart.max() <= 2.5  # neighbours at 5, at most half of the way; at the ends 10
    assert moved.min() >= 0
    assert moved.max() <= 45
    assert np.std(made(0.0, 2, LINE) % 5) == 0


@pytest.mark.parametrize("towards", [0, 3])
def test_images_stay_images(towards: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
    moved = made(0.5, towards, images, 50)
    assert (moved.shape, moved.dtype) == ((50, 4, 4, 1), np.uint8)
    assert made(0.5, towards, images[:2], 5).shape == (5, 4, 4, 1)
    black_and_white = np.where(images < 128, 0, 255).astype(np.uint8)
    moved = made(0.1, towards, black_and_white, 50)  # clipped, not wrapped around
    assert not ((moved > 60) & (moved < 195)).any()
    assert len(np.unique(moved)) > 20


@pytest.fixture(scope="module")
def digits() -> Any:
    pytest.importorskip("sklearn")
    every = data.load("digits").pixels.reshape(1797, -1)
    return every[np.random.default_rng(0).permutation(1797)]


def collapse(digits: Any, share: float, towards: int, method: Any, seed: int) -> float:
    """The Frechet distance to held-out digits after eight iterations of "replace"."""
    training, held_out = digits[seed * 96 : seed * 96 + 96], digits[900:]
    for iteration in range(8):
        generator = Resample(share, towards)
        generator.fit(training, seed=0)
        pool = generator.sample(192, seed=100 * seed + iteration)
        training = pool[choose(pool, 96, method, key=(seed, iteration))]
    return frechet_distance(held_out, pool)


@pytest.mark.parametrize(
    ("share", "towards", "helps"),
    [(0.0, 0, True), (0.25, 0, True), (1.0, 0, False), (0.25, 10, True), (1.0, 10, True)],
)
def test_greedy_helps_where_copies_are_clean_and_not_where_they_scatter(
    share: float, towards: int, helps: bool, digits: Any
) -> None:
    for seed in range(3):
        none, greedy = (collapse(digits, share, towards, m, seed) for m in ("none", "greedy"))
        print(seed, round(none), round(greedy))
        assert (greedy < 0.8 * none) if helps else (greedy > 1.05 * none)
