"""A pool whose rows are held by several processes; the rows of rank r follow those of ranks < r.

Every process keeps the bounds of its own rows and all picks. A round of farthest-first has five
exchanges: the best rows of each process, which give all of them one frontier and rival; how many
rows may come next; those rows, to rank 0, which settles picks among them; how many picks there are;
the picks. The other rows of the pool are never sent. An error of one process travels with the next
exchange and becomes one of all.

Rows on GPUs that NCCL connects are sent from device to device, all else through host memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import engine
from entroselect.backends.base import Backend
from entroselect.constrained import SettlesInBlocks
from entroselect.io.rows import Rows
from entroselect.results import Float64, Int64, on_host
from entroselect.scale.candidates import NO_ROW, Key
from entroselect.scale.process_group import ProcessGroup
from entroselect.scale.records import Records

# Rows that each process names of its frontier, so that one cut can be made through all of them.
NAMED = 64

_KEY = np.dtype([("bound", np.float64), ("row", np.int64)])
_FRONTIER = np.dtype([("rival", _KEY), ("named", _KEY, NAMED), ("step", np.int64)])
_COUNT = np.dtype([("rows", np.int64), ("cut", _KEY)])
_HEAD = np.dtype([("failed", np.int64), ("picks", np.int64), ("next_squared", np.float64)])
_UNLIMITED = np.iinfo(np.int64).max


class ShardedPool(SettlesInBlocks):
    """engine.Pool over the pools of several processes. Rows that one primitive returns and another
    takes are numbered within their process; picks are numbered in the whole pool.

    Attributes:
        capacity: the most rows that a round may settle; None without a memory limit.
    """

    def __init__(
        self,
        local: engine.SubPool,
        values: Callable[[Int64], NDArray[Any]],
        dtype: str,
        metric: str,
        backend: Backend,
        ranks: ProcessGroup,
        room: int | None = None,
        on_device: Callable[[Int64], Any] | None = None,
    ) -> None:
        """`values` returns rows of the local pool in host memory, `on_device` on their GPU, where
        they are. `room`: how many rows of all processes there is memory for on this one; None: any
        number."""
        self.local, self._values = local, values
        self.dtype, self.metric, self.backend, self.ranks = dtype, metric, backend, ranks
        there = on_device is not None and ranks.takes_tensors
        every = ranks.share(np.array([local.n, _UNLIMITED if room is None else room, there]))
        sizes, rooms = every[:, 0], every[:, 1]
        # How the rows of a block are sent: from device to device, if those of all processes can be.
        self._of_block = on_device if on_device and every[:, 2].all() else values
        self.first = int(sizes[: ranks.rank].sum())
        self.n, self.d = int(sizes.sum()), local.d
        self.count, self.available = 0, self.n
        self._room = max(int(rooms[0]), ranks.size)  # picks are settled on rank 0
        limited = rooms.min() < _UNLIMITED
        self.capacity = int(rooms.min()) if limited else None
        self._kept = (0, 1)  # rows of the last frontier that are own, of how many asked for
        self._order: tuple[Any, Int64, Int64] = (None, np.empty(0, np.int64), np.empty(0, np.int64))
        self._positions = np.empty(0, np.int64)
        self._error: Exception | None = None  # that the next exchange makes one of every process

    def add_picks(self, rows: Int64) -> None:
        """Picks rows of the whole pool."""
        own = (rows >= self.first) & (rows < self.first + self.local.n)
        vectors = self._values(np.empty(0, np.int64))
        with self._deferred():
            vectors = self._values(rows[own] - self.first)
        places = np.concatenate(self.ranks.all_gather(np.flatnonzero(own), self._pending()))
        gathered = np.concatenate(self.ranks.all_gather(vectors))
        ordered = np.empty_like(gathered)
        ordered[places] = gathered
        self._add(rows, ordered)
        self._raise_pending()

    def add_vectors(self, values: Any, dtype: str) -> None:
        """Adds vectors that are not in the pool to the picks, the same on every process."""
        with self._deferred():
            self.local.add_vectors(values, dtype)
        # A pool whose rows are read may now have room for fewer: picks of two dtypes are larger.
        room = np.array(getattr(self.local, "capacity", _UNLIMITED))
        rooms = self.ranks.share(room, self._pending())
        if self.capacity is not None:
            self.capacity = min(self.capacity, int(rooms.min()))
        self.count += len(values)

    def refresh(self, rows: Int64 | None = None, enough: float = 0.0) -> None:
        """Brings the bounds of own rows (None: of all) up to date, or below `enough`."""
        with self._deferred():
            self.local.refresh(rows, enough)

    def frontier(self, size: int) -> tuple[Int64, float, int]:
        """This process's rows among about `size` of all processes with the largest bounds; the
        best row left out of any process's."""
        rows, best = np.empty(0, np.int64), np.zeros(1, _FRONTIER)
        best["rival"] = best["named"] = NO_ROW
        with self._deferred():
            if self.local.n:
                rows = self._local_frontier(size, best)
        rival = _cut(self.ranks.share(best[0], self._pending()), size)
        rows = self._beating(rows, rival)
        self._kept = (len(rows), size)
        return rows, *rival

    def settle(
        self, rows: Int64, rival: float, rival_index: int, limit: int, floor: float
    ) -> tuple[Int64, Float64, float]:
        """Picks up to `limit` of all processes' rows, farthest first, while they beat the rival
        and are at `floor` or above; and the next pick's squared distance, -1 where undecided."""
        with self._deferred():
            rows = np.sort(self._beating(rows, (rival, rival_index)))
        own, counts, best = self._contenders(rows, (rival, rival_index))

        def settle(block: engine.SubPool, numbers: Int64) -> tuple[Int64, Float64, float]:
            place = int(np.searchsorted(numbers, best[1]))
            return engine.settle_block(block, best[0], place, limit, floor)

        return self._settle(own, counts, settle)

    def next_in_order(self, order: Int64, start: int, size: int, floor: float) -> tuple[Int64, int]:
        """Up to `size` rows of all processes that are not picked, with bounds of at least `floor`;
        those that are this process's own, and the position after all of them."""
        if self._order[0] is not order:
            own = (order >= self.first) & (order < self.first + self.local.n)
            places = np.flatnonzero(own)
            self._order = (order, places, order[places] - self.first)
        _, places, rows = self._order
        found = candidates = np.empty(0, np.int64)
        with self._deferred():
            begin = int(np.searchsorted(places, start))
            of_pool, end = self.local.next_in_order(rows, begin, size, floor)
            found = on_host(of_pool)
            candidates = places[begin:end][np.isin(rows[begin:end], found)]
        every = np.sort(np.concatenate(self.ranks.all_gather(candidates, self._pending())))
        last = int(every[size - 1]) if len(every) >= size else len(order) - 1
        inside = candidates <= last
        self._positions = candidates[inside]
        return found[inside], last + 1

    def settle_in_order(self, rows: Int64, limit: int, floor: float) -> tuple[Int64, Float64]:
        """Picks up to `limit` of all processes' rows that `next_in_order` found, in order, each if
        still at `floor`."""
        own = self._records(np.empty(0, np.int64))
        with self._deferred():
            live = self.local.bounds(rows) >= floor
            own = self._records(rows[live])
            own.head["key"] = self._positions[live]
        counts = self.ranks.share(np.array(len(own)), self._pending())

        def settle(block: engine.SubPool, numbers: Int64) -> tuple[Int64, Float64, float]:
            return *engine.settle_block_in_order(block, limit, floor), -1.0

        return self._settle(own, counts, settle)[:2]

    def widest(self) -> float:
        """The largest bound of any row that is not picked, 0 when there is none."""
        widest = 0.0
        with self._deferred():
            widest = self.local.widest()
        return self.ranks.max_with_index(widest, self.ranks.rank, self._pending())[0]

    def profile(self) -> dict[str, Any]:
        """This process's counters."""
        return {
            **self.local.profile(),
            "processes": self.ranks.size,
            "exchanges": self.ranks.exchanges,
            "bytes_sent": self.ranks.bytes_sent,
            "bytes_received": self.ranks.bytes_received,
        }

    @contextmanager
    def _deferred(self) -> Iterator[None]:
        """Keeps an error of the block for the next exchange."""
        try:
            yield
        except Exception as error:
            self._error = self._error or error

    def _pending(self) -> Exception | None:
        """The error that was kept, to be given to an exchange."""
        error, self._error = self._error, None
        return error

    def _raise_pending(self) -> None:
        """An exchange for the errors alone."""
        self.ranks.share(np.empty(0), self._pending())

    def _local_frontier(self, size: int, best: NDArray[Any]) -> Int64:
        """Own rows, at least as many as are likely to be among `size` of all processes; names some
        of them and the best left out in `best`."""
        kept, of = self._kept
        # Twice as many as came through the last cut; at first as many as of every other process.
        asked = max(-(-size // self.ranks.size), 2 * kept * size // of)
        of_pool, rival, index = self.local.frontier(min(size, asked))
        rows: Int64 = on_host(of_pool)
        if index >= 0:
            best["rival"] = (rival, index + self.first)
        best["step"] = step = -(-len(rows) // NAMED)
        named = rows[::step] if len(rows) else rows
        best["named"]["bound"][0, : len(named)] = self.local.bounds(named)
        best["named"]["row"][0, : len(named)] = named + self.first
        return rows

    def _beating(self, rows: Int64, rival: Key) -> Int64:
        beating: Int64 = rows[_beats(self.local.bounds(rows), rows + self.first, rival)]
        return beating

    def _contenders(self, rows: Int64, rival: Key) -> tuple[Records, Int64, Key]:
        """The records of own rows that beat the rival, how many each process has, and the rival.
        It is raised to the best row that a process had to leave out: while it compared rows
        (`local.cut`), or now, so that the rows of all fit on rank 0."""
        own = self._records(np.empty(0, np.int64))
        with self._deferred():
            own = self._records(rows)
        bound, row = getattr(self.local, "cut", NO_ROW)
        cut = NO_ROW if row < 0 else (bound, row + self.first)
        while True:
            said = np.array((len(own), cut), _COUNT)
            every = self.ranks.share(said, self._pending())
            counts, cut = every["rows"].copy(), _best(every["cut"])
            if _before(cut, rival):
                rival, cut = cut, NO_ROW
                own = own[_beats(own.head["squared"], own.head["row"], rival)]
            elif counts.sum() > self._room:
                cut = NO_ROW
                left = self._room - self.ranks.size  # besides the best row of each process
                share = 1 + left * len(own) // int(counts.sum())
                if share < len(own):
                    order = np.lexsort((own.head["row"], -own.head["squared"]))
                    cut = own.head[["squared", "row"]][order[share]].item()
            else:
                return own, counts, rival

    def _settle(
        self,
        own: Records,
        counts: Int64,
        settle: Callable[[engine.SubPool, Int64], tuple[Int64, Float64, float]],
    ) -> tuple[Int64, Float64, float]:
        """Sends own records to rank 0, `counts` by each process. There picks are settled among all
        of them, in ascending order of keys, and broadcast."""
        ranks, picked = self.ranks, own[:0]
        if not counts.any():
            return np.empty(0, np.int64), np.empty(0), -1.0
        every = ranks.gather(own.sendable(), 0, counts)
        head = np.zeros(1, _HEAD)
        with self._deferred():
            if every is not None:
                picked, next_squared = self._settle_here(Records(every, own.dtype), settle)
                head[0] = (0, len(picked), next_squared)
        dtype = own.dtype
        del own, every
        head["failed"] = self._error is not None
        failed, count, next_squared = ranks.broadcast(head, 0, 1)[0].item()
        if failed:
            self._raise_pending()
        picked = Records(ranks.broadcast(picked.sendable(), 0, count), dtype)
        rows, vectors = picked.head["row"].copy(), picked.values()
        if isinstance(vectors, np.ndarray):
            vectors = np.ascontiguousarray(vectors)
        self.count_towards_quotas(rows)
        self._add(rows, vectors)
        if next_squared >= 0 or not self.available:  # there may be no further exchange
            self._raise_pending()
        return rows, picked.head["squared"].copy(), next_squared

    def _settle_here(
        self,
        every: Records,
        settle: Callable[[engine.SubPool, Int64], tuple[Int64, Float64, float]],
    ) -> tuple[Records, float]:
        keys = every.head["key"]
        if (keys[1:] < keys[:-1]).any():  # they come in order of processes
            every = every[np.argsort(keys)]
        rows = Rows(every.values(), self.dtype)  # read where they are
        block = self.backend.new_pool(rows, self.metric, sub=True)
        block.restart(every.head["squared"].copy(), np.zeros(len(every), np.int64))
        numbers = every.head["row"].copy()
        with self.within_quotas(block, numbers) as limited:
            places, squared, next_squared = settle(limited, numbers)
        picked = every[places]
        picked.head["squared"] = squared
        return picked, next_squared

    def _records(self, rows: Int64) -> Records:
        """Own rows as they are sent."""
        return Records.of(rows + self.first, self.local.bounds(rows), self._of_block(rows))

    def _add(self, rows: Int64, vectors: Any) -> None:
        """Adds rows of the whole pool, with their vectors, to the picks."""
        with self._deferred():
            own = rows[(rows >= self.first) & (rows < self.first + self.local.n)]
            self.local.exclude(own - self.first)
            if len(vectors):
                self.local.add_vectors(vectors, self.dtype)
        self.count += len(rows)
        self.available -= len(rows)


def _before(key: Key, other: Key) -> bool:
    return key[0] > other[0] or (key[0] == other[0] and key[1] < other[1])


def _beats(bounds: Float64, rows: Int64, rival: Key) -> NDArray[np.bool_]:
    beats: NDArray[np.bool_] = (bounds > rival[0]) | ((bounds == rival[0]) & (rows < rival[1]))
    return beats


def _best(keys: NDArray[Any]) -> Key:
    """The key that comes first."""
    first = np.lexsort((keys["row"], -keys["bound"]))[0]
    return float(keys["bound"][first]), int(keys["row"][first])


def _cut(every: NDArray[Any], size: int) -> Key:
    """The best row outside a frontier of about `size` rows: the best that a process left out, or
    the first of the named rows that comes after about `size` others."""
    rival = _best(every["rival"])
    named = every["named"].ravel()
    order = np.lexsort((named["row"], -named["bound"]))
    order = order[: np.count_nonzero(named["bound"] >= 0)]
    steps = np.repeat(every["step"], NAMED)[order]
    place = int(np.searchsorted(np.cumsum(steps) - steps, size))
    if place < len(order):
        cut = _best(named[order[place : place + 1]])
        rival = cut if _before(cut, rival) else rival
    return rival
