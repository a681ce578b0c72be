"""NumPy arrays of objects that hold numbers: DLPack, `__array__`, lists, Arrow, Series of rows.

Nothing is imported for this that the caller has not imported; such objects are known by what they
can do.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import _core


def as_array(name: str, given: Any) -> tuple[NDArray[Any], str]:
    """(array in native byte order, name of the values' dtype); bfloat16 as its bits in uint16, bool
    as uint8. Not copied where that can be avoided.

    Raises:
        TypeError, ValueError: naming the argument, what was found and the line that converts it.
    """
    if not isinstance(given, np.ndarray):
        given = _from_protocol(name, given)
        if isinstance(given, tuple):
            return given
    if isinstance(given, np.ma.MaskedArray):
        raise _masked(name)
    given = np.asarray(given)  # sheds np.matrix and other subclasses
    if given.dtype == object:
        given = _numbers(name, given)
    if given.dtype.names is not None:
        raise TypeError(
            f"{name}: holds records ({given.dtype}), expected plain numbers; pass "
            "numpy.lib.recfunctions.structured_to_unstructured(array)"
        )
    if given.dtype.name == "bfloat16":  # ml_dtypes, as JAX hands it out
        return given.view(np.uint16), "bfloat16"
    if not given.dtype.isnative:
        given = given.astype(given.dtype.newbyteorder("="))
    if given.dtype == np.bool_:
        return given.view(np.uint8), "bool"
    return given, given.dtype.name


def _from_protocol(name: str, given: Any) -> Any:
    """A NumPy array, or (uint16 array, "bfloat16"), from a non-NumPy object."""
    refuse(name, given)
    if hasattr(given, "to_arrow"):  # polars; its own way to NumPy makes objects of lists
        given = given.to_arrow()
    if hasattr(given, "null_count") and hasattr(given, "type"):  # Arrow
        from entroselect.io.arrow import dense, is_vectors

        if is_vectors(given.type):
            whole = given.combine_chunks() if hasattr(given, "combine_chunks") else given
            return dense(whole, name, 0)
    elif hasattr(given, "__dlpack_device__") and hasattr(given, "__dlpack__"):
        return _from_dlpack(name, given)
    return plain_array(name, given)


def plain_array(name: str, given: Any) -> NDArray[Any]:
    """`given` as a NumPy array; objects become numbers, or an error as from `as_array`."""
    refuse(name, given)
    try:
        array = np.asarray(decoded(given))
    except MemoryError:
        raise
    except Exception as error:  # the caller's code makes the rows, and may raise anything
        why = _ragged(given) or _failing(given) or error
        raise TypeError(f"{name}: cannot be read as an array of numbers: {why}") from error
    return _numbers(name, array) if array.dtype == object else array


def decoded(given: Any) -> Any:
    """`given`, or an Arrow column with a dictionary without it: Arrow's own way to NumPy makes the
    dictionary's last value of a missing one."""
    kind: Any = getattr(given, "type", None)
    if hasattr(given, "null_count") and hasattr(kind, "index_type"):
        return given.cast(kind.value_type)
    return given


def _from_dlpack(name: str, given: Any) -> Any:
    try:
        device = int(given.__dlpack_device__()[0])
        capsule = given.__dlpack__() if device in (1, 3) else None  # kDLCPU, kDLCUDAHost
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: cannot be read through DLPack: {error}") from error
    if capsule is None:
        raise ValueError(
            f"{name}: on DLPack device type {device}; this build serves CPU and CUDA memory, "
            "move it to the CPU first"
        )
    array, dtype = _core.from_dlpack(capsule, name)
    return (array, "bfloat16") if dtype == "bfloat16" else array


def refuse(name: str, given: Any) -> None:
    """Refuses objects that cannot be rows, with the line of code that converts them.

    Raises:
        TypeError: naming the argument.
    """
    _refuse_sparse(name, given)
    kind = type(given).__name__
    if isinstance(given, Set):
        raise TypeError(
            f"{name}: expected an array of numbers, got {kind}, which has no order; pass "
            "sorted(...) of it"
        )
    if isinstance(given, (str, bytes, dict)) or given is None:
        raise TypeError(f"{name}: expected an array of numbers, got {kind}")
    if hasattr(given, "__next__"):
        raise TypeError(f"{name}: expected an array of numbers, got {kind}; pass list(...) of it")
    if isinstance(given, (list, tuple)) and any(isinstance(r, np.ma.MaskedArray) for r in given):
        raise _masked(name)


def _refuse_sparse(name: str, given: Any) -> None:
    """SciPy's and torch's sparse matrices hold values and places, and have no rows to read."""
    kind = type(given)
    package = kind.__module__.partition(".")[0]
    if hasattr(given, "nnz") and hasattr(given, "shape"):
        converts = "toarray" if hasattr(given, "toarray") else "todense"
    elif package == "torch" and "sparse" in str(getattr(given, "layout", "")):
        converts = "to_dense"
    else:
        return
    raise TypeError(
        f"{name}: a sparse matrix ({kind.__name__} of shape {tuple(given.shape)}); rows are read "
        f"dense, pass the matrix's .{converts}()"
    )


def _masked(name: str) -> TypeError:
    return TypeError(
        f"{name}: masked arrays are not supported, the mask would be lost; pass the rows to "
        "keep, or fill it first"
    )


def _numbers(name: str, given: NDArray[Any]) -> NDArray[Any]:
    """An array of Python objects as one of numbers: rows that are arrays or lists are stacked,
    single numbers (int, float, bool, also beside each other) become float64."""
    if given.ndim == 0:
        found = given.item()
        failing = _failing(found)
        raise TypeError(
            f"{name}: expected an array of numbers, got {type(found).__name__}"
            + (f", whose {failing}" if failing else "")
        )
    if given.ndim == 1 and len(given) and all(_is_row(row) for row in given):
        if any(isinstance(row, np.ma.MaskedArray) for row in given):
            raise _masked(name)
        try:
            return np.stack([np.asarray(row) for row in given])
        except (ValueError, TypeError, RuntimeError) as error:
            why = _ragged(given) or error
            raise TypeError(f"{name}: cannot be read as an array of numbers: {why}") from error
    for place, value in enumerate(given.flat):
        if not isinstance(value, (int, float, np.integer, np.floating, np.bool_)):
            where = tuple(int(axis) for axis in np.unravel_index(place, given.shape))
            at = f"row {where[0]}" + (f" at column {where[1]}" if len(where) > 1 else "")
            raise TypeError(
                f"{name}: dtype object is not supported; {at} holds {value!r:.40}; drop or fill "
                "such values, then pass numpy.asarray(rows, dtype=float)"
            )
    try:
        return given.astype(np.float64)
    except OverflowError as error:
        raise TypeError(f"{name}: cannot be read as an array of numbers: {error}") from error


def _is_row(value: Any) -> bool:
    return isinstance(value, (np.ndarray, list, tuple)) or (
        hasattr(value, "__array__") and getattr(value, "ndim", 1) > 0 and hasattr(value, "__len__")
    )


def _failing(items: Any) -> str | None:
    """For the error: the item that cannot be made, if that is the cause; NumPy does not name it."""
    if hasattr(items, "__array__") or not (
        hasattr(items, "__len__") and hasattr(items, "__getitem__")
    ):
        return None
    for position in range(len(items)):
        try:
            items[position]
        except Exception as error:
            return f"item {position} cannot be made: {type(error).__name__}: {error}"
    return None


def _ragged(rows: Any) -> str | None:
    """For the error: the row of another length than the first, if that is the cause."""
    if not isinstance(rows, (Sequence, np.ndarray)):
        return None
    first = None
    for position, row in enumerate(rows):
        try:
            length = len(row)
        except TypeError:
            return None
        first = length if first is None else first
        if length != first:
            return f"row {position} (the first) has {length} values where row 0 has {first}"
    return None
