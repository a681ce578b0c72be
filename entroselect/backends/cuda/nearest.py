"""Nearest neighbours in device memory.

A batch of queries is coded once and goes through ranges of columns (coded points), few at first and
doubling. After each range a row's reach is the distance to its nearest points so far, so a range
leaves about k pairs per row open. The host waits once per range, for the number of those pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from entroselect.backends.cuda.autotune import Tile
from entroselect.backends.cuda.device_rows import DeviceRows
from entroselect.backends.cuda.filter import Filter, Found, Task
from entroselect.backends.cuda.frame import Coded

# Queries that are searched at a time, and pairs that they are compared with in a pass: the longer
# the passes, the less the few waits between them cost (an H100 takes 30 ms for that many pairs of
# 768 columns).
QUERIES, AT_ONCE = 131072, 1 << 34

# Columns of the first range. Without a reach all of its pairs are compared exactly (k > 1), or
# those that come nearest so far (k = 1).
FIRST = 128

# Pairs that are compared and merged at a time.
PAIRS = 1 << 20

# More pairs than this per row and neighbour are left open where rows have copies.
MANY = 2

NO_ROW = 2**63 - 1  # comes after every row


@dataclass(frozen=True)
class Batch:
    """Queries from `first` on, numbered from 0, and where in the points the columns begin."""

    first: int
    start: int
    coded: Coded
    values: torch.Tensor | None  # float64, where queries and points are of different types
    given: Any  # the queries as kernels take them


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
        # The last row takes what belongs to no list.
        self.squared = torch.full((n + 1, k), math.inf, dtype=torch.float64, device=device)
        self.indices = torch.full((n + 1, k), NO_ROW, dtype=torch.int64, device=device)
        if known is not None:
            self.squared[:n].copy_(known[0])
            self.indices[:n].copy_(known[1])
        self.left_open = 0  # pairs, since rows were last looked through

    def run(self, progress: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """(squared distances, indices), both (n, k)."""
        n, start, block = self.queries.n, 0, self._points_at_once()
        while start < self.points.n:
            columns = self._code(self.points, start, min(block, self.points.n - start))
            block, first = len(columns), 0
            while first < n:
                batch = self._batch(first, columns, start)
                self._search(batch, columns)
                first += len(batch.coded)
                if progress is not None:
                    share = (start + block * first / n) / self.points.n
                    done = first == n and start + block == self.points.n
                    progress(n if done else int(n * share), n)
            start += block
        return self.squared[:n], self.indices[:n]

    def _points_at_once(self) -> int:
        if self.filter.limit is None:
            return self.points.n
        fit = self.filter.limit // 2 // self.filter.frame.bytes_per_row()
        return min(self.points.n, max(fit, self.filter.tile.columns))

    def _queries_at_once(self) -> int:
        most, tile = QUERIES, self.filter.tile
        if self.k > 1:  # all pairs of the first range are left open
            most = min(most, self.filter.capacity // self._first_range())
        if self.filter.limit is not None:
            need = self.filter.frame.bytes_per_row() + 8 * self.queries.d * self._mixed()
            most = min(most, self.filter.limit // 8 // need)
        return max(most, tile.rows)

    def _pairs_at_once(self) -> int:
        if self.filter.limit is None:
            return PAIRS
        need = 64 if self.k == 1 else 128 * (self.k + 1)
        return min(PAIRS, max(self.filter.limit // 8 // need, 1024))

    def _first_range(self) -> int:
        return max(FIRST, 4 * self.k)

    def _mixed(self) -> bool:
        return self.queries.dtype != self.points.dtype

    def _code(self, rows: DeviceRows, first: int, n: int) -> Coded:
        """Codes n rows from `first` on, or as many of them as there is memory for."""
        while True:
            try:
                return self.filter.frame.code(rows, None, first, n)
            except torch.OutOfMemoryError as error:
                if n <= self.filter.tile.columns:
                    need = n * self.filter.frame.bytes_per_row()
                    raise MemoryError(
                        f"backend 'cuda': {need} more bytes of GPU memory needed for {n} coded rows"
                    ) from error
            n = max(n // 2, self.filter.tile.columns)

    def _batch(self, first: int, columns: Coded, start: int) -> Batch:
        queries = self.queries
        last = min(queries.n, first + self._queries_at_once())
        if self.points is queries and start <= first and last <= start + len(columns):
            coded = columns.part(first - start, last - start)
        else:
            coded = self._code(queries, first, last - first)
        values, given = None, queries.kernel_argument(first)
        if self._mixed():  # the recheck kernel knows one type on both sides, or float64
            places = torch.arange(first, first + len(coded), device=queries.device)
            values = queries.float64(places)
            given = queries.kernels.Rows(values.data_ptr(), 8 * queries.d, queries.d, "float64", 0)
        return Batch(first, start, coded, values, given)

    def _search(self, batch: Batch, columns: Coded) -> None:
        kth = self.squared[batch.first : batch.first + len(batch.coded), -1]
        task = Task(
            self.queries, batch.coded, columns,
            squared=kth,
            recheck=lambda found: self._recheck(found, batch),
            skip=batch.start - batch.first if self.points is self.queries else None,
            tighten=self.k == 1,
        )  # fmt: skip
        rows = torch.arange(len(batch.coded), device=self.queries.device)
        begin, size, self.left_open = 0, self._first_range(), 0
        while begin < len(columns) and len(rows):
            end = min(len(columns), begin + min(size, AT_ONCE // len(rows)))
            self._compare(task, batch, rows, begin, end)
            if self.left_open > MANY * self.k * len(rows):
                rows = self._unfinished(batch, rows, end)
            begin, size = end, end

    def _compare(self, task: Task, batch: Batch, rows: torch.Tensor, begin: int, end: int) -> None:
        """Compares rows with columns [begin, end). Where they leave more pairs open than there is
        room for, the columns are halved: among copies, the first half finishes the rows."""
        if end - begin <= self.filter.tile.columns:
            self.filter.run(task, rows, begin, end)
        elif len(rows) and not self.filter.attempt(task, rows, begin, end):
            middle = (begin + end + 1) // 2
            self._compare(task, batch, rows, begin, middle)
            self._compare(task, batch, self._unfinished(batch, rows, middle), middle, end)

    def _unfinished(self, batch: Batch, rows: torch.Tensor, begin: int) -> torch.Tensor:
        """The rows to which columns from `begin` on can matter. Neighbours are ordered by
        (distance, index): k points at distance 0 with lower indices come before all of these."""
        self.left_open = 0
        places = rows + batch.first
        at_zero = self.squared[places, -1] == 0
        return rows[~(at_zero & (self.indices[places, -1] < batch.start + begin))]

    def _recheck(self, found: Found, batch: Batch) -> None:
        """Exact distances of what a pass left open, into the lists."""
        self.left_open += len(found.slot)
        for part in self._parts(found):
            kernels, queries = self.queries.kernels, self.queries
            pairs, sides = part.arguments(kernels, part.rows)
            points = self.points.kernel_argument(batch.start)
            selection = kernels.Selection(points, batch.given, 0, 0, 0)
            squared = queries.empty(len(part.slot), torch.float64)
            kernels.recheck(pairs, sides, selection, squared.data_ptr(), queries.stream())
            row = part.rows[part.slot.long()] + batch.first
            index = torch.where(squared < math.inf, part.column.long() + batch.start, NO_ROW)
            (self._merge_one if self.k == 1 else self._merge)(row, index, squared)

    def _parts(self, found: Found) -> Iterator[Found]:
        size = self._pairs_at_once()
        for start in range(0, len(found.slot), size):
            part = slice(start, start + size)
            yield replace(
                found, slot=found.slot[part], column=found.column[part], score=found.score[part]
            )

    def _merge_one(self, row: torch.Tensor, index: torch.Tensor, squared: torch.Tensor) -> None:
        """Offers pairs to rows with one neighbour each, in order of (distance, index)."""
        best, indices = self.squared.view(-1), self.indices.view(-1)
        before = best[row]
        best.scatter_reduce_(0, row, squared, "amin")
        after = best[row]
        nobody = len(best) - 1
        indices.scatter_(0, torch.where(after < before, row, nobody), NO_ROW)
        indices.scatter_reduce_(0, row, torch.where(squared == after, index, NO_ROW), "amin")

    def _merge(self, row: torch.Tensor, index: torch.Tensor, squared: torch.Tensor) -> None:
        """Offers pairs to the lists of their rows, in order of (distance, index)."""
        nobody = self.queries.n
        touched = torch.sort(row).values
        again = torch.zeros_like(touched, dtype=torch.bool)
        again[1:] = touched[1:] == touched[:-1]
        touched = touched.masked_fill(again, nobody)  # each row once; no count to wait for
        row = torch.cat([touched[:, None].expand(-1, self.k).flatten(), row])
        index = torch.cat([self.indices[touched].flatten(), index])
        squared = torch.cat([self.squared[touched].flatten(), squared])
        order = torch.sort(index, stable=True).indices
        for key in (squared, row):
            order = order[torch.sort(key[order], stable=True).indices]
        row = row[order]
        rank = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
        kept = (rank < self.k) & (row < nobody)
        place = torch.where(kept, row * self.k + rank, nobody * self.k)
        self.squared.view(-1)[place] = squared[order]
        self.indices.view(-1)[place] = index[order]
