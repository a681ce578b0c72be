"""Entropy and other measures computed from nearest neighbours."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from entroselect import _checks
from entroselect._float_environment import in_default_float_environment
from entroselect._memory import memory_limit as bytes_of
from entroselect.io.rows import Rows
from entroselect.nearest import find
from entroselect.results import Entropy, Float64, Int64, Neighbours, on_host
from entroselect.scale.batches import Batches
from entroselect.scale.budget import check_limit
from entroselect.scale.process_group import ProcessGroup, process_group_of, shared_errors
from entroselect.scale.tiled_nearest import shards_of_all

DUPLICATES = ("error", "floor", "drop")


@in_default_float_environment
def kl_entropy(
    features: Any,
    k: int = 1,
    *,
    duplicates: Literal["error", "floor", "drop"] = "error",
    floor: float = 1e-10,
    backend: str = "auto",
    memory_limit: int | str | None = None,
    group: Any = None,
    progress: Any = None,
) -> Entropy:
    """Kozachenko-Leonenko estimate of the differential entropy of the rows' distribution.

    H = psi(n) - psi(k) + log c_d + (d / n) sum_i log r_i, in nats, where r_i is the Euclidean
    distance from row i to its k-th nearest other row, psi the digamma function and c_d the volume
    of the d-dimensional unit ball (taken as a logarithm, so any d is finite). Shi et al. 2025,
    section 2; Kozachenko and Leonenko 1987. Values compare only at equal n and d. The
    ``geometric_mean_distance`` says the same thing as a typical spacing in the data's own units;
    it can be read across d, and still shrinks as n grows.

    Args:
        features: (n, d) rows, n >= k + 1; arrays or a Source (see `open_pool`).
        k: which neighbour.
        duplicates: what to do about rows with r_i = 0, whose logarithm is -inf. "error" raises;
            "floor" takes `floor` for every smaller r_i; "drop" keeps the first of every set of
            equal rows and estimates on those.
        floor: the smallest distance used with duplicates="floor".
        backend, memory_limit, progress: see `nearest_distances`.
        group: as there; every process passes its own shard of the rows and gets the entropy of all
            of them, the same float.

    With backend="faiss" distances are approximate and never too small, so the result is at most too
    high. A sample of 1,000 rows is searched exactly: `.excess` says by how many nats the result is
    too high as far as the sample goes, and the exact result is at least `.low` with 95 %
    confidence. That bound assumes that no row has an exact neighbour that the index missed nearer
    than the smallest distance found anywhere (with duplicates="floor": nothing, `floor` takes its
    place, and the bound is wider). A sample with copies that the index missed is the error that
    duplicates="error" stands for; with "drop" it makes `.low` -inf, and the result may then be too
    low as well.

    Returns:
        `Entropy`: a float that carries n, d, k, zero_distances and geometric_mean_distance. To the
        last bit the same for every memory limit and number of processes.

    Raises:
        ValueError: duplicates under "error"; fewer than k + 1 (distinct) rows; bad arguments.

    Complexity and memory: those of `nearest_distances(features, k=k)`, n**2 d products and at most
    2 d + 96 bytes per row, for k = 1 another 1.6 d + 8; with "drop", rows that had copies are
    searched once more. With `group`, distances are gathered: 8 bytes for each row of all.

    Example:
        >>> import numpy as np
        >>> from entroselect import kl_entropy
        >>> grid = np.arange(8.0)[:, None]
        >>> h = kl_entropy(grid)
        >>> h.n, h.d, h.geometric_mean_distance
        (8, 1, 1.0)
        >>> round(h, 4)                     # psi(8) - psi(1) + log 2
        3.286
    """
    _checks.choice("duplicates", duplicates, DUPLICATES)
    floor = _checks.real("floor", floor, "> 0", lambda x: math.isfinite(x) and x > 0)
    ranks = process_group_of(group)
    with shared_errors(ranks):
        k = _checks.integer("k", k, 1)
    rows = Batches("features", features, ranks=ranks)
    n = sum(_of_all(np.array([rows.n]), ranks).tolist())
    if k >= n:
        raise ValueError(
            f"k: the {_nearest(k)} other row needs at least {k + 1} rows, features has {n}"
        )
    if duplicates == "drop":
        _check_both(rows, k, memory_limit, ranks)
    found = find(rows, None, k, backend=backend, limit=memory_limit, ranks=ranks, progress=progress)
    return from_neighbours(
        rows, found, duplicates=duplicates, floor=floor, limit=memory_limit, ranks=ranks
    )


def _check_both(rows: Batches, k: int, limit: Any, ranks: ProcessGroup | None) -> None:
    """Raises ValueError unless the limit is enough for the search and for a second one of the rows
    that had copies."""
    with shared_errors(ranks):
        limit = bytes_of(limit)
    shards = [(rows.n, rows.dtype)] if ranks is None else shards_of_all(rows, ranks)
    every = np.arange(rows.n)
    again = (rows.part(every), rows.part(every), k + 1)
    check_limit(limit, [(rows, None, k), again], shards, ranks)


@in_default_float_environment
def from_neighbours(
    rows: Rows | Batches,
    found: Neighbours,
    *,
    duplicates: str,
    floor: float = 1e-10,
    limit: Any = None,
    ranks: ProcessGroup | None = None,
) -> Entropy:
    """The estimate from neighbours already found among `rows`; arguments as in `kl_entropy`."""
    k = found.distances.shape[1]
    distances = _of_all(on_host(found.distances)[:, k - 1], ranks)
    n = len(distances)
    zero = distances == 0
    if found.sample is not None:
        zero[found.sample[0]] |= found.sample[1][:, k - 1] == 0
    zeros = int(np.count_nonzero(zero))
    if zeros and duplicates == "error":
        first = int(np.flatnonzero(zero)[0])
        raise ValueError(
            f"features: {zeros} of {n} rows have their {_nearest(k)} row at distance 0 "
            f"(the first: row {first}), so the entropy is -inf; pass duplicates='drop' to keep one "
            "of each, or duplicates='floor' to count them at the distance `floor`"
        )
    if duplicates == "floor":
        distances = np.maximum(distances, floor)
    elif duplicates == "drop":
        pieces = rows if isinstance(rows, Batches) else Batches("features", rows)
        if found.sample is None:
            distances = _of_all(_without_copies(pieces, found, limit, ranks), ranks)
        else:
            found = _among_distinct_rows(pieces.whole(), found)
            distances = found.distances[:, k - 1]
    mean_log = float(np.mean(np.log(distances)))
    n = len(distances)
    nats = _digamma(n) - _digamma(k) + log_unit_ball_volume(rows.d) + rows.d * mean_log
    excess = low = None
    if found.sample is not None:
        queries, exact = found.sample[0], found.sample[1][:, k - 1]
        least = min(float(distances.min()), float(exact.min()))
        if duplicates == "floor":
            exact, least = np.maximum(exact, floor), floor
        mean, highest = _mean_log_ratio(distances, queries, exact, least)
        excess, low = rows.d * mean, nats - rows.d * highest
    return Entropy(
        nats,
        n=n,
        d=rows.d,
        k=k,
        zero_distances=zeros,
        geometric_mean_distance=math.exp(mean_log),
        backend=found.backend,
        recall=found.recall,
        excess=excess,
        low=low,
    )


def _mean_log_ratio(
    distances: Float64, sample: Int64, exact: Float64, least: float
) -> tuple[float, float]:
    """Mean of log(distance / exact distance): of the sample, and at most of all rows.

    The second holds with 95 % confidence if no exact distance is below `least`, for any
    distribution: the logarithms lie between 0 and a width that is then known, and the mean of m
    such values, drawn without replacement, is q or less with probability exp(-m KL(q, p)) at most
    where the true mean is p, both in units of the width (Hoeffding 1963, theorem 1 and section 6).
    So even a sample without a miss leaves room for log(20) / m of the width.
    """
    if least == 0.0:
        return math.inf, math.inf
    mean = float(np.mean(np.log(distances[sample]) - np.log(exact)))
    width = math.log(distances.max()) - math.log(least)
    unseen = 1 - len(sample) / len(distances)
    share = min(1.0, mean / width) if width > 0 else 1.0
    below, above = share, 1.0
    for _ in range(60):
        middle = (below + above) / 2
        if len(sample) * _divergence(share, middle) < math.log(20):
            below = middle
        else:
            above = middle
    return mean, min(above * width, (1 - unseen) * mean + unseen * width)


def _divergence(q: float, p: float) -> float:
    """Kullback-Leibler divergence of a coin of chance q from one of chance p >= q."""
    if p >= 1:
        return 0.0 if q >= 1 else math.inf
    heads = q * math.log(q / p) if q > 0 else 0.0
    return heads + ((1 - q) * math.log((1 - q) / (1 - p)) if q < 1 else 0.0)


def _among_distinct_rows(rows: Rows, found: Neighbours) -> Neighbours:
    """Approximate neighbours among the rows that are left when, of rows found to be equal, the
    first stays; searched anew until no more equal ones are found."""
    k = found.distances.shape[1]
    while True:
        row, place = np.nonzero(found.distances == 0)
        if len(row) == 0:
            return found
        copies = np.maximum(row, found.indices[row, place])
        keep = np.setdiff1d(np.arange(rows.n), copies)
        if len(keep) <= k:
            raise _too_few(len(keep), k)
        rows = Rows(rows.values[keep], rows.dtype)
        found = find(Batches("features", rows), None, k, backend=found.backend)


def _nearest(k: int) -> str:
    return "nearest" if k == 1 else f"{k}-th nearest"


def _too_few(distinct: int, k: int) -> ValueError:
    return ValueError(f"features: only {distinct} distinct rows, the {_nearest(k)} needs {k + 1}")


def _without_copies(
    rows: Batches, found: Neighbours, limit: Any, ranks: ProcessGroup | None
) -> Float64:
    """k-th neighbour distances of this process's rows that are the first of a set of equal rows,
    among all such rows."""
    n, k = found.distances.shape
    every, indices = on_host(found.distances), on_host(found.indices)
    first = 0
    if ranks is not None:
        first = int(_of_all(np.array([n]), ranks)[: ranks.rank].sum())
    # Ties go to the lowest index, so the nearest row of a copy of an earlier row is an earlier one.
    ours = (every[:, 0] == 0) & (indices[:, 0] < first + np.arange(n))
    copy = _of_all(ours, ranks)
    kept = len(copy) - int(np.count_nonzero(copy))
    if kept <= k:
        raise _too_few(kept, k)
    keep = np.flatnonzero(~ours)
    distances: Float64 = every[keep, k - 1]
    # Only rows that had a copy among their neighbours need new ones.
    again = keep[copy[indices[keep]].any(axis=1)]
    if _of_all(np.array([len(again)]), ranks).any():
        nearest = find(
            rows.part(again),
            rows.part(keep),
            k + 1,  # each finds itself first, the only one at distance 0
            backend=found.backend,
            limit=limit,
            ranks=ranks,
        )
        distances[np.searchsorted(keep, again)] = on_host(nearest.distances)[:, k]
    return distances


def _of_all(array: Any, ranks: ProcessGroup | None) -> Any:
    """The arrays of all processes, concatenated in rank order."""
    return array if ranks is None else np.concatenate(ranks.all_gather(array))


@in_default_float_environment
def generalization_score(
    generated: Any,
    training: Any,
    *,
    kind: Literal["l2", "mse"] = "l2",
    backend: str = "auto",
    memory_limit: int | str | None = None,
    group: Any = None,
    progress: Any = None,
) -> float:
    """Mean over generated rows of the distance to the nearest training row (Shi et al. 2025).

    High: the model generalises; low: it memorises. "l2" is the Euclidean distance; "mse" its
    square divided by the number of columns (per-pixel squared error, for images on 0 to 255).

    Args:
        generated: (n, d) rows made by the model; arrays or a Source.
        training: (m, d) rows it was trained on.
        kind: "l2" or "mse".
        backend, memory_limit, progress: see `nearest_distances`.
        group: as there; shards of both go in, the score of all comes out, everywhere the same.

    Example:
        >>> from entroselect import generalization_score
        >>> generalization_score([[3.0, 4.0], [0.0, 1.0]], [[0.0, 0.0], [9.0, 9.0]])
        3.0
        >>> generalization_score([[3.0, 4.0]], [[0.0, 0.0]], kind="mse")
        12.5
    """
    _checks.choice("kind", kind, ("l2", "mse"))
    ranks = process_group_of(group)
    # Under this function's argument names, so that a bad value is reported with them.
    rows = Batches("generated", generated, ranks=ranks)
    against = Batches("training", training, ranks=ranks)
    with shared_errors(ranks):
        _checks.same_width("generated", rows, "training", against)
    found = find(
        rows, against, 1, backend=backend, limit=memory_limit, ranks=ranks, progress=progress
    )
    distances = _of_all(on_host(found.distances), ranks)
    if len(distances) == 0:
        raise ValueError("generated: at least 1 row needed, got 0")
    if kind == "mse":
        return float(np.mean(distances**2) / rows.d)
    return float(np.mean(distances))


@in_default_float_environment
def mean_nearest_distance(
    features: Any,
    *,
    backend: str = "auto",
    memory_limit: int | str | None = None,
    group: Any = None,
    progress: Any = None,
) -> float:
    """Mean distance from each row to its nearest other row (MNND); needs at least 2 rows. Other
    arguments as in `nearest_distances` and `generalization_score`.

    Example:
        >>> from entroselect import mean_nearest_distance
        >>> mean_nearest_distance([[0.0], [1.0], [3.0]])
        1.3333333333333333
    """
    ranks = process_group_of(group)
    rows = Batches("features", features, ranks=ranks)
    n = sum(_of_all(np.array([rows.n]), ranks).tolist())
    if n < 2:
        raise ValueError(f"features: at least 2 rows needed, got {n}")
    found = find(rows, None, 1, backend=backend, limit=memory_limit, ranks=ranks, progress=progress)
    return float(np.mean(_of_all(on_host(found.distances), ranks)))


def log_unit_ball_volume(d: int) -> float:
    """log of pi**(d/2) / Gamma(d/2 + 1), finite for any d."""
    return 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d + 1)


def _digamma(n: int) -> float:
    """psi(n) for integers: the harmonic sum when short, the asymptotic series when it is exact."""
    if n < 32:
        return math.fsum(1.0 / i for i in range(1, n)) - 0.5772156649015329
    square = 1.0 / (n * n)
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    return math.log(n) - 0.5 / n - series
