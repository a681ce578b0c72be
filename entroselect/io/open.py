"""open_pool: which format something is in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from entroselect.io import lance, saved
from entroselect.io.convert import refuse
from entroselect.io.copies import local_copy
from entroselect.io.datasets import HuggingFaceDataset, MapDataset
from entroselect.io.errors import StoreError, reading, shown
from entroselect.io.npy import open_memmap, open_npy
from entroselect.io.npz import read_npz
from entroselect.io.parquet import ParquetFile
from entroselect.io.remote import AnyPath, RemotePath, remote
from entroselect.io.rows import Rows, in_memory_rows
from entroselect.io.safetensors import open_safetensors
from entroselect.io.shards import Shards, open_folder, opened
from entroselect.io.source import ArraySource, Source, empty
from entroselect.io.stores import address_of
from entroselect.io.tables import is_frame, open_frame
from entroselect.io.zarr import ZarrArray, is_zarr
from entroselect.io.zarr_metadata import MARKS

_ARRAYS = ("__array__", "__array_interface__", "__dlpack__")
_ITEMS = ("__len__", "__getitem__")
SUFFIXES = (".npy", ".npz", ".safetensors", ".parquet")
# In a folder of a format that consists of folders.
_WHOLE = (*MARKS, saved.STATE, saved.SPLITS, lance.VERSIONS)
_BEGINNINGS = {b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz", b"PAR1": ".parquet"}


def open_pool(
    path_or_object: Any,
    *,
    column: str | int | None = None,
    id_column: str | None = None,
    key: str | None = None,
    filesystem: Any = None,
    cache: str | os.PathLike[str] | None = None,
) -> Source:
    """Rows of a file, a folder or an object, to be read piece by piece.

    Headers are read and checked now, of all files; rows only when they are asked for. The
    result can be passed wherever rows are expected.

    Args:
        path_or_object: one of

            - a .npy file in C order, of any size; big-endian too, and bfloat16 as two bytes of
              void, which is how ml_dtypes and JAX save it. Never memory-mapped.
            - a .npz archive: the one kind that is read whole, since its arrays may be compressed.
            - a .safetensors file.
            - a .parquet file with a column of lists of numbers or bools, all of one length.
            - a Zarr array or group, version 2 or 3, or a Lance dataset.
            - a folder of .npy or .parquet files, taken in the order of their names as text. Beside
              .npy files may stand one .parquet file each with ids, or in ../metadata, as
              clip-retrieval writes them. Files without rows are left out, even if their columns
              differ; hidden files, and those whose names begin with "_", are skipped.
            - a folder that `datasets.Dataset.save_to_disk` has written.
            - the address of a file or folder in an object store: "s3://bucket/folder/", "gs://...",
              "abfs://...", "hf://datasets/...", "https://...". It is read by ranges of bytes; Zarr,
              Lance and `save_to_disk` folders need `cache`.
            - a list of paths of such files and folders: their rows one after the other.
            - a NumPy array, or anything else taken as rows. A `numpy.memmap` in C order is read
              through its file, as long as its name still leads to that file.
            - a DataFrame of pandas or polars, or a pyarrow Table: a column of lists or arrays, or
              where there is none the numbers in all columns.
            - a `datasets.Dataset`, or a dataset of Lance, with a column of lists of numbers.
            - an object with `__len__` and `__getitem__`, such as a map-style torch `Dataset`, whose
              items are rows, or tuples or dicts with a row under `column`. Items are computed each
              time they are asked for, and must be the same each time.
        column: which column holds the rows, where there are several.
        id_column: a column of strings or integers that names the rows. It is read once now: values
            that are missing, or the same twice within a million rows, are an error. By default one
            called "id", if there is one, which is not looked at before it is asked for.
        key: which array of a .npz, .safetensors or Zarr group, where it holds several.
        filesystem: of pyarrow.fs or fsspec, for an address that needs credentials or an endpoint of
            its own, such as S3FileSystem(endpoint_override="http://localhost:9000"). By default the
            one that belongs to the address, with what its library finds in the environment.
        cache: a folder for local copies of what an address names, made now and used again while the
            objects are unchanged.

    Returns:
        `Source`: `len`, `shape`, `dtype`, `read(start, stop)`, `take(rows)`, `ids(rows)`.

    Raises:
        ValueError, TypeError: naming the file, before any row is read: it is missing, cut short,
            longer than it says, damaged, pickled, or in Fortran order; it holds nothing, several
            arrays of which none is named, or values that are no numbers; files of a folder differ
            in width or dtype; ids are missing; the library for the format is not installed. What
            only reading can show (rows of another length inside a parquet file, damaged pages) is
            raised by `read` and `take`, naming the file and the first row. Of an address: it is
            missing, refused or changed, or does not answer after a request was made four times.

    The first bytes of a file decide its format, else its ending, in upper or lower case. More than
    two dimensions are flattened to (rows, columns). Opening reads the header of every file and
    keeps a few bytes of each. parquet decodes a batch at a time and Zarr a row of chunks, and the
    last one is kept. Where
    an operation with `memory_limit` reads rows several times, those of parquet, Zarr and of objects
    with items are decoded once into a temporary file in TMPDIR (/var/tmp without it), and the
    logger "entroselect" says so.

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
    if cache is not None and not _is_path(cache):
        raise TypeError(f"cache: expected the path of a folder, got {cache!r}")

    def open_one(each: str | os.PathLike[str]) -> Source:
        path = _path_of(each, filesystem)
        if cache is None:
            return _open_path(path, column, id_column, key)
        if not isinstance(path, RemotePath):
            raise ValueError(f"cache: {shown(path)} is on this machine; drop cache (--cache)")
        source = _open_path(_copied(path, Path(cache), id_column), column, id_column, key)
        source.name = shown(path)
        return source

    if _is_path(given):
        source = open_one(given)
    elif isinstance(given, (list, tuple)) and given and all(map(_is_path, given)):
        name = f"{len(given)} files, {shown(given[0])} first"
        source = Shards(name, opened(name, given, open_one))
    else:
        if filesystem is not None or cache is not None:
            raise ValueError(
                "filesystem, cache: have a meaning for addresses, got "
                f"{type(given).__name__}; drop them"
            )
        source = _open_object(given, column, id_column, key)
    if source.n == 0:
        raise empty(source.name, source.stored_shape)
    return source


def _is_path(given: Any) -> bool:
    return isinstance(given, (str, os.PathLike))


def _path_of(given: str | os.PathLike[str], filesystem: Any) -> AnyPath:
    """The file, or what is at the address."""
    address = address_of(given) or (None if filesystem is None else str(given))
    if address is None:
        return Path(given)
    if filesystem is None and address.startswith("file://"):
        return Path(unquote(urlsplit(address).path))
    return remote(address, filesystem)


def _copied(path: RemotePath, folder: Path, id_column: str | None) -> Path:
    """A copy of a file, of the .npy and .parquet files of a folder, or of all of a folder in a
    format that consists of folders."""
    if not path.exists():
        raise _gone(shown(path))
    names = {child.name for child in path.iterdir()} if path.is_dir() else set()
    whole = not names.isdisjoint(_WHOLE)
    if whole or not path.is_dir():
        return local_copy(path, folder, lambda each: True)

    def wanted(each: RemotePath) -> bool:
        return each.suffix.lower() in (".npy", ".parquet") and not each.name.startswith((".", "_"))

    metadata = path.parent / "metadata"
    beside = id_column is not None and not any(name.endswith(".parquet") for name in names)
    return local_copy(path, folder, wanted, *([metadata] if beside and metadata.is_dir() else []))


def _open_path(
    path: AnyPath, column: str | int | None, id_column: str | None, key: str | None
) -> Source:
    name, kind = shown(path), path.suffix.lower()
    if not _exists(path):
        if isinstance(path, RemotePath):
            raise _gone(name)
        if kind not in ("", ".zarr", *SUFFIXES):
            raise _unknown(name)
        raise ValueError(f"{name}: no such file")
    if column is not None and not isinstance(column, str):
        raise TypeError(f"column: expected the name of a column, got {column!r}")
    if isinstance(path, RemotePath) and path.is_dir():
        if any(child.name in _WHOLE for child in path.iterdir()):
            raise ValueError(
                f"{name}: is a Zarr, Lance or save_to_disk folder, which is read from a local "
                "copy; pass a folder for it as cache (--cache)"
            )
        _refuse(name, key=key)
        return open_folder(path, column, id_column)
    if isinstance(path, Path) and path.is_dir():
        if (path / lance.VERSIONS).is_dir():
            _refuse(name, key=key)
            return lance.open_lance(path, column, id_column)
        if is_zarr(path):
            _refuse(name, column=column, id_column=id_column)
            return ZarrArray(path, key)
        _refuse(name, key=key)
        if any((path / mark).is_file() for mark in (saved.STATE, saved.SPLITS)):
            return saved.open_saved(path, column, id_column)
        return open_folder(path, column, id_column)
    if not path.is_file():
        raise ValueError(f"{name}: is not a file")
    kind = _content(path) or kind
    if kind not in SUFFIXES:
        raise _unknown(name)
    if kind == ".parquet":
        _refuse(name, key=key)
        return ParquetFile(path, column, id_column)
    _refuse(name, column=column, id_column=id_column)
    if kind == ".npz":
        array, stored, key = read_npz(path, key)
        if stored == "bfloat16":
            bits = array.view(np.uint16).reshape(array.shape[0], -1)
            return ArraySource(Rows(bits, "bfloat16"), name, "npz", key)
        return ArraySource(array, name, "npz", key)
    if kind == ".safetensors":
        return open_safetensors(path, key)
    _refuse(name, key=key)
    return open_npy(path)


def _exists(path: AnyPath) -> bool:
    try:
        return path.exists()
    except StoreError:
        raise
    except (OSError, ValueError) as error:  # a name that is too long, or holds a NUL
        raise ValueError(f"{shown(path)}: no such file ({error})") from error


def _content(path: AnyPath) -> str | None:
    """The ending that fits how a file begins, whichever it has; None for safetensors, which
    begin with a number, and all else."""
    with reading(path), path.open("rb") as file:
        begin = file.read(8)
    return next((kind for mark, kind in _BEGINNINGS.items() if begin.startswith(mark)), None)


def _open_object(
    given: Any, column: str | int | None, id_column: str | None, key: str | None
) -> Source:
    kind = type(given).__name__
    _refuse(kind, key=key)
    if isinstance(given, dict) and not hasattr(given, "nnz"):  # which a sparse matrix may be
        raise TypeError(
            f"path_or_object: expected a path or rows, got {kind}; choose one of "
            f"{', '.join(map(repr, given)) or 'nothing'}"
        )
    if isinstance(given, Source):
        _refuse(kind, column=column, id_column=id_column)
        return given
    refuse("path_or_object", given)
    if hasattr(given, "with_format") and hasattr(given, "select_columns"):
        if not hasattr(given, "__len__"):
            raise TypeError(f"{kind}: has no length; download it, or write it to parquet, first")
        return HuggingFaceDataset(given, _name_of(column), id_column)
    if lance.is_lance(given):
        return lance.LanceDataset(given, _name_of(column), id_column, kind)
    if is_frame(given):
        return open_frame(given, _name_of(column), id_column)
    if id_column is not None:
        _refuse(kind, id_column=id_column)
    if isinstance(given, (list, tuple)) or any(hasattr(given, name) for name in _ARRAYS):
        _refuse(kind, column=column)
        mapped = open_memmap(given) if isinstance(given, np.memmap) else None
        return mapped or ArraySource(given)
    if not all(hasattr(given, name) for name in _ITEMS):
        raise TypeError(
            "path_or_object: expected a path, an array or an object with __len__ and __getitem__, "
            f"got {kind}"
        )
    return MapDataset(given, column)


def _name_of(column: str | int | None) -> str | None:
    if column is not None and not isinstance(column, str):
        raise TypeError(f"column: expected the name of a column, got {column!r}")
    return column


def _gone(name: str) -> ValueError:
    return ValueError(f"{name}: no such object or folder; upper and lower case matter")


def _unknown(name: str) -> ValueError:
    return ValueError(
        f"{name}: cannot tell what this is; expected a file ending in {', '.join(SUFFIXES)}, "
        "a folder of .npy or .parquet files, or a Zarr folder"
    )


def _refuse(name: object, **options: Any) -> None:
    """Raises ValueError for options that mean nothing for this format."""
    for option, value in options.items():
        if value is None:
            continue
        if option == "key":
            raise ValueError(f"{name}: holds one array without a name; drop the key (--key)")
        flag = "--" + option.replace("_", "-")
        raise ValueError(f"{name}: has no columns; drop {option} ({flag})")


def as_rows(name: str, given: Any, may_be_empty: bool = False) -> Rows:
    """`given` as (n, d) rows in memory: what `in_memory_rows` takes, DataFrames and tables, or a
    `Source`, which is read whole. Raises as `in_memory_rows` does.
    """
    if isinstance(given, Rows):  # from another operation, which has checked them
        return given
    if is_frame(given):
        given = open_frame(given, None, None, name)
    if isinstance(given, Source):
        return given.rows(name)
    return in_memory_rows(name, given, may_be_empty)
