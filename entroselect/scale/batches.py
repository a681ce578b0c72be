"""The rows of an argument, in memory or not, handed out in checked batches: values are checked when
rows are first read, and rows that are read again must be the same. `read_ahead` reads the next
batch while the caller works on one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numpy as np

from entroselect import _checks
from entroselect.io.cache import decoded_once
from entroselect.io.rows import Rows
from entroselect.io.source import ArraySource, Source
from entroselect.results import Int64
from entroselect.scale.marks import Seen
from entroselect.scale.process_group import ProcessGroup, shared_errors

# Source.take() reads this many bytes at once, or as many as the rows that it takes.
LEAST_PIECE = 1 << 20

Place = TypeVar("Place")
Values = TypeVar("Values")


def read_ahead(
    read: Callable[[Place], Values], places: Iterable[Place]
) -> Iterator[tuple[Place, Values]]:
    """(place, read(place)) of all places, in order; a thread reads the next one while the caller
    works on this one. Up to 3 results are in memory: the one that the caller has had, the one it
    gets, and the one being read. A place is asked for when its reading begins."""
    with ThreadPoolExecutor(1, thread_name_prefix="entroselect-read") as reader:
        coming: tuple[Place, Future[Values]] | None = None
        for following in places:
            values = None if coming is None else coming[1].result()
            before, coming = coming, (following, reader.submit(read, following))
            if before is not None:
                yield before[0], cast(Values, values)
                del before
        if coming is not None:
            yield coming[0], coming[1].result()


class Batches:
    """(n, d) rows. Arrays are checked at once and handed out as views; rows of a Source are read,
    and checked when they are read for the first time. With `ranks` they are the rows of this
    process, and messages number them among the rows of all processes.

    Attributes:
        name, metric: the argument, for messages, and what its rows must be good for.
        first: number of the first row among those of all processes.
        n, d, dtype: as in `Rows`.
        rows: all of them where they are views of an array, otherwise None.
        source: what they are read from, None for arrays.
        row_bytes: memory per row handed out, 0 for views.
        spare_bytes, spare: memory that reading takes besides that, per row and once.
    """

    def __init__(
        self, name: str, given: Any, metric: str = "euclidean", ranks: ProcessGroup | None = None
    ) -> None:
        self.name, self.metric = name, metric
        self._array: Rows | None = None
        self.source: Source | None = None
        self._which: Int64 | None = None  # of the rows of the array or source, ascending; None: all
        self.first = 0
        with shared_errors(ranks):
            _checks.choice("metric", metric, _checks.METRICS + _checks.BIT_METRICS)
            in_memory = isinstance(given, ArraySource) or _checks.is_of_bits(metric)
            if isinstance(given, Source) and not in_memory:
                self.source = given
                self.n, self.d, self.dtype = given.n, given.d, given.dtype
                self._seen = Seen(name, given.name, given.n)
            else:
                self._array = _checks.metric_rows(name, given, metric, ranks is not None)
                self.n, self.d, self.dtype = self._array.n, self._array.d, self._array.dtype
        if ranks is not None:
            sizes = np.concatenate(ranks.all_gather(np.array([self.n], dtype=np.int64)))
            self.first = int(sizes[: ranks.rank].sum())
        with shared_errors(ranks):
            if self._array is not None:
                numbers = range(self.first, self.first + self.n)
                _checks.usable_values(name, self._array, metric, numbers)

    def part(self, which: Int64) -> Batches:
        """Batches of the given rows alone, ascending."""
        part = object.__new__(Batches)
        part.__dict__.update(self.__dict__)
        part._which = which
        part.n = len(which)
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
        # Values that are widened are in memory twice meanwhile. What lies between the rows of a
        # part is read with them.
        twice = source.buffer_dtype != numpy_dtype(self.dtype)
        return source.row_bytes * (int(twice) + int(self._which is not None))

    @property
    def spare(self) -> int:
        if self.source is None:
            return 0
        marks = len(self._seen.marks) * self._seen.marks.itemsize
        return self.source.overhead + marks + (LEAST_PIECE if self._which is not None else 0)

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
        numbers = range(self.first, self.first + self.n)
        _checks.usable_values(self.name, rows, self.metric, numbers)
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
        """Rows start to stop - 1, `size` at a time, each batch with the number of its first row.
        The next batch of a Source is read ahead."""

        def read(at: int) -> Rows:
            return self._read(at, min(at + size, stop))

        starts = range(start, stop, size)
        if self.rows is not None:
            return ((at, read(at)) for at in starts)
        return read_ahead(read, starts)

    def _read(self, start: int, stop: int) -> Rows:
        if self._array is not None:
            which = slice(start, stop) if self._which is None else self._which[start:stop]
            return Rows(self._array.values[which], self.dtype)
        assert self.source is not None
        if self._which is None:
            which, values = np.arange(start, stop), self.source.read(start, stop)
        else:
            which = self._which[start:stop]
            values = self.source.take(which)
        rows, numbers = Rows(values, self.dtype), which + self.first
        if self._seen.check(which, values, numbers):
            _checks.usable_values(self.name, rows, self.metric, numbers)
        return rows


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The NumPy dtype that holds such rows; bfloat16 is held as its bits."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)
