"""Coded rows and the filter pass over them: which pairs are left open for canonical float64.

The proof stands in docs/exactness.md ("On a GPU"); the kernels are kernels/cuda/code.cu,
kernels/triton/filter.py and kernels/cuda/recheck.cu.
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

# Roundings a column of a score may cost, in units of 2^-23; and some for each score.
ROUNDINGS, MORE_ROUNDINGS = 2, 32

SLACK = 2.0**-20  # covers roundings of float32 numbers, as in kernels/triton/filter.py


# Pairs a pass may leave open; more than that and it is done again in parts.
CAPACITY = 1 << 22

# Programs of a pass: enough to fill a GPU.
PROGRAMS = 1024

# Multiply-adds of a pass that times a shape of tiles, and its rows at most.
TIMED, TIMED_ROWS = 1 << 36, 8192

# Rows coded at a time where a pool's codes are not kept.
ROWS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Coded:
    """Rows as the filter reads them: fp16 values (n, width), ||X~||^2, and float32 numbers not
    below ||X~|| and ||X - X~||."""

    codes: torch.Tensor
    norm2: torch.Tensor
    norm: torch.Tensor
    residual: torch.Tensor

    def __len__(self) -> int:
        return len(self.norm)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All four."""
        return self.codes, self.norm2, self.norm, self.residual

    def part(self, start: int, stop: int) -> Coded:
        """A view of some rows."""
        return Coded(*(tensor[start:stop] for tensor in self.tensors()))

    def kernel_argument(self, kernels: Any) -> Any:
        """What kernels take."""
        return kernels.Coded(*(tensor.data_ptr() for tensor in self.tensors()))


class Frame:
    """Where rows are coded: X = scale (x - centre). Any choice is correct; column medians and a
    typical magnitude keep residuals small whatever an outlier does."""

    def __init__(self, rows: DeviceRows) -> None:
        count = min(rows.n, 128)
        places = torch.arange(count, device=rows.device) * rows.n // max(1, count)
        sample = rows.float64(places) if count else rows.empty((1, rows.d), torch.float64).zero_()
        self.centre = torch.sort(sample, dim=0).values[count // 2].contiguous()
        largest = torch.sort((sample - self.centre).abs().amax(dim=1)).values
        largest = largest[largest > 0]
        typical = float(largest[len(largest) // 2]) if len(largest) else 1.0
        self.scale = 2.0 ** -max(-900, min(900, math.frexp(typical)[1] - 1))
        self.width = -(-rows.d // 64) * 64 if rows.d > 32 else 32
        steps = (ROUNDINGS * self.width + MORE_ROUNDINGS) * 2.0**-23
        self.gamma = steps / (1 - steps) if steps < 0.5 else 1e30
        self._canonical = (rows.d / 8 + 16) * 2.0**-51
        self._underflow = (rows.d + 16) * 2.0**-1073
        # Float32 ends before some scales do: then nothing is concluded from scores.
        underflow = self.scale * math.sqrt(4 * self._underflow) + 2.0**-60
        self.underflow = min(underflow * (1 + SLACK), 1e38)

    def reach(self, squared: torch.Tensor) -> torch.Tensor:
        """The largest scaled distance of a pair whose canonical value is that or less, float32."""
        root = torch.sqrt(squared * (1 + self._canonical) + self._underflow)
        return (self.scale * root * (1 + SLACK)).float()

    def bytes_a_row(self) -> int:
        """Of coded rows."""
        return 2 * self.width + 12

    def room(self, rows: DeviceRows, n: int) -> Coded:
        """Uninitialised."""
        numbers = [rows.empty(n, torch.float32) for _ in range(3)]
        return Coded(rows.empty((n, self.width), torch.float16), *numbers)

    def code(
        self,
        rows: DeviceRows,
        index: torch.Tensor | None,
        first: int,
        n: int,
        out: Coded | None = None,
    ) -> Coded:
        """Codes n rows: those of the index, or from `first` on."""
        out = self.room(rows, n) if out is None else out
        address = 0 if index is None else index.data_ptr()
        rows.kernels.code(
            rows.kernel_argument(), address, first, n, self.centre.data_ptr(), self.scale,
            self.width,
            out.kernel_argument(rows.kernels), rows.stream(),
        )  # fmt: skip
        return out


@dataclass(frozen=True)
class Found:
    """Pairs that a pass left open: places of rows in the tile, columns, scores."""

    rows: torch.Tensor  # of the tile
    slot: torch.Tensor
    column: torch.Tensor
    score: torch.Tensor
    reach: torch.Tensor  # final, of each row of the tile
    index: torch.Tensor | None
    coded: Coded
    columns: Coded
    gamma: float

    def arguments(self, kernels: Any, row: torch.Tensor) -> tuple[Any, Any]:
        """(Pairs, Sides); `row` says for each place in the tile which row the exact distance is
        of."""
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
    """What a pass is about.

    Attributes:
        rows: the rows' memory.
        kept: the codes of all of them, if they are kept.
        columns: coded columns.
        reach: of some rows (m,): no pair beyond it matters; float32 (m,).
        recheck: takes what a pass leaves open, which later passes overwrite.
        tighten: only each row's nearest column is wanted (and its ties).
        seen: of every row: columns before that do not count.
        skip: row r has no pair with column r - skip.
    """

    rows: DeviceRows
    kept: Coded | None
    columns: Coded
    reach: Callable[[torch.Tensor], torch.Tensor]
    recheck: Callable[[Found], None]
    tighten: bool
    seen: torch.Tensor | None = None
    skip: int | None = None


class Filter:
    """Passes of some rows over some columns, in one frame. `limit` is the bytes of device memory
    for what is kept beside the caller's rows."""

    def __init__(self, rows: DeviceRows, tile: Tile | None, limit: int | None = None) -> None:
        from entroselect.kernels.triton.filter import filter_pairs

        self.frame = Frame(rows)
        self.kernel: Any = filter_pairs
        self.limit = limit
        most = CAPACITY if self.limit is None else min(CAPACITY, self.limit // 48)
        known = autotune.table(rows.device) if tile is None else (tile,)
        if tile is not None and tile.capacity is not None:
            most = tile.capacity
        # One tile can always be done.
        self.capacity = max(most, *(each.rows * each.columns for each in known))
        self.slot = rows.empty(self.capacity, torch.int32)
        self.column = rows.empty(self.capacity, torch.int32)
        self.score = rows.empty(self.capacity, torch.float32)
        if tile is None:
            timed = self._timed(rows)
            tile = autotune.choose(rows.device, self.frame.width, rows.n, timed)
        self.tile = tile

    def run(self, task: Task, rows: torch.Tensor, begin: int, end: int) -> None:
        """Passes rows (m,) over columns [begin, end), in as many parts as memory asks for.

        Raises:
            MemoryError: not even a single tile fits.
        """
        tile, m = self.tile, len(rows)
        if m == 0 or begin >= end:
            return
        found = None
        if m <= max(tile.rows, self._rows_at_once(task, end - begin)):
            try:
                found = self._pass(task, rows, begin, end)
            except torch.OutOfMemoryError as error:
                if m <= tile.rows:
                    need = tile.rows * (self.frame.bytes_a_row() + 64)
                    raise MemoryError(
                        f"backend 'cuda': {need} more bytes of GPU memory needed for a tile of "
                        f"{tile.rows} rows x {self.frame.width} columns"
                    ) from error
        if found is not None:
            task.recheck(found)
        elif m > tile.rows:
            half = -(-(m // 2) // tile.rows) * tile.rows
            self.run(task, rows[:half], begin, end)
            self.run(task, rows[half:], begin, end)
        else:
            middle = (begin + end + 1) // 2
            self.run(task, rows, begin, middle)
            self.run(task, rows, middle, end)

    def _rows_at_once(self, task: Task, columns: int) -> int:
        most = (2**31 - 1) // columns  # the kernel counts pairs in 32 bits
        if task.kept is not None:
            return most
        if self.limit is None:
            return min(most, ROWS_AT_ONCE)
        return min(most, self.limit // 2 // self.frame.bytes_a_row())

    def _pass(self, task: Task, rows: torch.Tensor, begin: int, end: int) -> Found | None:
        """One launch; None if it left more pairs open than there is room for."""
        tile, m = self.tile, len(rows)
        rows = rows.contiguous()
        coded = self.frame.code(task.rows, rows, 0, m) if task.kept is None else task.kept
        index = None if task.kept is None else rows
        parts = -(-m // tile.rows)
        first = torch.full((parts * tile.rows,), end, dtype=torch.int32, device=rows.device)
        first[:m] = begin if task.seen is None else task.seen[rows]
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

            # Descriptors live in memory that the launch asks for; the caller's allocator stays.
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
            # Nothing is within reach but a row itself: the rare branch stays rare.
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
