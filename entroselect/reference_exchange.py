"""The oracle of anchored selection: the same exchanges over dense arrays; see reference.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from entroselect._float_environment import in_default_float_environment
from entroselect.exchange import Exchanged, Objective
from entroselect.io.rows import Rows
from entroselect.reference import canonical_rows, squared_distances
from entroselect.results import Float64, Int64


@in_default_float_environment
def exchange(
    rows: Rows,
    metric: str,
    objective: Objective,
    first: Int64 | None,
    most: int,
    progress: Any = None,
) -> Exchanged:
    """Members of the pool that minimise the objective; see backends.base.Backend.exchange.

    Everything is computed anew for every member that is looked at: O(n (n d + k)) each.
    """
    values = canonical_rows(rows, metric)
    squared = np.stack([squared_distances(values, value) for value in values])
    np.fill_diagonal(squared, np.inf)
    away = np.zeros(squared.shape, np.int64)  # D; the diagonal stays 0
    off = np.isfinite(squared)
    away[off] = np.rint(np.sqrt(squared[off]) * objective.per).astype(np.int64)

    members = _first_members(objective, squared, away) if first is None else first.tolist()
    made = stayed = slot = 0
    while stayed < objective.k < rows.n and made < most:
        others = members[:slot] + members[slot + 1 :]
        may_come = [members[slot], *sorted({*range(rows.n)} - {*members})]
        reached = [objective_of(objective, [*others, row], squared, away) for row in may_come]
        best = reached.index(min(reached))  # the first of equals: the one there, then the lowest
        if best > 0:
            members[slot] = may_come[best]
            made, stayed = made + 1, 0
        else:
            stayed += 1
        slot = (slot + 1) % objective.k
        if progress is not None:
            progress(objective.k + stayed)
    picked = np.array(members, dtype=np.int64)
    return Exchanged(
        picked, away[picked][:, picked].sum(axis=1), squared[:, picked].min(axis=1), made
    )


def objective_of(objective: Objective, members: list[int], squared: Float64, away: Int64) -> int:
    """J of these members, in the order of its definition."""
    k = objective.k
    total = 2 * k * int(objective.attraction[members].sum())
    # The sum of a row fits into 64 bits, that of all rows may not.
    total -= int(sum(away[np.ix_(members, members)].sum(axis=1).tolist()))
    if k > 1:
        nearest = squared[np.ix_(members, members)].min(axis=1)
        total -= k * int(log_distance(objective, nearest).sum())
    return total


def log_distance(objective: Objective, squared: Float64) -> Int64:
    """L of squared distances."""
    if objective.weight == 0:
        return np.zeros(squared.shape, np.int64)
    ratio = np.maximum(squared / objective.scale_squared, objective.floor)
    return np.rint(objective.weight * canonical_log(ratio)).astype(np.int64)


@in_default_float_environment
def canonical_log(x: Float64) -> Float64:
    """Natural logarithm within 2 ulp, of which every operation is rounded by itself: the same bits
    as in the engine (csrc/exchange/objective.h), which no library's logarithm has."""
    m, exponent = np.frexp(np.asarray(x, dtype=np.float64))
    small = m < 0.7071067811865476
    m, exponent = np.where(small, 2 * m, m), exponent - small
    s = (m - 1) / (m + 1)
    z = s * s
    series = np.zeros_like(z)
    for i in range(10, 0, -1):
        series = z * (1.0 / (2 * i + 1) + series)
    return np.asarray(exponent * 0.6931471805599453 + 2 * (s + s * series))


def _first_members(objective: Objective, squared: Float64, away: Int64) -> list[int]:
    members = [int(np.argmin(objective.attraction))]
    while len(members) < objective.k:
        size = len(members) + 1
        nearest = squared[:, members].min(axis=1)
        nearest[members] = 1.0  # of no interest
        value = 2 * (size * objective.attraction - away[:, members].sum(axis=1))
        value -= size * log_distance(objective, nearest)
        value[members] = np.iinfo(np.int64).max
        members.append(int(np.argmin(value)))
    return members
