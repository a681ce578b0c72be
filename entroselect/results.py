"""What the operations return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


def on_host(found: Any) -> NDArray[Any]:
    """Results as NumPy, wherever they are."""
    return found if isinstance(found, np.ndarray) else np.asarray(found.cpu())


@dataclass(frozen=True, eq=False)
class Selection:
    """k rows of a pool, in the order in which they were chosen.

    Any prefix is the selection for that smaller k. Of a pool on a CUDA device, arrays are tensors
    there.

    Attributes:
        indices: int64 (k,); pool rows in pick order.
        distances: float64 (k,); distance from each pick to everything chosen before it, inf for
            the very first of all. Greedy distances never increase.
        radius: the largest distance from any pool row to the selection (0 when all are chosen).
        backend: what computed it, for example "cpu:avx512bf16"; can be passed as ``backend=``.
        thresholds: float64 (k,), only from `threshold_select`: the threshold in force at each
            acceptance; ``thresholds[0]`` is the starting value.
        profile: where the time went (rounds, picks a round, share of the n k pairs looked at,
            exact rechecks a row, seconds by phase); not part of the contract.
    """

    indices: Int64
    distances: Float64
    radius: float
    backend: str
    thresholds: Float64 | None = None
    profile: dict[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest points of every query, nearest first; ties: lowest index first. Of queries on a
    CUDA device, arrays are tensors there.

    Attributes:
        distances: float64 (Nq, k).
        indices: int64 (Nq, k); rows of the points.
        backend: what computed it.
    """

    distances: Float64
    indices: Int64
    backend: str


class Entropy(float):
    """A Kozachenko-Leonenko entropy in nats: a float that remembers what went into it.

    Attributes:
        n, d, k: rows that entered, their width, which neighbour.
        zero_distances: how many of the given rows had k-th neighbour distance 0.
        geometric_mean_distance: exp of the mean log distance, in the data's own units.
        backend: what computed the distances.
    """

    n: int
    d: int
    k: int
    zero_distances: int
    geometric_mean_distance: float
    backend: str

    def __new__(
        cls,
        nats: float,
        *,
        n: int,
        d: int,
        k: int,
        zero_distances: int,
        geometric_mean_distance: float,
        backend: str,
    ) -> Entropy:
        self = super().__new__(cls, nats)
        self.n, self.d, self.k = n, d, k
        self.zero_distances = zero_distances
        self.geometric_mean_distance = geometric_mean_distance
        self.backend = backend
        return self

    def __repr__(self) -> str:
        return (
            f"Entropy({float(self):.6g} nats, n={self.n}, d={self.d}, k={self.k}, "
            f"zero_distances={self.zero_distances}, "
            f"geometric_mean_distance={self.geometric_mean_distance:.6g})"
        )

    __str__ = float.__repr__

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_entropy, (float(self), dict(self.__dict__))


def _rebuild_entropy(nats: float, attributes: dict[str, Any]) -> Entropy:
    return Entropy(nats, **attributes)
