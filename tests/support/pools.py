"""Pools that break selection engines: ties, duplicates, offsets, scales, outliers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect._float_environment import in_default_float_environment


def _normal(n: int, d: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((n, d))


def integer_grid() -> NDArray[np.float32]:
    """17 x 17 lattice: nearly every decision is an exact tie."""
    return np.stack(np.meshgrid(np.arange(17.0), np.arange(17.0)), -1).reshape(-1, 2).astype("f4")


def digits() -> NDArray[np.float64]:
    """scikit-learn's digit images: integers 0..16, many ties."""
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().data)


def all_equal() -> NDArray[np.float32]:
    return np.full((300, 7), 0.1, dtype=np.float32)


def duplicates() -> NDArray[np.float32]:
    """Every row five times, shuffled."""
    rows = np.repeat(_normal(60, 12), 5, axis=0)
    return np.random.default_rng(1).permutation(rows).astype(np.float32)


def offset_1e6() -> NDArray[np.float32]:
    return (_normal(400, 20) + 1e6).astype(np.float32)


def offset_1e6_float64() -> NDArray[np.float64]:
    return _normal(400, 20) + 1e6


def tiny_scale() -> NDArray[np.float32]:
    return (_normal(400, 20) * 1e-20).astype(np.float32)


def huge_scale() -> NDArray[np.float32]:
    return (_normal(400, 20) * 1e20).astype(np.float32)


def float64_extremes() -> NDArray[np.float64]:
    """Columns at very different float64 scales; squares of the smallest underflow."""
    return _normal(300, 6) * np.array([1e140, 1e100, 1.0, 1e-100, 1e-160, 1e-200])


def underflowing() -> NDArray[np.float64]:
    """Distinct rows whose squared distances are all subnormal or 0 in float64."""
    return _normal(200, 5) * 1e-161


def shrinking_rows() -> NDArray[np.float64]:
    """Lengths from 1 to subnormal numbers; the squares of most of them underflow."""
    return _normal(300, 6) * 10.0 ** -np.linspace(0, 320, 300)[:, None]


def denormals() -> NDArray[np.float32]:
    return (np.random.default_rng(0).integers(-50, 50, (300, 9)) * 1.4e-45).astype(np.float32)


def one_outlier() -> NDArray[np.float32]:
    rows = _normal(400, 16)
    rows[123] = 1e9
    return rows.astype(np.float32)


def far_outlier() -> NDArray[np.float64]:
    rows = _normal(300, 16)
    rows[5, 3] = 1e120
    return rows


def near_duplicates() -> NDArray[np.float32]:
    """20 clusters whose members differ by 1e-6 of their norm."""
    centres = np.repeat(_normal(20, 24), 15, axis=0)
    return (centres * (1 + 1e-6 * _normal(300, 24, 1))).astype(np.float32)


def near_duplicates_float64() -> NDArray[np.float64]:
    centres = np.repeat(_normal(20, 24), 15, axis=0)
    return centres * (1 + 1e-12 * _normal(300, 24, 1))


def one_column() -> NDArray[np.float32]:
    return _normal(500, 1).astype(np.float32)


def one_row() -> NDArray[np.float32]:
    return np.array([[1.0, 2.0, 3.0]], dtype=np.float32)


def two_rows() -> NDArray[np.float64]:
    return np.array([[0.0, 1.0], [0.0, 1.0]])


def constant_columns() -> NDArray[np.float32]:
    rows = _normal(400, 30)
    rows[:, ::2] = 7.25
    return rows.astype(np.float32)


def unequal_clusters() -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    widths = 10.0 ** rng.uniform(-4, 1, 12)
    which = rng.integers(0, 12, 600)
    return (_normal(12, 40, 4)[which] * 5 + _normal(600, 40, 5) * widths[which, None]).astype("f4")


def binary_vectors() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 2, (500, 64)).astype(np.uint8)


def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (250, 27)).astype(np.uint8)


def wide() -> NDArray[np.float32]:
    return _normal(150, 1031).astype(np.float32)


def float16_rows() -> NDArray[np.float16]:
    return _normal(400, 33).astype(np.float16)


def half_ulp_steps() -> NDArray[np.float32]:
    """Values that sit exactly between two bfloat16 numbers: the filter rounds worst here."""
    steps = np.random.default_rng(0).integers(0, 64, (400, 48))
    return (1.0 + (2 * steps + 1) * 2.0**-9).astype(np.float32)


POOLS = {
    pool.__name__: in_default_float_environment(pool)  # or there would be no subnormal numbers
    for pool in (
        integer_grid,
        digits,
        all_equal,
        duplicates,
        offset_1e6,
        offset_1e6_float64,
        tiny_scale,
        huge_scale,
        float64_extremes,
        underflowing,
        shrinking_rows,
        denormals,
        one_outlier,
        far_outlier,
        near_duplicates,
        near_duplicates_float64,
        one_column,
        one_row,
        two_rows,
        constant_columns,
        unequal_clusters,
        binary_vectors,
        images,
        wide,
        float16_rows,
        half_ulp_steps,
    )
}


@in_default_float_environment
def without_zero_rows(pool: NDArray[Any]) -> NDArray[Any]:
    """The rows that cosine takes."""
    return pool[(pool != 0).any(axis=1)]
