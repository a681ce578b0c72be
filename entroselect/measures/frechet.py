"""The Frechet distance, which compares means and covariances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from entroselect._checks import same_width, usable_rows
from entroselect._float_environment import in_default_float_environment
from entroselect.results import Float64


@in_default_float_environment
def frechet_distance(one: Any, other: Any) -> float:
    """How far the means and covariances of two sets are apart: the squared 2-Wasserstein distance
    of the normal distributions that have them.

    |a - b|^2 + trace(A + B - 2 (A B)^(1/2)) for means a and b and covariances A and B, ddof 1
    (Heusel et al. 2017, equation 6); of Inception's features it is the FID. With A = R'R and
    B = S'S (see `_factor`) the last trace is the sum of the singular values of R S': neither a
    covariance nor a root of one is formed, which would cost half of the digits where covariances
    are singular. Shifting both sets by the same vector changes nothing.

    Args:
        one, other: (n, d) and (m, d) rows, n and m at least 2; what `nearest_distances` takes, read
            whole.

    Returns:
        A float >= 0, in the square of the rows' unit. It comes from LAPACK, so its last digits may
        differ from machine to machine.

    Raises:
        ValueError, TypeError: naming the argument.

    Complexity: (n + m) d**2 + d**3 products; extra memory: three copies of the rows as float64.

    Example:
        >>> from entroselect import frechet_distance
        >>> line = [[0.0], [2.0]]                    # mean 1, variance 2
        >>> round(frechet_distance(line, [[1.0], [5.0]]), 12)       # mean 3, variance 8
        6.0
    """
    a, b = shifted(one, other)
    for name, rows in (("one", a), ("other", b)):
        if len(rows) < 2:
            raise ValueError(f"{name}: at least 2 rows needed, got {len(rows)}")
    shift = a.mean(axis=0) - b.mean(axis=0)
    r, s = _factor(a), _factor(b)
    shared = np.linalg.svd(r @ s.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + (r**2).sum() + (s**2).sum() - 2 * shared))


def _factor(x: Float64) -> Float64:
    """R, upper triangular, with R'R the covariance of x, from the centred rows Q R."""
    return np.asarray(np.linalg.qr(x - x.mean(axis=0), mode="r")) / math.sqrt(len(x) - 1)


def shifted(one: Any, other: Any) -> tuple[Float64, Float64]:
    """Both as float64 relative to the first row of `one`; the difference of near values is exact,
    so that an offset that both share leaves no trace."""
    first, second = usable_rows("one", one), usable_rows("other", other)
    same_width("other", second, "one", first)
    origin = first.float64(slice(0, 1))
    return first.float64() - origin, second.float64() - origin
