"""The metadata of a Zarr folder, read and checked before Zarr itself opens the folder.

Zarr creates everything that metadata name: filters that unpickle, chunks of any size, types of
objects.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entroselect.io.errors import damaged, pickled, reading, shown

MARKS = (".zarray", ".zgroup", "zarr.json")

# Codecs that turn bytes or numbers into others and do nothing else.
CODECS = {
    *("blosc", "zlib", "gzip", "bz2", "lzma", "zstd", "lz4"),
    *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
    *("shuffle", "delta", "fixedscaleoffset", "quantize", "bitround", "astype", "packbits"),
    *("bytes", "transpose", "sharding_indexed"),
}

_TYPES = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
}

# The deepest folders within a group, and the most bytes of an array's metadata, that are read. A
# store that goes beyond is damaged or hostile.
_DEEPEST = 16
_LONGEST = 16 << 20


@dataclass(frozen=True)
class Array:
    """One array of a store.

    Attributes:
        folder: where it is.
        version: of the format, 2 or 3.
        about: its metadata.
        shape: its shape; None where that is damaged.
    """

    folder: Path
    version: int
    about: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...] | None:
        """As the metadata have it; None where that is no shape."""
        return _lengths(self.about.get("shape"), 0)


def arrays(path: Path) -> dict[str, Array]:
    """The arrays in a folder by key; that of a folder which is an array is empty."""
    return dict(_walk(path, path, ""))


def _walk(root: Path, folder: Path, key: str) -> Iterator[tuple[str, Array]]:
    if key.count("/") >= _DEEPEST:
        raise damaged(root, f"groups within groups, more than {_DEEPEST} deep")
    if (folder / ".zarray").is_file():
        yield key, Array(folder, 2, _json(root, folder / ".zarray"))
        return
    if (folder / "zarr.json").is_file():
        about = _json(root, folder / "zarr.json")
        if about.get("node_type") == "array":
            yield key, Array(folder, 3, about)
            return
        if about.get("node_type") != "group":
            raise damaged(root, f"{folder.name}/zarr.json is neither of an array nor of a group")
    elif not (folder / ".zgroup").is_file():
        return
    with reading(folder):
        inner = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    for name in inner:
        yield from _walk(root, folder / name, f"{key}/{name}" if key else name)


def _json(root: Path, path: Path) -> dict[str, Any]:
    with reading(root):
        if path.stat().st_size > _LONGEST:
            raise ValueError(f"{path.name} has more than {_LONGEST} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise damaged(root, f"{path.name} holds no object")
    return found


def check(path: Path, array: Array) -> None:
    """Checks that an array can be decoded: all its codecs are known, and its chunks are of a
    possible size.

    Raises:
        ValueError: naming the file, if it cannot.
    """
    about = array.about
    for codec in _codecs(path, array):
        name = codec.removeprefix("numcodecs.").removeprefix("https://zarr.dev/numcodecs/")
        if name in ("pickle", "json2", "msgpack2") or name.startswith("vlen-"):
            raise pickled(path)
        if name not in CODECS:
            raise ValueError(
                f"{shown(path)}: is encoded by {codec!r}, which is not on the list of codecs that "
                f"are run; write it again with one of {', '.join(sorted(CODECS))}"
            )
    if about.get("storage_transformers"):
        raise ValueError(f"{shown(path)}: has storage transformers, which are not supported")
    shape = _lengths(about.get("shape"), 0)
    if shape is None:
        raise damaged(path, f"its shape is {about.get('shape')!r}")
    chunks = chunk_shape(array)
    if chunks is None or len(chunks) != len(shape):
        raise damaged(path, f"its chunks are no {len(shape)} lengths of at least 1")
    itemsize = _itemsize(path, about.get("dtype" if array.version == 2 else "data_type"))
    if max(math.prod(shape), math.prod(chunks)) * itemsize >= 1 << 62:
        raise damaged(path, f"shape {shape} and chunks {chunks} are larger than any store")


def chunk_shape(array: Array) -> tuple[int, ...] | None:
    """The shape of a chunk; None where that is damaged."""
    if array.version == 2:
        return _lengths(array.about.get("chunks"), 1)
    grid = array.about.get("chunk_grid")
    options = grid.get("configuration") if isinstance(grid, dict) else None
    return _lengths(options.get("chunk_shape") if isinstance(options, dict) else None, 1)


def _lengths(found: Any, least: int) -> tuple[int, ...] | None:
    if not isinstance(found, list) or any(type(each) is not int for each in found):
        return None
    return tuple(found) if all(least <= each < 1 << 62 for each in found) else None


def _itemsize(path: Path, kind: Any) -> int:
    if isinstance(kind, str) and kind in _TYPES:
        return np.dtype(kind).itemsize
    with reading(path):
        dtype = np.dtype(kind) if isinstance(kind, str) else np.dtype([tuple(e) for e in kind])
    if dtype.hasobject:
        raise pickled(path)
    if dtype.kind not in "biuf":
        raise TypeError(
            f"{shown(path)}: dtype {dtype.name} is not supported; use float16, float32, float64, "
            "an integer type or bool"
        )
    return dtype.itemsize


def _codecs(path: Path, array: Array) -> list[str]:
    """The names of all codecs, also of those within others."""
    about = array.about
    if array.version == 2:
        given = [about.get("compressor"), *_listed(about.get("filters"))]
        key = "id"
        given = [codec for codec in given if codec is not None]
    else:
        given, key = _listed(about.get("codecs")), "name"
    names: list[str] = []
    while given:
        codec = given.pop()
        if key == "name" and isinstance(codec, str):
            codec = {"name": codec}
        if not isinstance(codec, dict) or not isinstance(codec.get(key), str):
            raise damaged(path, "its codecs have no names")
        names.append(codec[key])
        options = codec.get("configuration")
        if isinstance(options, dict):
            for inner in ("codecs", "index_codecs"):
                given.extend(_listed(options.get(inner)))
        if len(names) > 64:
            raise damaged(path, "it lists more than 64 codecs")
    return names


def _listed(given: Any) -> list[Any]:
    """The elements of a list; what is no list is returned as the only element, which is then
    refused as a codec."""
    if given is None:
        return []
    return list(given) if isinstance(given, list) else [given]
