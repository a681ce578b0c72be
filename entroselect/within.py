"""All points within a distance of every query, exactly."""

from __future__ import annotations

from typing import Any

from entroselect import _checks, _dispatch
from entroselect._float_environment import in_default_float_environment
from entroselect._memory import memory_limit as bytes_of
from entroselect._progress import reporter
from entroselect.results import AnyMetric, Neighbourhoods
from entroselect.scale import budget, tiled_nearest, tiled_within
from entroselect.scale.batches import Batches
from entroselect.scale.process_group import process_group_of, shared_errors


@in_default_float_environment
def neighbours_within(
    queries: Any,
    points: Any = None,
    *,
    distance: float,
    metric: AnyMetric = "euclidean",
    backend: str = "auto",
    progress: Any = None,
    memory_limit: int | str | None = None,
    group: Any = None,
) -> Neighbourhoods:
    """All points at most `distance` from every query: exact indices and distances.

    ::

        {j : sqrt(C(queries[i], points[j])) <= distance}        for every i

    with C the canonical squared distance of docs/exactness.md. The same as scikit-learn's
    `radius_neighbors` and SciPy's `query_ball_point`, but for points whose distance differs from
    `distance` by a rounding: here that of the canonical sum decides, on every backend.

    Args:
        queries: (Nq, d) rows, as in `nearest_distances`.
        points: (Np, d) rows; None means the queries themselves, all of them: a row is in its own
            list, at distance 0, as with scikit-learn's `radius_neighbors(X)`.
        distance: >= 0, in the units of the metric; points exactly that far away belong to it. 0
            finds copies.
        metric, backend, progress, group: as in `nearest_distances`; "cuda" and "faiss" do not
            serve it.
        memory_limit: as in `nearest_distances`, besides the result, which has 16 bytes per pair;
            while it is made, up to three times that.

    Returns:
        `Neighbourhoods` with indptr int64 (Nq + 1,), indices int64 and distances float64 (pairs,):
        those of query i are ``indices[indptr[i]:indptr[i + 1]]``, ascending. Identical on every
        backend, for every thread count, memory limit and number of processes.

    Raises:
        ValueError, TypeError: naming the argument, before any work; for a value that cannot be
            used in a Source, with its row, when it is first read.

    Complexity: Nq Np d in the filter's precision, and an exact distance per pair found; for rows of
    at most 5 columns O(log Np) per query and per point found, by a k-d tree. Memory: as
    `nearest_distances` with k = 2, and the result.

    Source: Bentley 1975, A survey of techniques for fixed radius near neighbor searching.

    Example:
        >>> from entroselect import neighbours_within
        >>> found = neighbours_within([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], distance=1.0)
        >>> found.indptr.tolist(), found.indices.tolist(), found.distances.tolist()
        ([0, 2, 3, 5], [0, 2, 1, 0, 2], [0.0, 1.0, 0.0, 1.0, 0.0])
    """
    ranks = process_group_of(group)
    with shared_errors(ranks):
        distance = _checks.non_negative("distance", distance)
    if ranks is not None:
        ranks.check_agreement(f"points={'None' if points is None else 'given'}")
    rows = Batches("queries", queries, metric, ranks)
    targets = None
    if points is not None:
        targets = Batches("points", points, metric, ranks)
        with shared_errors(ranks):
            _checks.same_width("points", targets, "queries", rows)
    own = rows if targets is None else targets
    with shared_errors(ranks):
        limit = bytes_of(memory_limit)
        served_by = _dispatch.choose(
            backend, "within", rows.rows, own.rows, metric=metric, memory_limit=limit, group=ranks
        )
    shards = [(own.n, own.dtype)]
    if ranks is not None:
        ranks.check_agreement(
            f"distance={distance}; metric={metric}; columns={own.d}; memory_limit={limit}"
        )
        shards = tiled_nearest.shards_of_all(own, ranks)
    if sum(n for n, _ in shards) == 0:
        raise ValueError(f"{own.name}: at least 1 row needed, got 0")
    budget.check_limit(limit, [(rows, targets, tiled_within.MEMORY_OF)], shards, ranks)
    with reporter(progress, "within") as report:
        return tiled_within.search(rows, targets, distance, shards, served_by, limit, ranks, report)
