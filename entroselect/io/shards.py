"""Folders of .npy or parquet files that together form one pool."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from entroselect.io.errors import Empty, shown
from entroselect.io.npy import open_npy
from entroselect.io.parquet import IdColumn, ParquetFile
from entroselect.io.remote import AT_ONCE, AnyPath, at_once
from entroselect.io.source import Fill, Source, empty
from entroselect.io.stores import is_address
from entroselect.results import Int64

_Path = TypeVar("_Path", bound=AnyPath)


class Shards(Source):
    """The rows of several sources, one after the other.

    Attributes:
        parts: the sources, in order; those without rows are left out.
        id_columns: beside each, a column of a file of its own; None where there are none.
    """

    def __init__(
        self,
        name: str,
        parts: Sequence[Source | None],
        ids: Sequence[IdColumn] | None = None,
    ) -> None:
        """`parts`: at least one, None for files without rows. `ids`: beside each, where the parts
        have none of their own."""
        kept = [index for index, part in enumerate(parts) if part is not None]
        self.parts = [part for part in parts if part is not None]
        first = self.parts[0]
        for part in self.parts:
            if (part.d, part.buffer_dtype) != (first.d, first.buffer_dtype):
                raise ValueError(
                    f"{part.name}: has rows of {part.d} {part.buffer_dtype} and {first.name} of "
                    f"{first.d} {first.buffer_dtype}; all files of a pool must be alike"
                )
        rows = sum(part.n for part in self.parts)
        kind = "bfloat16" if first.stored == "bfloat16" else first.buffer_dtype
        super().__init__(name, first.format, (rows, *first.stored_shape[1:]), kind)
        self.id_columns = None if ids is None else [ids[index] for index in kept]
        self._starts = np.concatenate([[0], np.cumsum([part.n for part in self.parts])])
        self.overhead = max(part.overhead for part in self.parts)
        self._read_through = first._read_through
        if all(part._in_flight > 1 for part in self.parts):
            self._read_remotely()
        self.decodes = any(part.decodes for part in self.parts)
        self._last = 0

    @property
    def bytes_read(self) -> int:
        """Bytes asked of all files so far."""
        return sum(part.bytes_read for part in self.parts)

    def describe(self) -> dict[str, Any]:
        """A description of the input for reports."""
        return {**super().describe(), "files": len(self.parts)}

    @contextmanager
    def _reading(self) -> Iterator[Fill]:
        if self._in_flight > 1:
            with self._reading_at_once() as fill:
                yield fill
            return
        open_now, fill_part = -1, None
        with ExitStack() as stack:

            def fill(start: int, out: NDArray[Any]) -> None:
                nonlocal open_now, fill_part
                while len(out):
                    shard = int(np.searchsorted(self._starts, start, "right")) - 1
                    if shard != open_now:
                        stack.close()
                        self._keep_only(shard)
                        fill_part = stack.enter_context(self.parts[shard]._reading())
                        open_now = shard
                    assert fill_part is not None
                    rows = min(len(out), int(self._starts[shard + 1]) - start)
                    fill_part(start - int(self._starts[shard]), out[:rows])
                    start, out = start + rows, out[rows:]

            yield fill

    @contextmanager
    def _reading_at_once(self) -> Iterator[Fill]:
        """As `_reading`, for several threads: all files that were read stay open until the end."""
        opened: dict[int, tuple[AbstractContextManager[Fill], Fill]] = {}
        lock, stack = threading.Lock(), ExitStack()

        def fill(start: int, out: NDArray[Any]) -> None:
            while len(out):
                shard = int(np.searchsorted(self._starts, start, "right")) - 1
                with lock:
                    if shard not in opened:
                        context = self.parts[shard]._reading()
                        opened[shard] = context, stack.enter_context(context)
                rows = min(len(out), int(self._starts[shard + 1]) - start)
                opened[shard][1](start - int(self._starts[shard]), out[:rows])
                start, out = start + rows, out[rows:]

        with stack:
            yield fill
            stack.pop_all()  # closed in the next lines
        # Where files are objects of a store, this asks for the state of each.
        ends = [partial(context.__exit__, None, None, None) for context, _ in opened.values()]
        at_once(ends, self._in_flight)

    def _find_ids(self, rows: Int64) -> NDArray[Any] | None:
        shards = np.searchsorted(self._starts, rows, "right") - 1
        places, found = [], []
        for shard in np.unique(shards).tolist():
            here = np.flatnonzero(shards == shard)
            within = rows[here] - self._starts[shard]
            column = None if self.id_columns is None else self.id_columns[shard]
            ids = self.parts[shard].ids(within) if column is None else column.take(within)
            if ids is None:  # in some of the files only: they name no row of the others
                return None
            places.append(here)
            found.append(ids)
        alike = len({ids.dtype for ids in found}) == 1
        result = np.empty(len(rows), found[0].dtype if alike else object)
        for here, ids in zip(places, found, strict=True):
            result[here] = ids
        return result

    def _keep_only(self, shard: int) -> None:
        """Releases what the file read before keeps between calls, when another file is read."""
        if shard != self._last:
            self.parts[self._last]._release()
            self._last = shard

    def _release(self) -> None:
        self.parts[self._last]._release()


def opened(
    name: str, paths: Sequence[_Path], open_one: Callable[[_Path], Source]
) -> list[Source | None]:
    """The sources of some files, None for those without rows.

    Raises:
        Empty: none of them has any.
    """

    def source(path: _Path) -> Source | Empty:
        try:
            return open_one(path)
        except Empty as error:
            if error.shape[0]:  # rows without columns
                raise
            return error

    remote = any(is_address(str(path)) for path in paths)
    found = at_once([partial(source, path) for path in paths], AT_ONCE if remote else 1)
    shape = max(((0,), *(each.shape for each in found if isinstance(each, Empty))), key=len)
    parts = [None if isinstance(each, Empty) else each for each in found]
    if all(part is None for part in parts):
        raise empty(name, shape)
    return parts


def open_folder(folder: AnyPath, column: str | None, id_column: str | None) -> Source:
    """The .npy files of a folder, or else its parquet files, in the order of their names.

    Names are ordered as text, as embedding-reader and a sorted directory listing do: "a_10" before
    "a_2", which is why such files usually carry leading zeros.
    """
    vectors, tables = files_in(folder, ".npy"), files_in(folder, ".parquet")
    name = shown(folder)
    if vectors:
        if column is not None:
            raise ValueError(
                f"{name}: holds .npy files, which have no columns; drop column (--column)"
            )
        parts = opened(name, vectors, open_npy)
        return Shards(name, parts, _metadata(folder, vectors, parts, tables, id_column))
    if tables:
        parts = opened(name, tables, lambda path: ParquetFile(path, column, id_column))
        return Shards(name, parts)
    inner = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    raise ValueError(
        f"{name}: holds no .npy or .parquet files"
        + (f"; its folders are {shown(', '.join(inner[:5]))}" if inner else "")
    )


def _metadata(
    folder: AnyPath,
    vectors: Sequence[AnyPath],
    parts: Sequence[Source | None],
    tables: list[AnyPath],
    id_column: str | None,
) -> list[IdColumn] | None:
    """Ids for the rows of .npy files, from parquet files beside them or, as clip-retrieval has
    them, in a folder called metadata beside theirs; the n-th belongs to the n-th."""
    if not tables:
        if id_column is None:
            return None
        tables = files_in(folder.absolute().parent / "metadata", ".parquet")
    name = shown(folder)
    if not tables:
        raise ValueError(
            f"{name}: has no .parquet files with ids, neither beside the .npy files nor in "
            f"{shown(folder.absolute().parent / 'metadata')}; drop id_column (--id-column)"
        )
    if len(tables) != len(vectors):
        raise ValueError(
            f"{name}: holds {len(vectors)} .npy files and {len(tables)} .parquet files; ids need "
            "one beside each"
        )
    found = []
    for path, part, table in zip(vectors, parts, tables, strict=True):
        if _number(path) != _number(table):
            raise ValueError(
                f"{shown(table)}: stands where the metadata of {shown(path)} is expected; number "
                "the files alike"
            )
        ids = IdColumn.find(table, id_column)
        if ids is None:
            return None
        rows = 0 if part is None else part.n
        if ids.n != rows:
            raise ValueError(f"{shown(table)}: has {ids.n} rows and {shown(path)} has {rows}")
        found.append(ids)
    return found


def files_in(folder: AnyPath, suffix: str) -> list[AnyPath]:
    """The files of a folder with that ending, in the order of their names, but for those that are
    skipped."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == suffix and path.is_file() and not path.name.startswith((".", "_"))
    )


def _number(path: AnyPath) -> int | None:
    """The last number in a file's name."""
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else None
