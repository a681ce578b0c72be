"""frechet_select and frechet_distance."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from entroselect import (
    frechet_distance,
    frechet_select,
    greedy_select,
    kl_entropy,
    moments,
    open_pool,
    reference_measures,
)
from entroselect.io.rows import Rows
from tests.conftest import normal

WIDTHS = np.linspace(0.4, 2, 8).astype("f4")
REFERENCE = normal(300, 8, seed=1) * WIDTHS + 3
# Half are like the reference, half are not.
POOL = np.concatenate([normal(300, 8, seed=2) * WIDTHS, 1.5 * normal(300, 8, seed=3) + 0.6]) + 3
START = np.random.default_rng(4).permutation(600)[:250]


def test_every_pass_is_the_textbooks() -> None:
    expected = reference_measures.frechet_select(POOL, 250, REFERENCE, START)
    assert len(expected) > 10
    for passes, picks in enumerate(expected):
        found = frechet_select(POOL, 250, REFERENCE, start=START, max_passes=passes)
        assert found.indices.tolist() == picks.tolist()
        assert found.passes == passes
    assert frechet_select(POOL, 250, REFERENCE, start=START).passes == len(expected) - 1


def test_the_slope_is_that_of_the_distance() -> None:
    """By finite differences."""
    target = moments.Target(Rows(REFERENCE, "float32"))
    mean, covariance = np.arange(8) / 8, np.cov(POOL.T)
    slope, step = target.slope(covariance), np.random.default_rng(0).standard_normal((8, 8)) * 1e-5
    step += step.T
    ahead, behind = (target.distance(mean, covariance + sign * step) for sign in (1, -1))
    assert (slope * step).sum() == pytest.approx((ahead - behind) / 2, rel=1e-6)


def test_every_pass_lowers_the_distance_far_below_that_of_random_rows() -> None:
    found = [
        frechet_select(POOL, 250, REFERENCE, seed=5, max_passes=passes) for passes in range(30)
    ]
    distances = [each.frechet_distance for each in found]
    last = found[-1].passes
    assert all(after < before for before, after in pairwise(distances[: last + 1]))
    assert distances[-1] < distances[0] / 50
    for each in found:
        assert each.frechet_distance == pytest.approx(
            frechet_distance(POOL[each.indices], REFERENCE), rel=1e-9
        )
        assert np.array_equal(np.unique(each.indices), each.indices)
        assert (len(each), each.entropy) == (250, None)
        assert np.isnan(each.distances).all()
        assert math.isnan(each.radius)
    assert found[1].exchanged == len(np.setdiff1d(found[1].indices, found[0].indices))


def test_entropy_is_kept() -> None:
    most = kl_entropy(POOL[greedy_select(POOL, 250)])
    free = frechet_select(POOL, 250, REFERENCE, start="greedy")
    least = kl_entropy(POOL[free.indices])
    previous = free.frechet_distance
    for share in (0.2, 0.5, 0.9, 1.0):
        limit = float(least + share * (most - least))
        found = frechet_select(POOL, 250, REFERENCE, min_entropy=limit)
        assert found.entropy == kl_entropy(POOL[found.indices])
        assert limit <= found.entropy <= limit + 0.1  # no pass is far from it
        assert found.frechet_distance > previous  # what entropy costs
        previous = found.frechet_distance
    with pytest.raises(
        ValueError, match=rf"^min_entropy: the start has {most:.6g} nats.*; that is nearly"
    ):
        frechet_select(POOL, 250, REFERENCE, min_entropy=float(most) + 0.01)
    with pytest.raises(ValueError, match=r"below 99; start='greedy' has nearly the most"):
        frechet_select(POOL, 250, REFERENCE, min_entropy=99, start="random", seed=0)
    copies = np.concatenate([POOL[:5], POOL[:5]])
    with pytest.raises(ValueError, match=r"^min_entropy: the start has -inf nats"):
        frechet_select(copies, 8, REFERENCE, min_entropy=-1e9)


def test_the_same_for_every_size_of_chunk_and_kind_of_rows(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = frechet_select(POOL, 250, REFERENCE, start=START).indices.tolist()
    np.save(tmp_path / "pool.npy", POOL)
    source = open_pool(tmp_path / "pool.npy")
    monkeypatch.setattr(moments, "CHUNK_VALUES", 72)
    for pool, real in ((source, REFERENCE.astype("f8")), (POOL[:, :], REFERENCE[::-1])):
        assert frechet_select(pool, 250, real, start=START[::-1]).indices.tolist() == expected


def test_ties_go_to_the_lowest_row() -> None:
    line = np.repeat(np.arange(4.0), 50)[:, None]
    ends = [[0.0]] * 10 + [[3.0]] * 10
    found = frechet_select(line, 20, ends, start=[*range(60, 70), *range(140, 150)], max_passes=1)
    assert found.indices.tolist() == [*range(10), *range(140, 150)]
    found = frechet_select(line, 20, [[1.0]] * 15 + [[3.0]] * 5, start=range(60, 80), max_passes=1)
    assert found.indices.tolist() == [*range(70, 80), *range(150, 160)]


def test_singular_covariances() -> None:
    """Constant columns, fewer rows than columns, picks without any variance."""
    flat = np.concatenate([POOL, np.ones((600, 2), "f4")], axis=1)
    real = np.concatenate([REFERENCE, np.ones((300, 2), "f4")], axis=1)
    found = frechet_select(flat, 250, real, start=START)
    assert found.frechet_distance < frechet_distance(flat[START], real) / 20
    few = frechet_select(POOL, 5, REFERENCE[:4], start=START[:5])
    assert few.frechet_distance < frechet_distance(POOL[START[:5]], REFERENCE[:4]) * 0.9
    line = np.array([[0.0]] * 6 + [[-1.0], [1.0]])
    assert frechet_select(line, 2, [[-1.0], [1.0]], start=[0, 1]).indices.tolist() == [6, 7]
    alike = frechet_select(line, 2, [[0.0], [0.0]], start=[6, 7])
    assert line[alike.indices].tolist() == [[0.0], [0.0]]


def test_rows_of_every_size() -> None:
    """Whose squares, or squares of squares, are beyond float64."""
    expected = frechet_select(POOL, 250, REFERENCE, start=START)
    for scale in (2.0**-500, 2.0**-300, 2.0**300, 2.0**490):
        pool, real = POOL.astype("f8") * scale, REFERENCE.astype("f8") * scale
        found = frechet_select(pool, 250, real, start=START)
        assert found.indices.tolist() == expected.indices.tolist()
        assert found.frechet_distance == pytest.approx(expected.frechet_distance * scale**2)


def test_all_rows_and_no_pass() -> None:
    assert frechet_select(POOL, 600, REFERENCE).passes == 0
    found = frechet_select(POOL, 9, REFERENCE, max_passes=0, seed=3)
    expected = np.sort(np.random.default_rng(3).permutation(600)[:9])
    assert found.indices.tolist() == expected.tolist()
    done: list[tuple[int, int]] = []
    frechet_select(POOL, 9, REFERENCE, seed=3, progress=lambda *now: done.append(now))
    assert done[0] == (1, 100)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"reference": REFERENCE[:, :3]}, "reference: has 3 columns but features has 8"),
        ({"reference": REFERENCE[:1]}, "reference: at least 2 rows needed, got 1"),
        ({"k": 1}, r"k: must be at least 2 and at most 600 \(the pool has 600 rows\), got 1"),
        ({"k": 601}, "k: must be at least 2 and at most 600"),
        ({"max_passes": -1}, "max_passes: must be at least 0, got -1"),
        ({"min_entropy": math.nan}, "min_entropy: expected a number"),
        ({"start": "center"}, "start: expected one of random, greedy, got 'center'"),
        ({"start": [1, 2]}, "start: expected k = 9 pool rows, got 2"),
        ({"start": [1, 2, 600]}, "start: index 600"),
        ({"start": "greedy", "seed": 1}, "seed: only start='random' draws"),
        ({"min_entropy": 1.0, "seed": 1}, "seed: only start='random' draws"),
    ],
)
def test_bad_arguments_are_named(given: dict[str, Any], said: str) -> None:
    arguments = {"features": POOL, "k": 9, "reference": REFERENCE, **given}
    with pytest.raises(ValueError, match=f"^{said}"):
        frechet_select(**arguments)


# The distance itself; tests/loop/test_metrics.py compares it with other packages.


def test_frechet_distance_is_the_textbooks() -> None:
    expected = reference_measures.frechet_distance(POOL, REFERENCE)
    assert frechet_distance(POOL, REFERENCE) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance([[0.0], [2.0]], [[1.0], [5.0]]) == pytest.approx(6.0)  # 4 + 2 + 8 - 8


def test_frechet_distance_needs_two_rows_of_each() -> None:
    for one, other, name in ((POOL[:1], POOL, "one"), (POOL, POOL[:1], "other")):
        with pytest.raises(ValueError, match=f"^{name}: at least 2 rows needed, got 1"):
            frechet_distance(one, other)
