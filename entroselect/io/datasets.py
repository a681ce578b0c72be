"""Objects with a length and rows: Hugging Face datasets, torch's map-style datasets and the like.

Known by what they can do; neither library is imported here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.arrow import dense, id_array, id_column_of, stored_dtype, vector_column
from entroselect.io.convert import as_array
from entroselect.io.source import PIECE, Fill, Source
from entroselect.results import Int64


class HuggingFaceDataset(Source):
    """A column of a Hugging Face `datasets.Dataset`.

    Batches are taken in Arrow's format: the dataset's NumPy format would round float64 to float32.

    Attributes:
        column: which one.
        whole: the dataset with all its columns, in Arrow's format.
    """

    def __init__(
        self,
        dataset: Any,
        column: str | None,
        id_column: str | None,
        name: str | None = None,
        format: str = "dataset",
    ) -> None:
        name = name or f"{type(dataset).__name__} of {len(dataset)} rows"
        self.whole = table = dataset.with_format("arrow")
        if len(dataset) == 0:
            raise ValueError(f"{name}: empty; at least 1 row needed")
        head = table[:1]
        self.column = vector_column(name, head.schema, column)
        ids = id_column_of(name, head.schema, id_column)
        self._table = dataset.select_columns([self.column]).with_format("arrow")
        self._ids = None if ids is None else dataset.select_columns([ids]).with_format("arrow")
        self._id_column = ids
        first = dense(head.column(self.column).combine_chunks(), name, 0)
        super().__init__(
            name,
            format,
            (len(dataset), first.shape[1]),
            stored_dtype(head.schema.field(self.column).type),
        )
        self.overhead = PIECE

    def _find_ids(self, rows: Int64) -> NDArray[Any] | None:
        if self._ids is None or self._id_column is None:
            return None
        table = self._ids[rows.tolist()]
        return id_array(table.column(self._id_column).combine_chunks(), self.name, 0)

    @contextmanager
    def _reading(self) -> Iterator[Fill]:
        step = max(1, PIECE // self.row_bytes)

        def fill(start: int, out: NDArray[Any]) -> None:
            for begin in range(0, len(out), step):
                part = out[begin : begin + step]
                table = self._table[start + begin : start + begin + len(part)]
                vectors = table.column(self.column).combine_chunks()
                part[...] = dense(vectors, self.name, start + begin, self.d)
                self._count(part.nbytes)

        yield fill


class MapDataset(Source):
    """Rows of anything with `__len__` and `__getitem__`, as torch's map-style datasets have.

    An item is a row (an array, a tensor on the CPU, a list of numbers; more dimensions are
    flattened), or a tuple or dict with a row under `column`. Only items that are read are computed,
    once per read; all must be of the first one's shape and dtype.
    """

    def __init__(self, items: Any, column: str | int | None) -> None:
        self._items = items
        self._column = column
        name = f"{type(items).__name__} of {len(items)} items"
        self.name = name
        if len(items) == 0:
            raise ValueError(f"{name}: empty; at least 1 item needed")
        first, dtype = self._row(0)
        super().__init__(name, "items", (len(items), first.size), dtype)
        self.decodes = True
        self._read_through = 0
        self._lock = threading.Lock()

    @contextmanager
    def _reading(self) -> Iterator[Fill]:
        with self._lock:  # items may not be computed by two threads at once
            yield self._fill

    def _fill(self, start: int, out: NDArray[Any]) -> None:
        for position, into in enumerate(out, start):
            row, dtype = self._row(position)
            if (row.size, dtype) != (self.d, self.stored):
                raise ValueError(
                    f"{self.name}: item {position} has {row.size} {dtype} values where the first "
                    f"has {self.d} {self.stored}"
                )
            into[...] = row.reshape(-1)
            self._count(row.nbytes)

    def _row(self, position: int) -> tuple[NDArray[Any], str]:
        try:
            item = self._items[position]
        except MemoryError as error:
            raise MemoryError(f"{self.name}: item {position}: {error}") from error
        except Exception as error:  # the caller's code makes the item
            kind = type(error).__name__
            raise ValueError(
                f"{self.name}: item {position} cannot be made: {kind}: {error}"
            ) from error
        if self._column is not None:
            item = self._part(item, position)
        elif isinstance(item, Mapping):
            raise ValueError(
                f"{self.name}: items are dicts, choose a value with column: "
                f"{', '.join(map(str, item))}"
            )
        elif isinstance(item, (tuple, list)) and not all(np.isscalar(part) for part in item):
            raise ValueError(
                f"{self.name}: items are {type(item).__name__}s of {len(item)}, choose one by its "
                "position: column=0"
            )
        array, dtype = as_array(f"{self.name}: item {position}", item)
        if array.ndim == 0:
            raise ValueError(f"{self.name}: item {position} is a single number, expected a row")
        return array, dtype

    def _part(self, item: Any, position: int) -> Any:
        column: Any = self._column
        if isinstance(item, (tuple, list)) and isinstance(column, str) and column.isdecimal():
            column = int(column)
        try:
            return item[column]
        except (KeyError, IndexError, TypeError) as error:
            kind = type(item).__name__
            has = ", ".join(map(str, item)) if isinstance(item, Mapping) else f"a {kind}"
            raise ValueError(
                f"{self.name}: item {position} has nothing under column {self._column!r}; it is "
                f"or has {has}"
            ) from error
