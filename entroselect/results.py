"""The results of the operations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

Metric = Literal["euclidean", "cosine"]
# Of rows of numbers, or of bits.
AnyMetric = Literal["euclidean", "cosine", "tanimoto", "hamming"]


def on_host(found: Any) -> NDArray[Any]:
    """A result as a NumPy array, in host memory."""
    return found if isinstance(found, np.ndarray) else np.asarray(found.cpu())


@dataclass(frozen=True, eq=False)
class Selection:
    """k rows of a pool, in the order in which they were picked.

    Any prefix is the selection for that smaller k, unless quotas depend on k. Of a pool on a CUDA
    device, arrays are tensors there.

    It stands for its indices: ``len``, iteration, ``selection[0]``, ``selection[:10]``,
    ``np.asarray(selection)``, and ``features[selection]`` of a NumPy array are theirs. A torch
    tensor is indexed by ``features[selection.indices]``.

    Attributes:
        indices: int64 (k,); pool rows in pick order.
        distances: float64 (k,); distance from each pick to all picks before it, inf for the very
            first of all. Greedy distances never increase, unless there are weights.
        radius: the largest distance from any pool row to the selection (0 when all are picked);
            with ``weights=``, the largest weight x distance.
        backend: what computed it, for example "cpu:avx512bf16"; can be passed as ``backend=``.
        thresholds: float64 (k,), only from `threshold_select`: the threshold in force at each
            acceptance; ``thresholds[0]`` is the starting value.
        profile: how the time was spent (rounds, picks per round, share of the n k pairs looked at,
            exact rechecks per row, seconds by phase); not part of the contract.
        counts: with ``groups=``, how many of the picks are of each group, by label.

    Example:
        >>> import numpy as np
        >>> from entroselect import greedy_select
        >>> line = np.array([[0.0], [1.0], [2.0], [10.0]])
        >>> picked = greedy_select(line, 3)
        >>> [int(row) for row in picked], line[picked].ravel().tolist()
        ([0, 3, 2], [0.0, 10.0, 2.0])
    """

    indices: Int64
    distances: Float64
    radius: float
    backend: str
    thresholds: Float64 | None = None
    profile: dict[str, Any] = field(default_factory=dict, repr=False)
    counts: dict[Any, int] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.indices)

    def __getitem__(self, places: Any) -> Any:
        return self.indices[places]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        indices = on_host(self.indices)
        if copy is False and dtype is not None and np.dtype(dtype) != indices.dtype:
            raise ValueError(f"indices are {indices.dtype}; {np.dtype(dtype)} needs a copy")
        return np.array(indices, dtype=dtype) if copy else np.asarray(indices, dtype=dtype)

    def to_arrow(self) -> Any:
        """An Arrow table with the columns row and distance, and threshold where there are any, in
        pick order. Needs pyarrow."""
        from entroselect.frames import to_arrow  # upward imports: methods of a result

        return to_arrow(self)

    def to_pandas(self) -> Any:
        """As `to_arrow`, as a DataFrame. Needs pandas."""
        from entroselect.frames import to_pandas

        return to_pandas(self)

    def plot(self, features: Any = None, *, metric: AnyMetric = "euclidean") -> Any:
        """A matplotlib Figure: the distance of each pick to all before it; with the pool's
        `features`, (n, d), beside it the picks among at most 3,000 rows of the pool, on the pool's
        first two principal components. A notebook shows it; `savefig` writes it. Needs
        matplotlib."""
        from entroselect._notebook import plot

        return plot(self, features, metric)

    def _repr_html_(self) -> str:
        from entroselect._notebook import selection_html

        return selection_html(self)

    def assign(
        self,
        features: Any,
        *,
        metric: AnyMetric = "euclidean",
        backend: str = "auto",
        progress: Any = None,
        memory_limit: int | str | None = None,
        group: Any = None,
    ) -> Cover:
        """Which pick is the nearest to every row of the pool, and how many rows each stands for.

        Args:
            features: the pool, (n, d), from which the rows were picked.
            metric, backend, progress, memory_limit, group: as in `nearest_distances`. The vectors
                of the k picks are held in memory besides, in every process.

        Returns:
            `Cover`: for every row the nearest pick and its distance; equally near picks: the one
            that was picked first. Its `sizes` are weights of the picks, as of a coreset. A pick is
            its own nearest unless it is a copy of an earlier one. Vectors that were passed as
            `selected` are no picks.

        Raises:
            ValueError, TypeError: naming the argument, before any work.

        Complexity: n k d in the filter's precision, as `nearest_distances`.

        Source: Har-Peled and Mazumdar 2004, On coresets for k-means and k-median clustering.

        Example:
            >>> import numpy as np
            >>> from entroselect import greedy_select
            >>> line = np.array([[0.0], [1.0], [2.0], [10.0]])
            >>> cover = greedy_select(line, 2).assign(line)
            >>> cover.picks.tolist(), cover.distances.tolist(), cover.sizes.tolist()
            ([0, 0, 0, 1], [0.0, 1.0, 2.0, 0.0], [3, 1])
        """
        from entroselect.cover import assign

        return assign(
            features, self.indices, metric=metric, backend=backend, progress=progress,
            memory_limit=memory_limit, group=group,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cover:
    """Some picks of a pool, and for every row of the pool the nearest of them. Of a pool on a CUDA
    device, arrays are tensors there.

    Attributes:
        indices: int64 (k,); pool rows of the picks, in pick order.
        picks: int64 (n,); the number of each row's nearest pick, from 0: its place in `indices`.
        distances: float64 (n,); distance of each row to it.
        sizes: int64 (k,); how many rows are nearest to each pick, n in all.
        backend: what computed it.
        profile: as in `Selection`; not part of the contract.

    With several processes, `picks` and `distances` are of this process's rows, the others of all.
    """

    indices: Int64
    picks: Int64
    distances: Float64
    sizes: Int64
    backend: str
    profile: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def duplicate_of(self) -> Int64:
        """int64 (n,); the pool row of each row's nearest pick: of a pick, itself."""
        return self.indices[self.picks]


@dataclass(frozen=True, eq=False)
class AnchoredSelection(Selection):
    """k rows of a pool that are distributed like a reference and spread out.

    As a `Selection`, but a prefix is not the selection for that smaller k, and `distances` holds
    each row's distance to its nearest other row among the k (inf for k = 1).

    Attributes:
        objective: energy_distance - diversity * mean log nearest distance, the distances in units
            of `scale`; what was minimised.
        energy_distance: of the rows to the reference, in units of `scale`: 0 if they are the same.
        entropy: Kozachenko-Leonenko entropy of the rows in nats; None for k = 1 or where rows are
            equal.
        pool_distance: as energy_distance, of the pool (of an even sample of it, if it is larger
            than the reference and 10,000 rows).
        reference_noise: as energy_distance, what is expected between the reference and the
            distribution that it is a sample of. Nearer than this, a selection copies the sample. 0
            without a reference.
        scale: mean distance of pool rows to reference rows, in the features' units.
        exchanges: how many rows were exchanged for others after the start.
    """

    objective: float = 0.0
    energy_distance: float = 0.0
    entropy: float | None = None
    pool_distance: float = 0.0
    reference_noise: float = 0.0
    scale: float = 0.0
    exchanges: int = 0


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest points of every query, nearest first; ties: lowest index first. Of queries on a
    CUDA device, arrays are tensors there.

    Attributes:
        distances: float64 (Nq, k).
        indices: int64 (Nq, k); rows of the points.
        backend: what computed it.
        recall: which share of the exact neighbours of a sample of the queries is among these;
            None: they are exact. An equally near point of another index is not the exact one.
        sample: with a recall, those queries, int64 (S,), and their exact distances (S, k).
        profile: bytes_read from files, tiles in which rows were read, and with several processes
            bytes_sent and bytes_received; not part of the contract.
    """

    distances: Float64
    indices: Int64
    backend: str
    recall: float | None = None
    sample: tuple[Int64, Float64] | None = field(default=None, repr=False)
    profile: dict[str, Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        shown = [(entry.name, getattr(self, entry.name)) for entry in fields(self) if entry.repr]
        known = ", ".join(f"{name}={value!r}" for name, value in shown if value is not None)
        return f"Neighbours({known})"

    def _repr_html_(self) -> str:
        from entroselect._notebook import neighbours_html

        return neighbours_html(self)


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """The points within a distance of every query, as a sparse matrix (CSR) of distances.

    Those of query i are ``indices[indptr[i]:indptr[i + 1]]``, in ascending order.
    ``scipy.sparse.csr_array((distances, indices, indptr), shape=(Nq, Np))`` is the matrix.

    Attributes:
        indptr: int64 (Nq + 1,); `numpy.diff` of it says how many points each query has.
        indices: int64 (pairs,); rows of the points.
        distances: float64 (pairs,).
        backend: what computed it.
        profile: as in `Neighbours`; not part of the contract.
    """

    indptr: Int64
    indices: Int64
    distances: Float64
    backend: str
    profile: dict[str, Any] = field(default_factory=dict, repr=False)


class Entropy(float):
    """A Kozachenko-Leonenko entropy in nats: a float with attributes that say how it was computed.

    Attributes:
        n, d, k: rows that entered, their width, which neighbour.
        zero_distances: how many of the given rows had k-th neighbour distance 0.
        geometric_mean_distance: exp of the mean log distance, in the data's own units.
        backend: what computed the distances.
        recall, excess, low: None if those are exact. Approximate distances are never too small,
            so the entropy of exact ones is at most this. `recall` is that of the neighbours;
            `excess` is by how many nats a sample of the rows says that this is too high; and
            `low` is what the entropy of exact distances does not fall below with 95 % confidence,
            on the assumption that `kl_entropy` states. -inf: the sample contradicts it.
    """

    n: int
    d: int
    k: int
    zero_distances: int
    geometric_mean_distance: float
    backend: str
    recall: float | None
    excess: float | None
    low: float | None

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
        recall: float | None = None,
        excess: float | None = None,
        low: float | None = None,
    ) -> Entropy:
        self = super().__new__(cls, nats)
        self.n, self.d, self.k = n, d, k
        self.zero_distances = zero_distances
        self.geometric_mean_distance = geometric_mean_distance
        self.backend = backend
        self.recall, self.excess, self.low = recall, excess, low
        return self

    def __repr__(self) -> str:
        measured = "".join(
            f", {name}={value:.6g}"
            for name, value in (("recall", self.recall), ("excess", self.excess), ("low", self.low))
            if value is not None
        )
        return (
            f"Entropy({float(self):.6g} nats, n={self.n}, d={self.d}, k={self.k}, "
            f"zero_distances={self.zero_distances}, "
            f"geometric_mean_distance={self.geometric_mean_distance:.6g}{measured})"
        )

    __str__ = float.__repr__

    def _repr_html_(self) -> str:
        from entroselect._notebook import entropy_html

        return entropy_html(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_entropy, (float(self), dict(self.__dict__))


def _rebuild_entropy(nats: float, attributes: dict[str, Any]) -> Entropy:
    return Entropy(nats, **attributes)
