"""safetensors files, read at the offsets that their header names."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from entroselect.io.errors import needs, one_key, reading, shown
from entroselect.io.npy import FlatFile
from entroselect.io.remote import AnyPath, RemotePath

_DTYPES = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "bfloat16", "BOOL": "?",
    "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
    "U8": "<u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip

# A header may have this many bytes at most, by the format's description.
_LONGEST = 100_000_000


def open_safetensors(path: AnyPath, key: str | None) -> FlatFile:
    """A tensor of the file; only the header is read, after the library has checked it."""
    try:
        from safetensors import safe_open
    except ImportError:
        raise needs(path, "safetensors") from None
    with reading(path), _header(path) as name, safe_open(name, framework="numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        dtypes = {name: part.get_dtype() for name, part in slices.items()}
    key = one_key(path, key, shapes)
    dtype = dtypes[key]
    if dtype not in _DTYPES:
        raise ValueError(
            f"{shown(path)}: tensor {key!r} has dtype {dtype}, which is not supported; use F16, "
            "BF16, F32, F64, BOOL or an integer type"
        )
    with reading(path), path.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        begin = int(json.loads(raw.read(length))[key]["data_offsets"][0])
    return FlatFile(path, "safetensors", shapes[key], _DTYPES[dtype], 8 + length + begin, key)


@contextmanager
def _header(path: AnyPath) -> Iterator[object]:
    """A local file whose header the library can check: for an object of a store, a file of the
    same length that is a hole behind its header."""
    if not isinstance(path, RemotePath):
        yield path
        return
    with path.open() as remote, tempfile.NamedTemporaryFile() as local:
        length = remote.read(8)
        local.write(length + remote.read(min(int.from_bytes(length, "little"), _LONGEST)))
        local.truncate(path.size)
        yield local.name
