"""Tries to break the certificate: the filter's interval must hold the true distance, always.

The truth comes from long double differences of the float64 values, which is exact far beyond the
interval's own rounding. The intervals must also be narrow enough to be of use.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pytest

from entroselect import _core
from entroselect._float_environment import in_default_float_environment
from entroselect._thresholds import largest_square, smallest_square
from entroselect.io.open import as_rows
from tests.conftest import normal
from tests.support.pools import POOLS


def _intervals(queries: Any, points: Any, backend: str) -> tuple[Any, Any]:
    q, p = as_rows("queries", queries), as_rows("points", points)
    form = os.environ.get("ENTROSELECT_FILTER", "auto")
    return _core.filter_intervals(q.values, q.dtype, p.values, p.dtype, backend[4:], form)


def _truth(queries: Any, points: Any) -> Any:
    q = np.asarray(queries).astype(np.longdouble)
    p = np.asarray(points).astype(np.longdouble)
    return np.stack([np.sqrt(((p - row) ** 2).sum(axis=1)) for row in q])


def _holds(queries: Any, points: Any, backend: str) -> Any:
    lower, upper = _intervals(queries, points, backend)
    truth = _truth(queries, points)
    slack = truth * np.longdouble(2.0**-60)  # long double's own rounding
    assert not np.any(np.isnan(lower))
    assert not np.any(np.isnan(upper))
    assert np.all(lower <= truth + slack)
    assert np.all(upper >= truth - slack)
    return lower, upper, truth


@pytest.mark.parametrize("name", POOLS)
def test_adversarial_pools(name: str, backend: str) -> None:
    pool = POOLS[name]().astype(np.float64)
    _holds(pool[:60], pool[:300], backend)


@pytest.mark.parametrize("d", [1, 2, 17, 384, 1000, 8192])
def test_normal_rows_and_the_interval_is_narrow(d: int, backend: str) -> None:
    rows = normal(80, d)
    lower, upper, truth = _holds(rows[:30], rows[30:], backend)
    assert np.median((upper - lower) / truth) < 0.06


@pytest.mark.parametrize("d", [16, 384, 8192])
def test_halfway_values(d: int, backend: str) -> None:
    """Every value between two bfloat16 neighbours, so that every rounding is the largest."""
    rng = np.random.default_rng(d)
    for exponent in (0.0, 5.0, -30.0):
        mantissa = 1 + (2 * rng.integers(0, 128, (80, d)) + 1) * 2.0**-8
        sign = rng.choice([-1.0, 1.0], (80, d))
        rows = (sign * mantissa * 2.0**exponent).astype(np.float32)
        _holds(rows[:20], rows[20:], backend)
        same_sign = np.abs(rows)  # every product rounds the sum the same way
        _holds(same_sign[:20], same_sign[20:], backend)


@pytest.mark.parametrize("d", [64, 4096])
def test_cancellation(d: int, backend: str) -> None:
    """Rows a hair apart far from the centre: the score is the difference of large numbers."""
    rng = np.random.default_rng(1)
    spread = rng.standard_normal((40, d)) * 100
    for relative in (1e-3, 1e-6, 1e-9, 0.0):
        near = spread * (1 + relative * rng.standard_normal((40, d)))
        _holds(spread[:20], np.concatenate([near, spread]), backend)


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e-10, 1e10, 1e30, 1e145])
def test_scales_and_mixtures(scale: float, backend: str) -> None:
    rows = normal(60, 50, dtype=np.float64)
    _holds(rows[:20] * scale, rows * scale, backend)
    mixed = rows * np.where(np.arange(60) % 7 == 0, scale, 1.0)[:, None]
    _holds(mixed, mixed, backend)
    columns = rows * np.where(np.arange(50) % 5 == 0, scale, 1.0)
    _holds(columns, columns, backend)


def test_queries_far_from_the_points(backend: str) -> None:
    rows = normal(60, 20, dtype=np.float64)
    for offset in (1e3, 1e9, 1e18, 1e40):
        _holds(rows[:20] + offset, rows, backend)


@pytest.mark.parametrize("seed", range(20))
def test_random_magnitudes(seed: int, backend: str) -> None:
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 400))
    powers = rng.integers(-60, 60, (50, d)) * rng.choice([0.0, 0.1, 1.0])
    rows = rng.standard_normal((50, d)) * 2.0**powers + rng.choice([0.0, 1.0, 1e6])
    _holds(rows[:20], rows, backend)


@pytest.mark.parametrize("distance", [0.0, 1e-170, 1e-162, 1e-155, 0.1, 1 / 3, 60.0, 1e77, 1e160])
@in_default_float_environment  # what it computes itself
def test_squares_decide_like_the_root(distance: float) -> None:
    square = smallest_square(distance)
    assert math.sqrt(square) >= distance
    if square > 0:
        assert math.sqrt(math.nextafter(square, 0.0)) < distance
    square = largest_square(distance)
    assert math.sqrt(square) <= distance < math.sqrt(math.nextafter(square, math.inf))
