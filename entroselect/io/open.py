"""open_pool: which format something is in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from entroselect.io.items import ArrowDataset, Items
from entroselect.io.npy import open_memmap, open_npy
from entroselect.io.npz import read_npz
from entroselect.io.parquet import ParquetFile
from entroselect.io.safetensors import open_safetensors
from entroselect.io.shards import open_folder
from entroselect.io.source import ArraySource, Source, empty
from entroselect.io.zarr import ZarrArray, is_zarr

_ARRAYS = ("__array__", "__array_interface__", "__dlpack__")
_ITEMS = ("__len__", "__getitem__")
SUFFIXES = (".npy", ".npz", ".safetensors", ".parquet")


def open_pool(
    path_or_object: Any,
    *,
    column: str | int | None = None,
    id_column: str | None = None,
    key: str | None = None,
) -> Source:
    """Rows of a file, a folder or an object, to be read piece by piece.

    Headers are read and checked now, of all files; rows only when they are asked for. What is
    returned can be passed wherever rows are expected.

    Args:
        path_or_object: one of

            - a .npy file in C order, of any size; big-endian too. Never memory-mapped.
            - a .npz archive: the one kind that is read whole, since its arrays may be compressed.
            - a .safetensors file.
            - a .parquet file with a column of lists of numbers, all of one length.
            - a Zarr array or group, version 2 or 3.
            - a folder of .npy or .parquet files, taken in the order of their names as text. Beside
              .npy files may stand one .parquet file each with ids, or in ../metadata, as
              clip-retrieval writes them.
            - a NumPy array, or anything else taken as rows. A `numpy.memmap` in C order is read
              through its file, as long as its name still leads to that file.
            - a `datasets.Dataset` with a column of lists of numbers.
            - an object with `__len__` and `__getitem__`, such as a map-style torch `Dataset`,
              whose items are rows, or tuples or dicts with a row under `column`. Items are computed
              each time they are asked for, and must be the same each time.
        column: which column holds the rows, where there are several.
        id_column: a column of strings or integers without missing values that names the rows. By
            default one called "id", if there is one.
        key: which array of a .npz, .safetensors or Zarr group, where it holds several.

    Returns:
        `Source`: `len`, `shape`, `dtype`, `read(start, stop)`, `take(rows)`, `ids(rows)`.

    Raises:
        ValueError, TypeError: naming the file, before any row is read: it is missing, cut short,
            of another kind than it says, pickled, or in Fortran order; it holds nothing, several
            arrays of which none is named, or values that are no numbers; files of a folder differ
            in width or dtype; ids are missing; the library for the format is not installed. What
            only reading can show (rows of another length inside a parquet file, damaged pages) is
            raised by `read` and `take`, naming the file and the first row.

    More than two dimensions are flattened to (rows, columns). Opening costs a header for every
    file; memory a few bytes for each. parquet and Zarr decode a batch or a row of chunks at a time
    and keep the last one.

    Example:
        >>> import tempfile, numpy as np
        >>> from entroselect import greedy_select, open_pool
        >>> folder = tempfile.TemporaryDirectory()
        >>> for shard in range(3):
        ...     np.save(f"{folder.name}/img_emb_{shard}.npy", np.eye(4, dtype=np.float16) + shard)
        >>> pool = open_pool(folder.name)
        >>> pool.shape, pool.dtype, pool.read(7, 9)[:, 0].tolist()
        ((12, 4), 'float16', [1.0, 3.0])
        >>> greedy_select(pool, 2).indices.tolist()
        [0, 9]
        >>> folder.cleanup()
    """
    given = path_or_object
    if isinstance(given, (str, os.PathLike)):
        source = _open_path(Path(given), column, id_column, key)
    else:
        source = _open_object(given, column, id_column, key)
    if source.n == 0:
        raise empty(source.name, source.stored_shape)
    return source


def _open_path(
    path: Path, column: str | int | None, id_column: str | None, key: str | None
) -> Source:
    if not path.exists():
        if path.suffix not in ("", ".zarr"):
            _check_suffix(path)
        raise ValueError(f"{path}: no such file")
    if column is not None and not isinstance(column, str):
        raise TypeError(f"column: expected the name of a column, got {column!r}")
    if path.is_dir() and path.suffix not in (".npy", ".npz", ".safetensors"):
        if is_zarr(path):
            _refuse(path, column=column, id_column=id_column)
            return ZarrArray(path, key)
        _refuse(path, key=key)
        return open_folder(path, column, id_column)
    _check_suffix(path)
    if not path.is_file():
        raise ValueError(f"{path}: is not a file")
    if path.suffix == ".parquet":
        _refuse(path, key=key)
        return ParquetFile(path, column, id_column)
    _refuse(path, column=column, id_column=id_column)
    if path.suffix == ".npz":
        array, key = read_npz(path, key)
        return ArraySource(array, str(path), "npz", key)
    if path.suffix == ".safetensors":
        return open_safetensors(path, key)
    _refuse(path, key=key)
    return open_npy(path)


def _open_object(
    given: Any, column: str | int | None, id_column: str | None, key: str | None
) -> Source:
    kind = type(given).__name__
    _refuse(kind, key=key)
    if isinstance(given, dict):
        raise TypeError(
            f"path_or_object: expected a path or rows, got {kind}; choose one of "
            f"{', '.join(map(repr, given)) or 'nothing'}"
        )
    if isinstance(given, Source):
        _refuse(kind, column=column, id_column=id_column)
        return given
    if hasattr(given, "with_format") and hasattr(given, "select_columns"):
        if not hasattr(given, "__len__"):
            raise TypeError(f"{kind}: has no length; download it, or write it to parquet, first")
        if column is not None and not isinstance(column, str):
            raise TypeError(f"column: expected the name of a column, got {column!r}")
        return ArrowDataset(given, column, id_column)
    if id_column is not None:
        _refuse(kind, id_column=id_column)
    if isinstance(given, (list, tuple)) or any(hasattr(given, name) for name in _ARRAYS):
        _refuse(kind, column=column)
        mapped = open_memmap(given) if isinstance(given, np.memmap) else None
        return mapped or ArraySource(given)
    if isinstance(given, bytes) or not all(hasattr(given, name) for name in _ITEMS):
        raise TypeError(
            "path_or_object: expected a path, an array or an object with __len__ and __getitem__, "
            f"got {kind}"
        )
    return Items(given, column)


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES and not path.is_dir():
        raise ValueError(
            f"{path}: cannot tell what this is; expected a file ending in {', '.join(SUFFIXES)}, "
            "a folder of .npy or .parquet files, or a Zarr folder"
        )


def _refuse(name: object, **options: Any) -> None:
    """Options that mean nothing for this format."""
    for option, value in options.items():
        if value is None:
            continue
        if option == "key":
            raise ValueError(f"{name}: holds one array without a name; drop the key (--key)")
        flag = "--" + option.replace("_", "-")
        raise ValueError(f"{name}: has no columns; drop {option} ({flag})")
