"""How far apart rows are, and how well picks cover a pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import Entropy, _checks, nearest_distances
from entroselect.entropy import from_neighbours
from entroselect.results import AnyMetric, Float64, Int64
from entroselect.scale.batches import Batches

# All pairs of more rows than this are compared only with --entropy.
SAMPLE = 20_000


@dataclass(frozen=True)
class Spread:
    """How far apart rows are.

    Attributes:
        rows: how many were measured.
        entropy: Kozachenko-Leonenko, k = 1, over the distinct rows and always Euclidean; None
            for fewer than two distinct rows.
        distances: float64 (rows,), from each row to its nearest other row in the given metric;
            empty for a single row.
        of: how many there are; more than `rows` if those are a sample, whose distances are
            larger than those of all.
    """

    rows: int
    entropy: Entropy | None
    distances: Float64
    of: int

    @property
    def mean_nearest_distance(self) -> float | None:
        """The mean distance to the nearest other row; None for a single row."""
        return float(np.mean(self.distances)) if len(self.distances) else None

    def describe(self) -> dict[str, Any]:
        """The measures for reports, ready for JSON."""
        entropy = self.entropy
        return {
            "rows": self.of,
            "measured_rows": self.rows,
            "entropy_nats": None if entropy is None else float(entropy),
            "geometric_mean_distance": (
                None if entropy is None else entropy.geometric_mean_distance
            ),
            "entropy_rows": None if entropy is None else entropy.n,
            "rows_with_a_duplicate": None if entropy is None else entropy.zero_distances,
            "mean_nearest_distance": self.mean_nearest_distance,
        }


def sampled(rows: NDArray[Any], most: int = SAMPLE) -> NDArray[Any]:
    """The rows, or `most` of them drawn with seed 0, in their order."""
    if len(rows) <= most:
        return rows
    drawn = np.random.default_rng(0).choice(len(rows), most, replace=False)
    taken: NDArray[Any] = rows[np.sort(drawn)]
    return taken


def spread(
    rows: Any,
    metric: AnyMetric,
    backend: str,
    limit: str | None = None,
    progress: Any = None,
    of: int | None = None,
) -> Spread:
    """Measures rows, a sample of `of`, against each other: one search of n**2 d, another if the
    metric is cosine. Rows of bits have no entropy."""
    of = len(rows) if of is None else of
    if len(rows) < 2:
        return Spread(len(rows), None, np.empty(0), of)
    checked: Any = rows
    where: dict[str, Any] = {"backend": backend, "progress": progress, "memory_limit": limit}
    if limit is None:
        checked = _checks.usable_rows("features", rows, metric)
    found = nearest_distances(checked, metric=metric, **where)
    distances = found.distances[:, 0]
    if _checks.is_of_bits(metric):
        return Spread(len(rows), None, distances, of)
    if metric != "euclidean":
        found = nearest_distances(checked, **where)
    if not found.distances.any():  # all rows are equal: there is no entropy
        return Spread(len(rows), None, distances, of)
    pieces = Batches("features", checked)
    entropy = from_neighbours(pieces, found, duplicates="drop", limit=limit)
    return Spread(len(rows), entropy, distances, of)


@dataclass(frozen=True)
class Cover:
    """How well picks cover a pool.

    Attributes:
        ranks: int64; numbers of picks, ascending.
        radii: float64; the largest distance of any pool row to the nearest of the first ranks[i]
            picks.
        distances: float64 (n,); from each pool row to the nearest of all picks.
        nearest: int64 (n,); which pick that is.
        backend: what computed them.
    """

    ranks: Int64
    radii: Float64
    distances: Float64
    nearest: Int64
    backend: str


def cover(
    rows: NDArray[Any],
    picks: NDArray[Any],
    ranks: Sequence[int],
    metric: AnyMetric,
    backend: str,
    progress: Any = None,
) -> Cover:
    """Covers of `rows` by the first ranks[0], ranks[1], ... of `picks`; the last rank is all.

    Each pick is compared with the pool once, so this costs n len(picks) d in all.
    """
    distances = np.full(len(rows), np.inf)
    nearest = np.zeros(len(rows), dtype=np.int64)
    radii = []
    for begin, end in zip([0, *ranks[:-1]], ranks, strict=True):
        part = nearest_distances(
            rows, picks[begin:end], metric=metric, backend=backend, progress=progress
        )
        closer = part.distances[:, 0] < distances
        distances[closer] = part.distances[closer, 0]
        nearest[closer] = begin + part.indices[closer, 0]
        radii.append(distances.max())
    return Cover(np.array(ranks, dtype=np.int64), np.array(radii), distances, nearest, part.backend)


def rising_ranks(first: int, last: int, count: int = 16) -> list[int]:
    """About `count` numbers from `first` to `last`, evenly spread over a logarithmic axis."""
    return [int(rank) for rank in np.unique(np.geomspace(first, last, count).round().astype(int))]
