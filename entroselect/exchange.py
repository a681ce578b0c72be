"""What anchored selection minimises, and what its search ends with: backends search, see
backends.base.Backend.exchange."""

from __future__ import annotations

from dataclasses import dataclass

from entroselect.results import Float64, Int64


@dataclass(frozen=True)
class Objective:
    """What anchored selection minimises, in whole numbers, so that no order of additions matters:

        J(S) = 2 k sum A(x) - sum D(x, y) - k sum L(nearest distance of x within S)

    over x and y in S, k = |S|. D is the distance and A the mean distance to the reference, both
    rounded to units of 1 / per; L(r) = round(weight * log(max(r**2 / scale**2, floor))).

    Attributes:
        k: rows of S.
        attraction: int64 (n,); A of every pool row.
        per: units of one distance, a power of two.
        weight: diversity * mean of A / 2.
        scale_squared: square of the mean distance to the reference.
        floor: the smallest ratio of squared distances that counts.
    """

    k: int
    attraction: Int64
    per: float
    weight: float
    scale_squared: float
    floor: float


@dataclass(frozen=True)
class Exchanged:
    """What exchanges ended with.

    Attributes:
        members: int64 (k,), pool rows.
        sums: int64 (k,); of each member the sum of D over all members.
        nearest: float64 (n,); squared distance of every pool row to the nearest other member.
        exchanges: how many were made.
    """

    members: Int64
    sums: Int64
    nearest: Float64
    exchanges: int
