"""Rows that can be read piece by piece: what all formats have in common.

A format only supplies `_reading`, which fills a buffer with consecutive rows. The rest is here:
checks, values as the engine reads them, and how scattered rows become few large reads.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect._memory import available, in_words
from entroselect.io.convert import as_array
from entroselect.io.errors import Empty
from entroselect.io.remote import AT_ONCE, PART, at_once
from entroselect.io.remote import READ_THROUGH as REMOTE_READ_THROUGH
from entroselect.io.rows import Rows, array_rows, engine_dtype, is_on_cuda
from entroselect.results import Int64

# Fills (m, d) of the stored dtype with the rows from `start` on.
Fill = Callable[[int, NDArray[Any]], None]

# take() reads through gaps up to this many bytes: a disk hands them over in about the time that it
# needs to begin another read (docs/decisions.md).
READ_THROUGH = 16 << 10

# Threads that read scattered rows of a file on disk, which answers several reads in about the time
# of one; each with this many reads at least. Only if the first reads took longer than from the
# system's cache, a start and GB/s, since threads are in each other's way there.
READERS = 8
LEAST_RUNS = 16
CACHED_START, CACHED_RATE = 1e-4, 1e9

# At most this many bytes are read at once if they have to be held besides the result.
PIECE = 16 << 20
_LEAST_PIECE = 1 << 20


class Source:
    """(n, d) rows outside of memory.

    Attributes:
        n, d: rows and columns.
        dtype: what values mean once read: "float64", "float32", "float16", "uint8" or "bfloat16".
            Integers are widened to a floating dtype that holds them.
        stored: the dtype's name in the file.
        buffer_dtype, row_bytes: the NumPy dtype of stored values (uint16 for bfloat16), which may
            be in the other byte order, and the size of a row of them.
        name: how messages call it, the path as it was given.
        format: "npy", "parquet", ...
        key: which array of a file that may hold several; None where there is one.
        overhead: bytes of memory that reading takes besides its result, and may keep between calls.
        bytes_read: asked of files so far; for formats that decode, the decoded size.
        decodes: rows have to be decoded or computed, each time anew.

    `read` and `take` may be called from any thread, one call at a time.
    """

    def __init__(
        self, name: str, format: str, shape: tuple[int, ...], stored: Any, key: str | None = None
    ) -> None:
        """`shape` as stored, rows first; trailing dimensions are flattened. `stored`: NumPy dtype,
        or "bfloat16". `key`: which array of the file it is."""
        if len(shape) < 2:
            raise ValueError(
                f"{name}: holds an array of shape {shape}; expected (rows, columns) or more "
                "dimensions"
            )
        self.name = name
        self.format = format
        self.key = key
        self.stored_shape = shape
        self.n = int(shape[0])
        self.d = math.prod(map(int, shape[1:]))
        if self.d < 1:
            raise empty(name, shape)
        # What `_reading` fills. bfloat16 has no NumPy dtype; its bits stand in uint16.
        self.buffer_dtype = np.dtype(np.uint16 if stored == "bfloat16" else stored)
        self.stored = "bfloat16" if stored == "bfloat16" else self.buffer_dtype.name
        self.dtype = engine_dtype(name, self.stored)
        self.row_bytes = self.d * self.buffer_dtype.itemsize  # as stored
        self.overhead = 0
        self._read_through = READ_THROUGH
        self._in_flight = 1  # reads at a time; more where `_reading`'s fill may run in threads
        self._readers = 1  # threads that read the runs of one take()
        self.decodes = False
        self._bytes_read = 0
        self._counting = threading.Lock()

    def __len__(self) -> int:
        return self.n

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.n, self.d

    @property
    def bytes_read(self) -> int:
        """Asked of files so far."""
        return self._bytes_read

    def __repr__(self) -> str:
        return f"<{self.format} {self.name}: {self.n} rows of {self.d} {self.stored}>"

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start to stop - 1: a new C-contiguous (stop - start, d) array as the engine reads it
        (uint16 bits where dtype is "bfloat16")."""
        if not 0 <= start <= stop <= self.n:
            raise ValueError(f"{self.name}: has rows 0 to {self.n - 1}, asked for {start}:{stop}")
        values = np.empty((stop - start, self.d), self.buffer_dtype)
        if len(values):
            with self._reading() as fill:
                self._fill_rows(fill, start, values)
        return self._as_engine(values)

    def take(self, rows: Int64) -> NDArray[Any]:
        """The given rows, distinct and ascending: (len(rows), d), otherwise as `read`.

        Rows less than `READ_THROUGH` bytes apart are read at once, with all that lies between, at
        most `PIECE` bytes and no more than the result has (or 1 MiB) at once. That much memory is
        needed besides the result. Of an object store, `remote.AT_ONCE` ranges of at most
        `remote.PART` bytes are asked for at a time, through gaps of `remote.READ_THROUGH` bytes.
        """
        rows = self._row_numbers(rows)
        if not (rows[1:] > rows[:-1]).all():
            raise ValueError(f"{self.name}: expected distinct rows in ascending order")
        values = np.empty((len(rows), self.d), self.buffer_dtype)
        if len(rows):
            self._gather(rows, values)
        return self._as_engine(values)

    def ids(self, rows: Int64) -> NDArray[Any] | None:
        """Ids of the given rows, in any order, strings (an object array) or integers; None where
        there are none."""
        return self._find_ids(self._row_numbers(rows))

    def part(self, start: int, stop: int) -> Source:
        """Rows start to stop - 1 as a Source, for one of several processes; possibly none."""
        if not 0 <= start <= stop <= self.n:
            raise ValueError(f"{self.name}: has rows 0 to {self.n - 1}, asked for {start}:{stop}")
        return SourceSlice(self, start, stop)

    def describe(self) -> dict[str, Any]:
        """A description of the input for reports."""
        return {
            "path": self.name,
            "format": self.format,
            "key": self.key,
            "shape": list(self.stored_shape),
            "dtype": self.stored,
            "rows": self.n,
            "columns": self.d,
        }

    def rows(self, name: str) -> Rows:
        """All of it in memory, for the argument called `name`.

        Raises:
            ValueError: if it is larger than the memory that is available.
        """
        dtype = np.dtype("uint16" if self.dtype == "bfloat16" else self.dtype)
        needed, left = self.n * self.d * dtype.itemsize, available()
        if left is not None and needed > left:
            raise ValueError(
                f"{name}: {self.name} takes {in_words(needed)} and {in_words(left)} of memory are "
                "available; pass memory_limit to read it piece by piece"
            )
        values = np.empty((self.n, self.d), dtype)
        step = max(1, PIECE // self.row_bytes)
        in_place = self.buffer_dtype == dtype
        with self._reading() as fill:
            for start in range(0, self.n, step):
                part = values[start : start + step]
                if in_place:
                    self._fill_rows(fill, start, part)
                else:
                    piece = np.empty(part.shape, self.buffer_dtype)
                    self._fill_rows(fill, start, piece)
                    part[...] = self._as_engine(piece)
        return Rows(values, self.dtype)

    def _reading(self) -> AbstractContextManager[Fill]:
        """Opens what has to be opened for a read() or take(); the format's own part."""
        raise NotImplementedError

    def _read_remotely(self) -> None:
        """Several reads at a time with large gaps, for the objects of a store."""
        self._in_flight = AT_ONCE
        self._read_through = REMOTE_READ_THROUGH
        # A request's answer, and the rows from which those that were asked for are picked.
        self.overhead = 2 * min(AT_ONCE * PART, self.n * self.row_bytes)

    def _fill_rows(self, fill: Fill, start: int, out: NDArray[Any]) -> None:
        """Fills `out` with consecutive rows, in several reads where they may run at a time."""
        step = len(out) if self._in_flight == 1 else self._window(len(out))
        parts = range(0, len(out), step)
        at_once([partial(fill, start + at, out[at : at + step]) for at in parts], self._in_flight)

    def _gather(self, rows: Int64, values: NDArray[Any]) -> None:
        """Fills `values` with ascending rows, run by run."""
        begins = self._runs(rows)
        ends = np.append(begins[1:], len(rows))
        # Rows in the file that each run covers; scratch serves those with gaps in them.
        spans = rows[ends - 1] - rows[begins] + 1
        gaps = spans > ends - begins
        longest = int(spans[gaps].max(initial=0))

        def fill_runs(fill: Fill, runs: list[tuple[int, int, int, bool]], own: int) -> None:
            held = scratch[own * longest :]
            for begin, end, span, gap in runs:
                first = int(rows[begin])
                if not gap:
                    fill(first, values[begin:end])
                    continue
                if not len(held):
                    held = np.empty((span, self.d), self.buffer_dtype)
                fill(first, held[:span])
                # Anything but mode="raise" writes to `out` without a copy between.
                part, wanted = values[begin:end], rows[begin:end] - first
                np.take(held, wanted, axis=0, out=part, mode="clip")

        runs = list(zip(begins.tolist(), ends.tolist(), spans.tolist(), gaps.tolist(), strict=True))
        count, share, lent = self._in_flight, 1, 0
        if count == 1:  # of a file on disk: as many threads as have room for their scratch
            room = self._window(len(rows)) // max(1, longest)
            lent = max(1, min(self._readers, len(runs) // LEAST_RUNS, room))
        # One allocation: what threads allocate, the C library keeps for each of them.
        scratch = np.empty((lent * longest, self.d), self.buffer_dtype)
        with self._reading() as fill:
            if lent > 1:
                began, first = time.perf_counter(), runs[:LEAST_RUNS]
                fill_runs(fill, first, 0)
                read = sum(run[2] for run in first) * self.row_bytes
                cached = LEAST_RUNS * CACHED_START + read / CACHED_RATE
                count = lent if time.perf_counter() - began > cached else 1
                runs = runs[LEAST_RUNS:]
            if lent:
                share = -(-len(runs) // count)
            shares = [runs[at : at + share] for at in range(0, len(runs), share)]
            calls = [partial(fill_runs, fill, each, own) for own, each in enumerate(shares)]
            at_once(calls, count)

    def _find_ids(self, rows: Int64) -> NDArray[Any] | None:
        return None

    def _row_numbers(self, rows: Any) -> Int64:
        rows = np.asarray(rows)
        if rows.ndim != 1 or (len(rows) and rows.dtype.kind not in "iu"):
            raise TypeError(
                f"{self.name}: expected a list of row numbers, got {rows.dtype} of shape "
                f"{rows.shape}"
            )
        if len(rows) and (rows.min() < 0 or rows.max() >= self.n):
            raise ValueError(f"{self.name}: expected rows within 0 to {self.n - 1}")
        numbers: Int64 = rows.astype(np.int64)
        return numbers

    def _count(self, bytes_: int) -> None:
        with self._counting:
            self._bytes_read += bytes_

    def _release(self) -> None:
        """Frees what is kept between calls; the next call makes it again."""

    def _runs(self, rows: Int64) -> Int64:
        """Positions in `rows` at which a new read begins."""
        window = self._window(len(rows))
        apart = np.diff(rows) > self._read_through // self.row_bytes + 1
        apart |= np.diff(rows // window) > 0
        return np.concatenate([[0], np.flatnonzero(apart) + 1])

    def _window(self, rows: int) -> int:
        """Rows that are read at once at most, for a result of that many."""
        most = PART if self._in_flight > 1 else max(_LEAST_PIECE, rows * self.row_bytes)
        return max(1, min(PIECE, most) // self.row_bytes)

    def _as_engine(self, values: NDArray[Any]) -> NDArray[Any]:
        """A buffer's values in the engine's dtype; the buffer may be overwritten."""
        if not values.dtype.isnative:
            values = values.byteswap(inplace=True).view(values.dtype.newbyteorder("="))
        if values.dtype == np.bool_:
            values = values.view(np.uint8)
        return values if self.dtype == "bfloat16" else values.astype(self.dtype, copy=False)


class SourceSlice(Source):
    """Consecutive rows of another source, possibly none."""

    def __init__(self, whole: Source, start: int, stop: int) -> None:
        self.__dict__.update(whole.__dict__)  # all but the rows is the same
        self.n = stop - start
        self._whole, self._start = whole, start
        self._read_before = whole.bytes_read

    @property
    def bytes_read(self) -> int:
        """Asked of files so far."""
        return self._whole.bytes_read - self._read_before

    def ids(self, rows: Int64) -> NDArray[Any] | None:
        """Ids of the given rows of the part."""
        return self._whole.ids(np.asarray(rows, np.int64) + self._start)

    @contextmanager
    def _reading(self) -> Iterator[Fill]:
        with self._whole._reading() as fill:
            yield lambda start, out: fill(self._start + start, out)

    def _release(self) -> None:
        self._whole._release()


def empty(name: str, shape: tuple[int, ...]) -> Empty:
    """The error for a pool without rows or columns."""
    error = Empty(f"{name}: empty, shape {shape}; at least 1 row and 1 column needed")
    error.shape = shape
    return error


class EmptySource(Source):
    """The part of a process that has no rows: an array of shape (0, d)."""

    def __init__(self, given: Any) -> None:
        shape = tuple(given.shape)
        if not hasattr(given, "dtype"):
            raise TypeError(
                f"features: {type(given).__name__} without rows; pass numpy.empty((0, columns), "
                "dtype) with the dtype that the other processes' rows have"
            )
        if len(shape) != 2 or shape[1] < 1:
            raise ValueError(f"features: expected a 2-D array (rows, columns), got shape {shape}")
        stored = str(given.dtype).removeprefix("torch.")
        super().__init__("features", "array", shape, stored)


class ArraySource(Source):
    """An array in memory, or anything `entroselect` takes as rows, as a Source.

    Example:
        >>> import numpy as np
        >>> from entroselect.io.source import ArraySource
        >>> source = ArraySource(np.arange(12).reshape(4, 3))
        >>> source.shape, source.dtype, source.take(np.array([0, 3])).tolist()
        ((4, 3), 'float64', [[0.0, 1.0, 2.0], [9.0, 10.0, 11.0]])
    """

    def __init__(
        self, given: Any, name: str = "array", format: str = "array", key: str | None = None
    ) -> None:
        if is_on_cuda(given):
            raise ValueError(
                f"{name}: lies on a CUDA device and cannot be read piece by piece; pass it to the "
                "operation itself, or move it to the CPU"
            )
        if isinstance(given, Rows):
            shape, self._rows = given.values.shape, given
        else:
            array, dtype = as_array(name, given)
            shape = array.shape
            if len(shape) > 2:
                array = array.reshape(shape[0], math.prod(shape[1:]))
            self._rows = array_rows(name, array, dtype)
        super().__init__(
            name,
            format,
            shape,
            "bfloat16" if self._rows.dtype == "bfloat16" else self._rows.values.dtype,
            key,
        )
        if isinstance(given, np.ndarray):
            self.stored = given.dtype.name
        elif not isinstance(given, Rows) and dtype == "bool":
            self.stored = dtype

    @contextmanager
    def _reading(self) -> Iterator[Fill]:
        def fill(start: int, out: NDArray[Any]) -> None:
            out[...] = self._rows.values[start : start + len(out)]
            self._count(out.nbytes)

        yield fill

    def _gather(self, rows: Int64, values: NDArray[Any]) -> None:
        np.take(self._rows.values, rows, axis=0, out=values, mode="clip")
        self._count(values.nbytes)

    def rows(self, name: str) -> Rows:
        """The array itself."""
        return self._rows
