"""Which earlier pick each pick's distance was measured to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import nearest_distances
from entroselect._checks import metric_rows
from entroselect.reference import canonical_rows, squared_distances
from entroselect.results import AnyMetric, Float64, Int64

# Blocks of this many picks are compared pair by pair; larger ones are searched.
_BLOCK = 32


def nearest_before(
    picks: NDArray[Any], before: NDArray[Any] | None, metric: AnyMetric, backend: str
) -> tuple[Int64, Float64]:
    """The nearest earlier pick of every pick, and the distance.

    Args:
        picks: (k, d) in pick order.
        before: (m, d) rows that were picked before all of them, or None.
        metric, backend: as in `greedy_select`.

    Returns:
        (positions int64 (k,), distances float64 (k,)): positions count the rows of `before`, then
        those of `picks`; the earliest of several at the same distance; -1 and inf for a pick that
        has none before it. The distances are those of the selection.

    Complexity: k (m + k / 2) d, by searches of each half of the picks in the half before it.

    Example:
        >>> import numpy as np
        >>> positions, distances = nearest_before(np.array([[0.0], [9.0], [4.0]]), None,
        ...                                       "euclidean", "auto")
        >>> positions.tolist(), distances.tolist()
        ([-1, 0, 0], [inf, 9.0, 4.0])
    """
    k, m = len(picks), 0 if before is None else len(before)
    positions = np.full(k, -1, dtype=np.int64)
    distances = np.full(k, np.inf)

    def compare(begin: int, end: int, points: NDArray[Any], first: int) -> None:
        found = nearest_distances(picks[begin:end], points, metric=metric, backend=backend)
        _keep_nearer(
            positions[begin:end], distances[begin:end], found.indices[:, 0] + first,
            found.distances[:, 0],
        )  # fmt: skip

    if k == 0:
        return positions, distances
    if before is not None and m:
        compare(0, k, before, 0)
    # From the widest blocks down, every pick is compared with earlier points before later ones, so
    # that of equals the earliest stays.
    width = _BLOCK
    while 2 * width < k:
        width *= 2
    while width >= _BLOCK:
        for begin in range(0, k - width, 2 * width):
            compare(
                begin + width, min(begin + 2 * width, k), picks[begin : begin + width], m + begin
            )
        width //= 2
    for begin in range(0, k, _BLOCK):
        rows = metric_rows("picks", picks[begin : begin + _BLOCK], metric)
        block = canonical_rows(rows, metric)
        squared = squared_distances(block[:, None], block[None], metric)
        squared[np.triu_indices(len(block))] = np.inf
        nearest = squared.argmin(axis=1)
        at = np.sqrt(squared[np.arange(len(block)), nearest])
        end = begin + len(block)
        _keep_nearer(positions[begin:end], distances[begin:end], nearest + m + begin, at)
    return positions, distances


def _keep_nearer(positions: Int64, distances: Float64, found: NDArray[Any], at: Float64) -> None:
    nearer = at < distances
    positions[nearer] = found[nearer]
    distances[nearer] = at[nearer]
