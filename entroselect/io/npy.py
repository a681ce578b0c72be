"""Rows that stand one after the other in a file: .npy, and formats that say where they begin."""

from __future__ import annotations

import logging
import math
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.errors import check_fits, damaged, reading, shown
from entroselect.io.header import Header, read_header
from entroselect.io.identity import FileIdentity
from entroselect.io.remote import AnyPath, RemotePath
from entroselect.io.source import READERS, Fill, Source, empty

_log = logging.getLogger("entroselect")

# One call of the system hands over at most about 2 GiB.
_MOST = 1 << 30


class FlatFile(Source):
    """C-order rows from an offset of a file on.

    They are read at their offsets and not through a map of the file: pages of a map count as the
    process's memory for as long as the kernel likes, and a read error would end the process. The
    file is open only during a call, so that thousands of shards need no descriptors.
    """

    def __init__(
        self,
        path: AnyPath,
        format: str,
        shape: tuple[int, ...],
        stored: Any,
        offset: int,
        key: str | None = None,
    ) -> None:
        super().__init__(shown(path), format, shape, stored, key)
        self.path = path
        self.offset = offset
        with reading(path):
            self._identity = FileIdentity(path)
            size = _size(path)
        end = offset + self.n * self.row_bytes
        if size < end:
            raise damaged(path, f"it has {size} bytes, its header promises {end}")
        if isinstance(path, RemotePath):
            self._read_remotely()
        else:
            self._readers = READERS

    @contextmanager
    def _reading(self) -> Iterator[Fill]:
        if isinstance(self.path, RemotePath):
            yield self._fill_remotely
            self._identity.check()
            return
        with reading(self.path):
            file = os.open(self.path, os.O_RDONLY)

        def fill(start: int, out: NDArray[Any]) -> None:
            read_at(file, self.offset + start * self.row_bytes, out, self.path)
            self._count(out.nbytes)

        try:
            self._identity.check(file)
            yield fill
        finally:
            os.close(file)

    def _fill_remotely(self, start: int, out: NDArray[Any]) -> None:
        assert isinstance(self.path, RemotePath)
        self.path.read_into(self.offset + start * self.row_bytes, as_bytes(out))
        self._count(out.nbytes)


def _size(path: AnyPath) -> int:
    return path.size if isinstance(path, RemotePath) else path.stat().st_size


def as_bytes(array: NDArray[Any]) -> memoryview:
    """The bytes of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def read_at(file: int, offset: int, out: NDArray[Any], path: object) -> None:
    """Fills a C-contiguous array with the bytes of an open file from `offset` on."""
    left = as_bytes(out)
    while len(left):
        with reading(path):
            got = os.preadv(file, [left[:_MOST]], offset)
        if got == 0:
            raise damaged(path, "it became shorter while it was read")
        left, offset = left[got:], offset + got


def open_npy(path: AnyPath) -> FlatFile:
    """The array of a .npy file; only the header is read. Pickles are never loaded."""
    header = npy_header(path)
    if header.shape[:1] == (0,):
        raise empty(shown(path), header.shape)
    if header.fortran:
        raise ValueError(
            f"{shown(path)}: is in Fortran order, its rows do not stand together; rewrite it with "
            "numpy.save(path, numpy.ascontiguousarray(numpy.load(path)))"
        )
    _note_left_over(path, header)
    return FlatFile(path, "npy", header.shape, header.stored, header.offset)


def load_npy(path: AnyPath) -> NDArray[Any]:
    """All of a .npy file, of any number of dimensions and in either order, in memory.

    What is written by NumPy is read as NumPy reads it; bfloat16 is handed out as its bits.

    Raises:
        ValueError, TypeError: naming the file, see `npy_header`; or it takes more memory than is
            available.
    """
    header = npy_header(path)
    check_fits(path, header.nbytes)
    _note_left_over(path, header)
    with path.open("rb") as file:
        file.seek(header.offset)
        return filled(header, file, path)


def filled(header: Header, file: Any, path: AnyPath) -> NDArray[Any]:
    """The array whose values come next in a stream."""
    flat = np.empty(math.prod(header.shape), header.dtype)
    left = flat.view(np.uint8).data if flat.nbytes else b""
    while len(left):
        got = file.readinto(left[: 1 << 20])  # of which archives hold a copy
        if not got:
            raise damaged(path, "it holds fewer values than its header promises")
        left = left[got:]
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def npy_header(path: AnyPath) -> Header:
    """The header of a .npy file that is as long as it says.

    Raises:
        ValueError, TypeError: naming the file: it is no .npy file, damaged, cut short, holds a
            second array, or Python objects or records.
    """
    with reading(path):
        size = _size(path)
        file = path.open("rb")
    with file:
        header = read_header(file, path)
        end = header.offset + header.nbytes
        if size < end:
            raise damaged(path, f"it has {size} bytes, its header promises {end}")
        with reading(path):
            file.seek(end)
            after = file.read(len(np.lib.format.MAGIC_PREFIX))
    if after == np.lib.format.MAGIC_PREFIX:
        raise ValueError(
            f"{shown(path)}: has {size - end} bytes left over after its array of shape "
            f"{header.shape}, in which a second array begins; save each in a file of its own, or "
            "all with numpy.savez(path, first=array, second=array)"
        )
    return header


def _note_left_over(path: AnyPath, header: Header) -> None:
    """Logs that bytes follow the array; NumPy skips them."""
    left = _size(path) - header.offset - header.nbytes
    if left > 0:
        _log.warning(
            "%s: has %d bytes left over after its array of shape %s, which are not read; save it "
            "again if they belong to it",
            shown(path),
            left,
            header.shape,
        )


def open_memmap(array: np.memmap[Any, Any]) -> FlatFile | None:
    """The file behind a NumPy memmap, where its values stand there as they stand in the array.

    None where that is not certain: the array itself has to be read then. A name may have been given
    to another file since.
    """
    values = getattr(array, "_mmap", None)
    # A copy-on-write map may hold values of its own.
    if values is None or array.filename is None or array.mode == "c" or array.ndim < 2:
        return None
    path = Path(array.filename)
    begin = np.frombuffer(values, np.uint8).ctypes.data
    if not array.flags.c_contiguous or not _is_mapped(path, begin):
        return None
    # `offset` is the whole map's, also in a view of a part of it: the address tells where that is.
    mapped_from = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    return FlatFile(
        path, "memmap", array.shape, array.dtype, mapped_from + array.ctypes.data - begin
    )


def _is_mapped(path: Path, address: int) -> bool:
    """Whether the file mapped at an address is the one that the path leads to now, by Linux's list
    of maps, which marks the names of files that were replaced or removed."""
    try:
        found = path.stat()
        lines = Path("/proc/self/maps").read_bytes().splitlines()
    except OSError:
        return False
    for line in lines:
        places, _, _, _, inode, *name = line.split(maxsplit=5)
        begin, end = (int(place, 16) for place in places.split(b"-"))
        if begin <= address < end:
            return int(inode) == found.st_ino and name == [os.fsencode(os.path.realpath(path))]
    return False
