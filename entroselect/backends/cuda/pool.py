"""engine.SubPool in device memory."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch

from entroselect import engine
from entroselect.backends.cuda.autotune import Tile
from entroselect.backends.cuda.device_rows import DeviceRows
from entroselect.backends.cuda.filter import Filter
from entroselect.backends.cuda.frame import Coded
from entroselect.backends.cuda.refresh import Listed, Refreshing
from entroselect.backends.cuda.settle import Settling
from entroselect.io.rows import Rows
from entroselect.results import Float64, Int64


class Pool:
    """engine.SubPool in device memory. Rows are given as NumPy arrays, or as `frontier` and
    `next_in_order` return them. `limit`: bytes of device memory that may be used besides the
    rows."""

    # What rounds aim at here: a round costs some launches and waits however few its rows are.
    picks_per_round = 1024
    block_limit = 1 << 17

    def __init__(self, held: DeviceRows, tile: Tile | None, limit: int | None = None) -> None:
        self.held, self.kernels = held, held.kernels
        self.n, self.d = held.n, held.d
        self.count, self.available = 0, held.n
        with held.on_device():
            self._bounds = torch.full((self.n,), math.inf, dtype=torch.float64, device=held.device)
            self._met = torch.zeros(self.n, dtype=torch.int32, device=held.device)
            self.picks = held.empty(0, torch.int64)
            self.given, self._given = held.empty((0, self.d), torch.float64), 0
            self.filter = Filter(held, tile, limit)
            self.frame = self.filter.frame
            self.codes = self._all_codes()
            self.columns = self.frame.room(held, 0)
            self.packed = 0  # picks that have been coded
            self._found = held.empty(2, torch.int64)
            self._work = held.empty(self.kernels.FRONTIER_BYTES, torch.uint8)
            self._progress = held.empty(self.kernels.STATE_BYTES, torch.uint8)
            self._refreshing, self._settling = Refreshing(self), Settling(self)
        self._order: tuple[Any, Any] = (None, None)
        self._frontier: Listed | None = None  # the last one, until something changes
        self._spent = dict.fromkeys(("refresh", "resolve", "frontier"), 0.0)
        self._counted = dict.fromkeys(engine.COUNTED, 0)

    def add_picks(self, rows: Int64) -> None:
        """Picks pool rows."""
        with self.held.on_device():
            self._append(self._on_device(rows))
        self.exclude(rows)

    def exclude(self, rows: Int64) -> None:
        """Marks these rows as picked."""
        self._frontier = None
        with self.held.on_device():
            self._bounds[self._on_device(rows)] = -1.0
        self.available -= len(rows)

    def bounds(self, rows: Int64) -> Float64:
        """Their bounds, -1 where picked."""
        with self.held.on_device():
            self._refreshing.confirm()
            found: Float64 = self._bounds[self._on_device(rows)].cpu().numpy()
        return found

    def state(self) -> tuple[Float64, Int64]:
        """(bounds, met) of all rows; row i has been compared with the first met[i] picks at
        least."""
        with self.held.on_device():
            self._refreshing.confirm()
            met = self._met.clamp(max=self.count).long()
            return self._bounds.cpu().numpy().copy(), met.cpu().numpy()

    def restart(self, bounds: Float64, met: Int64) -> None:
        """As `engine.SubPool.restart`."""
        with self.held.on_device():
            self._bounds.copy_(torch.from_numpy(np.array(bounds)))
            self._met.copy_(torch.from_numpy(np.array(met)))
            self._refreshing.forget()
        self._frontier = None
        self.count, self.packed, self._given = 0, 0, 0  # what is kept of picks is written over
        self.available = int(np.count_nonzero(np.asarray(bounds) >= 0))
        self._settling.dense_until = 0  # bounds may be those of many picks

    def add_vectors(self, values: Any, dtype: str) -> None:
        """Picks vectors that are not in the pool."""
        held = self.held
        metric = "euclidean" if held.lengths is None else "cosine"
        with held.on_device():
            self._pack()
            given = DeviceRows(self.kernels, Rows(values, dtype), metric, held.device)
            vectors = given.float64(torch.arange(given.n, device=held.device))
            first, last = self._given, self._given + given.n
            if last > len(self.given):
                grown = held.empty(
                    (self._room(len(self.given), last, 8 * self.d), self.d), torch.float64
                )
                grown[:first] = self.given[:first]
                self.given = grown
            self.given[first:last], self._given = vectors, last
            self._append(-1 - torch.arange(first, last, device=held.device))
            self._code(
                DeviceRows(self.kernels, Rows(vectors, "float64"), "euclidean", held.device), None
            )

    def refresh(self, rows: Any = None, enough: float = 0.0) -> None:
        """Updates the bounds of the given rows (None: all): to the distance to the nearest of all
        picks, or to any upper bound of it that is below `enough`."""
        began = time.perf_counter()
        with self.held.on_device():
            self._pack()
            refreshing, known = self._refreshing, self._frontier
            refreshing.confirm()
            self._frontier = None
            usable = known is not None and known.rows is rows and known.count == self.count
            if known is None or not usable or known.rival < enough:
                rows = None if rows is None else self._on_device(rows)
                known = refreshing.pending(rows, enough)
            if known.stale:
                refreshing.update(known, enough)
        self._spent["refresh"] += time.perf_counter() - began

    def frontier(self, size: int) -> tuple[Any, float, int]:
        """The `size` rows with the largest bounds (of equals, the first), fewer where fewer are
        left, in order of rows; bound and index of the best left out."""
        began = time.perf_counter()
        with self.held.on_device():
            self._refreshing.confirm()
            most = min(size, self.n)
            rows, keys = self.held.empty(most, torch.int64), self.held.empty(most, torch.int32)
            count, rival, best, stale, least = self.kernels.frontier(
                self._selection(), self.n, self.count, most, rows.data_ptr(), keys.data_ptr(),
                self._work.data_ptr(), self.held.stream(),
            )  # fmt: skip
            rows = rows[:count]
            self._frontier = Listed(rows, keys[:count], stale, least, rival, self.count)
        self._spent["frontier"] += time.perf_counter() - began
        return rows, rival, best

    def settle(
        self, rows: Any, rival: float, rival_index: int, limit: int, floor: float
    ) -> tuple[Int64, Float64, float]:
        """Picks up to `limit` of the rows, farthest first, while they beat the rival and are at
        `floor` or above. Also returns the next pick's squared distance, -1 where undecided."""
        began = time.perf_counter()
        with self.held.on_device():
            rows = self._on_device(rows)
            found = self._settling.farthest_first(rows, rival, rival_index, limit, floor)
        self._spent["resolve"] += time.perf_counter() - began
        return found

    def next_in_order(self, order: Int64, start: int, size: int, floor: float) -> tuple[Any, int]:
        """Up to `size` unpicked rows with bounds of at least `floor`, in order from a position;
        and the position after them."""
        began = time.perf_counter()
        with self.held.on_device():
            self._refreshing.confirm()
            if self._order[0] is not order:
                self._order = (order, torch.as_tensor(order, device=self.held.device))
            traversal = self._order[1]
            parts, left = [], size
            while start < len(traversal) and left:
                window = traversal[start : start + max(size, 65536)]
                rows, _bounds, stop = self._candidates(window, floor, self.n, left)
                parts.append(rows)
                left -= len(rows)
                start += stop
            rows = torch.cat([traversal[:0], *parts])
        self._spent["frontier"] += time.perf_counter() - began
        return rows, start

    def settle_in_order(self, rows: Any, limit: int, floor: float) -> tuple[Int64, Float64]:
        """Picks up to `limit` of the rows, in the order given, each if still at `floor`."""
        began = time.perf_counter()
        with self.held.on_device():
            self._refreshing.confirm()
            found = self._settling.in_order(self._on_device(rows), limit, floor)
        self._spent["resolve"] += time.perf_counter() - began
        return found

    def _candidates(
        self, rows: torch.Tensor, bound: float, index: int, size: int
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The first `size` of the rows that are better than (bound, index), in the order given,
        their bounds, and the place after them. One wait, which confirms the last refresh too."""
        size = min(size, len(rows))
        out, bounds = self.held.empty(size, torch.int64), self.held.empty(size, torch.float64)
        while True:
            self.kernels.candidates(
                self._selection(), rows.data_ptr(), len(rows), bound, index, size,
                out.data_ptr(), bounds.data_ptr(), self._found.data_ptr(), self._work.data_ptr(),
                self.held.stream(),
            )  # fmt: skip
            words = [self._found, *self._refreshing.unchecked()]
            count, stop, *counts = torch.cat(words).tolist()
            if self._refreshing.confirm(counts):
                return out[:count], bounds[:count], stop

    def widest(self) -> float:
        """The largest bound of any unpicked row, 0 when there is none."""
        with self.held.on_device():
            self._refreshing.confirm()
            return max(0.0, float(self._bounds.max())) if self.n else 0.0

    def profile(self) -> dict[str, Any]:
        """Counters; seconds are the host's, in which queued work may run on."""
        with self.held.on_device():
            self._refreshing.confirm()
            counted = {**self._counted, **self._refreshing.counted()}
        spent = {f"{name}_seconds": seconds for name, seconds in self._spent.items()}
        return {**counted, **spent}

    def _append(self, entries: torch.Tensor) -> None:
        self._make_room(len(entries))
        self.picks[self.count : self.count + len(entries)] = entries
        self.count += len(entries)

    def _make_room(self, more: int) -> None:
        if self.count + more > len(self.picks):
            room = self._room(len(self.picks), self.count + more, 8)
            grown = self.held.empty(room, torch.int64)
            grown[: self.count] = self.picks[: self.count]
            self.picks = grown

    def _room(self, now: int, needed: int, each: int) -> int:
        """Places for `needed` things of `each` bytes: twice as many as now, if memory allows."""
        most = 2 * now
        if self.filter.limit is not None:
            most = min(most, self.filter.limit // 8 // each)
        return max(needed, most)

    def _pack(self) -> None:
        """Codes the pool rows that were picked since the last call."""
        if self.packed < self.count:
            self._code(self.held, self.picks[self.packed : self.count])

    def _code(self, rows: DeviceRows, index: torch.Tensor | None) -> None:
        if self.count > len(self.columns):
            room = self._room(len(self.columns), self.count, self.frame.bytes_per_row())
            grown = self.frame.room(self.held, room)
            for to, old in zip(grown.tensors(), self.columns.tensors(), strict=True):
                to[: self.packed] = old[: self.packed]
            self.columns = grown
        new = self.columns.part(self.packed, self.count)
        self.frame.code(rows, index, 0, len(new), new)
        self.packed = self.count

    def _all_codes(self) -> Coded | None:
        """The codes of all rows, if there is memory for them; None: each pass codes its rows."""
        limit = self.filter.limit
        need = self.n * self.frame.bytes_per_row()
        if limit is not None and need > limit // 2:
            return None
        try:
            return self.frame.code(self.held, None, 0, self.n)
        except torch.OutOfMemoryError:
            return None

    def _on_device(self, rows: Any) -> torch.Tensor:
        if isinstance(rows, np.ndarray):
            rows = torch.from_numpy(np.array(rows, dtype=np.int64))
        return torch.as_tensor(rows, dtype=torch.int64, device=self.held.device).contiguous()

    def _selection(self) -> Any:
        given = self.kernels.Rows(self.given.data_ptr(), 8 * self.d, self.d, "float64", 0)
        return self.kernels.Selection(
            self.held.kernel_argument(), given, self.picks.data_ptr(), self._bounds.data_ptr(),
            self._met.data_ptr(),
        )  # fmt: skip

    def _note_settled(self, picked: int, compared: int) -> None:
        """Picks that kernels have added, and pairs compared exactly for them."""
        self.count += picked
        self.available -= picked
        self._counted["settled"] += compared
