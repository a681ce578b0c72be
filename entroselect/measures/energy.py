"""Distances between two distributions, from the distances of all pairs of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from entroselect import _checks, _dispatch
from entroselect._float_environment import in_default_float_environment
from entroselect._memory import memory_limit as bytes_of
from entroselect._progress import reporter
from entroselect.backends.cpu import distances_to
from entroselect.io.rows import Rows
from entroselect.measures.pairs import Add, PairMeans, opened
from entroselect.reference import canonical_rows
from entroselect.results import Float64, Metric

KERNELS = ("gaussian", "laplacian")


@in_default_float_environment
def energy_distance(
    one: Any,
    other: Any,
    *,
    metric: Metric = "euclidean",
    backend: str = "auto",
    memory_limit: int | str | None = None,
    progress: Any = None,
) -> float:
    """How far two sets of rows are apart as distributions: 2 E d(x, y) - E d(x, x') - E d(y, y').

    x and x' are any rows of `one`, y and y' any of `other`; every mean is over all pairs, a row
    with itself included (the V-statistic), so that the result is 0 for equal sets and never below.
    It is 0 in the limit of many rows only for equal distributions. In the unit of the distances.
    Two samples of n and m rows of one distribution are about (1 / n + 1 / m) times their mean
    distance apart. Szekely and Rizzo 2013, "Energy statistics".

    Args:
        one, other: (n, d) and (m, d) rows; arrays or Sources, as in `nearest_distances`.
        metric: "euclidean", or "cosine": Euclidean after dividing each row by its length.
        backend: "auto", "cpu", "cpu:<instruction set>" or "reference". Rows on a CUDA device have
            to be moved to the CPU.
        memory_limit: bytes, or text such as "8GiB": the most that this call may allocate, besides
            the caller's arrays. Rows of Sources are then read in blocks and tiles.
        progress: None, True (a bar on a terminal, lines elsewhere) or a function of (done, total),
            in pairs.

    Returns:
        A float >= 0: canonical distances (docs/exactness.md), of every row in the order of the
        points, then added exactly. The same to the last bit for every thread count, instruction
        set, memory limit and layout of files; with the sets exchanged, the last digits may differ.

    Raises:
        ValueError, TypeError: naming the argument, before any work; for a value that cannot be
            used in a Source, with its row, when it is first read.

    Complexity: (n + m)**2 d float64 products and as many square roots, less n m. Extra memory: 24
    bytes per row. With `memory_limit`, each set is read once per block of itself and of the other.

    Example:
        >>> from entroselect import energy_distance
        >>> energy_distance([[0.0], [1.0]], [[0.0], [3.0]])    # 2 * 6/4 - 2/4 - 6/4
        1.0
        >>> energy_distance([[0.0], [1.0]], [[1.0], [0.0]])
        0.0
    """
    within = EnergyTerms(one, other, metric, backend, memory_limit, progress)
    return max(0.0, 2 * within.cross - within.one - within.other)


class EnergyTerms:
    """The three mean distances of which an energy distance is made; arguments as there.

    Attributes:
        cross, one, other: E d(x, y), E d(x, x') and E d(y, y').
    """

    def __init__(
        self,
        one: Any,
        other: Any,
        metric: str = "euclidean",
        backend: str = "auto",
        memory_limit: Any = None,
        progress: Any = None,
    ) -> None:
        limit = bytes_of(memory_limit)
        served_by = _dispatch.choose(backend, "pairs", one, other, memory_limit=limit)
        x, y = opened(one, other, metric, limit)

        def add(rows: Rows, points: Rows, totals: Float64) -> None:
            served_by.add_distances(rows, points, metric, totals)

        with reporter(progress, "energy distance") as report:
            means = PairMeans([(x, y), (x, x), (y, y)], limit, report)
            self.cross, self.one, self.other = (
                means.mean(rows, points, add) for rows, points in ((x, y), (x, x), (y, y))
            )


@in_default_float_environment
def mmd(
    one: Any,
    other: Any,
    *,
    kernel: Literal["gaussian", "laplacian"] = "gaussian",
    bandwidth: float | None = None,
    metric: Metric = "euclidean",
    memory_limit: int | str | None = None,
    progress: Any = None,
) -> float:
    """Squared maximum mean discrepancy: E k(x, x') + E k(y, y') - 2 E k(x, y).

    Means are over all pairs, a row with itself included: the biased estimate of Gretton et al.
    2012, equation 5 (the V-statistic), which is 0 for equal sets and never below. It has no unit.
    Two samples of n and m rows of one distribution are about (1 - E k) (1 / n + 1 / m) apart.

    Args:
        one, other: (n, d) and (m, d) rows; arrays or Sources, in host memory.
        kernel: "gaussian", exp(-d**2 / (2 bandwidth**2)), or "laplacian", exp(-d / bandwidth), of
            the distance d.
        bandwidth: > 0, in the unit of the distances. None: the mean distance between a row of
            `one` and a row of `other`.
        metric, memory_limit, progress: as in `energy_distance`.

    Returns:
        A float >= 0. On one machine the same to the last bit for every thread count and memory
        limit; machines whose exponential functions round differently differ in the last digits.

    Raises:
        ValueError, TypeError: as `energy_distance`.

    Complexity: that of `energy_distance`, with an exponential in place of each root, and n m more
    distances for the bandwidth None.

    Example:
        >>> from entroselect import mmd
        >>> round(mmd([[0.0], [1.0]], [[2.0], [3.0]], bandwidth=1.0), 4)
        1.1624
        >>> mmd([[0.0], [1.0]], [[1.0], [0.0]])
        0.0
    """
    _checks.choice("kernel", kernel, KERNELS)
    if bandwidth is not None:
        bandwidth = _checks.real(
            "bandwidth", bandwidth, "finite and > 0", lambda h: math.isfinite(h) and h > 0
        )
    limit = bytes_of(memory_limit)
    served_by = _dispatch.choose("cpu", "pairs", one, other)
    x, y = opened(one, other, metric, limit)
    sides = [(x, y), (x, x), (y, y)]
    with reporter(progress, "mmd") as report:
        means = PairMeans(sides if bandwidth is not None else [(x, y), *sides], limit, report)
        if bandwidth is None:
            bandwidth = means.mean(
                x,
                y,
                lambda rows, points, totals: served_by.add_distances(rows, points, metric, totals),
            )
            if bandwidth == 0.0:  # all rows are equal
                return 0.0
        add = _adding(_of_squares(kernel, bandwidth), metric)
        cross, own, others = (means.mean(rows, points, add) for rows, points in sides)
    return max(0.0, own + others - 2 * cross)


def _of_squares(kernel: str, bandwidth: float) -> Callable[[Float64], Float64]:
    """The kernel as a function of squared distances."""
    if kernel == "gaussian":
        return lambda squared: np.exp(-0.5 * (squared / bandwidth / bandwidth))
    return lambda squared: np.exp(-np.sqrt(squared) / bandwidth)


def _adding(value: Callable[[Float64], Float64], metric: str) -> Add:
    """Adds value(squared distance) of every row to each point, point after point."""

    def add(rows: Rows, points: Rows, totals: Float64) -> None:
        for point in range(points.n):
            place = slice(point, point + 1)
            vector = canonical_rows(Rows(points.values[place], points.dtype), metric)[0]
            with np.errstate(over="ignore"):  # too many bandwidths away for a float: exp gives 0
                totals += value(distances_to(rows, metric, vector))

    return add
