"""Whole rows of a pool's tables, with all their columns, for some of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from entroselect.io.arrow import taken
from entroselect.io.datasets import HuggingFaceDataset
from entroselect.io.errors import reading, shown
from entroselect.io.identity import FileIdentity
from entroselect.io.parquet import ParquetFile, open_parquet
from entroselect.io.remote import AnyPath
from entroselect.io.saved import ArrowStream
from entroselect.io.shards import Shards
from entroselect.io.source import Source
from entroselect.results import Int64

# What is decoded at once, and the most rows of it.
_BATCH = 8 << 20
_MOST_ROWS = 4096


class Tables:
    """The tables that hold a pool's rows, one after the other.

    Attributes:
        schema: of all of them; what a file has no column for is null there.

    Raises:
        ValueError: naming the pool, if its rows stand in no tables, or naming the file whose
            columns do not go with those before it.
    """

    def __init__(self, source: Source) -> None:
        self._parts = _parts(source)
        import pyarrow as pa  # is there by now

        self._starts = np.cumsum([0, *(part.n for part in self._parts)])
        self.schema = self._parts[0].schema
        for part in self._parts:
            names = part.schema.names
            twice = next((each for each in names if names.count(each) > 1), None)
            if twice is not None:
                raise ValueError(f"{part.name}: holds two columns called {twice!r}; rename one")
            try:
                self.schema = pa.unify_schemas([self.schema, part.schema])
            except (ValueError, TypeError) as error:  # Arrow's errors are kinds of these
                raise ValueError(
                    f"{part.name}: its columns do not go with those of {self._parts[0].name} "
                    f"({' '.join(str(error).split())})"
                ) from error
        for part in self._parts:
            for at in set(range(len(self.schema))) - set(map(self._at, part.schema.names)):
                self.schema = self.schema.set(at, self.schema.field(at).with_nullable(True))

    def _at(self, name: str) -> int:
        place: int = self.schema.get_field_index(name)
        return place

    def take(self, rows: Int64) -> Iterator[Any]:
        """Arrow tables of the given rows, distinct and ascending, some megabytes at a time."""
        import pyarrow as pa

        empty = self.schema.empty_table()
        parts = np.searchsorted(self._starts, rows, "right") - 1
        for part in np.unique(parts).tolist():
            for table in self._parts[part].whole_rows(rows[parts == part] - self._starts[part]):
                whole = pa.concat_tables([empty, table], promote_options="default")
                yield whole.cast(self.schema)


class _Part(Protocol):
    """One of the tables; `whole_rows` is as `Tables.take`, of its own columns."""

    name: str
    n: int
    schema: Any

    def whole_rows(self, rows: Int64) -> Iterator[Any]: ...


class _File:
    """The rows of a parquet file."""

    def __init__(self, name: str, path: AnyPath) -> None:
        self.name = name
        self._path = path
        with reading(path):
            self._identity = FileIdentity(path)
        file = open_parquet(path)
        self.schema = file.schema_arrow
        self._groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
        self._starts = np.cumsum([0, *(group.num_rows for group in self._groups)])
        self.n = int(self._starts[-1])

    def whole_rows(self, rows: Int64) -> Iterator[Any]:
        self._identity.check()
        file = open_parquet(self._path)
        groups = np.searchsorted(self._starts, rows, "right") - 1
        for group in np.unique(groups).tolist():
            yield from self._of_group(file, group, rows[groups == group] - self._starts[group])

    def _of_group(self, file: Any, group: int, rows: Int64) -> Iterator[Any]:
        import pyarrow as pa

        size = max(1, self._groups[group].total_byte_size // self._groups[group].num_rows)
        step = max(1, min(_MOST_ROWS, _BATCH // size))
        with reading(self._path):
            batches = file.iter_batches(step, row_groups=[group], use_threads=False)
        start = 0
        while start <= rows[-1]:  # what follows the last row that is asked for is not read
            with reading(self._path):
                batch = next(batches)
                begin, end = np.searchsorted(rows, [start, start + len(batch)])
                chosen = taken(batch, rows[begin:end] - start)
            if len(chosen):
                yield pa.Table.from_batches([chosen])
            start += len(batch)


class _Dataset:
    """The rows of a dataset, of Hugging Face or Lance."""

    def __init__(self, source: HuggingFaceDataset) -> None:
        self.name, self.n, self._whole = source.name, source.n, source.whole
        self.schema = self._whole[:1].schema

    def whole_rows(self, rows: Int64) -> Iterator[Any]:
        size = max(1, self._whole[: min(self.n, 64)].nbytes // min(self.n, 64))
        step = max(1, min(_MOST_ROWS, _BATCH // size))
        for begin in range(0, len(rows), step):
            yield self._whole[rows[begin : begin + step].tolist()]


def _parts(source: Source) -> list[_Part]:
    if isinstance(source, ParquetFile):
        return [_File(source.name, source.path)]
    if isinstance(source, ArrowStream):
        return [source]
    if isinstance(source, HuggingFaceDataset):
        return [_Dataset(source)]
    if isinstance(source, Shards):
        if source.id_columns is not None:  # tables beside .npy files
            return [_File(shown(each.path), each.path) for each in source.id_columns]
        return [part for each in source.parts for part in _parts(each)]
    raise ValueError(
        f"{source.name}: its rows have no columns to join; that needs .parquet files, .npy files "
        "with one .parquet file beside each that has an id column, or a dataset"
    )
