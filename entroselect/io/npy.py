"""Rows that stand one after the other in a file: .npy, and whatever else says where they begin."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.errors import damaged, pickled
from entroselect.io.source import FileIdentity, Fill, Source

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
        path: Path,
        format: str,
        shape: tuple[int, ...],
        stored: Any,
        offset: int,
        key: str | None = None,
    ) -> None:
        super().__init__(str(path), format, shape, stored, key)
        self.path = path
        self.offset = offset
        self._identity = FileIdentity(path)
        end, size = offset + self.n * self.row_bytes, path.stat().st_size
        if size < end:
            raise damaged(path, f"it has {size} bytes, its header promises {end}")

    @contextmanager
    def _reading(self) -> Iterator[Fill]:
        file = os.open(self.path, os.O_RDONLY)

        def fill(start: int, out: NDArray[Any]) -> None:
            _read_at(file, self.offset + start * self.row_bytes, out, self.path)
            self._count(out.nbytes)

        try:
            self._identity.check(file)
            yield fill
        finally:
            os.close(file)


def _read_at(file: int, offset: int, out: NDArray[Any], path: Path) -> None:
    """Fills a C-contiguous array with the bytes of an open file from `offset` on."""
    left = out.reshape(-1).view(np.uint8).data
    while len(left):
        got = os.preadv(file, [left[:_MOST]], offset)
        if got == 0:
            raise damaged(path, "it became shorter while it was read")
        left, offset = left[got:], offset + got


def open_npy(path: Path) -> FlatFile:
    """The array of a .npy file; only the header is read. Pickles are never loaded."""
    shape, fortran, stored, offset = read_header(path)
    if fortran and len(shape) > 1:
        raise ValueError(
            f"{path}: is in Fortran order, its rows do not stand together; rewrite it with "
            "numpy.save(path, numpy.ascontiguousarray(numpy.load(path)))"
        )
    return FlatFile(path, "npy", shape, stored, offset)


def read_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """(shape, Fortran order, dtype, where the values begin) of a .npy file."""
    with path.open("rb") as file:
        if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            raise ValueError(
                f"{path}: is not a .npy file (pickles are never loaded); "
                "write it with numpy.save(path, array)"
            )
        file.seek(0)
        try:
            # 3.0 differs from 2.0 in the encoding of field names, which no array of numbers has.
            shape, fortran, stored = (
                np.lib.format.read_array_header_1_0(file)
                if np.lib.format.read_magic(file) == (1, 0)
                else np.lib.format.read_array_header_2_0(file)
            )
        except (ValueError, EOFError) as error:
            raise damaged(path, error) from error
        if stored.hasobject:
            raise pickled(path)
        return shape, fortran and len(shape) > 1, stored, file.tell()


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
    """Whether what is mapped at an address is the file that the path leads to now, as Linux says.
    Of a file that was replaced or removed it says so behind its name."""
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
