"""A pool whose rows stay in their Source, on disk for example, and are read when needed.

Per row only 16 bytes are in memory: its bound, how many picks it has met, its mark. Within the
memory limit (scale/budget.py) there are besides: a tile being read, a tile being compared, the
block in which picks are settled, and picks. Rows are read in ascending order, in large pieces,
while those before them are compared. A row that is read again must have the mark that it had the
first time. Rows are compared, and picks settled, in sub-pools in memory (engine.SubPool) that start
from the stored bounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import _checks, _core, engine
from entroselect._settings import threads
from entroselect.backends.base import Backend
from entroselect.backends.cpu import add_rows, distances_to
from entroselect.constrained import SettlesInBlocks
from entroselect.io.rows import Rows
from entroselect.io.source import Source
from entroselect.results import Float64, Int64
from entroselect.scale.batches import read_ahead
from entroselect.scale.budget import Budget
from entroselect.scale.candidates import Candidates, Key
from entroselect.scale.marks import Marks, Seen
from entroselect.scale.pick_store import PickStore
from entroselect.scale.resident_codes import ResidentCodes
from entroselect.weighted import WeighsRows

# Rows that decide how rows are coded.
SAMPLE = 128


class StreamedPool(SettlesInBlocks, WeighsRows):
    """engine.SubPool over rows that are read piece by piece.

    Attributes:
        first: number of the first row in a pool of several processes.
        capacity: the most rows that a round may settle; where more of its frontier beat the rival,
            the best of them are kept, and the rival is raised to the best that is not (`cut`).
    """

    on_device = None  # as `MemoryPool.on_device`

    def __init__(
        self,
        source: Source,
        metric: str,
        backend: Backend,
        limit: int,
        first: int = 0,
        picks: int = 0,
    ) -> None:
        """`picks`: how many there will be, beside vectors that are not in the pool."""
        self.source, self.metric, self.backend, self.limit = source, metric, backend, limit
        self.n, self.d, self.first = source.n, source.d, first
        nothing = source.read(0, 0)
        self._expected = picks
        isa = getattr(backend, "isa", None)  # others than the CPU have no codes
        self._codes = ResidentCodes(self.d, source.dtype, metric, isa)
        self._held = Candidates(0, self.d, nothing.dtype)
        self._keep(source.dtype, nothing.dtype)
        self.count, self.available = 0, self.n
        self._bounds = np.full(self.n, np.inf)
        self._met = np.zeros(self.n, dtype=np.int32)
        self._seen = Seen("features", source.name, self.n)
        self._checked = False  # the values of all rows
        self._counted = dict.fromkeys(engine.COUNTED, 0)
        self._spent = dict.fromkeys(("refresh", "resolve", "frontier", "read"), 0.0)
        self._rows_read = 0

    @property
    def cut(self) -> Key:
        """Bound and number of the best row that the last refresh had no room for, `NO_ROW` where it
        had room for all: of its frontier, the rows that come before it are up to date."""
        return self._held.cut

    @property
    def primitives(self) -> engine.SubPool:
        """What the engine calls: this object."""
        return self

    def add_picks(self, rows: Int64) -> None:
        """Picks pool rows."""
        for at in range(0, len(rows), self.budget.picks):
            part = rows[at : at + self.budget.picks]
            self._append(self.take(part), self.source.dtype)
            self.exclude(part)

    def add_vectors(self, values: Any, dtype: str) -> None:
        """Adds vectors that are not in the pool to the picks."""
        if dtype != self._kept_as and self.count == 0:
            # Picks of two dtypes are kept as float64, which holds all of them exactly.
            self._keep("float64", np.dtype(np.float64))
        self._append(values, dtype)

    def exclude(self, rows: Int64) -> None:
        """Marks these rows as picked; their vectors are added separately, by `add_vectors`."""
        self._bounds[rows] = -1.0
        self.available -= len(rows)

    def put_back(self, rows: Int64, bounds: Float64) -> None:
        """Makes excluded rows available again, with their bounds."""
        self._bounds[rows] = bounds
        self.available += len(rows)

    def bounds(self, rows: Int64) -> Float64:
        """Their bounds, -1 where picked."""
        return self._bounds[rows]

    def state(self) -> tuple[Float64, Int64]:
        """(bounds, met) of all rows."""
        return self._bounds, np.minimum(self._met, self.count).astype(np.int64)

    def restart(self, bounds: Float64, met: Int64) -> None:
        """Resets the pool to no picks, with these bounds and counts of picks met."""
        self._bounds[:] = bounds
        self._met[:] = met
        self.count, self.available = 0, int(np.count_nonzero(self._bounds >= 0))
        self._keep(self._kept_as, self._picked.dtype)

    def marks(self) -> Marks:
        """The marks of all rows that were read; 0 for the others."""
        return self._seen.marks

    def verify(self, marks: Marks) -> None:
        """Reads all rows and compares their marks with those of a checkpoint.

        Raises:
            ValueError: naming the first row that differs.
        """
        self._seen.expect(marks, "the checkpoint was saved")
        self._begin_codes()
        for part, values in self._tiles(np.arange(self.n)):
            self._codes.see(part, values)
        self._checked = True

    def take(self, rows: Int64) -> NDArray[Any]:
        """The given rows, in that order; those that the last refresh kept are not read again."""
        held, values = self._held.rows, self._held.values
        found = np.empty((len(rows), self.d), values.dtype)
        places = np.searchsorted(held, rows)
        at_hand = np.zeros(len(rows), dtype=bool)
        if len(held):
            places = np.minimum(places, len(held) - 1)
            at_hand = held[places] == rows
            found[at_hand] = values[places[at_hand]]
        if not at_hand.all():
            distinct, back = np.unique(rows[~at_hand], return_inverse=True)
            found[~at_hand] = self._read(distinct)[back]
        return found

    def refresh(self, rows: Int64 | None = None, enough: float = 0.0) -> None:
        """Brings the bounds of the given rows (None: of all) up to date with every pick, or to any
        upper bound below `enough`. Keeps the given rows that are not below it, with their values.
        Of more than `capacity` rows some are dropped; then those that come after `cut` may keep
        a stale bound."""
        began = time.perf_counter()
        if rows is None:
            self._held.begin(0, _NO_ROWS, self._bounds[:0])
            rows = np.arange(self.n) if not self._checked else self._stale(slice(None), enough)
            self._begin_codes()
            for part, values in self._tiles(rows):
                self._codes.see(part, values)
                self._compare(part, values, enough)
            self._checked = True
        else:
            rows = np.sort(rows[self.keys(rows) >= enough])
            stale = self._stale(rows, enough)
            fresh = np.delete(rows, stale)
            self._codes.lower(rows[stale], enough, self._bounds, self._weights)
            rows = rows[self.keys(rows) >= enough]
            self._held.begin(len(rows), fresh, self.keys(fresh))
            for part, values in self._tiles(rows, up_to_cut=True):
                left = self._compare(part, values, max(enough, self.cut[0]))
                self._held.add(part[left], self.keys(part[left]), values, left)
        self._spent["refresh"] += time.perf_counter() - began

    def frontier(self, size: int) -> tuple[Int64, float, int]:
        """About `size` rows with the largest bounds; bound and index of the best left out."""
        began = time.perf_counter()
        keys = self.keys(slice(None))
        found = _core.frontier(keys, size, threads()) if self.n else (_NO_ROWS, -1.0, -1)
        self._spent["frontier"] += time.perf_counter() - began
        return found

    def settle(
        self, rows: Int64, rival: float, rival_index: int, limit: int, floor: float
    ) -> tuple[Int64, Float64, float]:
        """Picks up to `limit` of the rows, farthest first, while they beat the rival and are at
        `floor` or above. Also returns the next pick's squared distance, -1 where undecided."""
        bound, row = self.cut
        if bound > rival or (bound == rival and row < rival_index):
            rival, rival_index = self.cut
        rows = np.sort(self.beating(rows, rival, rival_index))
        if len(rows) == 0:
            return _NO_ROWS, np.empty(0), -1.0
        place = int(np.searchsorted(rows, rival_index))
        found, squared, next_squared = self._settle(
            rows, lambda block: engine.settle_block(block, rival, place, limit, floor)
        )
        return found, squared, next_squared

    def next_in_order(self, order: Int64, start: int, size: int, floor: float) -> tuple[Int64, int]:
        """Up to `size` rows that are not picked, with bounds of at least `floor`, in order from a
        position; and the position after them."""
        parts, found = [order[:0]], 0
        while start < len(order) and found < size:
            window = order[start : start + max(size, 65536)]
            places = np.flatnonzero(self._bounds[window] >= floor)[: size - found]
            parts.append(window[places])
            found += len(places)
            start += int(places[-1]) + 1 if found == size else len(window)
        return np.concatenate(parts), start

    def settle_in_order(self, rows: Int64, limit: int, floor: float) -> tuple[Int64, Float64]:
        """Picks up to `limit` of the rows, in the order given, each if still at `floor`."""
        rows = rows[self._bounds[rows] >= floor]
        if len(rows) == 0:
            return _NO_ROWS, np.empty(0)
        found, squared = self._settle(
            rows, lambda block: engine.settle_block_in_order(block, limit, floor)
        )
        return found, squared

    def widest(self) -> float:
        """The largest bound of any row that is not picked, 0 when there is none."""
        return max(0.0, float(self._bounds.max(initial=0.0)))

    def beating(self, rows: Int64, rival: float, rival_index: int) -> Int64:
        """Those of the rows that beat the rival."""
        keys = self.keys(rows)
        beating: Int64 = rows[(keys > rival) | ((keys == rival) & (rows < rival_index))]
        return beating

    def like(self, found: Any) -> Any:
        """Puts a result where the rows are: it is in host memory already."""
        return found

    def add_rows(self, total: Float64) -> None:
        """Adds all rows to a sum (d,), in order."""
        for _, values in self._tiles(np.arange(self.n)):
            add_rows(self._rows(values), self.metric, total)

    def nearest_to(
        self, vector: Float64, farthest: bool, among: NDArray[np.bool_] | None = None
    ) -> tuple[float, int]:
        """(squared distance, row) of the row nearest to a float64 vector, or farthest from it; the
        first of equals. `among`: which rows may be it; infinite, and any row, if none may."""
        sign = -1.0 if farthest else 1.0
        best, row = np.inf, -1
        for part, values in self._tiles(np.arange(self.n)):
            squared = sign * distances_to(self._rows(values), self.metric, vector)
            if among is not None:
                squared[~among[part]] = np.inf
            nearest = int(np.argmin(squared))
            if squared[nearest] < best:
                best, row = float(squared[nearest]), int(part[nearest])
        return sign * best, row

    def profile(self) -> dict[str, Any]:
        """Counters; bytes_read counts what was asked of files."""
        return {
            **self._counted,
            "pairs": self._counted["pairs"] + self._codes.pairs,
            **{f"{name}_seconds": spent for name, spent in self._spent.items()},
            "bytes_read": self.source.bytes_read,
            "reads_per_row": self._rows_read / max(1, self.n),
            "threads": threads(),
        }

    def _compare(self, rows: Int64, values: NDArray[Any], enough: float) -> Int64:
        """Compares rows with their unmet picks, the newest first, until they are below `enough`.
        Returns the places of those that are not."""
        left = np.arange(len(rows))
        if self.count == int(self._met[rows].min(initial=self.count)):
            return left
        bounds, met = self._bounds[rows], self._met[rows].astype(np.int64)
        block = self._open(values, rows)
        for start, picks in self._picked.tiles(int(met.min())):
            block.restart(bounds, np.clip(met - start, 0, len(picks)))
            block.add_vectors(picks, self._kept_as)
            block.refresh(left, enough)
            bounds, more = block.state()
            # A count advances only over picks that were compared without a gap.
            met = np.where(met >= start, np.maximum(met, start + more), met)
            left = left[self.keys(rows[left], bounds[left]) >= enough]
            if len(left) == 0:
                break
        met[left] = self.count
        self._codes.meet(rows[left])
        self._bounds[rows], self._met[rows] = bounds, met
        self._count(block)
        return left

    def _settle(self, rows: Int64, settle: Callable[[engine.SubPool], Any]) -> Any:
        """Settles picks in a block of these rows, which have met every pick before. Returns what
        `settle` does, its first entry as rows of this pool."""
        began = time.perf_counter()
        values = self.take(rows)
        self._held.clear()
        block = self._open(values, rows)
        block.restart(self._bounds[rows], np.zeros(len(rows), np.int64))
        with self.within_quotas(block, rows) as limited:
            found, *more = settle(limited)
        self.count_towards_quotas(rows[found])
        bounds, met = block.state()
        self._bounds[rows] = bounds
        self._met[rows] = self.count + met
        self._count(block)
        self._append(values[found], self.source.dtype)
        self.available -= len(found)
        self._spent["resolve"] += time.perf_counter() - began
        return rows[found], *more

    def _keep(self, dtype: str, stored: np.dtype[Any]) -> None:
        """Starts an empty store of picks of this dtype, and divides the limit anew."""
        self._kept_as = dtype
        self.budget = Budget.of(
            self.limit,
            self.n,
            self.d * stored.itemsize,
            self.d,
            self.source.overhead,
            self._expected,
            self._codes.bytes,
        )
        self._codes.restart()
        self.capacity = self._held.capacity = self.budget.block
        self._picked = PickStore(self.d, stored, self.budget.picks, self.budget.kept)

    def _append(self, vectors: NDArray[Any], dtype: str) -> None:
        if dtype != self._kept_as:
            vectors = Rows(vectors, dtype).float64()
        self._picked.append(vectors)
        self._codes.add_picks(vectors, self._kept_as)
        self.count += len(vectors)

    def _begin_codes(self) -> None:
        """Before a pass over all rows: makes room for codes, if the limit has any."""
        if self.budget.coded == 0 or self._codes.begun or self._checked:
            return
        assert self._codes.bytes is not None
        row, pick = self._codes.bytes
        room = self.budget.coded - -(-self.count * pick // row)  # picks that were not expected
        if room > 0:
            places = np.unique(np.linspace(0, self.n - 1, SAMPLE).astype(np.int64))
            self._codes.begin(self.take(places), room)
            for _, vectors in self._picked.tiles(0):  # in whatever order
                self._codes.add_picks(vectors, self._kept_as)

    def _open(self, values: NDArray[Any], rows: Int64) -> Any:
        return self.weighed(self.backend.new_pool(self._rows(values), self.metric, sub=True), rows)

    def _rows(self, values: NDArray[Any]) -> Rows:
        return Rows(values, self.source.dtype)

    def _count(self, block: engine.SubPool) -> None:
        counted = block.profile()
        for name in self._counted:
            self._counted[name] += counted[name]

    def _stale(self, rows: Any, enough: float) -> Int64:
        """Places, among the given rows, of those that must be compared with picks: with a key of at
        least `enough`, and unmet picks."""
        unmet = (self._bounds[rows] > 0) & (self._met[rows] < self.count)
        stale: Int64 = np.flatnonzero(unmet & (self.keys(rows) >= enough))
        return stale

    def _read(self, rows: Int64) -> NDArray[Any]:
        began = time.perf_counter()
        first = int(rows[0]) if len(rows) else 0
        if len(rows) and int(rows[-1]) - first + 1 == len(rows):
            values = self.source.read(first, first + len(rows))
        else:
            values = self.source.take(rows)
        numbers = rows + self.first
        if self._seen.check(rows, values, numbers):
            _checks.usable_values("features", self._rows(values), self.metric, numbers)
        self._rows_read += len(rows)
        self._spent["read"] += time.perf_counter() - began
        return values

    def _tiles(self, rows: Int64, up_to_cut: bool = False) -> Iterator[tuple[Int64, NDArray[Any]]]:
        """(rows, values) of the rows, which ascend, tile by tile; the next tile is read ahead.
        `up_to_cut`: without rows that come after the cut when their tile is read."""
        size = self.budget.tile
        parts: Iterable[Int64] = (rows[at : at + size] for at in range(0, len(rows), size))
        if up_to_cut:
            parts = (part[self.keys(part) >= self.cut[0]] for part in parts)
        return read_ahead(self._read, (part for part in parts if len(part)))


_NO_ROWS = np.empty(0, dtype=np.int64)
