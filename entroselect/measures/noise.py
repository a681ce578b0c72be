"""Is a reference large enough to select by?

m rows of a distribution are not the distribution: what is matched to them is matched to their
sampling error too. A pool gains from being matched to a reference as long as it is farther from the
distribution than the reference is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from entroselect import _checks
from entroselect._float_environment import in_default_float_environment
from entroselect.io.rows import Rows
from entroselect.measures.energy import EnergyTerms

# The reference is split this many times, and at most so many of its rows are.
SPLITS = 4
MOST_ROWS = 2000

# A reference is large enough if the pool is this many times farther from the distribution.
LEAST_RATIO = 1.5


@in_default_float_environment
def reference_noise(reference: Any, *, metric: str = "euclidean", seed: int = 0) -> float:
    """The sampling error of a reference: the energy distance at which its rows are expected to be
    from the distribution that they were drawn from, over their mean distance.

    A quarter of the energy distance of two random halves of it, the mean of 4 splits: the distance
    of a sample from its distribution falls as one over its rows, so a half is twice as far as the
    whole, and two halves are twice as far apart as one of them is from the distribution. It is
    about 1 / m for m independent rows, and less if rows have copies in both halves, which a split
    takes for agreement. Of more than 2,000 rows 2,000 are split, and the result is scaled.

    Args:
        reference: (m, d) rows, m >= 2.
        metric: as in `energy_distance`.
        seed: for the splits.

    Raises:
        ValueError, TypeError: naming reference.

    Complexity: at most 12 million distances.
    """
    rows = _checks.usable_rows("reference", reference, metric)
    if rows.n < 2:
        raise ValueError(f"reference: at least 2 rows needed, got {rows.n}")
    draw = np.random.default_rng(seed)
    half = min(rows.n, MOST_ROWS) // 2
    found = []
    for _ in range(SPLITS):
        order = draw.permutation(rows.n)
        one, other = (Rows(rows.take(order[i : i + half]), rows.dtype) for i in (0, half))
        terms = EnergyTerms(one, other, metric, "cpu")
        if terms.cross > 0:
            found.append((2 * terms.cross - terms.one - terms.other) / terms.cross)
    return max(0.0, math.fsum(found) / SPLITS / 4 * 2 * half / rows.n)


def beyond_noise(terms: EnergyTerms, n: int, m: int) -> float:
    """The energy distance of the distributions of which n and m rows were drawn, over the mean
    distance between the two: each row's distance to itself, which is 0, is left out. 0 on average
    where the distributions are equal, and then as often below as above."""
    own = sum(within * count / (count - 1) for within, count in ((terms.one, n), (terms.other, m)))
    return (2 * terms.cross - own) / terms.cross if terms.cross > 0 else 0.0


def steers(distance: float, noise: float) -> bool:
    """Whether matching a reference can be expected to help: `distance` as `beyond_noise` of the
    pool and the reference, `noise` as `reference_noise`."""
    return distance > LEAST_RATIO * noise
