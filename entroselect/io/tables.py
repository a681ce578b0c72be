"""DataFrames and tables in memory: pandas, polars and Arrow."""

from __future__ import annotations

from typing import Any

from entroselect.io.arrow import is_vectors, taken
from entroselect.io.datasets import HuggingFaceDataset
from entroselect.io.errors import needs
from entroselect.io.source import ArraySource, Source


class _Table:
    """An Arrow table with the part of `datasets.Dataset` that `HuggingFaceDataset` asks for."""

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
        return taken(self._table, rows)


def is_frame(given: Any) -> bool:
    """Whether an object has named columns, as DataFrames and tables do."""
    # Looked up in the type where computing them costs: LazyFrame has to resolve its query.
    has = type(given) if hasattr(given, "collect_schema") else given
    return hasattr(has, "columns") and (hasattr(has, "__array__") or hasattr(has, "schema"))


def open_frame(
    given: Any, column: str | None, id_column: str | None, argument: str | None = None
) -> Source:
    """A frame's column of lists or arrays; where it has none, the numbers in all its columns.

    Args:
        argument: how errors call a frame of numbers; None for its type.

    Raises:
        ValueError, TypeError: as for the columns of a parquet file.
    """
    kind = type(given).__name__
    if not hasattr(given, "__len__"):  # of polars
        raise TypeError(f"{argument or kind}: {kind} has no rows yet; pass its .collect()")
    name = f"{kind} of {len(given)} rows"
    names = [str(each) for each in getattr(given, "column_names", given.columns)]
    for each in (column, id_column):
        if each is not None and each not in names:
            raise ValueError(f"{name}: has no column {each!r}; its columns are {', '.join(names)}")
    wanted = names if column is None else [column, id_column or "id"]
    # By number: names may be no texts, or the same twice.
    numbers = [at for at, each in enumerate(names) if each in wanted]
    table = None if column is None and _numbers_alone(given) else _arrow(given, name, numbers)
    if column is None and (table is None or not any(is_vectors(f.type) for f in table.schema)):
        if id_column is not None:
            raise ValueError(
                f"{name}: id_column needs a column of lists of numbers beside it; drop id_column "
                "(--id-column)"
            )
        return ArraySource(given, argument or kind)
    if table is None:
        raise needs(name, "pyarrow")
    return HuggingFaceDataset(_Table(table), column, id_column, name, "table")


def _numbers_alone(given: Any) -> bool:
    """Whether a frame of pandas has columns of numbers alone, which NumPy reads without Arrow."""
    kinds = [getattr(dtype, "kind", "") for dtype in getattr(given, "dtypes", [])]
    return bool(kinds) and all(kind and kind in "biuf" for kind in kinds)


def _arrow(given: Any, name: str, numbers: list[int]) -> Any:
    """The columns of these numbers as an Arrow table; None for pandas where there is no Arrow."""
    if hasattr(given, "to_arrow"):  # polars
        return given.select([given.columns[at] for at in numbers]).to_arrow()
    if hasattr(given, "column_names"):  # pyarrow
        import pyarrow as pa

        whole = pa.Table.from_batches([given]) if isinstance(given, pa.RecordBatch) else given
        return whole.select(numbers)
    try:
        import pyarrow as pa
    except ImportError:
        return None
    part = given.iloc[:, numbers]
    part = part.set_axis([str(each) for each in part.columns], axis="columns")
    try:
        return pa.Table.from_pandas(part, preserve_index=False)
    except (ValueError, TypeError) as error:  # Arrow's errors are kinds of these
        raise TypeError(f"{name}: cannot be read as columns of numbers: {error}") from error
