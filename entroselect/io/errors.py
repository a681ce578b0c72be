"""What is said of files that cannot be read: the file first, then what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def damaged(path: object, why: object) -> ValueError:
    """For a file that is not what it says."""
    return ValueError(
        f"{path}: cannot be read, it may be cut short or damaged; copy or write it again ({why})"
    )


def pickled(path: Path, key: str | None = None) -> ValueError:
    """For a file that holds Python objects."""
    entry = "" if key is None else f" under {key!r}"
    return ValueError(
        f"{path}: holds pickled Python objects{entry}, which are never loaded; save plain numbers, "
        "for example numpy.save(path, array.astype('float32'))"
    )


def needs(path: object, package: str) -> ValueError:
    """For a format whose library is not installed."""
    return ValueError(f"{path}: reading it needs {package}: pip install 'entroselect[io]'")


def one_key(path: object, key: str | None, shapes: Mapping[str, Any]) -> str:
    """The key of the array that is meant, of a file that may hold several."""
    if key is None and len(shapes) == 1:
        return next(iter(shapes))
    if key in shapes:
        return str(key)
    if not shapes:
        raise ValueError(f"{path}: holds no array")
    names = ", ".join(f"{name} {'(?)' if s is None else s}" for name, s in shapes.items())
    if key is None:
        raise ValueError(f"{path}: holds several arrays, choose one with key (--key): {names}")
    raise ValueError(f"{path}: holds no array {key!r}, choose one with key (--key): {names}")
