"""Folders that `datasets.Dataset.save_to_disk` writes: streams of Arrow record batches."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.arrow import (
    check_schema,
    dense,
    id_array,
    id_column_of,
    stored_dtype,
    vector_column,
)
from entroselect.io.errors import check_fits, damaged, needs, reading, shown
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
    """

    _batch: Any
    _kept: int

    def __init__(self, path: Path, column: str | None, id_column: str | None) -> None:
        name = shown(path)
        self.path = path
        self._schema, self._places, rows = _batches(path)
        self._starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]).astype(np.int64)
        n = int(self._starts[-1])
        if n == 0:
            raise empty(name, (0,))
        self.name = name
        self.column = vector_column(name, self._schema, column)
        self._id_column = id_column_of(name, self._schema, id_column)
        self._release()
        stored = stored_dtype(self._schema.field(self.column).type)
        super().__init__(name, "arrow", (n, self._vectors(0, None).shape[1]), stored)
        longest = max(end - begin for begin, end in self._places)
        self.overhead = 2 * longest
        self._read_through = 0

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
        """A column of a record batch, whose lengths and offsets have been looked at: Arrow
        believes them."""
        import pyarrow as pa

        if batch != self._kept:
            begin, end = self._places[batch]
            check_fits(self.path, end - begin)
            with reading(self.path), self.path.open("rb") as file:
                content = os.pread(file.fileno(), end - begin, begin)
                message = pa.ipc.read_message(pa.BufferReader(content))
                self._batch = pa.ipc.read_record_batch(message, self._schema)
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
    """(schema, where each record batch begins and ends, its rows); rows stay on the disk."""
    try:
        import pyarrow as pa
    except ImportError:
        raise needs(path, "pyarrow") from None
    places, rows = [], []
    with reading(path), pa.memory_map(str(path)) as file:
        schema = check_schema(pa.ipc.read_schema(file))
        while file.tell() < file.size():
            begin = file.tell()
            try:
                message = pa.ipc.read_message(file)
            except EOFError:  # the mark at the end of a stream
                break
            if message.type != "record batch":
                raise ValueError(f"a message of kind {message.type!r} is not supported")
            batch = pa.ipc.read_record_batch(message, schema)
            places.append((begin, file.tell()))
            rows.append(int(batch.num_rows))
    return schema, places, rows
