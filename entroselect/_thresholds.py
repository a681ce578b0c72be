"""The numbers that distances are compared with: thresholds as squares, and the next one of a filter
whose threshold decays."""

from __future__ import annotations

import math

import numpy as np

from entroselect._float_environment import in_default_float_environment


@in_default_float_environment
def smallest_square(distance: float) -> float:
    """The smallest float64 s with sqrt(s) >= distance, so that comparisons of squares decide
    exactly as comparisons of the reported distances would."""
    square = distance * distance
    while math.sqrt(square) < distance:
        square = math.nextafter(square, math.inf)
    while square > 0 and math.sqrt(math.nextafter(square, 0.0)) >= distance:
        square = math.nextafter(square, 0.0)
    return square


@in_default_float_environment
def largest_square(distance: float) -> float:
    """The largest float64 s with sqrt(s) <= distance, likewise."""
    return math.nextafter(smallest_square(math.nextafter(distance, math.inf)), 0.0)


def next_threshold(tau: float, decay: float, widest: float) -> float:
    """tau * decay, multiplied by decay again until it is below `widest`, if that is not 0. The
    products are those of the textbook loop, each rounded: `accumulate` makes them one by one."""
    tau *= decay
    size = 16
    while 0.0 < widest <= tau:
        factors = np.full(size, decay)
        factors[0] = tau
        later = np.multiply.accumulate(factors)
        below = np.flatnonzero(later < widest)
        tau = float(later[below[0] if len(below) else -1])
        size = min(2 * size, 1 << 16)
    return tau
