"""Reads pools from .npy, .npz and .safetensors files; never unpickles anything."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.cli.errors import say

SUFFIXES = (".npy", ".npz", ".safetensors")


@dataclass(frozen=True)
class Source:
    """One array of a file.

    Attributes:
        path, key: where it stands; key is None for .npy.
        shape, dtype: as stored.
        rows: (n, d) with d the product of the trailing dimensions. A memmap for .npy. bfloat16
            stands as float32, which holds its values exactly.
    """

    path: Path
    key: str | None
    shape: tuple[int, ...]
    dtype: str
    rows: NDArray[Any]

    def describe(self) -> dict[str, Any]:
        """What reports say about the input."""
        return {
            "path": str(self.path),
            "key": self.key,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "rows": self.rows.shape[0],
            "columns": self.rows.shape[1],
        }


def read(path: Path, key: str | None = None) -> Source:
    """The array of a file; of the one called `key` where a file may hold several.

    Says so on stderr when it flattens rows.

    Raises:
        ValueError: naming the file, what is wrong with it and what to do.
    """
    array, key, dtype = read_array(path, key)
    if array.ndim < 2:
        raise ValueError(
            f"{path}: holds an array of shape {array.shape}; expected (rows, columns) or more "
            "dimensions"
        )
    shape = array.shape
    if array.ndim > 2:
        array = array.reshape(shape[0], math.prod(shape[1:]))
        say(f"{path}: shape {shape} flattened to {array.shape}")
    return Source(path, key, shape, dtype, array)


def read_array(path: Path, key: str | None = None) -> tuple[NDArray[Any], str | None, str]:
    """(array, key, stored dtype) of a file, whatever its shape; errors as in `read`."""
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"{path}: cannot tell what this is; expected a file ending in {', '.join(SUFFIXES)}"
        )
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: is not a file")
    if path.suffix == ".npy":
        if key is not None:
            raise ValueError(f"{path}: a .npy file holds one array without a name; drop the key")
        array = _read_npy(path)
        return array, None, array.dtype.name
    return _read_npz(path, key) if path.suffix == ".npz" else _read_safetensors(path, key)


def _read_npy(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        magic = file.read(len(np.lib.format.MAGIC_PREFIX))
    if magic != np.lib.format.MAGIC_PREFIX:
        raise ValueError(
            f"{path}: is not a .npy file (pickles are never loaded); "
            "write it with numpy.save(path, array)"
        )
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        if "Python objects" in str(error):
            raise _pickled(path) from error
        raise _damaged(path, error) from error
    return array


def _read_npz(path: Path, key: str | None) -> tuple[NDArray[Any], str, str]:
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path}: is not a .npz file, or is cut short (pickles are never loaded); copy it "
            "again, or write it with numpy.savez(path, name=array)"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            shapes = {name: _npz_shape(archive, name) for name in archive.files}
            key = _one_key(path, key, shapes)
            if shapes[key] is None:
                raise ValueError(f"{path}: entry {key!r} is not an array")
            array: NDArray[Any] = archive[key]
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise _damaged(path, error) from error
    except ValueError as error:
        if "Object arrays" in str(error):
            raise _pickled(path, key) from error
        raise
    return array, key, array.dtype.name


def _npz_shape(archive: Any, name: str) -> tuple[int, ...] | None:
    """The shape in an entry's header, without reading the entry; None if it is not an array."""
    with archive.zip.open(name if name in archive.zip.namelist() else f"{name}.npy") as entry:
        try:
            version = np.lib.format.read_magic(entry)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            return header(entry)[0]
        except ValueError:
            return None


def _read_safetensors(path: Path, key: str | None) -> tuple[NDArray[Any], str, str]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ValueError(
            f"{path}: reading it needs safetensors: pip install 'entroselect[cli]'"
        ) from None
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            key = _one_key(path, key, {name: tuple(s.get_shape()) for name, s in slices.items()})
            dtype = slices[key].get_dtype()
            if dtype == "BF16":
                return _read_bfloat16(path, key), key, "bfloat16"
            try:
                array: NDArray[Any] = file.get_tensor(key)
            except (AttributeError, TypeError) as error:  # NumPy has no such dtype
                raise ValueError(
                    f"{path}: tensor {key!r} has dtype {dtype}, which is not supported; use F16, "
                    "BF16, F32, F64, BOOL or an integer type"
                ) from error
    except SafetensorError as error:
        raise _damaged(path, error) from error
    return array, key, array.dtype.name


def _read_bfloat16(path: Path, key: str) -> NDArray[np.float32]:
    """A tensor that NumPy has no dtype for. The caller has had the library check the file.

    A bfloat16 is the upper half of the float32 of the same value.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[key]
        begin, end = entry["data_offsets"]
        file.seek(8 + length + begin)
        halves = np.frombuffer(file.read(end - begin), dtype="<u2")
    bits = halves.astype(np.uint32)
    bits <<= 16
    values: NDArray[np.float32] = bits.view(np.float32).reshape(entry["shape"])
    return values


def _one_key(path: Path, key: str | None, shapes: dict[str, tuple[int, ...] | None]) -> str:
    if key is None and len(shapes) == 1:
        return next(iter(shapes))
    if key in shapes:
        return str(key)
    if not shapes:
        raise ValueError(f"{path}: holds no array")
    names = ", ".join(f"{name} {'(?)' if s is None else s}" for name, s in shapes.items())
    if key is None:
        raise ValueError(f"{path}: holds several arrays, choose one with --key: {names}")
    raise ValueError(f"{path}: holds no array {key!r}; choose one with --key: {names}")


def _pickled(path: Path, key: str | None = None) -> ValueError:
    entry = "" if key is None else f" under {key!r}"
    return ValueError(
        f"{path}: holds pickled Python objects{entry}, which are never loaded; save plain numbers, "
        "for example numpy.save(path, array.astype('float32'))"
    )


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path}: cannot be read, it may be cut short or damaged; copy or write it again ({error})"
    )
