"""A sharded pool whose processes are threads of one process: quick, and easy to break in one
place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

SECONDS = 60.0


class Meeting:
    """Where threads exchange what they have."""

    def __init__(self, size: int) -> None:
        self.size, self._places = size, [None] * size
        self._barrier = threading.Barrier(size, timeout=SECONDS)

    def exchange(self, rank: int, own: Any) -> list[Any]:
        self._places[rank] = own
        self._barrier.wait()
        every = list(self._places)
        self._barrier.wait()
        return every

    def abort(self) -> None:
        self._barrier.abort()


class ThreadGroup:
    """What `scale.process_group.ProcessGroup` does, for one thread of several."""

    bytes_sent = bytes_received = exchanges = 0

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.size, self._meeting = rank, meeting.size, meeting

    def share(self, record: Any, error: Exception | None = None) -> Any:
        self._raise_any(error)
        return np.stack(self._meeting.exchange(self.rank, record.copy()))

    def all_gather(self, array: Any, error: Exception | None = None) -> list[Any]:
        self._raise_any(error)
        return self._meeting.exchange(self.rank, array.copy())

    def gather(self, array: Any, root: int, sizes: Any = None) -> Any:
        every = self.all_gather(array)
        if sizes is not None:
            assert [len(part) for part in every] == sizes.tolist()
        return np.concatenate(every) if self.rank == root else None

    def broadcast(self, array: Any, root: int, length: int | None = None) -> Any:
        sent = self.all_gather(array)[root].copy()
        assert length is None or len(sent) == length
        return sent

    def max_with_index(
        self, value: float, index: int, error: Exception | None = None
    ) -> tuple[float, int]:
        every = self.share(np.array([value, index]), error)
        best = every[:, 0].max()
        return float(best), int(every[every[:, 0] == best, 1].min())

    @contextmanager
    def shared_errors(self) -> Iterator[None]:
        caught: Exception | None = None
        try:
            yield
        except Exception as error:
            caught = error
        self._raise_any(caught)

    def _raise_any(self, own: Exception | None) -> None:
        every = self._meeting.exchange(self.rank, own)
        if own is not None:
            raise own
        for rank, error in enumerate(every):
            if error is not None:
                raise type(error)(f"{error} (on rank {rank})")


class Together:
    """engine.Pool over the sharded pools of all threads, called with numbers of the whole pool.

    `new` makes (a sharded pool, the local pool under it) for one thread's group; `cuts` are the
    numbers where the threads' rows begin and end.
    """

    def __init__(self, cuts: list[int], new: Callable[[ThreadGroup, slice], Any]) -> None:
        self.size = len(cuts) - 1
        self._firsts = np.array(cuts[:-1])
        self._meeting = Meeting(self.size)
        self._threads = ThreadPoolExecutor(self.size)
        made = self.each(
            lambda rank: new(ThreadGroup(rank, self._meeting), slice(cuts[rank], cuts[rank + 1]))
        )
        self.pools, self._locals = [pool for pool, _ in made], [local for _, local in made]

    def __getattr__(self, name: str) -> Any:
        """n, d, count, available."""
        (found,) = {getattr(pool, name) for pool in self.pools}
        return found

    def add_picks(self, rows: Any) -> None:
        self.each(lambda rank: self.pools[rank].add_picks(rows))

    def add_vectors(self, values: Any, dtype: str) -> None:
        self.each(lambda rank: self.pools[rank].add_vectors(values, dtype))

    def refresh(self, rows: Any = None, enough: float = 0.0) -> None:
        self.each(lambda rank: self.pools[rank].refresh(self._own(rank, rows), enough))

    def frontier(self, size: int) -> tuple[Any, float, int]:
        found = self.each(lambda rank: self.pools[rank].frontier(size))
        ((rival, index),) = {(rival, index) for _, rival, index in found}
        return self._numbers([rows for rows, _, _ in found]), rival, index

    def settle(self, rows: Any, *rest: Any) -> tuple[Any, Any, float]:
        return self._same(lambda rank: self.pools[rank].settle(self._own(rank, rows), *rest))

    def next_in_order(self, order: Any, start: int, size: int, floor: float) -> tuple[Any, int]:
        found = self.each(lambda rank: self.pools[rank].next_in_order(order, start, size, floor))
        (end,) = {end for _, end in found}
        rows = self._numbers([rows for rows, _ in found])
        place = np.empty(self.n, np.int64)
        place[order] = np.arange(len(order))
        return rows[np.argsort(place[rows])], end

    def settle_in_order(self, rows: Any, *rest: Any) -> tuple[Any, Any]:
        return self._same(
            lambda rank: self.pools[rank].settle_in_order(self._own(rank, rows), *rest)
        )

    def widest(self) -> float:
        (found,) = set(self.each(lambda rank: self.pools[rank].widest()))
        return found

    def bounds(self, rows: Any) -> Any:
        every = [local.bounds(np.arange(local.n)) for local in self._locals]
        return np.concatenate(every)[rows]

    def close(self) -> None:
        self._threads.shutdown()

    def _own(self, rank: int, rows: Any) -> Any:
        if rows is None:
            return None
        first = self._firsts[rank]
        return rows[(rows >= first) & (rows < first + self._locals[rank].n)] - first

    def _numbers(self, every: list[Any]) -> Any:
        return np.concatenate(
            [rows + first for rows, first in zip(every, self._firsts, strict=True)]
        )

    def _same(self, call: Callable[[int], Any]) -> Any:
        """What all threads return."""
        found = self.each(call)
        for other in found[1:]:
            for one, part in zip(found[0], other, strict=True):
                np.testing.assert_array_equal(one, part)
        return found[0]

    def each(self, call: Callable[[int], Any]) -> list[Any]:
        """Called in all threads at once; what they return, in rank order."""

        def guarded(rank: int) -> Any:
            try:
                return call(rank)
            except BaseException:
                self._meeting.abort()
                raise

        tasks = [self._threads.submit(guarded, rank) for rank in range(self.size)]
        errors = [error for error in (task.exception() for task in tasks) if error is not None]
        for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
            raise error
        return [task.result() for task in tasks]
