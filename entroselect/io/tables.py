"""DataFrames and tables in memory: pandas, polars and Arrow."""

from __future__ import annotations

from typing import Any

from entroselect.io.arrow import is_vectors
from entroselect.io.items import ArrowDataset
from entroselect.io.source import ArraySource, Source


class _Table:
    """An Arrow table with the part of `datasets.Dataset` that `ArrowDataset` asks for."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def with_format(self, _: str) -> _Table:
        return self

    def select_columns(self, names: list[str]) -> _Table:
        return _Table(self._table.select(names))

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            return self._table.slice(start, stop - start)
        return self._table.take(rows)


def is_frame(given: Any) -> bool:
    """Whether an object has named columns, as DataFrames and tables do."""
    return hasattr(given, "columns") and (hasattr(given, "__array__") or hasattr(given, "schema"))


def open_frame(given: Any, column: str | None, id_column: str | None) -> Source:
    """A frame's column of lists or arrays; where it has none, the numbers in all its columns.

    Raises:
        ValueError, TypeError: as for the columns of a parquet file.
    """
    kind = type(given).__name__
    name = f"{kind} of {len(given)} rows"
    names = [str(each) for each in getattr(given, "column_names", given.columns)]
    for each in (column, id_column):
        if each is not None and each not in names:
            raise ValueError(f"{name}: has no column {each!r}; its columns are {', '.join(names)}")
    wanted = names if column is None else [*dict.fromkeys([column, id_column or "id"])]
    table = _arrow(given, name, [each for each in names if each in wanted])
    if table is None or (column is None and not any(is_vectors(f.type) for f in table.schema)):
        if id_column is not None:
            raise ValueError(
                f"{name}: id_column needs a column of lists of numbers beside it; drop id_column "
                "(--id-column)"
            )
        return ArraySource(given, kind)
    return ArrowDataset(_Table(table), column, id_column, name, "table")


def _arrow(given: Any, name: str, columns: list[str]) -> Any:
    """The columns as an Arrow table; None for a pandas frame that holds numbers alone, or
    objects that Arrow does not know and no column was chosen of."""
    if hasattr(given, "to_arrow"):  # polars
        return given.select(columns).to_arrow()
    if hasattr(given, "column_names"):  # pyarrow
        import pyarrow as pa

        whole = pa.Table.from_batches([given]) if isinstance(given, pa.RecordBatch) else given
        return whole if len(columns) == len(whole.column_names) else whole.select(columns)
    # NumPy's own dtypes have a number; pandas has others, for Arrow's lists too.
    if all(hasattr(kind, "num") and not kind.hasobject for kind in given.dtypes):
        return None
    try:
        import pyarrow as pa
    except ImportError:
        return None
    try:
        return pa.Table.from_pandas(given[columns], preserve_index=False)
    except (ValueError, TypeError) as error:  # Arrow's errors are kinds of these
        raise TypeError(f"{name}: cannot be read as columns of numbers: {error}") from error
