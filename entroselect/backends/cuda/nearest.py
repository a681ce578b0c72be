"""Nearest neighbours in device memory."""

from __future__ import annotations

import math
from typing import Any

import torch

from entroselect.backends.cuda.autotune import Tile
from entroselect.backends.cuda.device_rows import DeviceRows
from entroselect.backends.cuda.filter import Filter, Found, Task
from entroselect.backends.cuda.frame import Coded

# Queries that are searched at a time.
QUERIES = 65536

NO_ROW = 2**62


class Search:
    """The k nearest points of every query."""

    def __init__(
        self,
        queries: DeviceRows,
        points: DeviceRows,
        k: int,
        tile: Tile | None,
        known: tuple[torch.Tensor, torch.Tensor] | None = None,
        limit: int | None = None,
    ) -> None:
        """`known`: sorted squared distances and indices, (n, k), to start from; the points here are
        numbered from 0."""
        self.queries, self.points, self.k = queries, points, k
        self.filter = Filter(points, tile, limit)
        n, device = queries.n, queries.device
        self.squared = torch.full((n, k), math.inf, dtype=torch.float64, device=device)
        self.indices = torch.full((n, k), NO_ROW, dtype=torch.int64, device=device)
        if known is not None:
            self.squared.copy_(known[0])
            self.indices.copy_(known[1])

    def run(self, progress: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """(squared distances, indices), both (n, k)."""
        n, start, block = self.queries.n, 0, self._points_at_once()
        while start < self.points.n:
            stop = min(start + block, self.points.n)
            try:
                columns = self.filter.frame.code(self.points, None, start, stop - start)
            except torch.OutOfMemoryError as error:
                if block <= self.filter.tile.columns:
                    need = block * self.filter.frame.bytes_per_row()
                    raise MemoryError(
                        f"backend 'cuda': {need} more bytes of GPU memory needed for {block} "
                        "coded points"
                    ) from error
                block = max(block // 2, self.filter.tile.columns)
                continue
            for first in range(0, n, QUERIES):
                last = min(first + QUERIES, n)
                rows = torch.arange(first, last, device=self.queries.device)
                self._search(rows, columns, start, stop)
                if progress is not None:
                    share = (start + (stop - start) * last / n) / self.points.n
                    progress(n if last == n and stop == self.points.n else int(n * share), n)
            start = stop
        return self.squared, self.indices

    def _points_at_once(self) -> int:
        if self.filter.limit is None:
            return self.points.n
        fit = self.filter.limit // 2 // self.filter.frame.bytes_per_row()
        return min(self.points.n, max(fit, self.filter.tile.columns))

    def _search(self, rows: torch.Tensor, columns: Coded, start: int, stop: int) -> None:
        task = Task(
            self.queries, None, columns,
            reach=lambda part: self.filter.frame.reach(self.squared[part, -1]),
            recheck=lambda found: self._recheck(found, start),
            skip=start if self.points is self.queries else None,
            tighten=self.k == 1,
        )  # fmt: skip
        # One nearest tightens its own test as it goes. More of them start with few columns, all
        # of them compared exactly, and double: each step then leaves about k pairs per row open.
        size = stop - start if self.k == 1 else max(128, 4 * self.k)
        begin, count = 0, stop - start
        while begin < count:
            end = min(count, begin + size)
            self.filter.run(task, rows, begin, end)
            begin, size = end, end

    def _recheck(self, found: Found, start: int) -> None:
        kernels, queries, points = self.queries.kernels, self.queries, self.points
        rows, given = found.rows, queries.kernel_argument()
        if queries.dtype != points.dtype:  # the kernel knows one type on both sides, or float64
            wide = queries.float64(found.rows)
            rows = torch.arange(len(wide), device=queries.device)
            given = kernels.Rows(wide.data_ptr(), 8 * queries.d, queries.d, "float64", 0)
        pairs, sides = found.arguments(kernels, rows)
        selection = kernels.Selection(points.kernel_argument(start), given, 0, 0, 0)
        squared = queries.empty(len(found.slot), torch.float64)
        kernels.recheck(pairs, sides, selection, squared.data_ptr(), queries.stream())
        kept = (squared < math.inf).nonzero().flatten()
        self._merge(
            found.rows[found.slot[kept].long()], found.column[kept].long() + start, squared[kept]
        )

    def _merge(self, row: torch.Tensor, index: torch.Tensor, squared: torch.Tensor) -> None:
        """Offers pairs to the lists of their rows, in order of (distance, index)."""
        touched = torch.unique(row)
        row = torch.cat([touched.repeat_interleave(self.k), row])
        index = torch.cat([self.indices[touched].flatten(), index])
        squared = torch.cat([self.squared[touched].flatten(), squared])
        order = torch.sort(index, stable=True).indices
        for key in (squared, row):
            order = order[torch.sort(key[order], stable=True).indices]
        row = row[order]
        rank = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
        best = rank < self.k
        self.squared[row[best], rank[best]] = squared[order][best]
        self.indices[row[best], rank[best]] = index[order][best]
