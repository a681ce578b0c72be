"""Shares of a whole, exact: 0.29 of 100 is 29, although 100 * 0.29 is less in floating point."""

from __future__ import annotations

import math
from fractions import Fraction


def exact(share: float) -> Fraction:
    """The fraction that is written, not the binary number nearest to it.

    Example:
        >>> from entroselect.loop.shares import exact
        >>> exact(0.29) * 100
        Fraction(29, 1)
    """
    return Fraction(repr(float(share)))


def part(share: float, whole: int) -> int:
    """That share of a whole, rounded down."""
    return math.floor(exact(share) * whole)
