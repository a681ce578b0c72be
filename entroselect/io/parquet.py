"""Parquet files with a column of vectors, decoded a batch at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.arrow import (
    check_schema,
    dense,
    first_null,
    first_twice,
    id_array,
    id_column_of,
    joined,
    missing_id,
    stored_dtype,
    taken,
    vector_column,
)
from entroselect.io.errors import damaged, needs, reading, shown
from entroselect.io.identity import FileIdentity
from entroselect.io.remote import AT_ONCE, PART, AnyPath, RemotePath
from entroselect.io.source import Fill, Source, empty
from entroselect.results import Int64

# What is decoded at once.
_BATCH = 4 << 20

# What Arrow holds for that: the batch, the lengths of its lists, pages and buffers of the file.
_OVERHEAD = 32 << 20


# Rows that are looked at for their width when a file is opened, and ids that are compared.
_FIRST = 8
_DISTINCT = 1 << 20


class ParquetFile(Source):
    """A column of lists of one length.

    Row groups may be of any size: their pages are read and decoded as they are needed, some
    megabytes at a time, and a call can resume where the last one ended. Reading forward therefore
    decodes each row once; going back, or beyond the row group, starts at the start of a row group.
    """

    _batches: Any  # where decoding resumes
    _batch: NDArray[Any]  # what was decoded last, and which row it begins with
    _batch_start: int

    def __init__(self, path: AnyPath, column: str | None, id_column: str | None) -> None:
        """
        Raises:
            Empty: the file has no rows; the types of its columns then mean nothing.
            ValueError, TypeError: naming the file.
        """
        with reading(path):
            self._identity = FileIdentity(path)
        file = open_parquet(path)
        name, schema = shown(path), file.schema_arrow
        self._starts = _row_group_starts(file, path)
        n = int(self._starts[-1])
        if n == 0:
            raise empty(name, (0,))
        self.path = path
        self.column = vector_column(name, schema, column)
        self._lock = threading.Lock()
        self._release()
        kind = schema.field(self.column).type
        super().__init__(name, "parquet", (n, self._width(file, name)), stored_dtype(kind))
        self.decodes = True
        self.overhead = _OVERHEAD
        if isinstance(path, RemotePath):
            self.overhead += AT_ONCE * PART
        self._read_through = 0  # what lies between has been decoded anyway, or is skipped
        self._ids = IdColumn.find(path, id_column, file)
        self._batch_rows = max(1, min(65536, _BATCH // self.row_bytes))

    def _find_ids(self, rows: Int64) -> NDArray[Any] | None:
        return None if self._ids is None else self._ids.take(rows)

    def _width(self, file: Any, name: str) -> int:
        """Columns of the vectors: what the first rows have. Counts that the footer keeps of every
        column would tell more, but Arrow ends the process where that part of it is damaged."""
        row, d = 0, None
        with reading(self.path):
            batches = file.iter_batches(_FIRST, columns=[self.column], use_threads=False)
        while not d:  # of rows without columns, all are looked at for one that has some
            with reading(self.path):
                batch = next(batches, None)
            if batch is None:
                break
            d = dense(batch.column(self.column), name, row, d).shape[1]
            row += len(batch)
        return d or 0

    @contextmanager
    def _reading(self) -> Iterator[Fill]:
        with self._lock:
            yield self._fill

    def _fill(self, start: int, out: NDArray[Any]) -> None:
        while len(out):
            if not 0 <= start - self._batch_start < len(self._batch):
                self._decode(start)
            part = self._batch[start - self._batch_start :][: len(out)]
            out[: len(part)] = part
            start, out = start + len(part), out[len(part) :]

    def _decode(self, row: int) -> None:
        """Decodes batches up to the one that holds that row."""
        group = int(np.searchsorted(self._starts, row, "right")) - 1
        end = self._batch_start + len(self._batch)  # where the next batch begins
        if self._batches is None or row < end or self._starts[group] > end:
            self._release()
            self._identity.check()
            file = open_parquet(self.path)
            with reading(self.path):
                self._batches = file.iter_batches(
                    self._batch_rows,
                    row_groups=range(group, file.metadata.num_row_groups),
                    columns=[self.column],
                    use_threads=False,
                )
            end = int(self._starts[group])
        while True:
            vectors = self._next()
            if row < end + len(vectors):
                break
            end += len(vectors)
        self._batch, self._batch_start = dense(vectors, self.name, end, self.d), end

    def _next(self) -> Any:
        """The next batch; after an error, decoding begins anew."""
        try:
            with reading(self.path):
                batch = next(self._batches, None)
        except ValueError:
            self._release()
            raise
        if batch is None:
            self._release()
            raise damaged(self.path, "it holds fewer rows than its footer says")
        vectors = batch.column(self.column)
        self._count(len(vectors) * self.row_bytes)
        return vectors

    def _release(self) -> None:
        self._batches = None
        self._batch = np.empty((0, 1))
        self._batch_start = 0


class IdColumn:
    """A column of strings or integers, read a row group at a time."""

    def __init__(self, path: AnyPath, column: str, starts: Int64, asked_for: bool) -> None:
        self.path = path
        self.column = column
        self.n = int(starts[-1])
        self._starts = starts
        self._asked_for = asked_for

    @classmethod
    def find(cls, path: AnyPath, column: str | None, file: Any = None) -> IdColumn | None:
        """The column of that name, or one called "id"; None if neither is there.

        A column that is asked for is read once now.

        Raises:
            ValueError: if `column` is given and is not there, holds something else, has holes, or
                names two of a million rows alike.
        """
        file = file or open_parquet(path)
        name = id_column_of(shown(path), file.schema_arrow, column)
        if name is None:
            return None
        found = cls(path, name, _row_group_starts(file, path), column is not None)
        if column is not None:
            found._check(file)
        return found

    def take(self, rows: Int64) -> NDArray[Any] | None:
        """Ids of the given rows, in any order; None if one of them has none and the caller did not
        ask for this column."""
        groups = np.searchsorted(self._starts, rows, "right") - 1
        found: NDArray[Any] | None = None
        file = open_parquet(self.path)
        for group in np.unique(groups).tolist():
            here = np.flatnonzero(groups == group)
            with reading(self.path):
                table = file.read_row_group(group, columns=[self.column], use_threads=False)
                column = table.column(self.column).combine_chunks()
                chosen = taken(column, rows[here] - self._starts[group])
            if chosen.null_count and not self._asked_for:
                return None
            ids = id_array(chosen, shown(self.path), int(rows[here[0]]))
            if found is None:
                found = np.empty(len(rows), ids.dtype)
            found[here] = ids
        return np.empty(0, object) if found is None else found

    def _check(self, file: Any) -> None:
        """Raises ValueError unless every row has an id, which no other of the same million rows
        has."""
        row, name = 0, shown(self.path)
        for ids in self._pieces(file):
            if ids.null_count:
                raise missing_id(name, row + first_null(ids))
            twice = first_twice(ids)
            if twice is not None:
                first, second = (row + position for position in twice)
                (called,) = ids[twice[0] : twice[0] + 1].to_pylist()
                raise ValueError(
                    f"{name}: ids must be distinct, column {self.column!r} calls row {first} and "
                    f"row {second} {called!r}; choose "
                    "another column (--id-column)"
                )
            row += len(ids)

    def _pieces(self, file: Any) -> Iterator[Any]:
        """The column, a million rows at a time."""
        with reading(self.path):
            batches = file.iter_batches(1 << 16, columns=[self.column], use_threads=False)
        held: list[Any] = []
        while True:
            with reading(self.path):
                batch = next(batches, None)
            if held and (batch is None or sum(map(len, held)) >= _DISTINCT):
                yield joined(held)
                held = []
            if batch is None:
                return
            held.append(batch.column(self.column))


def open_parquet(path: AnyPath) -> Any:
    """A pyarrow ParquetFile that reads pages as they are needed, not whole column chunks."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise needs(path, "pyarrow") from None
    with reading(path):
        file = pq.ParquetFile(
            path.open() if isinstance(path, RemotePath) else path,
            buffer_size=1 << 20,
            pre_buffer=False,
            page_checksum_verification=True,
        )
        check_schema(file.schema_arrow)
    return file


def _row_group_starts(file: Any, path: AnyPath) -> Int64:
    """The first row of every row group, and at the end the number of rows."""
    metadata = file.metadata
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows or sum(rows) >= 1 << 62:
        raise damaged(path, "its row groups have other rows than its footer says")
    return np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]).astype(np.int64)
