"""The rows of an argument, in memory or not, handed out in pieces that have been checked."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from entroselect import _checks
from entroselect._rows import Rows, as_rows
from entroselect.io.cache import decoded_once
from entroselect.io.source import ArraySource, Source
from entroselect.results import Int64

# Source.take() reads so much at once, or as much as the rows that it takes.
LEAST_PIECE = 1 << 20


class Pieces:
    """(n, d) rows. Arrays are checked at once and handed out as views; rows of a Source are read,
    and checked when they are read for the first time.

    Attributes:
        name, metric: the argument, for messages, and what its rows must be good for.
        n, d, dtype: as in `Rows`.
        rows: all of them where they are views of an array, otherwise None.
        source: what they are read from, None for arrays.
        row_bytes: memory of a row handed out, 0 for views.
        spare_bytes, spare: memory that reading takes beside that, for each row and once.
    """

    def __init__(
        self, name: str, given: Any, metric: str = "euclidean", may_be_empty: bool = False
    ) -> None:
        _checks.choice("metric", metric, _checks.METRICS)
        self.name, self.metric = name, metric
        self._array: Rows | None = None
        self.source: Source | None = None
        self._which: Int64 | None = None  # of the rows of those two, ascending; None: all
        if isinstance(given, Source) and not isinstance(given, ArraySource):
            self.source = given
            self.n, self.d, self.dtype = given.n, given.d, given.dtype
            self._checked = 0  # rows from the first on
        else:
            self._array = as_rows(name, given, may_be_empty)
            self.n, self.d, self.dtype = self._array.n, self._array.d, self._array.dtype
            _checks.usable_values(name, self._array, metric)
            self._checked = self.n

    def part(self, which: Int64) -> Pieces:
        """The given rows alone, ascending; all of them have been checked before."""
        part = object.__new__(Pieces)
        part.__dict__.update(self.__dict__)
        part._which = which
        part.n = part._checked = len(which)
        return part

    @property
    def rows(self) -> Rows | None:
        return self._array if self._which is None else None

    @property
    def row_bytes(self) -> int:
        return 0 if self.rows is not None else self.d * numpy_dtype(self.dtype).itemsize

    @property
    def spare_bytes(self) -> int:
        source = self.source
        if source is None:
            return 0
        # Values that have to be widened stand in memory twice while that is done; what lies between
        # the rows of a part is read through.
        twice = source.buffer_dtype != numpy_dtype(self.dtype)
        return source.row_bytes * (int(twice) + int(self._which is not None))

    @property
    def spare(self) -> int:
        if self.source is None:
            return 0
        return self.source.overhead + (LEAST_PIECE if self._which is not None else 0)

    def read_again(self) -> None:
        """Rows will be read several times: those that have to be decoded are decoded once."""
        if self.source is not None:
            self.source = decoded_once(self.source)

    def whole(self) -> Rows:
        """All rows, in memory."""
        if self._which is not None:
            return self._read(0, self.n)
        if self._array is not None:
            return self._array
        assert self.source is not None
        rows = self.source.rows(self.name)
        self._check(rows, 0)
        return rows

    def piece(self, start: int, stop: int, size: int) -> Rows:
        """Rows start to stop - 1 in one array; at most 3 `size` of them are in memory twice."""
        if self.rows is not None:
            return self._read(start, stop)
        values = np.empty((stop - start, self.d), numpy_dtype(self.dtype))
        for at, rows in self.pieces(start, stop, size):
            values[at - start : at - start + rows.n] = rows.values
        return Rows(values, self.dtype)

    def pieces(self, start: int, stop: int, size: int) -> Iterator[tuple[int, Rows]]:
        """Rows start to stop - 1, `size` at a time, each with the number of its first row. The
        next piece is read meanwhile, so that up to 3 are in memory: the one that the caller has
        had, the one it gets, and the one being read."""
        places = [(at, min(at + size, stop)) for at in range(start, stop, size)]
        if self.rows is not None:
            yield from ((at, self._read(at, end)) for at, end in places)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="entroselect-read") as thread:
            ahead = [thread.submit(self._read, *place) for place in places[:1]]
            for number, (at, _) in enumerate(places):
                rows = ahead.pop().result()
                ahead += [thread.submit(self._read, *p) for p in places[number + 1 : number + 2]]
                self._check(rows, at)
                yield at, rows

    def _read(self, start: int, stop: int) -> Rows:
        if self._array is not None:
            which = slice(start, stop) if self._which is None else self._which[start:stop]
            return Rows(self._array.values[which], self.dtype)
        assert self.source is not None
        if self._which is None:
            return Rows(self.source.read(start, stop), self.dtype)
        return Rows(self.source.take(self._which[start:stop]), self.dtype)

    def _check(self, rows: Rows, start: int) -> None:
        """Pieces are read from the first on, the first time round."""
        if start + rows.n > self._checked:
            numbers = np.arange(start, start + rows.n)
            _checks.usable_values(self.name, rows, self.metric, numbers)
            self._checked = start + rows.n


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """Of the values of such rows; bfloat16 stands as bits."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)
