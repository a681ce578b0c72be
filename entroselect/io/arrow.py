"""Columns of vectors and of ids in Arrow's tables, which parquet files and datasets hand out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.errors import reading, shown

NUMBERS = "float16, float32, float64, integers or bools"

# The column of this name holds ids by default, if it is there and complete.
ID = "id"


def check_schema(schema: Any) -> Any:
    """Returns the schema after reading its names and types: Arrow checks only then that they are
    text."""
    for field in schema:
        str(field.type)
        if "\0" in field.name:  # Arrow looks a name up only as far as a NUL
            raise ValueError(f"a column is called {field.name!r}")
    return schema


def vector_column(name: str, schema: Any, column: str | None) -> str:
    """The column that holds lists of numbers: `column`, or the only one."""
    lists = [field for field in schema if is_vectors(field.type)]
    if column is None:
        _check_distinct(name, [field.name for field in lists])
    else:
        _check_distinct(name, [field.name for field in schema if field.name == column])
    found = {field.name: str(field.type) for field in lists}
    if column is None:
        if len(found) == 1:
            (column,) = found
            return column
        if found:
            raise ValueError(
                f"{name}: several columns hold lists of numbers, choose one with column "
                f"(--column): {_listed(found)}"
            )
    elif column in found:
        return column
    columns = {field.name: str(field.type) for field in schema}
    if column is None:
        raise ValueError(
            f"{name}: no column holds lists of {NUMBERS}; its columns are {_listed(columns)}"
        )
    if column not in columns:
        raise ValueError(
            f"{name}: has no column {column!r}; lists of numbers are in "
            f"{_listed(found) or 'none of its columns'}"
        )
    raise ValueError(
        f"{name}: column {column!r} holds {columns[column]}, expected lists of {NUMBERS}"
    )


def id_column_of(name: str, schema: Any, column: str | None) -> str | None:
    """The column that holds ids: `column`, which must then be one of strings or integers; else one
    called "id" that is, or None."""
    names = [field.name for field in schema]
    types = {field.name: field.type for field in schema}
    if column is None:
        return ID if names.count(ID) == 1 and _is_ids(types[ID]) else None
    _check_distinct(name, [each for each in names if each == column])
    if column not in types:
        raise ValueError(
            f"{name}: has no column {column!r} for ids; its columns are "
            f"{_listed({field: str(kind) for field, kind in types.items()})}"
        )
    if not _is_ids(types[column]):
        raise ValueError(
            f"{name}: ids must be strings or integers, column {column!r} holds {types[column]}"
        )
    return column


def _check_distinct(name: str, names: list[str]) -> None:
    """Refuses two columns of one name: it cannot say which of them is meant."""
    twice = next((each for each in names if names.count(each) > 1), None)
    if twice is not None:
        raise ValueError(f"{name}: holds two columns called {twice!r}; rename one of them")


def is_vectors(kind: Any) -> bool:
    """Whether a type is lists of numbers, or lists of such lists."""
    return _is_list(_plain(kind)) and _numbers(kind) is not None


def stored_dtype(kind: Any) -> np.dtype[Any]:
    """The NumPy dtype of the numbers in a type of lists."""
    stored: np.dtype[Any] = np.dtype(_numbers(kind).to_pandas_dtype())
    return stored


def dense(array: Any, name: str, start: int, d: int | None = None) -> NDArray[Any]:
    """An Arrow array of lists as (rows, columns); lists of lists are flattened.

    Args:
        array: of a type for which `is_vectors` holds.
        name, start: for errors: the file, and which of its rows is the first here.
        d: the columns that are expected; None for as many as most rows have.

    Raises:
        ValueError: naming the file and the first row that is missing, is shorter or longer than
            the others or holds a missing value.
    """
    rows, each = len(array), 1
    array = _storage(array)
    while _is_list(array.type):
        if array.null_count:
            raise _missing(name, start + first_null(array) // each)
        if _is_fixed(array.type):
            lengths = np.full(len(array), array.type.list_size)
        else:
            lengths = np.diff(_values(array.offsets))
        inner = _is_list(_plain(array.type.value_type))
        expected = _usual(lengths) if inner or d is None else d // each
        different = np.flatnonzero(lengths * each != expected * each)
        if len(different):
            row = start + int(different[0]) // each
            length = int(lengths[different[0]])
            raise ValueError(
                f"{name}: row {row} (the first) holds a list of {length} where others hold "
                f"{expected}; all rows must be of one length"
            )
        each *= int(expected)
        array = _storage(array.flatten())
    if array.null_count:
        raise _missing(name, start + first_null(array) // max(1, each))
    if d is not None and each != d:
        raise ValueError(
            f"{name}: row {start} (the first) holds {each} values where others hold {d}; all rows "
            "must be of one length"
        )
    return _values(array).reshape(rows, each)


def _usual(lengths: NDArray[Any]) -> int:
    """The length that most lists have; at a tie, the first list's if it is among the most
    frequent."""
    found, counts = np.unique(lengths, return_counts=True)
    if not len(found):
        return 0
    most = int(counts.max())
    return int(lengths[0]) if counts[found == lengths[0]] == most else int(found[counts.argmax()])


def id_array(array: Any, name: str, start: int) -> NDArray[Any]:
    """An Arrow array of ids: integers, or an object array of strings."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.null_count:
        raise missing_id(name, start + first_null(array))
    if pa.types.is_integer(array.type):
        return _values(array)
    found = np.empty(len(array), object)
    with reading(name):  # texts that are not UTF-8
        found[:] = array.to_pylist()
    return found


def missing_id(name: str, row: int) -> ValueError:
    """The error for an id column without a value in this row."""
    return ValueError(f"{name}: row {row} (the first) has no id; every row needs one")


def first_null(array: Any) -> int:
    """Position of the first missing value of an array that has one."""
    return int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])


def first_twice(array: Any) -> tuple[int, int] | None:
    """The first two positions that hold the same; None if all differ. No value is missing."""
    import pyarrow.compute as pc

    if pc.count_distinct(array).as_py() == len(array):
        return None
    codes = _values(array.dictionary_encode().indices)
    _, first, each = np.unique(codes, return_index=True, return_inverse=True)
    second = int(np.flatnonzero(first[each] != np.arange(len(codes)))[0])
    return int(first[each[second]]), second


def joined(arrays: list[Any]) -> Any:
    """One array of several of a kind."""
    import pyarrow as pa

    if pa.types.is_dictionary(arrays[0].type):
        arrays = [array.dictionary_decode() for array in arrays]
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def pa_array(values: NDArray[Any]) -> Any:
    """Numbers of NumPy as an Arrow array."""
    import pyarrow as pa

    return pa.array(values)


def taken(data: Any, rows: Sequence[int] | NDArray[Any]) -> Any:
    """`data.take(rows)` of an Arrow array, batch or table. Arrow's own has no kernel for views of
    strings and of bytes; columns of these are put together from slices."""
    import pyarrow as pa

    try:
        return data.take(pa_array(np.asarray(rows, np.int64)))
    except NotImplementedError:
        parts = [data.slice(0, 0), *(data.slice(int(row), 1) for row in rows)]
    if isinstance(data, pa.Table):
        return pa.concat_tables(parts).combine_chunks()
    if isinstance(data, pa.RecordBatch):
        return pa.concat_batches(parts)
    if isinstance(data, pa.ChunkedArray):
        chunks = [chunk for part in parts for chunk in part.chunks]
        return pa.chunked_array([pa.concat_arrays(chunks)])
    return pa.concat_arrays(parts)


def _missing(name: str, row: int) -> ValueError:
    return ValueError(
        f"{name}: row {row} (the first) is missing or holds a missing value (null); drop such rows"
    )


def _values(array: Any) -> NDArray[Any]:
    """Numbers without missing values, not copied, except that bools get a byte each. Arrow's own
    to_numpy imports pandas, where it is installed: 55 MiB."""
    import pyarrow as pa

    if pa.types.is_boolean(array.type):
        return _values(array.cast(pa.uint8())).view(np.bool_)
    return np.from_dlpack(array) if len(array) else np.empty(0, array.type.to_pandas_dtype())


def _plain(kind: Any) -> Any:
    """The type that an extension type (a tensor of fixed shape, say) is stored as."""
    return getattr(kind, "storage_type", kind)


def _storage(array: Any) -> Any:
    return getattr(array, "storage", array)


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or _is_fixed(kind))


def _is_fixed(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_fixed_size_list(kind))


def _numbers(kind: Any) -> Any:
    """The type of the numbers in lists; None if they are no numbers."""
    import pyarrow as pa

    kind = _plain(kind)
    while _is_list(kind):
        kind = _plain(kind.value_type)
    usable = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean)
    return kind if any(is_such(kind) for is_such in usable) else None


def _is_ids(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    strings = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    # Files without rows may have a column of type null; missing values of other files are found
    # when ids are read.
    others = (pa.types.is_integer, pa.types.is_null)
    return any(is_such(kind) for is_such in (*strings, *others))


def _listed(columns: dict[str, str]) -> str:
    return ", ".join(f"{shown(name)} ({kind})" for name, kind in columns.items())
