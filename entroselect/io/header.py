"""Headers of .npy files, as NumPy reads and refuses them, and what NumPy leaves to its callers."""

from __future__ import annotations

import ast
import math
import re
import struct
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from entroselect.io.errors import damaged, pickled, shown

# Versions and how they store the header's length; they differ in nothing else that numbers need.
_LENGTHS = {(1, 0): "<H", (2, 0): "<I", (3, 0): "<I"}

# Without its padding, which may be long. The same limit as NumPy's: Python's parser is
# not made for long texts from strangers.
_LONGEST = 10_000
_LONGEST_PADDED = 64 << 20

_LARGEST = 2**63 - 1

_dtype_of: Any = np.lib.format.descr_to_dtype


class Bytes(Protocol):
    """A file, or an entry of an archive, open for reading."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Header:
    """What the header of a .npy file says of its array.

    Attributes:
        shape: as stored.
        fortran: the first axis varies fastest, and that makes a difference.
        dtype: a NumPy dtype.
        offset: where the values begin.
        nbytes: how long they are.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int
    nbytes: int

    @property
    def stored(self) -> Any:
        """The dtype, or "bfloat16", which NumPy does not know and stores as two bytes of void."""
        return "bfloat16" if self.dtype == np.dtype("V2") else self.dtype


def read_header(file: Bytes, name: object, key: str | None = None) -> Header:
    """The header at the beginning of an open file; nothing behind it is read.

    Args:
        name, key: for errors: the file, and which of its entries this is.

    Raises:
        ValueError: naming the file: it is no .npy file, of a version that NumPy does not know, is
            damaged, or its array holds Python objects or could be in no memory.
        TypeError: its array holds records.
    """
    where = name if key is None else f"{shown(name)}: entry {key!r}"
    header = any_header(file, where)
    if header.dtype.hasobject:
        raise pickled(name, key)
    if header.dtype.names is not None or header.dtype.subdtype is not None:
        raise TypeError(
            f"{shown(where)}: holds records ({header.dtype}), expected plain numbers; save them "
            "with numpy.lib.recfunctions.structured_to_unstructured(array)"
        )
    return header


def any_header(file: Bytes, name: object) -> Header:
    """As `read_header`, for arrays of any dtype: of Python objects too, which may be of any length.

    Raises:
        ValueError: naming the file: it is none, damaged, or no memory holds such an array.
    """
    prefix = np.lib.format.MAGIC_PREFIX
    if file.read(len(prefix)) != prefix:
        raise ValueError(
            f"{shown(name)}: is not a .npy file (pickles are never loaded); "
            "write it with numpy.save(path, array)"
        )
    version = tuple(_exactly(file, 2, name))
    if version not in _LENGTHS:
        raise damaged(name, f"version {version[0]}.{version[1]} of the format is not known")
    kind = _LENGTHS[version]
    (length,) = struct.unpack(kind, _exactly(file, struct.calcsize(kind), name))
    text = _unpadded(file, length, name)
    offset = len(prefix) + 2 + struct.calcsize(kind) + length
    shape, fortran, dtype = _parsed(text, "utf-8" if version == (3, 0) else "latin-1", name)
    nbytes = math.prod(shape) * dtype.itemsize
    if math.prod(max(1, length) for length in shape) * max(1, dtype.itemsize) > _LARGEST:
        raise damaged(name, f"an array of shape {shape} is larger than any file")
    ordered = sum(length > 1 for length in shape) > 1 and 0 not in shape
    return Header(shape, fortran and ordered, dtype, offset, nbytes)


def _unpadded(file: Bytes, length: int, name: object) -> bytes:
    """The header's text without its padding, which is read piece by piece."""
    text = b""
    if length > _LONGEST_PADDED:
        raise damaged(name, f"its header has {length} bytes")
    while length:
        piece = _exactly(file, min(length, 1 << 16), name)
        length -= len(piece)
        text = (text + piece).rstrip(b" \n") if text or piece.strip(b" \n") else b""
        if len(text) > _LONGEST:
            raise damaged(name, f"its header has more than {_LONGEST} characters")
    return text


def _exactly(file: Bytes, length: int, name: object) -> bytes:
    """`length` bytes, from a file that may hand over fewer at once."""
    found = b""
    while len(found) < length:
        piece = file.read(length - len(found))
        if not piece:
            raise damaged(name, "it ends within its header")
        found += piece
    return found


def _parsed(
    text: bytes, encoding: str, name: object
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype, from the text of a Python dict."""
    try:
        source = text.decode(encoding)
        try:
            header = ast.literal_eval(source)
        except SyntaxError:
            header = ast.literal_eval(re.sub(r"(\d)L\b", r"\1", source))  # Python 2's integers
        if type(header) is not dict or header.keys() != {"descr", "fortran_order", "shape"}:
            raise ValueError("its header does not say descr, fortran_order and shape")
        shape, fortran = header["shape"], header["fortran_order"]
        if type(shape) is not tuple or any(type(length) is not int for length in shape):
            raise ValueError(f"its shape is {shape!r}, expected a tuple of integers")
        if any(not 0 <= length <= _LARGEST for length in shape):
            raise ValueError(f"its shape is {shape!r}, expected lengths that can be")
        if type(fortran) is not bool:
            raise ValueError(f"its fortran_order is {fortran!r}")
        descr: Any = header["descr"]
        if not isinstance(descr, (str, list, tuple)):
            raise ValueError(f"its descr is {descr!r}")
        return shape, fortran, _dtype_of(descr)
    except (MemoryError, RecursionError) as error:  # of Python's parser, not of the array
        raise damaged(name, "its header is nested too deeply") from error
    except Exception as error:  # literal_eval and dtypes raise any type
        raise damaged(name, error) from error
