"""Is a reference large enough to select by?

m rows of a distribution are not the distribution, and what is matched to them is matched to their
sampling error too. As an energy distance, that error is known: m rows are expected at 1 / m of the
mean distance between two of them from their distribution (and two random halves of them at 4 / m
from each other). k rows picked at random from a pool are expected at the pool's own distance from
the distribution, and 1 / k. So a reference helps where 1 / m is the smaller of the two.

The pool's own distance is measured from the same reference, and a reference that is unlike its
distribution by chance makes every pool look far away, just where it does the most harm. So two
standard deviations of that measurement are taken off.

As many real rows as picks are always enough, since their distribution cannot be farther from itself
than the pool's is.

Tried on 8 x 8 digits, in the space of a network taught on them: four pools of 1,200 to 1,900 images
of a model, some with noise added, k = 600, three draws of 64 to 898 real images each, judged by the
Frechet distance to images held out, in the space of another network. Where the rule says enough,
matching ended at 0.4 to 1.2 times the distance of random rows, 0.7 on average; where it does not,
at 0.7 to 4.3 times with up to 256 images, and at 0.3 to 1.6 times with 384 and more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from entroselect.backends.cpu import distances_to
from entroselect.io.rows import Rows
from entroselect.reference import canonical_rows

# Standard deviations of the measured distance that are taken off.
DEVIATIONS = 2.0

# Rows that it is taken from, at most.
MOST_ROWS = 1000


@dataclass(frozen=True)
class ReferenceSize:
    """Whether a reference is large enough; see the module. Distances are energy distances over the
    mean distance between a row of the pool and one of the reference.

    Attributes:
        distance: from the pool's distribution to the reference's, sampling errors taken off: 0 on
            average where they are equal, and then as often below as above.
        noise: the sampling error of the reference.
        needed: how many rows it should have at least.
        enough: whether it has.
    """

    distance: float
    noise: float
    needed: int
    enough: bool


def reference_size(
    cross: float, pool: float, reference: float, deviation: float, *, m: int, k: int
) -> ReferenceSize:
    """Whether m reference rows are enough to pick k rows of a pool by.

    Args:
        cross: mean distance from a row of the pool to one of the reference.
        pool, reference: mean distance between two different rows of it. (Of the mean over all pairs
            of n rows, each with itself included, it is n / (n - 1) times.)
        deviation: of the reference; the function of that name.

    Example:
        >>> from entroselect.measures.noise import reference_size
        >>> reference_size(1.0, 0.75, 1.0, 0.25, m=5, k=1000)
        ReferenceSize(distance=0.25, noise=0.2, needed=6, enough=False)
    """
    if cross == 0.0 or reference == 0.0:  # all rows are equal, or the reference's are
        return ReferenceSize((2 * cross - pool) / cross if cross else 0.0, 0.0, 1, True)
    distance = (2 * cross - pool - reference) / cross
    random, per_row = pool / cross / k, reference / cross
    uncertain = DEVIATIONS * deviation * per_row
    needed = k
    if distance > 0:
        needed = min(k, math.ceil((per_row + uncertain) / (distance + random)))
    return ReferenceSize(distance, per_row / m, needed, m >= needed)


def deviation(rows: Rows, metric: str = "euclidean") -> float:
    """Standard deviation of the energy distance of m rows to their distribution, times m, over the
    mean distance between two different rows: sqrt(2 E h(x, y)^2), h being the distance less its
    means over x and over y and plus the mean over both (Szekely and Rizzo 2013, section 4). 0 where
    all rows are equal, and at most sqrt(2), which is taken for fewer than 4 rows. At most 1,000
    rows are looked at, evenly."""
    part = Rows(rows.take(slice(None, None, -(-rows.n // MOST_ROWS))), rows.dtype)
    vectors = canonical_rows(part, metric)
    distances = np.sqrt([distances_to(part, metric, vector) for vector in vectors])
    n, sums = part.n, distances.sum(axis=0)
    mean = sums.sum() / (n * (n - 1))
    if mean == 0.0 or n < 4:
        return 0.0 if mean == 0.0 else math.sqrt(2)
    own = sums / (n - 2)  # so that h is 0 on average over all y but x, for every x
    h = distances - own - own[:, None] + mean * n / (n - 2)
    np.fill_diagonal(h, 0.0)
    return float(math.sqrt(2 * np.square(h).sum() / (n * (n - 1))) / mean)


def deviation_bytes(rows: Rows) -> int:
    """The most bytes that `deviation` allocates: three matrices of distances, and the rows."""
    n = -(-rows.n // -(-rows.n // MOST_ROWS))
    per_row = 24 * n + (rows.values.itemsize + 16) * rows.d + 128
    return int(n * per_row) + 4096
