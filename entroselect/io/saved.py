"""Folders that `datasets.Dataset.save_to_disk` writes: streams of Arrow record batches."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from entroselect.io.arrow import (
    check_schema,
    dense,
    id_array,
    id_column_of,
    stored_dtype,
    taken,
    vector_column,
)
from entroselect.io.errors import check_fits, damaged, needs, reading, shown
from entroselect.io.identity import FileIdentity
from entroselect.io.shards import Shards, opened
from entroselect.io.source import Fill, Source, empty
from entroselect.results import Int64

STATE = "state.json"
SPLITS = "dataset_dict.json"


def open_saved(folder: Path, column: str | None, id_column: str | None) -> Source:
    """The rows of a saved `datasets.Dataset`; for a `DatasetDict`, an error that names its
    splits."""
    if (folder / SPLITS).is_file():
        splits = _json(folder / SPLITS).get("splits")
        if not isinstance(splits, list):
            raise damaged(folder / SPLITS, "it lists no splits")
        raise ValueError(
            f"{shown(folder)}: holds the splits {', '.join(shown(split) for split in splits)}; "
            f"open one of them, such as {shown(folder / str(next(iter(splits), '')))}"
        )
    files = _json(folder / STATE).get("_data_files")
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise damaged(folder / STATE, "it lists no files")
    names = [str(file.get("filename")) for file in files]
    for name in names:
        if Path(name).name != name:  # it would lead out of the folder
            raise damaged(folder / STATE, f"it lists the file {name!r}")
    paths = [folder / name for name in names]
    parts = opened(shown(folder), paths, lambda path: ArrowStream(path, column, id_column))
    return Shards(shown(folder), parts)


def _json(path: Path) -> dict[str, Any]:
    with reading(path):
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise damaged(path, "expected an object")
    return found


class ArrowStream(Source):
    """A file of record batches, one after the other.

    Where they stand is found once; they are then read at their offsets, one at a time, and the
    last one is kept.

    Attributes:
        column: which one holds the rows.
        schema: of all columns.
    """

    _batch: Any
    _kept: int

    def __init__(self, path: Path, column: str | None, id_column: str | None) -> None:
        name = shown(path)
        self.path = path
        with reading(path):
            self._identity = FileIdentity(path)
        self.schema, self._places, rows = _batches(path)
        self._starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]).astype(np.int64)
        n = int(self._starts[-1])
        if n == 0:
            raise empty(name, (0,))
        self.name = name
        self.column = vector_column(name, self.schema, column)
        self._id_column = id_column_of(name, self.schema, id_column)
        self._release()
        stored = stored_dtype(self.schema.field(self.column).type)
        super().__init__(name, "arrow", (n, self._vectors(0, None).shape[1]), stored)
        longest = max(end - begin for begin, end in self._places)
        self.overhead = 2 * longest
        self._read_through = 0

    def whole_rows(self, rows: Int64) -> Iterator[Any]:
        """Arrow tables of the given rows, distinct and ascending, with all columns; one per record
        batch."""
        import pyarrow as pa

        batches = np.searchsorted(self._starts, rows, "right") - 1
        for batch in np.unique(batches).tolist():
            columns = [self._column(batch, name) for name in self.schema.names]
            here = rows[batches == batch] - self._starts[batch]
            yield taken(pa.Table.from_arrays(columns, schema=self.schema), here)

    @contextmanager
    def _reading(self) -> Iterator[Fill]:
        yield self._fill

    def _fill(self, start: int, out: NDArray[Any]) -> None:
        while len(out):
            batch = int(np.searchsorted(self._starts, start, "right")) - 1
            first = start - int(self._starts[batch])
            part = self._vectors(batch, self.d)[first:][: len(out)]
            out[: len(part)] = part
            self._count(part.nbytes)
            start, out = start + len(part), out[len(part) :]

    def _find_ids(self, rows: Int64) -> NDArray[Any] | None:
        if self._id_column is None:
            return None
        batches = np.searchsorted(self._starts, rows, "right") - 1
        found: NDArray[Any] | None = None
        for batch in np.unique(batches).tolist():
            here = np.flatnonzero(batches == batch)
            start = int(self._starts[batch])
            ids = id_array(self._column(batch, self._id_column), self.name, start)
            if found is None:
                found = np.empty(len(rows), ids.dtype)
            found[here] = ids[rows[here] - start]
        return np.empty(0, object) if found is None else found

    def _vectors(self, batch: int, d: int | None) -> NDArray[Any]:
        return dense(self._column(batch, self.column), self.name, int(self._starts[batch]), d)

    def _column(self, batch: int, name: str) -> Any:
        """A column of a record batch. Its lengths and offsets are checked here, since Arrow trusts
        them."""
        import pyarrow as pa

        if batch != self._kept:
            begin, end = self._places[batch]
            check_fits(self.path, end - begin)
            with reading(self.path):
                file = self.path.open("rb")
            with file:
                self._identity.check(file.fileno())
                with reading(self.path):
                    message = pa.ipc.read_message(pa.BufferReader(_read_at(file, begin, end)))
                    self._batch = pa.ipc.read_record_batch(message, self.schema)
            self._kept = batch
        with reading(self.path):
            column = self._batch.column(name)
            column.validate(full=True)
        if len(column) != self._starts[batch + 1] - self._starts[batch]:
            raise damaged(self.path, "it changed while it was read")
        return column

    def _release(self) -> None:
        self._batch = None
        self._kept = -1


def _batches(path: Path) -> tuple[Any, list[tuple[int, int]], list[int]]:
    """(schema, where each record batch begins and ends, its rows); rows stay on the disk, and are
    not mapped: a file that became shorter would end the process."""
    try:
        import pyarrow as pa
    except ImportError:
        raise needs(path, "pyarrow") from None
    places: list[tuple[int, int]] = []
    rows: list[int] = []
    with reading(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        _, end = _metadata(file, 0, size)
        schema = check_schema(pa.ipc.read_schema(pa.BufferReader(_read_at(file, 0, end))))
        while end < size:
            begin = end
            metadata, end = _metadata(file, begin, size)
            if not metadata:  # the mark at the end of a stream
                break
            kind, count, body = _message(metadata)
            if kind != _RECORD_BATCH:
                raise ValueError(f"a message of kind {_OTHERS.get(kind, kind)!r} is not supported")
            end += body
            if body < 0 or count < 0 or end > size:
                raise ValueError(f"it ends within the record batch at {begin}")
            places.append((begin, end))
            rows.append(count)
    return schema, places, rows


# https://arrow.apache.org/docs/format/Columnar.html, "Encapsulated message format"; the numbers are
# those of Message.fbs there.
_CONTINUES = 0xFFFFFFFF
_RECORD_BATCH = 3
_OTHERS = {1: "schema", 2: "dictionary"}


def _read_at(file: BinaryIO, begin: int, end: int) -> bytes:
    content = os.pread(file.fileno(), end - begin, begin)
    if len(content) != end - begin:
        raise ValueError("it ends within a message")
    return content


def _metadata(file: BinaryIO, begin: int, size: int) -> tuple[bytes, int]:
    """A message's metadata, and where they end; no bytes at the end of a stream."""
    first = begin + 4
    (length,) = struct.unpack("<I", _read_at(file, begin, first))
    if length == _CONTINUES:  # not in files from before Arrow 0.15
        begin, first = first, first + 4
        (length,) = struct.unpack("<I", _read_at(file, begin, first))
    if length > size - first:
        raise ValueError("it ends within a message")
    return _read_at(file, first, first + length), first + length


def _message(metadata: bytes) -> tuple[int, int, int]:
    """(kind, rows of a record batch, bytes behind it): three fields of a flatbuffer. Arrow itself
    reads, and checks, a message together with all that is behind it."""

    def field(table: int, number: int, format: str) -> tuple[int, int]:
        """(where, value); 0 where it is left out."""
        vtable = table - struct.unpack_from("<i", metadata, table)[0]
        at = 4 + 2 * number
        if at >= struct.unpack_from("<H", metadata, vtable)[0]:
            return table, 0
        where = struct.unpack_from("<H", metadata, vtable + at)[0]
        if not where:
            return table, 0
        return table + where, struct.unpack_from(format, metadata, table + where)[0]

    (root,) = struct.unpack_from("<I", metadata)
    _, kind = field(root, 1, "<B")
    where, header = field(root, 2, "<I")
    _, body = field(root, 3, "<q")
    return kind, field(where + header, 0, "<q")[1] if kind == _RECORD_BATCH else 0, body
