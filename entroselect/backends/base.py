"""What a backend is: the protocol of the objects that `_dispatch` returns.

To add a backend, write a class with these members in a module beside this one, and name it in
`_dispatch.BACKENDS`.
"""

from __future__ import annotations

from typing import Any, NoReturn, Protocol

from entroselect import engine
from entroselect.exchange import Exchanged, Objective
from entroselect.io.rows import Rows
from entroselect.results import Float64, Int64, Neighbourhoods, Neighbours, Selection


class Loops(Protocol):
    """Selections of a backend's own, with the arguments of the functions in `reference`."""

    def greedy_select(self, *arguments: Any, **options: Any) -> Selection:
        """Greedy max-min."""

    def threshold_select(self, *arguments: Any, **options: Any) -> Selection:
        """The threshold filter."""


class Backend(Protocol):
    """Makes pools and finds neighbours.

    Attributes:
        name: what results say in `.backend`.
        takes: what the backend serves: the operations "selection", "nearest", "within" (points
            within a distance), "batch" (selection from many clouds), "pairs" (sums over all pairs
            of rows) and "exchange" (anchored selection); the arguments "memory_limit", "group" and
            "checkpoint"; "candidates" and "groups", for which pools are `constrained.LimitedPool`;
            "weights", for which they are `weighted.WeightedPool`; "bits", the metrics of rows of
            bits; "cuda", rows on a CUDA device. `_dispatch` refuses everything else, so a method
            that only serves something else is never called.
        loops: None: selection is the engine's rounds over `new_pool`. The reference has whole
            functions instead, since it checks the engine and may not run it.
    """

    @property
    def name(self) -> str: ...

    @property
    def takes(self) -> frozenset[str]: ...

    @property
    def loops(self) -> Loops | None: ...

    def new_pool(
        self, rows: Rows, metric: str, sub: bool = False, limit: int | None = None
    ) -> engine.SubPool:
        """A pool over rows in memory. With `sub` it is a part of a larger pool and must be an
        engine.SubPool; otherwise an engine.Pool is enough. `limit`: bytes of device memory that a
        GPU may use besides the rows."""

    def nearest(
        self, queries: Rows, points: Rows | None, k: int, metric: str, progress: Any
    ) -> Neighbours:
        """k nearest points of each query; points=None means the other queries."""

    def update_neighbours(
        self,
        queries: Rows,
        points: Rows | None,
        offset: int,
        squared: Float64,
        indices: Int64,
        metric: str,
        progress: Any,
    ) -> None:
        """Compares queries with further points, whose numbers begin at `offset`, and updates in
        place what is known of the queries' neighbours: squared distances and indices, (Nq, k),
        sorted by (distance, index), with infinity and the largest int64 in empty places.
        points=None means the other queries."""

    def within(
        self, queries: Rows, points: Rows | None, distance: float, metric: str, progress: Any
    ) -> Neighbourhoods:
        """All points at most `distance` from each query; points=None means all queries, each itself
        included."""

    def center(self, rows: Rows, metric: str, farthest: bool = False) -> int:
        """The row nearest to the mean row, or farthest from it; of equals, the first."""

    def add_distances(self, rows: Rows, points: Rows, metric: str, totals: Float64) -> None:
        """Adds to the total of every row, (n,), its canonical distances to the points, one after
        the other, in place."""

    def batch_centers(self, rows: Rows, lengths: Int64, farthest: bool) -> Int64:
        """As `center`, for every cloud of a batch; rows and lengths as in `batch_greedy`."""

    def batch_greedy(
        self, rows: Rows, lengths: Int64, starts: Int64, k: int
    ) -> tuple[Int64, Float64, Float64]:
        """Greedy max-min for every cloud of a batch; euclidean.

        Args:
            rows: B clouds of N rows each, one after the other.
            lengths: (B,); the first lengths[b] rows of cloud b are its points.
            starts: (B,); the first pick of every cloud, numbered from 0 in each.
            k: picks per cloud.

        Returns:
            indices (B, k), distances (B, k) and radius (B,).
        """

    def exchange(
        self,
        rows: Rows,
        metric: str,
        objective: Objective,
        first: Int64 | None,
        most: int,
        progress: Any,
    ) -> Exchanged:
        """Members of the pool that minimise the objective.

        Args:
            rows: the pool.
            metric: of distances.
            objective: see there.
            first: the first members, in order; None: added one by one, the first where A is least,
                then each where J with one more member is least, not counting what the new member
                does to the nearest distances of the others.
            most: exchanges at most. Members are looked at in turn; each is exchanged for the row
                that lowers J most, the lowest of equals, and stays if none does. It ends when all
                have stayed since the last exchange.
            progress: None or a function of the work done, which is 2 k at the end.
        """


def not_taken(backend: Backend, *_arguments: Any, **_options: Any) -> NoReturn:
    """Takes the place of a method that the backend's `takes` rules out."""
    raise NotImplementedError(f"backend {backend.name!r} takes {sorted(backend.takes)} only")
