"""The oracle of the measures of two sets, and of the selection by moments: textbook formulas, by
another algebra where there is one; see reference.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from entroselect import _checks
from entroselect._float_environment import in_default_float_environment
from entroselect.io.rows import Rows
from entroselect.reference import canonical_rows, squared_distances
from entroselect.results import Float64, Int64


@in_default_float_environment
def energy_distance(one: Any, other: Any, *, metric: str = "euclidean") -> float:
    """2 E d(x, y) - E d(x, x') - E d(y, y'), one row after the other."""
    x, y = (canonical_rows(rows, metric) for rows in _two(one, other, metric))

    def mean(a: Float64, b: Float64) -> float:
        sums = (np.cumsum(np.sqrt(squared_distances(b, row)))[-1] for row in a)  # in order
        return math.fsum(sums) / (len(a) * len(b))

    return max(0.0, 2 * mean(x, y) - mean(x, x) - mean(y, y))


@in_default_float_environment
def mmd(
    one: Any, other: Any, *, bandwidth: float | None = None, metric: str = "euclidean"
) -> float:
    """Squared mean discrepancy of the Gaussian kernel: the mean of the signed kernel matrix."""
    x, y = (canonical_rows(rows, metric) for rows in _two(one, other, metric))
    rows = np.concatenate([x, y])
    sign = np.concatenate([np.full(len(x), 1 / len(x)), np.full(len(y), -1 / len(y))])
    squared = squared_distances(rows[:, None], rows[None])
    width = bandwidth or float(np.sqrt(squared[: len(x), len(x) :]).mean())
    return float(sign @ np.exp(-squared / (2 * width**2)) @ sign)


@in_default_float_environment
def frechet_distance(one: Any, other: Any) -> float:
    """|a - b|^2 + trace(A + B) - 2 trace((A B)^(1/2)), the last from the eigenvalues of A B."""
    x, y = (rows.float64() for rows in _two(one, other, "euclidean"))
    a, b = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    shared = np.sqrt(np.linalg.eigvals(a @ b).real.clip(0)).sum()
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * shared)


@in_default_float_environment
def frechet_select(features: Any, k: int, reference: Any, start: Any) -> list[Int64]:
    """The picks of `entroselect.frechet_select` after every pass, those of the start first; needs
    covariances that have inverses. Everything is computed anew for every pass and every q."""
    x, target = _checks.usable_rows("features", features).float64(), np.asarray(reference)
    history, last = [np.sort(start)], len(x)
    while True:
        inside = history[-1]
        outside = np.setdiff1d(np.arange(len(x)), inside)
        mean, root = x[inside].mean(0), _root(np.atleast_2d(np.cov(x[inside].T)))
        inverse, other = np.linalg.inv(root), np.atleast_2d(np.cov(target.T))
        slope = np.eye(len(root)) - inverse @ _root(root @ other @ root) @ inverse
        shift = mean - target.mean(0)
        phi = [float(2 * shift @ (v - mean) + (v - mean) @ slope @ (v - mean)) for v in x]
        leave = sorted(inside, key=lambda row: (-phi[row], row))
        enter = sorted(outside, key=lambda row: (phi[row], row))
        pairs = [pair for pair in zip(leave, enter, strict=False) if phi[pair[1]] < phi[pair[0]]]
        q = min(len(pairs), 2 * last)
        now = frechet_distance(x[inside], target)
        while q > 0:
            gone, come = np.array(pairs[:q]).T
            after = np.sort(np.concatenate([np.setdiff1d(inside, gone), come]))
            if frechet_distance(x[after], target) < now:
                break
            q //= 2
        if q == 0:
            return history
        history, last = [*history, after], q


def _root(matrix: Float64) -> Float64:
    """Of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(values.clip(0))) @ vectors.T)


def _two(one: Any, other: Any, metric: str) -> tuple[Rows, Rows]:
    _checks.choice("metric", metric, _checks.METRICS)
    return _checks.usable_rows("one", one, metric), _checks.usable_rows("other", other, metric)
