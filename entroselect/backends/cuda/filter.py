"""The filter pass over coded rows: which pairs it leaves open, to be compared in float64.

The proof is in docs/exactness.md ("On a GPU"); the kernel is kernels/triton/filter.py,
kernels/cuda/tiles.cu prepares and reads what it works on, and kernels/cuda/recheck.cu compares what
it leaves open.
"""

from __future__ import annotations

import contextvars
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from entroselect.backends.cuda import autotune
from entroselect.backends.cuda.autotune import Tile
from entroselect.backends.cuda.device_rows import DeviceRows
from entroselect.backends.cuda.frame import Coded, Frame

# Pairs that a pass may leave open, and how many of them an item has room for; if there are more, it
# is done again in parts.
CAPACITY, PER_ITEM = 1 << 22, 4

# Programs of a pass: enough to fill a GPU.
PROGRAMS = 1024

# Multiply-adds of a pass that times a shape of tiles, and its rows at most.
TIMED, TIMED_ROWS = 1 << 38, 16384

# Rows coded at a time where a pool's codes are not kept.
ROWS_AT_ONCE = 1 << 18


def address(tensor: torch.Tensor | None) -> int:
    """As kernels take a tensor that may be missing."""
    return 0 if tensor is None else tensor.data_ptr()


@dataclass(frozen=True)
class Found:
    """Pairs that a pass left open, within reach of their rows at its end.

    Attributes:
        rows: rows of the pass.
        slot, column: places of rows among those, columns.
        score: upper bounds of scores.
        count: int64 (3,) on the device: items and pairs in all, more than there is room for where
            the pass has to be done again; not 0 where that holds for an earlier one of these rows.
        reach: at the end of the pass, per row.
        first: int32, per tile of rows: the columns before it do not count.
        scanned: int32, per tile of rows: they have been compared with the columns of the pass from
            this one on.
        left: int32, per row: not 0 where it took no part, but had been compared from there on.
        skip: per row: the column that it has no pair with.
    """

    rows: torch.Tensor
    slot: torch.Tensor
    column: torch.Tensor
    score: torch.Tensor
    count: torch.Tensor
    reach: torch.Tensor
    first: torch.Tensor
    scanned: torch.Tensor
    left: torch.Tensor | None
    skip: torch.Tensor | None
    index: torch.Tensor | None
    coded: Coded
    columns: Coded
    gamma: float

    def arguments(self, kernels: Any, row: torch.Tensor) -> tuple[Any, Any]:
        """(Pairs, Sides), as the exact kernels take them; `row`: the row at each place of the
        pass."""
        pairs = kernels.Pairs(
            self.slot.data_ptr(), self.column.data_ptr(), self.score.data_ptr(), len(self.slot),
            listed=self.count.data_ptr() + 8,
        )  # fmt: skip
        return pairs, self.sides(kernels, row)

    def sides(self, kernels: Any, row: torch.Tensor) -> Any:
        """Sides, as kernels take them."""
        return kernels.Sides(
            row.data_ptr(), address(self.index), self.coded.kernel_argument(kernels),
            self.columns.kernel_argument(kernels),
            self.reach.data_ptr(), self.gamma,
        )  # fmt: skip


@dataclass(frozen=True)
class Task:
    """The work of a pass.

    Attributes:
        rows: the rows that the pass can name.
        kept: the codes of all of them, if they are kept.
        columns: coded columns.
        squared: float64, per row: the largest canonical squared distance at which a pair can still
            matter.
        recheck: takes what a pass leaves open, which later passes overwrite.
        tighten: only each row's nearest column is wanted (and its ties).
        met: int32, per row: the number of columns that it has been compared with; they do not
            count.
        skip: row r has no pair with column r - skip.
        enough: canonical squared distance: rows with a column that is nearer need not be compared
            with older ones. With `tighten` only.
    """

    rows: DeviceRows
    kept: Coded | None
    columns: Coded
    squared: torch.Tensor
    recheck: Callable[[Found], None]
    tighten: bool
    met: torch.Tensor | None = None
    skip: int | None = None
    enough: float = 0.0


@dataclass(frozen=True)
class _Items:
    """Room for what the kernel writes: rows of a pass, tiles of columns, scores, bits."""

    slot: torch.Tensor
    start: torch.Tensor
    best: torch.Tensor
    words: torch.Tensor

    def tensors(self) -> tuple[torch.Tensor, ...]:
        return self.slot, self.start, self.best, self.words


@dataclass(frozen=True)
class _Tiles:
    """Room for what the kernel reads of tiles of columns: a number per place, two per tile."""

    half: torch.Tensor
    norm: torch.Tensor
    residual: torch.Tensor

    def tensors(self) -> tuple[torch.Tensor, ...]:
        return self.half, self.norm, self.residual


class Filter:
    """Passes of some rows over some columns, in one frame. `limit`: bytes of device memory that
    may be used besides the caller's rows."""

    def __init__(self, rows: DeviceRows, tile: Tile | None, limit: int | None = None) -> None:
        from entroselect.kernels.triton.filter import filter_pairs

        self.frame = Frame(rows)
        self.kernel: Any = filter_pairs
        self.rows = rows
        self.limit = limit
        most = CAPACITY if self.limit is None else min(CAPACITY, self.limit // 48)
        known = autotune.table(rows.device) if tile is None else (tile,)
        if tile is not None and tile.capacity is not None:
            most = tile.capacity
        # There is room for all pairs of at least one tile.
        most = max(most, *(each.rows * each.columns for each in known))
        self.slot = rows.empty(most, torch.int32)
        self.column = rows.empty(most, torch.int32)
        self.score = rows.empty(most, torch.float32)
        n = most // PER_ITEM
        self.items = _Items(
            rows.empty(n, torch.int32), rows.empty(n, torch.int32), rows.empty(n, torch.float32),
            rows.empty(n * max(each.words for each in known), torch.int32),
        )  # fmt: skip
        self.tiles = self._room_for(0, 0)
        if tile is None:
            tile = autotune.choose(rows.device, self.frame.width, rows.n, self._timed())
        self.tile = tile

    @property
    def capacity(self) -> int:
        """Pairs that there is room for."""
        return len(self.slot)

    def run(self, task: Task, rows: torch.Tensor, begin: int, end: int) -> torch.Tensor:
        """Passes rows (m,) over columns [begin, end), the last first, split into as many launches
        as memory needs. Returns int32, per tile of rows: they have been compared with the columns
        from there on; that is `begin` unless a task has `enough`, and then rows that have not been
        compared with all of them have a column that is nearer.

        Raises:
            MemoryError: not even a single tile fits.
        """
        tile, m = self.tile, len(rows)
        if m == 0 or begin >= end:
            return torch.full((-(-m // tile.rows),), begin, dtype=torch.int32, device=rows.device)
        found = self._attempt(task, rows, begin, end)
        if found is not None:
            return found.scanned
        if m > tile.rows:
            half = -(-(m // 2) // tile.rows) * tile.rows
            return torch.cat(
                [self.run(task, part, begin, end) for part in (rows[:half], rows[half:])]
            )
        middle = (begin + end + 1) // 2
        newer = self.run(task, rows, middle, end)
        older = self.run(task, rows, begin, middle)
        return torch.where(newer <= middle, older, newer)

    def attempt(self, task: Task, rows: torch.Tensor, begin: int, end: int) -> bool:
        """As `run`, in one launch; False, and nothing is compared, if there is no room for it or
        for the pairs that it leaves open."""
        return self._attempt(task, rows, begin, end) is not None

    def _attempt(self, task: Task, rows: torch.Tensor, begin: int, end: int) -> Found | None:
        found = self.queue(task, rows, begin, end)
        if found is None:
            return None
        _, n, _ = counts = found.count.tolist()
        if not self.fits(*counts):
            return None
        found = replace(found, slot=found.slot[:n], column=found.column[:n], score=found.score[:n])
        task.recheck(found)
        return found

    def queue(
        self,
        task: Task,
        rows: torch.Tensor,
        begin: int,
        end: int,
        before: Found | None = None,
        left: torch.Tensor | None = None,
    ) -> Found | None:
        """One pass, queued on the caller's stream: nothing waits for it, and `task.recheck` is not
        called. Its `slot`, `column` and `score` are all the room there is, until the next pass;
        `count` says how much is used, which may be more. None without memory for it. After a pass
        `before` over the same rows, those take no part that `left` it."""
        tile, m = self.tile, len(rows)
        if m * -(-(end - begin) // tile.columns) >= 2**31:  # items are counted in 32 bits
            return None
        if task.kept is None and m > max(tile.rows, self._rows_at_once()):
            return None
        try:
            found = self._begin(task, self.tile, rows.contiguous(), begin, end, before, left)
            self._launch(self.tile, found, begin, end, task.tighten, self.frame.below(task.enough))
            return found
        except torch.OutOfMemoryError as error:
            if m <= tile.rows:
                need = tile.rows * (self.frame.bytes_per_row() + 64)
                raise MemoryError(
                    f"backend 'cuda': {need} more bytes of GPU memory needed for a tile of "
                    f"{tile.rows} rows x {self.frame.width} columns"
                ) from error
            return None

    def fits(self, items: int, pairs: int, exceeded: int) -> bool:
        """Whether a pass with that `count` wrote all of them."""
        return items <= len(self.items.slot) and pairs <= self.capacity and not exceeded

    def room(self, found: Found | None) -> Any:
        """What kernels look at to know the same; without a pass there was room."""
        kernels = self.rows.kernels
        count = 0 if found is None else found.count.data_ptr()
        return kernels.Room(count, len(self.items.slot), self.capacity)

    def scanned(self, scanned: torch.Tensor | None, left: torch.Tensor | None = None) -> Any:
        """From which columns on rows have been compared, as kernels take it. `scanned`: as `run`
        returns it; None: from the first."""
        return self.rows.kernels.Scanned(address(scanned), self.tile.rows, address(left))

    def _rows_at_once(self) -> int:
        """Rows that a pass codes, where a pool's codes are not kept."""
        if self.limit is None:
            return ROWS_AT_ONCE
        return self.limit // 2 // self.frame.bytes_per_row()

    def _room_for(self, count: int, columns: int) -> _Tiles:
        """Room for so many tiles of columns; there may be more."""
        numbers = (count * columns, count, count)
        return _Tiles(*(self.rows.empty(n, torch.float32) for n in numbers))

    def _begin(
        self,
        task: Task,
        tile: Tile,
        rows: torch.Tensor,
        begin: int,
        end: int,
        before: Found | None = None,
        left: torch.Tensor | None = None,
    ) -> Found:
        """What a pass begins with."""
        held, kernels, frame, m = self.rows, self.rows.kernels, self.frame, len(rows)
        parts, count = -(-m // tile.rows), -(-(end - begin) // tile.columns)
        if count > len(self.tiles.norm) or count * tile.columns > len(self.tiles.half):
            self.tiles = self._room_for(2 * count, tile.columns)
        found = Found(
            rows, self.slot, self.column, self.score,
            count=held.empty(3, torch.int64), reach=held.empty(m, torch.float32),
            first=held.empty(parts, torch.int32), scanned=held.empty(parts, torch.int32),
            left=left, skip=None if task.skip is None else held.empty(m, torch.int64),
            index=None if task.kept is None else rows,
            coded=frame.code(task.rows, rows, 0, m) if task.kept is None else task.kept,
            columns=task.columns, gamma=frame.gamma,
        )  # fmt: skip
        begun = kernels.PassRows(
            rows.data_ptr(), m, tile.rows, task.squared.data_ptr(), task.squared.stride(0),
            address(task.met), address(left), found.reach.data_ptr(), address(found.skip),
            task.skip or 0, found.first.data_ptr(), found.scanned.data_ptr(),
            found.count.data_ptr(),
        )  # fmt: skip
        kernels.begin_pass(
            task.columns.kernel_argument(kernels), begin, end,
            kernels.Tiles(*(each.data_ptr() for each in self.tiles.tensors()), tile.columns),
            begun, frame.reach(kernels), self.room(before), held.stream(),
        )  # fmt: skip
        return found

    def _launch(
        self, tile: Tile, found: Found, begin: int, end: int, tighten: bool, stop: float
    ) -> None:
        """The pass, from what it begins with to a list of pairs."""
        kernels, skip, parts = self.rows.kernels, found.skip, len(found.first)
        count = -(-(end - begin) // tile.columns)
        # Each program with at least one tile of columns.
        splits = max(1, min(count, PROGRAMS // parts))

        def launch() -> None:
            self.kernel[parts, splits](
                *found.coded.tensors(), found.rows, found.rows if skip is None else skip,
                found.reach.view(torch.int32), found.first, found.scanned,
                found.columns.codes, *self.tiles.tensors(), *self.items.tensors(),
                found.count.view(torch.int32), len(found.rows), begin, end, self.frame.width,
                len(self.items.slot), self.frame.gamma, self.frame.underflow, stop,
                BM=tile.rows, BN=tile.columns, BK=min(tile.depth, self.frame.width),
                INDEXED=found.index is not None, SAME=skip is not None, TIGHTEN=tighten,
                TMA=tile.tma, num_warps=tile.warps, num_stages=tile.stages,
            )  # fmt: skip

        if tile.tma:
            import triton

            # Triton allocates descriptors with an allocator set for this launch alone; the caller's
            # stays.
            context = contextvars.copy_context()
            context.run(triton.set_allocator, self._allocate)
            context.run(launch)
        else:
            launch()
        items = kernels.Items(
            *(each.data_ptr() for each in self.items.tensors()), found.count.data_ptr(),
            address(skip), len(self.items.slot), tile.words,
        )  # fmt: skip
        pairs = kernels.PairList(
            found.slot.data_ptr(), found.column.data_ptr(), found.score.data_ptr(),
            found.count.data_ptr() + 8, self.capacity,
        )  # fmt: skip
        kernels.expand(items, found.sides(kernels, found.rows), pairs, self.rows.stream())

    def _allocate(self, size: int, alignment: int, stream: int | None) -> torch.Tensor:
        return torch.empty(size, dtype=torch.int8, device=self.slot.device)

    def _timed(self) -> Callable[[Tile], float]:
        """Times passes over a sample of the rows, in milliseconds."""
        kept: list[Coded] = []

        def milliseconds(tile: Tile) -> float:
            m = max(1, min(self.rows.n // 4, TIMED_ROWS, math.isqrt(TIMED // self.frame.width)))
            if not kept:
                n = min(self.rows.n, m + 2 * (TIMED // self.frame.width // m))
                kept.append(self.frame.code(self.rows, None, 0, n))
            return self.milliseconds(tile, kept[0], m)

        return milliseconds

    def milliseconds(self, tile: Tile, coded: Coded, m: int) -> float:
        """Time on the device of a pass as a selection makes it when its picks have doubled: the
        first m rows over the last half of the other rows, from the reach that those of the first
        half leave, so that few rows but most tiles have a pair to list. The best of three."""
        device, middle = coded.norm.device, (m + len(coded)) // 2
        index = torch.arange(m, device=device)
        anything = torch.full((m,), math.inf, dtype=torch.float64, device=device)
        task = Task(self.rows, coded, coded, anything, lambda found: None, tighten=True)
        reach: torch.Tensor | None = None
        event: Any = torch.cuda.Event
        events = [event(enable_timing=True) for _ in range(4)]
        # The first pass gives the reach, the second warms up.
        for event, begin, end in (
            (None, m, middle),
            *((each, middle, len(coded)) for each in (None, *events)),
        ):
            found = self._begin(task, tile, index, begin, end)
            if reach is not None:
                found.reach.copy_(reach)
            if event is not None:
                event.record()
            self._launch(tile, found, begin, end, tighten=True, stop=0.0)
            reach = found.reach if reach is None else reach
        torch.cuda.synchronize(device)
        return float(min(a.elapsed_time(b) for a, b in itertools.pairwise(events)))
