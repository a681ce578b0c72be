"""The oracle: every operation as its textbook loop, in float64, by direct differences.

Same signatures and the same answers as the public functions, with no filter, no blocks and no
threads. Slow on purpose; every test compares the engine with this file, whole index lists at a
time. `greedy_select(..., backend="reference")` and so on run it.

The distance (the contract). Rows are first converted to float64, which is exact for float16,
bfloat16 and float32. The squared distance of two rows is the float64 value of
sum_l (a_l - b_l)**2 in this order: column l is added to lane l % 8, in order of l, each
difference, product and sum rounded separately (no fused multiply-add); then the lanes are added
as ((0+4) + (2+6)) + ((1+5) + (3+7)). With metric="cosine" each element is first divided by its
row's length, the square root of the same sum over the row's squares; where that sum is below
2**-960, squares underflow, so the row is first multiplied by 2**600, which is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from entroselect import _checks
from entroselect._float_environment import in_default_float_environment
from entroselect.io.rows import Rows
from entroselect.reference_quotas import Limits
from entroselect.results import (
    Cover,
    Entropy,
    Float64,
    Int64,
    Neighbourhoods,
    Neighbours,
    Selection,
)

NAME = "reference"

# Rows with a smaller sum of squares are multiplied before their length is taken.
TINY_SQUARE, TINY_SCALE = 2.0**-960, 2.0**600


@in_default_float_environment
def squared_distances(a: Float64, b: Float64, metric: str = "euclidean") -> Float64:
    """Canonical squared distances between rows of `a` and `b`, float64, broadcast together; of
    rows of bits, 0 or 1 each, the squares of their distances."""
    if _checks.is_of_bits(metric):
        shared, total = (a * b).sum(axis=-1), a.sum(axis=-1) + b.sum(axis=-1)
        in_one, in_any = total - 2 * shared, np.maximum(total - shared, 1)
        return np.asarray(np.square(in_one / in_any if metric == "tanimoto" else in_one))
    shape = np.broadcast_shapes(a.shape, b.shape)
    lanes = np.zeros((*shape[:-1], 8))
    for start in range(0, shape[-1], 8):
        difference = a[..., start : start + 8] - b[..., start : start + 8]
        lanes[..., : difference.shape[-1]] += difference * difference
    pairs = lanes[..., :4] + lanes[..., 4:]
    halves = pairs[..., :2] + pairs[..., 2:]
    return np.asarray(halves[..., 0] + halves[..., 1])


@in_default_float_environment
def canonical_rows(rows: Rows, metric: str) -> Float64:
    """The float64 rows whose distances the contract speaks of."""
    if _checks.is_of_bits(metric):
        return np.unpackbits(rows.values, axis=1).astype(np.float64)
    values = rows.float64()
    return unit_rows(values) if metric == "cosine" else values


@in_default_float_environment
def unit_rows(values: Float64) -> Float64:
    """Rows divided by their canonical lengths; none is zero."""
    zero = np.zeros(values.shape[1])
    tiny = squared_distances(values, zero) < TINY_SQUARE
    values = values * np.where(tiny, TINY_SCALE, 1.0)[:, None]
    return np.asarray(values / np.sqrt(squared_distances(values, zero))[:, None])


def first_pick(
    rows: Rows, start: int | str, seed: int | None, metric: str, may: list[int] | None = None
) -> int:
    """The pool row at which an empty selection starts, one of those that may be picked; see
    `greedy_select`."""
    may = list(range(rows.n)) if may is None else may
    if start == "random":
        return may[int(np.random.default_rng(seed).integers(len(may)))]
    if start in ("center", "farthest-from-center"):
        values = canonical_rows(rows, metric)
        mean = np.cumsum(values, axis=0)[-1] / rows.n  # cumsum: row after row, in order
        squared = squared_distances(values, mean, metric)[may]
        return may[int(np.argmin(squared) if start == "center" else np.argmax(squared))]
    return may[0] if start == 0 else int(start)


@in_default_float_environment
def greedy_select(
    features: Any,
    k: int | float,
    *,
    start: int | str = 0,
    seed: int | None = None,
    selected: Any = None,
    metric: str = "euclidean",
    min_distance: float | None = None,
    candidates: Any = None,
    groups: Any = None,
    quotas: Any = None,
    weights: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """Farthest-first traversal, one pick and one pass over the pool at a time. O(N d k)."""
    rows = _checks.usable_rows("features", features, metric)
    values, nearest, picked = _state(rows, selected, metric)
    limit = -math.inf if min_distance is None else float(min_distance)
    k = _checks.pick_count(k, rows.n, 1, rows.n, "")
    limits = Limits(candidates, groups, quotas, k, picked)
    weight = np.ones(rows.n) if weights is None else np.asarray(weights, dtype=np.float64)

    indices: list[int] = []
    distances: list[float] = []
    while len(indices) < k:
        may = limits.may_be_picked(picked)
        if np.isinf(nearest[~picked]).all():  # no pick yet
            best = first_pick(rows, start, seed, metric, np.flatnonzero(may).tolist())
        else:
            keys = nearest if weights is None else weight * np.sqrt(nearest)
            best = int(np.argmax(np.where(may, keys, -1.0)))  # the first of equals
        distance = math.sqrt(nearest[best])
        if weight[best] * distance < limit:
            break
        indices.append(best)
        distances.append(distance)
        picked[best] = True
        limits.count(best)
        np.minimum(nearest, squared_distances(values, values[best], metric), out=nearest)
        if progress is not None:
            progress(len(indices), k)
    found = _selection(indices, distances, nearest, picked, counts=limits.counts)
    radius = float(np.max((weight * np.sqrt(nearest))[~picked], initial=0.0))
    return found if weights is None else replace(found, radius=radius)


@in_default_float_environment
def threshold_select(
    features: Any,
    k: int | float | None = None,
    *,
    threshold: float | None = None,
    decay: float | None = 0.95,
    order: Any = None,
    scores: Any = None,
    seed: int | None = None,
    selected: Any = None,
    metric: str = "euclidean",
    candidates: Any = None,
    groups: Any = None,
    quotas: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """Threshold decay filter (Shi et al. 2025, Algorithm 2), pass after pass over the pool; one
    pass without decay."""
    rows = _checks.usable_rows("features", features, metric)
    values, nearest, picked = _state(rows, selected, metric)
    if scores is not None:
        numbers = np.asarray(scores).tolist()
        order = sorted(range(rows.n), key=lambda row: (-numbers[row], row))
    if order is None:
        shuffle = np.arange(rows.n) if seed is None else np.random.default_rng(seed).permutation
        order = shuffle if isinstance(shuffle, np.ndarray) else shuffle(rows.n)
    k = None if k is None else _checks.pick_count(k, rows.n, 1, rows.n, "")
    limits = Limits(candidates, groups, quotas, k, picked)
    order = [int(row) for row in order if limits.may_be_picked(picked)[row]]
    most = len(order) if k is None else k

    if np.isinf(nearest[order]).all():
        from_first = squared_distances(values, values[order[0]], metric)
        widest = math.sqrt(np.max(np.where(limits.may_follow(order[0], picked), from_first, 0.0)))
    else:
        widest = math.sqrt(np.max(nearest[order]))
    tau = widest if threshold is None else float(threshold)

    indices: list[int] = []
    distances: list[float] = []
    thresholds: list[float] = []
    while len(indices) < most:
        # Only copies of accepted rows are left: no threshold lets them in, so take them in order.
        only_copies = decay is not None and bool(np.all(nearest[order] == 0.0))
        if only_copies:
            tau = 0.0
        for row in order:
            distance = math.sqrt(nearest[row])
            may = limits.may_be_picked(picked)[row]
            if not may or not (distance > tau or only_copies):
                continue
            indices.append(row)
            distances.append(distance)
            thresholds.append(tau)
            picked[row] = True
            limits.count(row)
            np.minimum(nearest, squared_distances(values, values[row], metric), out=nearest)
            if progress is not None:
                progress(len(indices), most)
            if len(indices) == most:
                break
        if decay is None:
            break
        order = [row for row in order if limits.may_be_picked(picked)[row]]
        tau *= decay
        # Passes that cannot accept anything are skipped; the thresholds stay the same sequence.
        farthest = max((math.sqrt(nearest[row]) for row in order), default=0.0)
        while 0.0 < farthest <= tau:
            tau *= decay
    return _selection(indices, distances, nearest, picked, thresholds, limits.counts)


@in_default_float_environment
def deduplicate(
    features: Any, distance: float, *, metric: str = "euclidean", order: Any = None
) -> Cover:
    """Row after row, in order: kept if it is farther than `distance` from every row kept before."""
    values = canonical_rows(_checks.usable_rows("features", features, metric), metric)
    kept: list[int] = []
    for row in range(len(values)) if order is None else order:
        if not (np.sqrt(squared_distances(values[kept], values[row], metric)) <= distance).any():
            kept.append(int(row))
    picks = np.empty(len(values), dtype=np.int64)
    distances = np.empty(len(values))
    for row, vector in enumerate(values):
        squared = squared_distances(values[kept], vector, metric)
        distances[row] = math.sqrt(squared.min())
        nearest = np.flatnonzero(squared == squared.min())
        picks[row] = min(nearest, key=kept.__getitem__)  # the lowest row of equals
    sizes = np.array([int((picks == pick).sum()) for pick in range(len(kept))])
    return Cover(np.array(kept), picks, distances, sizes, NAME)


@in_default_float_environment
def nearest_distances(
    queries: Any,
    points: Any = None,
    k: int = 1,
    *,
    metric: str = "euclidean",
    progress: Callable[[int, int], None] | None = None,
) -> Neighbours:
    """k nearest points of each query by sorting all its distances. O(Nq (Np d + Np log Np))."""
    rows = _checks.usable_rows("queries", queries, metric)
    targets = rows if points is None else _checks.usable_rows("points", points, metric)
    values = canonical_rows(rows, metric)
    against = values if points is None else canonical_rows(targets, metric)
    distances = np.empty((rows.n, k))
    indices = np.empty((rows.n, k), dtype=np.int64)
    for query in range(rows.n):
        squared = squared_distances(against, values[query], metric)
        if points is None:
            squared[query] = np.inf  # itself; every real distance is finite
        nearest = np.argsort(squared, kind="stable")[:k]  # stable: lowest index first
        indices[query] = nearest
        distances[query] = np.sqrt(squared[nearest])
        if progress is not None:
            progress(query + 1, rows.n)
    return Neighbours(distances, indices, NAME)


@in_default_float_environment
def neighbours_within(
    queries: Any,
    points: Any = None,
    *,
    distance: float,
    metric: str = "euclidean",
    progress: Callable[[int, int], None] | None = None,
) -> Neighbourhoods:
    """All points at most `distance` from each query, from all its distances. O(Nq Np d)."""
    rows = _checks.usable_rows("queries", queries, metric)
    targets = rows if points is None else _checks.usable_rows("points", points, metric)
    values, against = canonical_rows(rows, metric), canonical_rows(targets, metric)
    indices: list[Int64] = []
    distances: list[Float64] = []
    for query in range(rows.n):
        all_distances = np.sqrt(squared_distances(against, values[query], metric))
        indices.append(np.flatnonzero(all_distances <= distance))
        distances.append(all_distances[indices[-1]])
        if progress is not None:
            progress(query + 1, rows.n)
    indptr = np.cumsum([0, *map(len, indices)])
    return Neighbourhoods(indptr, np.concatenate(indices), np.concatenate(distances), NAME)


@in_default_float_environment
def kl_entropy(
    features: Any,
    k: int = 1,
    *,
    duplicates: Literal["error", "floor", "drop"] = "error",
    floor: float = 1e-10,
) -> Entropy:
    """Kozachenko-Leonenko entropy, term by term; see `entroselect.kl_entropy`.

    Shares nothing with entroselect/entropy.py, so that each checks the other.
    """
    _checks.choice("duplicates", duplicates, ("error", "floor", "drop"))
    floor = _checks.real("floor", floor, "> 0", lambda x: math.isfinite(x) and x > 0)
    k = _checks.integer("k", k, 1)
    rows = _checks.usable_rows("features", features)
    n, d, nth = rows.n, rows.d, "nearest" if k == 1 else f"{k}-th nearest"
    if k >= n:
        raise ValueError(f"k: the {nth} other row needs at least {k + 1} rows, features has {n}")
    values = canonical_rows(rows, "euclidean")
    distances = _kth_distances(values, k)
    zero = distances == 0
    if duplicates == "error" and zero.any():
        raise ValueError(
            f"features: {zero.sum()} of {n} rows have their {nth} row at distance 0 "
            f"(the first: row {zero.argmax()}), so the entropy is -inf; pass duplicates='drop' to "
            "keep one of each, or duplicates='floor' to count them at the distance `floor`"
        )
    if duplicates == "floor":
        distances = np.maximum(distances, floor)
    if duplicates == "drop":  # a row at distance 0 from an earlier one
        copies = [bool((squared_distances(values[:i], values[i]) == 0).any()) for i in range(n)]
        values = values[~np.array(copies)]
        n = len(values)
        if n <= k:
            raise ValueError(f"features: only {n} distinct rows, the {nth} needs {k + 1}")
        distances = _kth_distances(values, k)
    mean_log = math.fsum(map(math.log, distances)) / n
    psi_n_minus_psi_k = math.fsum(1 / i for i in range(k, n))
    log_ball = 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d + 1)
    return Entropy(
        psi_n_minus_psi_k + log_ball + d * mean_log,
        n=n,
        d=d,
        k=k,
        zero_distances=int(zero.sum()),
        geometric_mean_distance=math.exp(mean_log),
        backend=NAME,
    )


@in_default_float_environment
def add_distances(rows: Rows, points: Rows, metric: str, totals: Float64) -> None:
    """Adds to the total of every row its distances to the points, one after the other."""
    values, against = canonical_rows(rows, metric), canonical_rows(points, metric)
    for point in against:
        totals += np.sqrt(squared_distances(values, point))


def _kth_distances(values: Float64, k: int) -> Float64:
    """Distance of every row to its k-th nearest other row."""
    kth = np.empty(len(values))
    for row, vector in enumerate(values):
        squared = np.delete(squared_distances(values, vector), row)
        kth[row] = math.sqrt(np.sort(squared)[k - 1])
    return kth


def _state(
    rows: Rows, selected: Any, metric: str
) -> tuple[Float64, Float64, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Canonical rows, squared distance of each to the nearest pick, and the picked flags."""
    picks, vectors = _checks.picked_before(selected, rows, metric)
    values = canonical_rows(rows, metric)
    nearest = np.full(rows.n, np.inf)
    picked = np.zeros(rows.n, dtype=bool)
    picked[picks] = True
    before = values[picks] if vectors is None else canonical_rows(vectors, metric)
    for vector in before:
        np.minimum(nearest, squared_distances(values, vector, metric), out=nearest)
    return values, nearest, picked


def _selection(
    indices: list[int],
    distances: list[float],
    nearest: Float64,
    picked: np.ndarray[Any, np.dtype[np.bool_]],
    thresholds: list[float] | None = None,
    counts: dict[Any, int] | None = None,
) -> Selection:
    left = nearest[~picked]
    picks: Int64 = np.array(indices, dtype=np.int64)
    return Selection(
        indices=picks,
        distances=np.array(distances),
        radius=math.sqrt(left.max()) if len(left) else 0.0,
        backend=NAME,
        thresholds=None if thresholds is None else np.array(thresholds),
        counts=counts,
    )
