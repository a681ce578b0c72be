"""Near-duplicate removal, and which pick stands for which row."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from entroselect import _checks, _dispatch
from entroselect import nearest as neighbours
from entroselect._float_environment import in_default_float_environment
from entroselect._memory import memory_limit as bytes_of
from entroselect._progress import Report, reporter
from entroselect.io.bits import MOST_IN_ANY
from entroselect.io.rows import Rows
from entroselect.results import AnyMetric, Cover, Float64, Int64, Neighbours, on_host
from entroselect.scale import budget, tiled_nearest
from entroselect.scale.batches import Batches
from entroselect.scale.process_group import ProcessGroup, process_group_of, shared_errors
from entroselect.threshold import threshold_select


@in_default_float_environment
def deduplicate(
    features: Any,
    distance: float | None = None,
    *,
    similarity: float | None = None,
    metric: AnyMetric | None = None,
    order: Any = None,
    scores: Any = None,
    backend: str = "auto",
    progress: Any = None,
    memory_limit: int | str | None = None,
    group: Any = None,
    checkpoint: Any = None,
) -> Cover:
    """Keeps rows that are farther than a distance from each other, and says for every other row
    which of them it is a duplicate of.

    Goes through the pool once and keeps a row if it is farther than `distance` from every row kept
    before: `threshold_select` with ``decay=None``. So every two kept rows are farther apart than
    `distance`, and every other row is within it of one: rows exactly that far apart are duplicates.
    With `scores` no row is dropped but for one with at least its score.

    Args:
        features: (n, d) pool, as in `greedy_select`.
        distance: >= 0, in the units of the metric; 0 drops copies alone. Or:
        similarity: cosine similarity, -1 to 1, from which on rows are duplicates. It stands for
            the distance ``sqrt(2 - 2 * similarity)`` of metric "cosine", computed in float64, and
            that distance decides. Of pairs whose similarity differs from it by less than about
            1e-15, rounding decides; so with 1, multiples of a row may count as its duplicates or
            not. With ``metric="tanimoto"``: Tanimoto similarity, 0 to 1; rows are duplicates if
            theirs, as a float64 number, is at least that, so 0.9 and 5 / 6 include the pairs that
            are exactly as similar.
        metric: as in `greedy_select`. Default: "cosine" with `similarity`, else "euclidean".
        order: the order in which rows are looked at, as in `threshold_select`. Default: pool order.
        scores: or the best first: (n,) numbers, as there.
        backend, progress, memory_limit, group: as in `greedy_select`.
        checkpoint: as in `greedy_select`, for the pass that keeps rows; the search for the row
            that each is a duplicate of is done again.

    Returns:
        `Cover` with indices int64 (k,), the kept rows in the order in which they were looked at;
        and for all rows `duplicate_of`, int64 (n,), the nearest kept row (of a kept row, itself;
        equally near rows: the lowest), with its distance; ``sizes`` says how many rows each
        kept row stands for. Identical on every backend.

    Raises:
        ValueError, TypeError: naming the argument, before any work.
        RuntimeError: rows changed meanwhile.

    Complexity: with k rows kept, at most n k d products in the filter's precision to find them, and
    n k d (but for kept rows, if they are more than half) for the nearest of them. Memory: as
    `greedy_select` with k picks, then as `nearest_distances`.

    Source: Hochbaum and Shmoys 1985, A best possible heuristic for the k-center problem; Gollapudi
    and Sharma 2009.

    Example:
        >>> import numpy as np
        >>> from entroselect import deduplicate
        >>> line = np.array([[0.0], [1.0], [2.0], [10.0]])
        >>> kept = deduplicate(line, 1.0)
        >>> kept.indices.tolist(), kept.duplicate_of.tolist(), kept.sizes.tolist()
        ([0, 2, 3], [0, 0, 2, 3], [2, 1, 1])
        >>> deduplicate(line, 1.0, scores=[1, 9, 3, 3]).indices.tolist()
        [1, 3]
        >>> deduplicate(line + 1, similarity=0.99).indices.tolist()
        [0]
    """
    ranks = process_group_of(group)
    with shared_errors(ranks):
        distance, metric = _rule(distance, similarity, metric)
    options: dict[str, Any] = {"backend": backend, "memory_limit": memory_limit}
    _check_memory(features, metric, memory_limit, ranks)
    alone = ranks is None or ranks.rank == 0
    with reporter(progress if alone else None, "deduplicate") as report:
        kept = threshold_select(
            features, threshold=distance, decay=None, order=order, scores=scores, metric=metric,
            group=group, checkpoint=checkpoint, progress=_half(report, 0), **options,
        )  # fmt: skip
        indices = on_host(kept.indices)
        pool = Batches("features", features, metric, ranks)
        ascending = np.argsort(indices)
        is_kept = np.zeros(pool.n, dtype=bool)
        own = indices[ascending] - pool.first
        is_kept[own[(own >= 0) & (own < pool.n)]] = True
        found = np.full(pool.n, -1), np.zeros(pool.n)
        found[0][is_kept] = np.flatnonzero((own >= 0) & (own < pool.n))
        # Of a kept row the nearest is itself, which need not be searched where that saves much.
        some = np.flatnonzero(~is_kept) if 2 * is_kept.sum() > pool.n else None
        asked = pool if some is None else pool.part(some)
        if asked.n or ranks is not None:
            nearest = neighbours.find(
                asked, pool.part(np.flatnonzero(is_kept)), 1, backend=backend, limit=memory_limit,
                ranks=ranks, progress=_half(report, 1),
            )  # fmt: skip
            which = slice(None) if some is None else some
            found[0][which], found[1][which] = _columns(nearest)
    with shared_errors(ranks):
        if not (found[1] <= distance).all():
            raise RuntimeError(
                "features: rows changed while duplicates were searched (another thread or process "
                "writes to them?); start again and leave them alone meanwhile"
            )
    return _cover(pool, indices, ascending[found[0]], found[1], kept.backend, kept.profile, ranks)


@in_default_float_environment
def assign(
    features: Any,
    selected: Any,
    *,
    metric: AnyMetric,
    backend: str,
    progress: Any,
    memory_limit: int | str | None,
    group: Any,
) -> Cover:
    """`Selection.assign` of the pool rows `selected`, in pick order."""
    ranks = process_group_of(group)
    pool = Batches("features", features, metric, ranks)
    n = np.array([pool.n])
    total = int(sum(n if ranks is None else np.concatenate(ranks.all_gather(n))))
    with shared_errors(ranks):
        indices = _checks.distinct_indices("selection", on_host(selected), total)
        if len(indices) == 0:
            raise ValueError("selection: has no picks, so that no row can be assigned to one")
        served_by = _dispatch.choose(backend, "nearest", pool.rows, memory_limit=memory_limit)
        limit = bytes_of(memory_limit)
    vectors = Batches("picks", _vectors(pool, indices, ranks), metric)
    least = budget.demand_alone(pool, vectors, 1).least if pool.n else 0
    budget.check_least(limit, least, f"{pool.n} queries of {pool.d} columns", ranks)
    with shared_errors(ranks):
        picks, distances = np.empty(0, dtype=np.int64), np.empty(0)
        if pool.n:
            nearest = neighbours.find(
                pool, vectors, 1, backend=backend, limit=limit,
                progress=progress if ranks is None or ranks.rank == 0 else None,
            )  # fmt: skip
            picks, distances = _columns(nearest)
    return _cover(pool, indices, picks, distances, served_by.name, {}, ranks)


def _rule(distance: Any, similarity: Any, metric: Any) -> tuple[float, AnyMetric]:
    """(distance, metric), checked."""
    if (distance is None) == (similarity is None):
        raise ValueError("distance: pass either distance or similarity")
    if similarity is None:
        return _checks.non_negative("distance", distance), metric or "euclidean"
    if metric == "tanimoto":
        similarity = _checks.real("similarity", similarity, "from 0 to 1", lambda x: 0 <= x <= 1)
        return _tanimoto_distance(similarity), "tanimoto"
    if metric not in (None, "cosine"):
        raise ValueError(
            f"similarity: is that of metric='cosine' or 'tanimoto', got metric={metric!r}"
        )
    similarity = _checks.real("similarity", similarity, "from -1 to 1", lambda x: -1 <= x <= 1)
    return math.sqrt(2.0 - 2.0 * similarity), "cosine"


def _tanimoto_distance(similarity: float) -> float:
    """The largest distance of rows whose similarity, rounded to float64, is at least this one."""
    nearest = Fraction(similarity).limit_denominator(MOST_IN_ANY)  # of all that rows can have
    distance = float(1 - nearest)
    return distance if float(nearest) >= similarity else math.nextafter(distance, 0.0)


def _check_memory(features: Any, metric: str, limit: Any, ranks: ProcessGroup | None) -> None:
    """Raises ValueError before any work unless the limit is enough for the search among kept rows,
    however many there will be."""
    with shared_errors(ranks):
        limit = bytes_of(limit)
    if limit is None and ranks is None:
        return
    pool = Batches("features", features, metric, ranks)
    dropped, kept = (pool.part(np.arange(pool.n)) for _ in range(2))
    shards = [(pool.n, pool.dtype)] if ranks is None else tiled_nearest.shards_of_all(pool, ranks)
    budget.check_limit(limit, [(dropped, kept, 1)], shards, ranks)


def _half(report: Report | None, half: int) -> Report | None:
    """Reports the first or the second half of the work."""
    if report is None:
        return None
    whole = report
    return lambda done, total: whole(half * total + done, 2 * total)


def _columns(nearest: Neighbours) -> tuple[Int64, Float64]:
    return on_host(nearest.indices)[:, 0], on_host(nearest.distances)[:, 0]


def _vectors(pool: Batches, indices: Int64, ranks: ProcessGroup | None) -> Rows:
    """Rows of the pool of all processes, in the order given."""
    ascending = np.argsort(indices)
    own = indices[ascending] - pool.first
    own = own[(own >= 0) & (own < pool.n)]
    with shared_errors(ranks):
        values = pool.part(own).whole().take(slice(None))
    if ranks is not None:
        ranks.check_agreement(f"columns={pool.d}; dtype={pool.dtype}; metric={pool.metric}")
        values = np.concatenate(ranks.all_gather(values))
    places = np.empty_like(ascending)
    places[ascending] = np.arange(len(indices))
    return Rows(values[places], pool.dtype)


def _cover(
    pool: Batches,
    indices: Int64,
    picks: Int64,
    distances: Float64,
    backend: str,
    profile: dict[str, Any],
    ranks: ProcessGroup | None,
) -> Cover:
    sizes = np.bincount(picks, minlength=len(indices)).astype(np.int64)
    if ranks is not None:
        sizes = np.sum(ranks.all_gather(sizes), axis=0)
    arrays = indices, picks, distances, sizes
    if pool.rows is not None:  # they go where the pool is, perhaps to a GPU
        arrays = tuple(pool.rows.like(array) for array in arrays)
    return Cover(*arrays, backend, profile)
