"""A pool whose rows are held by several processes; the rows of rank r follow those of ranks < r.

Every process keeps the bounds of its own rows and all picks. In a round the processes exchange the
best row left out of each frontier. Then the rows that may come next are sent to rank 0, which
settles picks among them and sends the picks to every process. The other rows of the pool are never
sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import engine
from entroselect.backends.base import Backend
from entroselect.io.rows import Rows
from entroselect.results import Float64, Int64, on_host
from entroselect.scale.process_group import ProcessGroup


class ShardedPool:
    """engine.Pool over the pools of several processes. Rows that one primitive returns and another
    takes are numbered within their process; picks are numbered in the whole pool."""

    def __init__(
        self,
        local: engine.SubPool,
        values: Callable[[Int64], NDArray[Any]],
        dtype: str,
        metric: str,
        backend: Backend,
        ranks: ProcessGroup,
    ) -> None:
        """`values` returns rows of the local pool in host memory."""
        self.local, self._values = local, values
        self.dtype, self.metric, self.backend, self.ranks = dtype, metric, backend, ranks
        sizes = np.concatenate(ranks.all_gather(np.array([local.n], dtype=np.int64)))
        self.first = int(sizes[: ranks.rank].sum())
        self.n, self.d = int(sizes.sum()), local.d
        self.count, self.available = 0, self.n
        # A block is gathered on one process, so its size is the smallest that any process asks for.
        asked = getattr(local, "capacity", 0) if local.n else 0
        limits = np.concatenate(ranks.all_gather(np.array([asked], dtype=np.int64)))
        self.capacity = int(limits[limits > 0].min()) if limits.any() else None
        self._order: tuple[Any, Int64, Int64] = (None, np.empty(0, np.int64), np.empty(0, np.int64))
        self._positions = np.empty(0, np.int64)
        self.rounds = 0

    def add_picks(self, rows: Int64) -> None:
        """Picks rows of the whole pool."""
        own = (rows >= self.first) & (rows < self.first + self.local.n)
        with self.ranks.shared_errors():
            vectors = self._values(rows[own] - self.first)
        places = np.concatenate(self.ranks.all_gather(np.flatnonzero(own)))
        gathered = np.concatenate(self.ranks.all_gather(vectors))
        ordered = np.empty_like(gathered)
        ordered[places] = gathered
        self._add(rows, ordered)

    def add_vectors(self, values: Any, dtype: str) -> None:
        """Adds vectors that are not in the pool to the picks, the same on every process."""
        with self.ranks.shared_errors():
            self.local.add_vectors(values, dtype)
        self.count += len(values)

    def refresh(self, rows: Int64 | None = None, enough: float = 0.0) -> None:
        """Brings the bounds of own rows (None: of all) up to date, or below `enough`."""
        with self.ranks.shared_errors():
            self.local.refresh(rows, enough)

    def frontier(self, size: int) -> tuple[Int64, float, int]:
        """This process's rows among about `size` with the largest bounds; the best row left out of
        any process's."""
        rows, rival, index = self._local_frontier(-(-size // self.ranks.size))
        rival, index = self.ranks.max_with_index(rival, index + self.first)
        return self._beating(rows, rival, index), rival, index

    def settle(
        self, rows: Int64, rival: float, rival_index: int, limit: int, floor: float
    ) -> tuple[Int64, Float64, float]:
        """Picks up to `limit` of all processes' rows, farthest first, while they beat the rival
        and are at `floor` or above; and the next pick's squared distance, -1 where undecided."""
        # The best row that any process had no room for is a rival too.
        bound, row = getattr(self.local, "cut", (-1.0, -1))
        cut, cut_index = self.ranks.max_with_index(bound, row + self.first)
        if cut > rival or (cut == rival and cut_index < rival_index):
            rival, rival_index = cut, cut_index
        rows = self._beating(rows, rival, rival_index)

        def settle(block: engine.SubPool, numbers: Int64) -> tuple[Int64, Float64, float]:
            place = int(np.searchsorted(numbers, rival_index))
            return engine.settle_block(block, rival, place, limit, floor)

        return self._settle(rows, rows + self.first, settle)

    def next_in_order(self, order: Int64, start: int, size: int, floor: float) -> tuple[Int64, int]:
        """The next `size` unpicked rows of all processes with bounds of at least `floor`, in order
        from a position: those that are this process's own, and the position after all of them."""
        if self._order[0] is not order:
            own = (order >= self.first) & (order < self.first + self.local.n)
            places = np.flatnonzero(own)
            self._order = (order, places, order[places] - self.first)
        _, places, rows = self._order
        with self.ranks.shared_errors():
            begin = int(np.searchsorted(places, start))
            found, end = self.local.next_in_order(rows, begin, size, floor)
            found = on_host(found)
            candidates = places[begin:end][np.isin(rows[begin:end], found)]
        every = np.sort(np.concatenate(self.ranks.all_gather(candidates)))
        last = int(every[size - 1]) if len(every) >= size else len(order) - 1
        inside = candidates <= last
        self._positions = candidates[inside]
        return found[inside], last + 1

    def settle_in_order(self, rows: Int64, limit: int, floor: float) -> tuple[Int64, Float64]:
        """Picks up to `limit` of all processes' rows that `next_in_order` found, in order, each if
        still at `floor`."""
        live = self.local.bounds(rows) >= floor

        def settle(block: engine.SubPool, numbers: Int64) -> tuple[Int64, Float64, float]:
            return *engine.settle_block_in_order(block, limit, floor), -1.0

        return self._settle(rows[live], self._positions[live], settle)[:2]

    def widest(self) -> float:
        """The largest bound of any row that is not picked, 0 when there is none."""
        return self.ranks.max_with_index(self.local.widest(), self.ranks.rank)[0]

    def profile(self) -> dict[str, Any]:
        """This process's counters."""
        return {
            **self.local.profile(),
            "processes": self.ranks.size,
            "bytes_sent": self.ranks.bytes_sent,
            "bytes_received": self.ranks.bytes_received,
        }

    def _local_frontier(self, size: int) -> tuple[Int64, float, int]:
        if self.local.n == 0:
            return np.empty(0, np.int64), -1.0, -1
        rows, rival, index = self.local.frontier(size)
        return on_host(rows), rival, index

    def _beating(self, rows: Int64, rival: float, rival_index: int) -> Int64:
        bounds = self.local.bounds(rows)
        before = rows + self.first < rival_index
        beating: Int64 = rows[(bounds > rival) | ((bounds == rival) & before)]
        return beating

    def _settle(
        self,
        rows: Int64,
        keys: Int64,
        settle: Callable[[engine.SubPool, Int64], tuple[Int64, Float64, float]],
    ) -> tuple[Int64, Float64, float]:
        """Sends own rows, with their keys, to rank 0. There picks are settled among the rows of all
        processes, in ascending order of keys, and broadcast."""
        ranks = self.ranks
        with ranks.shared_errors():
            own = self._records(rows + self.first, self.local.bounds(rows), self._values(rows))
            own["key"] = keys
        every = ranks.gather(own, 0)
        picked, next_squared = own[:0], -1.0
        with ranks.shared_errors():
            if every is not None and any(len(part) for part in every):
                rivals = np.concatenate(every)
                rivals = rivals[np.argsort(rivals["key"])]
                values = np.ascontiguousarray(rivals["vector"])
                block = self.backend.new_pool(Rows(values, self.dtype), self.metric, sub=True)
                block.restart(rivals["squared"].copy(), np.zeros(len(rivals), np.int64))
                places, squared, next_squared = settle(block, rivals["row"].copy())
                picked = self._records(rivals["row"][places], squared, values[places])
        next_squared = float(ranks.broadcast(np.array([next_squared]), 0)[0])
        picked = ranks.broadcast(picked, 0)
        rows = picked["row"].copy()
        self._add(rows, np.ascontiguousarray(picked["vector"]))
        return rows, picked["squared"].copy(), next_squared

    def _records(self, rows: Int64, squared: Float64, vectors: NDArray[Any]) -> NDArray[Any]:
        """Rows of the whole pool as they are sent."""
        fields: list[Any] = [("key", "i8"), ("row", "i8"), ("squared", "f8")]
        records = np.zeros(len(rows), [*fields, ("vector", vectors.dtype, (self.d,))])
        records["row"], records["squared"], records["vector"] = rows, squared, vectors
        return records

    def _add(self, rows: Int64, vectors: NDArray[Any]) -> None:
        """Adds rows of the whole pool, with their vectors, to the picks."""
        with self.ranks.shared_errors():
            own = rows[(rows >= self.first) & (rows < self.first + self.local.n)]
            self.local.exclude(own - self.first)
            if len(vectors):
                self.local.add_vectors(vectors, self.dtype)
        self.count += len(rows)
        self.available -= len(rows)
