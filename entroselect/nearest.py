"""Nearest neighbours: exact, but for backend="faiss"."""

from __future__ import annotations

from typing import Any

from entroselect import _checks, _dispatch, reference
from entroselect._progress import reporter
from entroselect.results import Neighbours


def nearest_distances(
    queries: Any,
    points: Any = None,
    k: int = 1,
    *,
    metric: str = "euclidean",
    backend: str = "auto",
    progress: Any = None,
) -> Neighbours:
    """The k nearest points of every query: exact distances and indices.

    Args:
        queries: (Nq, d) rows; any real dtype, NumPy, memmap, DLPack on the CPU or `__array__`, or
            a tensor on a CUDA device.
        points: (Np, d) rows of any such kind; None means the queries themselves, each against
            the others (a row is not its own neighbour; an equal row is).
        k: neighbours per query, at most Np (Np - 1 without `points`).
        metric: "euclidean", or "cosine": Euclidean after dividing each row by its length, so
            the distance is sqrt(2 - 2 cos).
        backend: "auto", "cpu", "cpu:<instruction set>", "cuda" or "reference"; see
            `entroselect info`. "auto" is "cuda" for a tensor on a CUDA device, otherwise "cpu".
            "faiss", never chosen by "auto", takes candidates from an approximate index;
            "faiss:FACTORY" or "faiss:FACTORY:PARAMETERS" says from which, as in
            "faiss:IVF1024,Flat:nprobe=16". Needs the extra `faiss`.
        progress: None, True (a bar on a terminal, lines elsewhere) or a function of (done, total).

    Returns:
        `Neighbours` with distances float64 (Nq, k), nearest first, and indices int64 (Nq, k):
        indices[i, m] = j means that points[j] is the m-th nearest of queries[i]. Ties: lowest
        index. Identical on every exact backend and for every thread count. With "faiss",
        distances are those of the indices returned, to the last bit, but nearer points may be
        missing: `recall` says how many of the exact neighbours of 1,000 queries (all, if they are
        fewer; drawn with a fixed seed) were found.

    Raises:
        ValueError, TypeError: naming the argument, before any work.

    Complexity: Nq Np d in the filter's precision, about k exact rechecks a query. Extra memory:
    d bytes a point (2 d where the filter needs bfloat16), the result, and some 1000 k bytes a
    thread. With "faiss": what the index takes, by default 4 d bytes a point, 8 (k + 9) bytes a
    query, and the exact search of the sample.

    Example:
        >>> from entroselect import nearest_distances
        >>> found = nearest_distances([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> found.indices[:, 0].tolist(), found.distances[0].tolist()
        ([2, 2, 0], [1.0])
    """
    chosen = _dispatch.choose(backend, queries, points)
    rows = _checks.usable_rows("queries", queries, metric)
    targets = rows
    if points is not None:
        targets = _checks.usable_rows("points", points, metric)
        _checks.same_width("points", targets, "queries", rows)
    available = targets.n - (points is None)
    if available < 1:
        raise ValueError("queries: at least 2 rows needed when points is None, got 1")
    k = _checks.integer("k", k, 1, available, f" (there are {available} candidates)")
    with reporter(progress, "nearest") as report:
        if chosen is None:
            return reference.nearest_distances(queries, points, k, metric=metric, progress=report)
        return chosen.nearest(rows, None if points is None else targets, k, metric, report)
