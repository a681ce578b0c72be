"""Parquet files with a column of vectors, decoded a batch at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.arrow import (
    dense,
    first_null,
    id_array,
    id_column_of,
    missing_id,
    stored_dtype,
    vector_column,
)
from entroselect.io.errors import damaged, needs
from entroselect.io.source import FileIdentity, Fill, Source
from entroselect.results import Int64

# What is decoded at once.
_BATCH = 4 << 20

# What Arrow holds for that: the batch, the lengths of its lists, pages and buffers of the file.
_OVERHEAD = 32 << 20


class ParquetFile(Source):
    """A column of lists of one length.

    Row groups may be of any size: their pages are read and decoded as they are needed, some
    megabytes at a time, and where a call ends the next can go on. Reading forward therefore decodes
    each row once; going back, or forward beyond a row group, begins at the start of a row group.
    """

    _batches: Any  # where decoding goes on
    _batch: NDArray[Any]  # what was decoded last, and which row it begins with
    _batch_start: int

    def __init__(self, path: Path, column: str | None, id_column: str | None) -> None:
        self._identity = FileIdentity(path)
        file = open_parquet(path)
        schema, metadata = file.schema_arrow, file.metadata
        self.path = path
        self.column = vector_column(str(path), schema, column)
        self._starts = _row_group_starts(metadata)
        self._lock = threading.Lock()
        self._release()
        kind = schema.field(self.column).type
        d = self._width(file)
        super().__init__(str(path), "parquet", (metadata.num_rows, d), stored_dtype(kind))
        self.overhead = _OVERHEAD
        self._read_through = 0  # what lies between has been decoded anyway, or is skipped
        self._ids = IdColumn.find(path, id_column, file)
        self._batch_rows = max(1, min(65536, _BATCH // self.row_bytes))

    def _find_ids(self, rows: Int64) -> NDArray[Any] | None:
        return None if self._ids is None else self._ids.take(rows)

    def _width(self, file: Any) -> int:
        """Columns of the vectors, from the counts that the file keeps of its values; no row is
        read unless they do not add up."""
        metadata = file.metadata
        d = None
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            if rows == 0:
                continue
            values, nulls = _values_of(file, group, self.column)
            d = values // rows if d is None else d
            if nulls or d * rows != values:
                self._find_bad_row(file)
        return 1 if d is None else d

    def _find_bad_row(self, file: Any) -> None:
        row, d = 0, None
        for batch in file.iter_batches(4096, columns=[self.column], use_threads=False):
            vectors = batch.column(self.column)
            if len(vectors):
                d = dense(vectors, str(self.path), row, d).shape[1]
            row += len(vectors)

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
        """Makes the batch the one that holds a row."""
        group = int(np.searchsorted(self._starts, row, "right")) - 1
        end = self._batch_start + len(self._batch)  # where the next batch begins
        try:
            if self._batches is None or row < end or self._starts[group] > end:
                self._release()
                self._identity.check()
                file = open_parquet(self.path)
                self._batches = file.iter_batches(
                    self._batch_rows,
                    row_groups=range(group, file.metadata.num_row_groups),
                    columns=[self.column],
                    use_threads=False,
                )
                end = int(self._starts[group])
            while True:
                vectors = next(self._batches).column(self.column)
                self._count(len(vectors) * self.row_bytes)
                if row < end + len(vectors):
                    break
                end += len(vectors)
        except StopIteration:
            self._release()
            raise damaged(self.path, "it holds fewer rows than its footer says") from None
        except (OSError, ValueError) as error:  # Arrow's errors are kinds of these
            self._release()
            raise damaged(self.path, error) from error
        self._batch, self._batch_start = dense(vectors, self.name, end, self.d), end

    def _release(self) -> None:
        self._batches = None
        self._batch = np.empty((0, 1))
        self._batch_start = 0


class IdColumn:
    """A column of strings or integers, read a row group at a time."""

    def __init__(self, path: Path, column: str, starts: Int64) -> None:
        self.path = path
        self.column = column
        self.n = int(starts[-1])
        self._starts = starts

    @classmethod
    def find(cls, path: Path, column: str | None, file: Any = None) -> IdColumn | None:
        """The column of that name, or a complete one called "id"; None if neither is there.

        Raises:
            ValueError: if `column` is given and is not there, holds something else, or has holes.
        """
        file = file or open_parquet(path)
        name = id_column_of(str(path), file.schema_arrow, column)
        if name is None:
            return None
        found = cls(path, name, _row_group_starts(file.metadata))
        hole = found._first_hole(file)
        if hole is None:
            return found
        if column is None:
            return None  # nobody asked for it
        raise missing_id(str(path), hole)

    def take(self, rows: Int64) -> NDArray[Any]:
        """Ids of the given rows, in any order."""
        groups = np.searchsorted(self._starts, rows, "right") - 1
        found: NDArray[Any] | None = None
        file = open_parquet(self.path)
        for group in np.unique(groups).tolist():
            here = np.flatnonzero(groups == group)
            ids = id_array(self._read(file, group), str(self.path), int(self._starts[group]))
            if found is None:
                found = np.empty(len(rows), ids.dtype)
            found[here] = ids[rows[here] - self._starts[group]]
        return np.empty(0, object) if found is None else found

    def _read(self, file: Any, group: int) -> Any:
        try:
            table = file.read_row_group(group, columns=[self.column], use_threads=False)
        except (OSError, ValueError) as error:  # Arrow's errors are kinds of these
            raise damaged(self.path, error) from error
        return table.column(self.column).combine_chunks()

    def _first_hole(self, file: Any) -> int | None:
        """The first row without an id; a row group is read only if the file does not count them."""
        for group in range(file.metadata.num_row_groups):
            if _values_of(file, group, self.column)[1] != 0:
                ids = self._read(file, group)
                if ids.null_count:
                    return int(self._starts[group]) + first_null(ids)
        return None


def open_parquet(path: Path) -> Any:
    """A pyarrow ParquetFile that reads pages as they are needed, not whole column chunks."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise needs(path, "pyarrow") from None
    try:
        return pq.ParquetFile(
            path, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True
        )
    except (OSError, ValueError) as error:  # Arrow's errors are kinds of these
        raise damaged(path, error) from error


def _row_group_starts(metadata: Any) -> Int64:
    """Where row groups begin, and after them the number of rows."""
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]).astype(np.int64)


def _values_of(file: Any, group: int, column: str) -> tuple[int, int | None]:
    """(values, missing values among them) of a column in a row group; None where not counted."""
    names = set(file.schema_arrow.names)
    row_group = file.metadata.row_group(group)
    for index in range(row_group.num_columns):
        chunk = row_group.column(index)
        # "name.list.element", and names may have dots in them too.
        path = chunk.path_in_schema
        while path not in names and "." in path:
            path = path.rpartition(".")[0]
        if path == column:
            statistics = chunk.statistics
            counted = statistics is not None and statistics.has_null_count
            return chunk.num_values, statistics.null_count if counted else None
    return 0, None
