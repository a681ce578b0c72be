"""Greedy max-min selection from many small point clouds in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from entroselect import _checks, _core, _dispatch
from entroselect._float_environment import in_default_float_environment
from entroselect._settings import threads
from entroselect.io.convert import as_array, plain_array
from entroselect.io.rows import Rows, array_rows
from entroselect.results import Float64, Int64

STARTS = ("random", "center", "farthest-from-center")


@dataclass(frozen=True, eq=False)
class BatchSelection:
    """k points of each of B clouds, in the order in which they were picked.

    Attributes:
        indices: int64 (B, k); of each cloud its picks, numbered from 0 in every cloud.
            ``numpy.take_along_axis(points, indices[..., None], axis=1)`` are the points, (B, k, d).
        distances: float64 (B, k); distance from each pick to all picks before it in its cloud, inf
            for the first.
        radius: float64 (B,); the largest distance from a point of the cloud to its picks.
        backend: what computed it.
    """

    indices: Int64
    distances: Float64
    radius: Float64
    backend: str


@in_default_float_environment
def greedy_select_batch(
    points: Any,
    k: int,
    lengths: Any = None,
    *,
    start: Any = 0,
    seed: int | None = None,
    backend: str = "auto",
) -> BatchSelection:
    """Picks k points of every cloud of a batch, each the farthest from all picks before it.

    The answer for every cloud is that of `greedy_select`, to the last bit, also where float32
    would decide a tie differently; the clouds are divided among the threads. It takes the place of
    PyTorch3D's `sample_farthest_points`, torch_cluster's `fps` and a loop over fpsample.

    Args:
        points: (B, N, d): B clouds of N points each; the types of `greedy_select`, in host memory:
            "cuda" does not serve it. A torch tensor on the CPU is read in place.
        k: how many points of every cloud, 1 <= k <= the smallest of `lengths`.
        lengths: (B,) integers: the first lengths[b] points of cloud b are the cloud. What stands
            behind them is ignored, whatever it holds. None: all N.
        start: the first pick: a point index for all clouds, (B,) of them, one per cloud, "random",
            "center" (the point nearest to the cloud's mean) or "farthest-from-center".
        seed: for start="random", which is ``numpy.random.default_rng(seed).integers(lengths)``.
        backend: "auto", "cpu", "cpu:<instruction set>" or "reference".

    Returns:
        `BatchSelection` with indices int64 (B, k), distances float64 (B, k) and radius float64
        (B,), NumPy arrays, identical for every backend and thread count. PyTorch3D fills the places
        of a cloud with fewer than k points with -1; here k > lengths[b] is an error.

    Raises:
        ValueError, TypeError: naming the argument, and the cloud if it is one's, before any work.
        RuntimeError: another thread wrote to the points meanwhile.

    Complexity: clouds of at most 8 columns and 8,192 points: per pick, N / 32 boxes and the points
    of those that the pick may reach, and O(N log N) to make the boxes small for 200 picks and more;
    other clouds as `greedy_select`. Memory besides the result: per thread at most 26 d + 90 bytes
    per point of one cloud. For a few large clouds, `greedy_select`, which uses all threads for one
    pool, is faster.

    Source: Gonzalez 1985, Clustering to minimize the maximum intercluster distance; Eldar et al.
    1997, The farthest point strategy for progressive image sampling.

    Example:
        >>> import numpy as np
        >>> from entroselect import greedy_select_batch
        >>> clouds = np.array([[[0.0], [1.0], [5.0]], [[3.0], [0.0], [np.nan]]])
        >>> picked = greedy_select_batch(clouds, 2, lengths=[3, 2])
        >>> picked.indices.tolist(), picked.radius.tolist()
        ([[0, 2], [0, 1]], [1.0, 0.0])
    """
    served_by = _dispatch.choose(backend, "batch", points)
    rows, count, n = _rows_of(points)
    lengths = _lengths(lengths, count, n)
    fewest = int(np.argmin(lengths))
    why = f" (the points of cloud {fewest}, which has the fewest)"
    k = _checks.integer("k", k, 1, int(lengths[fewest]), why)
    starts = _starts(start, seed, lengths)
    _check_values(rows, lengths, n)
    if isinstance(starts, str):
        starts = served_by.batch_centers(rows, lengths, starts == "farthest-from-center")
    return BatchSelection(*served_by.batch_greedy(rows, lengths, starts, k), served_by.name)


def _rows_of(points: Any) -> tuple[Rows, int, int]:
    """(points of all clouds as rows, clouds, points of each)."""
    array, stored = as_array("points", points)
    if array.ndim != 3:
        raise ValueError(
            f"points: expected a 3-D array (clouds, points, columns), got shape {array.shape}"
        )
    count, n, d = array.shape
    if array.size == 0:
        raise ValueError(
            f"points: empty, shape {array.shape}; at least 1 cloud, 1 point and 1 column needed"
        )
    return array_rows("points", array.reshape(count * n, d), stored), count, n


def _lengths(lengths: Any, count: int, n: int) -> Int64:
    if lengths is None:
        return np.full(count, n, dtype=np.int64)
    return _one_per_cloud("lengths", lengths, count, 1, np.full(count, n))


def _starts(start: Any, seed: Any, lengths: Int64) -> Int64 | str:
    """The first pick of every cloud, or which center it is."""
    if _checks.seed_value(seed) is not None and not (isinstance(start, str) and start == "random"):
        raise ValueError("seed: only start='random' draws anything; drop seed or pass that")
    if isinstance(start, str):
        _checks.choice("start", start, STARTS)
        return np.random.default_rng(seed).integers(lengths) if start == "random" else start
    if not hasattr(start, "__len__"):
        fewest = int(np.argmin(lengths))
        why = f" (a point of cloud {fewest}, which has the fewest)"
        start = _checks.integer("start", start, 0, int(lengths[fewest]) - 1, why)
        return np.full(len(lengths), start, dtype=np.int64)
    return _one_per_cloud("start", start, len(lengths), 0, lengths - 1)


def _one_per_cloud(name: str, given: Any, count: int, low: int, most: Int64) -> Int64:
    """`given` as one integer per cloud, each within [low, most[cloud]]."""
    array = plain_array(name, given)
    if array.dtype.kind not in "iu" or array.shape != (count,):
        raise ValueError(
            f"{name}: expected one integer per cloud, shape ({count},), got dtype {array.dtype} "
            f"with shape {array.shape}"
        )
    outside = np.flatnonzero((array < low) | (array > most))
    if len(outside):
        cloud = int(outside[0])
        raise ValueError(
            f"{name}: must be at least {low} and at most {most[cloud]} for cloud {cloud} "
            f"(the first), got {array[cloud]}"
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def _check_values(rows: Rows, lengths: Int64, n: int) -> None:
    largest = _checks.LARGEST
    bad = _core.batch_first_unusable(rows.values, rows.dtype, lengths, largest, threads())
    if bad >= 0:
        only = Rows(rows.values[bad : bad + 1], rows.dtype)
        cloud, point = divmod(bad, n)
        _checks.usable_values(f"points: cloud {cloud}", only, "euclidean", range(point, point + 1))
