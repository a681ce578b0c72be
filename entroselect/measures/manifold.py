"""Precision, recall, density and coverage: which rows lie in the other set's balls."""

from __future__ import annotations

from typing import Any

import numpy as np

from entroselect._checks import integer, same_width, usable_rows
from entroselect._float_environment import in_default_float_environment
from entroselect.backends.cpu import distances_to
from entroselect.io.rows import Rows
from entroselect.nearest import nearest_distances
from entroselect.reference import squared_distances
from entroselect.results import Float64, on_host


@in_default_float_environment
def manifold(real: Any, made: Any, k: int) -> dict[str, float | None]:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    A ball around every row reaches to its k-th nearest other row. Precision: share of made rows in
    any real ball. Recall: share of real rows in any made ball. Coverage: share of real balls with
    a made row. These balls are closed, as in equation 1 of the first paper: real images lie in
    their own balls then, also where more than k of them are equal and the ball is a point.

    Density: real balls around a made row, over k. It is 1 for what is like the real rows only if a
    ball holds k of them: itself and the k - 1 before the k-th, which is at the edge and out. Where
    several share the edge, a row there counts as the places left, over those that share them. So
    made rows equal to the real ones always have density 1.

    Without ties all four are those of the package prdc, whose balls are open; without real and made
    rows at one distance, precision and recall also those of torch-fidelity, whose are closed.
    None where a set has k rows or fewer. n m d exact differences, on the CPU; the reaches of balls
    are found where the rows are.
    """
    real_rows, made_rows = usable_rows("real", real), usable_rows("made", made)
    same_width("made", made_rows, "real", real_rows)
    if min(real_rows.n, made_rows.n) <= integer("k", k, 1):
        return dict.fromkeys(("precision", "recall", "density", "coverage"))
    reach, shared = _reach(real_rows, k)
    made_reach, _ = _reach(made_rows, k)
    real_rows, made_rows = real_rows.on_host(), made_rows.on_host()
    inside = np.zeros(made_rows.n, bool)
    covering = np.zeros((real_rows.n, 2), bool)
    weight = 0.0
    for i in range(real_rows.n):
        centre = real_rows.float64(i)
        away = distances_to(made_rows, "euclidean", centre)
        within = away <= reach[i]
        inside |= within
        covering[i] = within.any(), (away <= made_reach).any()
        weight += np.count_nonzero(away < reach[i])
        if shared[i]:
            own = distances_to(real_rows, "euclidean", centre)
            left = k - np.count_nonzero(own < reach[i])
            edge = np.count_nonzero(away == reach[i])
            weight += left * edge / np.count_nonzero(own == reach[i])
    coverage, recall = covering.mean(axis=0)
    return {
        "precision": float(inside.mean()),
        "recall": float(recall),
        "density": float(weight / (k * made_rows.n)),
        "coverage": float(coverage),
    }


def _reach(rows: Rows, k: int) -> tuple[Float64, Any]:
    """Each row's squared distance to its k-th nearest other, and whether others may be at it too
    for which there is a place in the ball."""
    found = nearest_distances(rows, k=k)
    x, distances, indices = rows.float64(), on_host(found.distances), on_host(found.indices)
    shared = distances[:, -1] == (distances[:, -2] if k > 1 else 0.0)
    return squared_distances(x, x[indices[:, -1]]), shared
