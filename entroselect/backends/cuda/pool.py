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
from entroselect.backends.cuda.filter import Filter, Found, Task
from entroselect.backends.cuda.frame import Coded
from entroselect.backends.cuda.settle import Settling
from entroselect.io.rows import Rows
from entroselect.results import Float64, Int64

# At most this many unmet picks are compared exactly, without a pass: it would leave most open.
FEW = 4

# Bounds looked at to find the frontier.
SAMPLE = 2048

# Unmet picks that rows are compared with first, since many rows can drop out after these.
NEWEST = 4096


class Pool:
    """engine.SubPool in device memory. Rows are given as NumPy arrays, or as `frontier` and
    `next_in_order` return them. `limit`: bytes of device memory that may be used besides the
    rows."""

    def __init__(self, held: DeviceRows, tile: Tile | None, limit: int | None = None) -> None:
        self.held, self.kernels = held, held.kernels
        self.n, self.d = held.n, held.d
        self.count, self.available = 0, held.n
        with held.on_device():
            self._bounds = torch.full((self.n,), math.inf, dtype=torch.float64, device=held.device)
            self._met = torch.zeros(self.n, dtype=torch.int32, device=held.device)
            self.picks = held.empty(0, torch.int64)
            self.given = held.empty((0, self.d), torch.float64)
            self.filter = Filter(held, tile, limit)
            self.frame = self.filter.frame
            self.codes = self._all_codes()
            self.columns = self.frame.room(held, 0)
            self.packed = 0  # picks that have been coded
            self._progress = held.empty(self.kernels.STATE_BYTES, torch.uint8)
            self._settling = Settling(self)
        self._order: tuple[Any, Any] = (None, None)
        self._spent = dict.fromkeys(("refresh", "resolve", "frontier"), 0.0)
        self._counted = dict.fromkeys(engine.COUNTED, 0)

    def add_picks(self, rows: Int64) -> None:
        """Picks pool rows."""
        with self.held.on_device():
            self._append(self._on_device(rows))
        self.exclude(rows)

    def exclude(self, rows: Int64) -> None:
        """Marks these rows as picked."""
        with self.held.on_device():
            self._bounds[self._on_device(rows)] = -1.0
        self.available -= len(rows)

    def bounds(self, rows: Int64) -> Float64:
        """Their bounds, -1 where picked."""
        with self.held.on_device():
            found: Float64 = self._bounds[self._on_device(rows)].cpu().numpy()
        return found

    def state(self) -> tuple[Float64, Int64]:
        """(bounds, met) of all rows; row i has been compared with the first met[i] picks at
        least."""
        with self.held.on_device():
            met = self._met.clamp(max=self.count).long()
            return self._bounds.cpu().numpy().copy(), met.cpu().numpy()

    def restart(self, bounds: Float64, met: Int64) -> None:
        """As `engine.SubPool.restart`."""
        with self.held.on_device():
            self._bounds.copy_(torch.from_numpy(np.array(bounds)))
            self._met.copy_(torch.from_numpy(np.array(met)))
            self.given = self.given[:0]
        self.count, self.packed = 0, 0  # what is kept of picks is written over
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
            first = len(self.given)
            self.given = torch.cat([self.given, vectors])
            self._append(-1 - torch.arange(first, len(self.given), device=held.device))
            self._code(
                DeviceRows(self.kernels, Rows(vectors, "float64"), "euclidean", held.device), None
            )

    def refresh(self, rows: Any = None, enough: float = 0.0) -> None:
        """Updates the bounds of the given rows (None: all): to the distance to the nearest of all
        picks, or to any upper bound of it that is below `enough`."""
        began = time.perf_counter()
        with self.held.on_device():
            self._pack()
            if rows is None:
                rows = torch.arange(self.n, device=self.held.device)
            rows = self._on_device(rows)
            wanted = (self._bounds[rows] > 0) & (self._bounds[rows] >= enough)
            rows = rows[wanted & (self._met[rows] < self.count)]
            if len(rows):
                # Rows that have met equally many picks share a range of columns.
                met, order = torch.sort(self._met[rows], stable=True)
                rows, least = rows[order].contiguous(), int(met[0])
                if self.count - least <= FEW:
                    self._compare(rows)
                else:
                    rows = self._lower(rows, least, enough)
                self._met[rows] = self.count
                self._counted["refreshed"] += len(rows)
        self._spent["refresh"] += time.perf_counter() - began

    def frontier(self, size: int) -> tuple[Any, float, int]:
        """About `size` rows with the largest bounds; bound and index of the best left out."""
        began = time.perf_counter()
        with self.held.on_device():
            # A cut that about `size` rows reach, from a sample; then one pass collects them.
            looked_at = min(self.n, SAMPLE)
            places = torch.arange(looked_at, device=self.held.device) * self.n // looked_at
            rank = min(looked_at - 1, size * looked_at // self.n)
            cut = torch.sort(self._bounds[places], descending=True).values[rank].clamp(min=0.0)
            inside = self._bounds >= cut
            rows = inside.nonzero().flatten()
            if len(rows) > 2 * size:  # many equal bounds
                order = torch.sort(self._bounds[rows], descending=True, stable=True).indices
                best = int(rows[order[size]])
                rival = float(self._bounds[best])
                rows = torch.sort(rows[order[:size]]).values
            else:
                outside = torch.where(inside, -1.0, self._bounds)
                rival = float(outside.max())
                best = int((outside == rival).nonzero()[0]) if rival >= 0 else -1
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
            if self._order[0] is not order:
                self._order = (order, torch.as_tensor(order, device=self.held.device))
            traversal = self._order[1]
            parts, found = [traversal[:0]], 0
            while start < len(traversal) and found < size:
                window = traversal[start : start + max(size, 65536)]
                places = (self._bounds[window] >= floor).nonzero().flatten()[: size - found]
                parts.append(window[places])
                found += len(places)
                start += int(places[-1]) + 1 if found == size else len(window)
            rows = torch.cat(parts)
        self._spent["frontier"] += time.perf_counter() - began
        return rows, start

    def settle_in_order(self, rows: Any, limit: int, floor: float) -> tuple[Int64, Float64]:
        """Picks up to `limit` of the rows, in the order given, each if still at `floor`."""
        began = time.perf_counter()
        with self.held.on_device():
            found = self._settling.in_order(self._on_device(rows), limit, floor)
        self._spent["resolve"] += time.perf_counter() - began
        return found

    def widest(self) -> float:
        """The largest bound of any unpicked row, 0 when there is none."""
        return max(0.0, float(self._bounds.max())) if self.n else 0.0

    def profile(self) -> dict[str, Any]:
        """Counters; seconds are the host's, in which queued work may run on."""
        spent = {f"{name}_seconds": seconds for name, seconds in self._spent.items()}
        return {**self._counted, **spent}

    def _append(self, entries: torch.Tensor) -> None:
        self._make_room(len(entries))
        self.picks[self.count : self.count + len(entries)] = entries
        self.count += len(entries)

    def _make_room(self, more: int) -> None:
        if self.count + more > len(self.picks):
            grown = self.held.empty(max(2 * len(self.picks), self.count + more), torch.int64)
            grown[: self.count] = self.picks[: self.count]
            self.picks = grown

    def _pack(self) -> None:
        """Codes the pool rows that were picked since the last call."""
        if self.packed < self.count:
            self._code(self.held, self.picks[self.packed : self.count])

    def _code(self, rows: DeviceRows, index: torch.Tensor | None) -> None:
        if self.count > len(self.columns):
            grown = self.frame.room(self.held, max(2 * len(self.columns), self.count))
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

    def _compare(self, rows: torch.Tensor) -> None:
        """Lowers the bounds of rows to exact distances to all unmet picks."""
        self._counted["rechecks"] += int((self.count - self._met[rows]).sum())
        self.kernels.catch_up(
            self._selection(), self._progress.data_ptr(), rows.data_ptr(), len(rows), self.count,
            self.held.stream(),
        )  # fmt: skip

    def _lower(self, rows: torch.Tensor, least: int, enough: float) -> torch.Tensor:
        """Compares rows with their unmet picks, the newest first; a row whose bound falls below
        `enough` drops out. Returns the rows that have met all picks."""
        task = Task(
            self.held, self.codes, self.columns,
            reach=lambda part: self.frame.reach(self._bounds[part]),
            recheck=self._recheck, met=self._met, tighten=True,
        )  # fmt: skip
        left, met_all, end, size = rows, [rows[:0]], self.count, NEWEST
        while len(left):
            # Without `enough` no row drops out: one pass over all unmet picks.
            begin = max(least, end - size) if enough > 0 else least
            met = self._met[left]
            self._counted["pairs"] += int((end - met.clamp(min=begin)).sum())
            self.filter.run(task, left, begin, end)
            # A row that drops out with older picks unmet keeps its count of met ones: the newest
            # count as unmet too, and are compared again. Its lowered bound stays an upper bound.
            met_all.append(left[met >= begin])
            left = left[(met < begin) & (self._bounds[left] >= enough)]
            end, size = begin, 2 * size
        return torch.cat(met_all)

    def _on_device(self, rows: Any) -> torch.Tensor:
        if isinstance(rows, np.ndarray):
            rows = torch.from_numpy(np.array(rows, dtype=np.int64))
        return torch.as_tensor(rows, dtype=torch.int64, device=self.held.device).contiguous()

    def _recheck(self, found: Found) -> None:
        self._counted["rechecks"] += len(found.slot)
        pairs, sides = found.arguments(self.kernels, found.rows)
        self.kernels.recheck(pairs, sides, self._selection(), 0, self.held.stream())

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
