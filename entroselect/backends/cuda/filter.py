"""The filter pass over coded rows: which pairs it leaves open, to be compared in float64.

The proof is in docs/exactness.md ("On a GPU"); the kernel is kernels/triton/filter.py, and
kernels/cuda/recheck.cu compares what it leaves open.
"""

from __future__ import annotations

import contextvars
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from entroselect.backends.cuda import autotune
from entroselect.backends.cuda.autotune import Tile
from entroselect.backends.cuda.device_rows import DeviceRows
from entroselect.backends.cuda.frame import Coded, Frame

# Pairs that a pass may leave open; if there are more, it is done again in parts.
CAPACITY = 1 << 22

# Programs of a pass: enough to fill a GPU.
PROGRAMS = 1024

# Multiply-adds of a pass that times a shape of tiles, and its rows at most.
TIMED, TIMED_ROWS = 1 << 36, 8192

# Rows coded at a time where a pool's codes are not kept.
ROWS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Found:
    """Pairs that a pass left open: places of rows among those of the pass, columns, scores."""

    rows: torch.Tensor  # of the pass
    slot: torch.Tensor
    column: torch.Tensor
    score: torch.Tensor
    reach: torch.Tensor  # at the end of the pass, per row
    index: torch.Tensor | None
    coded: Coded
    columns: Coded
    gamma: float

    def arguments(self, kernels: Any, row: torch.Tensor) -> tuple[Any, Any]:
        """(Pairs, Sides), as the exact kernels take them; `row`: the row at each place of the
        pass."""
        pairs = kernels.Pairs(
            self.slot.data_ptr(), self.column.data_ptr(), self.score.data_ptr(), len(self.slot)
        )
        index = 0 if self.index is None else self.index.data_ptr()
        sides = kernels.Sides(
            row.data_ptr(), index, self.coded.kernel_argument(kernels),
            self.columns.kernel_argument(kernels),
            self.reach.data_ptr(), self.gamma,
        )  # fmt: skip
        return pairs, sides


@dataclass(frozen=True)
class Task:
    """The work of a pass.

    Attributes:
        rows: the rows that the pass can name.
        kept: the codes of all of them, if they are kept.
        columns: coded columns.
        reach: float32 (m,): of each row of the pass, the largest distance in the frame at which a
            pair can still matter.
        recheck: takes what a pass leaves open, which later passes overwrite.
        tighten: only each row's nearest column is wanted (and its ties).
        met: per row, the number of columns that it has been compared with; they do not count.
        skip: row r has no pair with column r - skip.
    """

    rows: DeviceRows
    kept: Coded | None
    columns: Coded
    reach: Callable[[torch.Tensor], torch.Tensor]
    recheck: Callable[[Found], None]
    tighten: bool
    met: torch.Tensor | None = None
    skip: int | None = None


class Filter:
    """Passes of some rows over some columns, in one frame. `limit`: bytes of device memory that
    may be used besides the caller's rows."""

    def __init__(self, rows: DeviceRows, tile: Tile | None, limit: int | None = None) -> None:
        from entroselect.kernels.triton.filter import filter_pairs

        self.frame = Frame(rows)
        self.kernel: Any = filter_pairs
        self.limit = limit
        most = CAPACITY if self.limit is None else min(CAPACITY, self.limit // 48)
        known = autotune.table(rows.device) if tile is None else (tile,)
        if tile is not None and tile.capacity is not None:
            most = tile.capacity
        # There is room for all pairs of at least one tile.
        self.capacity = max(most, *(each.rows * each.columns for each in known))
        self.slot = rows.empty(self.capacity, torch.int32)
        self.column = rows.empty(self.capacity, torch.int32)
        self.score = rows.empty(self.capacity, torch.float32)
        if tile is None:
            timed = self._timed(rows)
            tile = autotune.choose(rows.device, self.frame.width, rows.n, timed)
        self.tile = tile

    def run(self, task: Task, rows: torch.Tensor, begin: int, end: int) -> None:
        """Passes rows (m,) over columns [begin, end), split into as many launches as memory needs.

        Raises:
            MemoryError: not even a single tile fits.
        """
        tile, m = self.tile, len(rows)
        if m == 0 or begin >= end or self.attempt(task, rows, begin, end):
            return
        if m > tile.rows:
            half = -(-(m // 2) // tile.rows) * tile.rows
            self.run(task, rows[:half], begin, end)
            self.run(task, rows[half:], begin, end)
        else:
            middle = (begin + end + 1) // 2
            self.run(task, rows, begin, middle)
            self.run(task, rows, middle, end)

    def attempt(self, task: Task, rows: torch.Tensor, begin: int, end: int) -> bool:
        """As `run`, in one launch; False, and nothing is compared, if there is no room for it or
        for the pairs that it leaves open."""
        tile, m = self.tile, len(rows)
        if m > max(tile.rows, self._rows_at_once(task, end - begin)):
            return False
        try:
            found = self._pass(task, rows, begin, end)
        except torch.OutOfMemoryError as error:
            if m <= tile.rows:
                need = tile.rows * (self.frame.bytes_per_row() + 64)
                raise MemoryError(
                    f"backend 'cuda': {need} more bytes of GPU memory needed for a tile of "
                    f"{tile.rows} rows x {self.frame.width} columns"
                ) from error
            return False
        if found is not None:
            task.recheck(found)
        return found is not None

    def _rows_at_once(self, task: Task, columns: int) -> int:
        most = (2**31 - 1) // columns  # the kernel counts pairs in 32 bits
        if task.kept is not None:
            return most
        if self.limit is None:
            return min(most, ROWS_AT_ONCE)
        return min(most, self.limit // 2 // self.frame.bytes_per_row())

    def _pass(self, task: Task, rows: torch.Tensor, begin: int, end: int) -> Found | None:
        """One launch; None if it left more pairs open than there is room for."""
        tile, m = self.tile, len(rows)
        rows = rows.contiguous()
        coded = self.frame.code(task.rows, rows, 0, m) if task.kept is None else task.kept
        index = None if task.kept is None else rows
        parts = -(-m // tile.rows)
        first = torch.full((parts * tile.rows,), end, dtype=torch.int32, device=rows.device)
        first[:m] = begin if task.met is None else task.met[rows]
        first = first.view(parts, tile.rows).amin(dim=1)
        skipped = rows if task.skip is None else rows - task.skip
        limits = task.reach(rows)
        counter = torch.zeros(1, dtype=torch.int32, device=rows.device)
        self._launch(
            tile, coded, index is not None, rows, skipped, limits, first, task.columns, counter,
            m, begin, end, task.skip is not None, task.tighten,
        )  # fmt: skip
        n = int(counter)
        if n > self.capacity:
            return None
        return Found(
            rows, self.slot[:n], self.column[:n], self.score[:n], limits, index, coded,
            task.columns, self.frame.gamma,
        )  # fmt: skip

    def _launch(
        self,
        tile: Tile,
        coded: Coded,
        indexed: bool,
        rows: torch.Tensor,
        skipped: torch.Tensor,
        limits: torch.Tensor,
        first: torch.Tensor,
        columns: Coded,
        counter: torch.Tensor,
        m: int,
        begin: int,
        end: int,
        same: bool,
        tighten: bool,
    ) -> None:
        # Each program with at least one tile of columns.
        splits = max(1, min(-(-(end - begin) // tile.columns), PROGRAMS // len(first)))

        def launch() -> None:
            self.kernel[len(first), splits](
                *coded.tensors(), rows, skipped, limits.view(torch.int32), first,
                *columns.tensors(), self.slot, self.column, self.score, counter,
                m, begin, end, self.frame.width, self.capacity, self.frame.gamma,
                self.frame.underflow,
                BM=tile.rows, BN=tile.columns, BK=min(tile.depth, self.frame.width),
                INDEXED=indexed, SAME=same, TIGHTEN=tighten, TMA=tile.tma,
                num_warps=tile.warps, num_stages=tile.stages,
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

    def _allocate(self, size: int, alignment: int, stream: int | None) -> torch.Tensor:
        return torch.empty(size, dtype=torch.int8, device=self.slot.device)

    def _timed(self, rows: DeviceRows) -> Callable[[Tile], float]:
        """Times passes over a sample of the rows, in milliseconds."""
        kept: list[Coded] = []

        def milliseconds(tile: Tile) -> float:
            m = min(rows.n, TIMED_ROWS, math.isqrt(TIMED // self.frame.width))
            if not kept:
                n = min(rows.n, TIMED // self.frame.width // m)
                kept.append(self.frame.code(rows, None, 0, n))
            return self.milliseconds(tile, kept[0], m)

        return milliseconds

    def milliseconds(self, tile: Tile, coded: Coded, m: int) -> float:
        """Time on the device of a pass of the first m rows over all of them that leaves next to
        nothing open: the best of three."""
        device = coded.norm.device
        index = torch.arange(m, device=device)
        first = torch.zeros(-(-m // tile.rows), dtype=torch.int32, device=device)
        event: Any = torch.cuda.Event
        events = [event(enable_timing=True) for _ in range(4)]
        for event in [None, *events]:  # the first pass compiles and warms up
            # Only the row itself is within reach, so the rare branch stays rare.
            limits = torch.zeros(m, dtype=torch.float32, device=device)
            counter = torch.zeros(1, dtype=torch.int32, device=device)
            if event is not None:
                event.record()
            self._launch(
                tile, coded, True, index, index, limits, first, coded, counter, m, 0, len(coded),
                False, True,
            )  # fmt: skip
        torch.cuda.synchronize(device)
        return float(min(a.elapsed_time(b) for a, b in itertools.pairwise(events)))
