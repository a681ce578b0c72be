"""Labels of any kind to 0..c-1, and which column or array holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES = (
    "label", "labels", "class", "classes", "class_label", "category",
    "target", "targets", "y", "fine_label", "coarse_label",
)  # fmt: skip

Labels = tuple[NDArray[np.int64], tuple[str, ...]]


def numbered(values: Any, declared: Sequence[str] = ()) -> Labels:
    """Numbers 0..c-1 in the sorted order of the values, and the values' names in that order.

    Args:
        values: (n,) integers, strings, booleans, or floats that are whole numbers.
        declared: names of the values 0..c-1 where the file has them; then values stay as they are.

    Raises:
        ValueError: values of another kind, or that are not among the declared.

    Example:
        >>> numbers, names = numbered(["dog", "cat", "dog"])
        >>> numbers.tolist(), names
        ([1, 0, 1], ('cat', 'dog'))
    """
    array = _plain(values)
    if array.dtype.kind == "f" and (np.abs(array) < 2**53).all() and (array % 1 == 0).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "biuO":
        raise ValueError(f"labels must be integers, strings or booleans, got {array.dtype}")
    if declared:
        return _as_declared(array, declared)
    known, numbers = np.unique(array, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64), tuple(str(value) for value in known.tolist())


def _plain(values: Any) -> NDArray[Any]:
    """An array of numbers, or of str objects: fixed widths would drop trailing zero characters."""
    array = values
    if not isinstance(values, np.ndarray):
        kinds = {type(value).__name__ for value in values}
        if len(kinds) != 1 or not kinds <= {"int", "bool", "str", "float"}:
            raise ValueError(
                f"labels must be integers, strings or booleans, got {' and '.join(sorted(kinds))}"
            )
        array = np.array(values, object if kinds == {"str"} else None)
        if kinds == {"int"} and array.dtype.kind == "f":  # 0 beside 2^63 has no integer type
            array = np.array(values, object)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "backslashreplace")
    return array.astype(object) if array.dtype.kind == "U" else array


def _as_declared(array: NDArray[Any], declared: Sequence[str]) -> Labels:
    if array.dtype.kind not in "iu":
        raise ValueError(f"labels with {len(declared)} declared names must be integers")
    wrong = (array < 0) | (array >= len(declared))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"row {row}: label {array[row]} is not one of the {len(declared)} declared classes"
        )
    return array.astype(np.int64), tuple(declared)


def chosen(
    what: str,
    option: str,
    asked: str | None,
    candidates: Mapping[str, Any],
    known: Iterable[str],
    every: Iterable[str] = (),
) -> str | None:
    """The column or array that is meant: the one asked for, or one of a known name; None if there
    is none.

    Args:
        what: what it holds, as messages call it.
        option: the option that chooses.
        asked: the value of that option.
        candidates: names that could hold it, with what stands there (a type, a shape).
        known: names that say they do, in lower case.
        every: names that may be asked for; those of the candidates where not given.

    Raises:
        ValueError: several, or one that is asked for and is not there; names the option.
    """
    listed = ", ".join(f"{name} ({kind})" for name, kind in candidates.items())
    if asked is not None:
        if asked not in {*candidates, *every}:
            raise ValueError(f"{option}: there is no {asked!r} with {what}; it could be {listed}")
        return asked
    known = set(known)
    named = [name for name in candidates if name.lower() in known]
    if len(named) > 1:
        raise ValueError(f"{', '.join(named)} could hold {what}; choose one with {option}")
    return named[0] if named else None
