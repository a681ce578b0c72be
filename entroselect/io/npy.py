"""Rows that stand one after the other in a file: .npy, and whatever else says where they begin."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.source import Fill, Source

# Linux hands over at most about 2 GiB in one call.
_MOST = 1 << 30


class FlatFile(Source):
    """C-order rows from an offset of a file on.

    They are read at their offsets and not through a map of the file: pages of a map count as the
    process's memory for as long as the kernel likes, and a read error would end the process. The
    file is open only during a read, so that thousands of shards need no descriptors.
    """

    def __init__(
        self,
        path: Path,
        format: str,
        shape: tuple[int, ...],
        stored: Any,
        offset: int,
        name: str | None = None,
    ) -> None:
        super().__init__(name or str(path), format, shape, stored)
        self.path = path
        self._offset = offset
        end, size = offset + self.n * self.row_bytes, path.stat().st_size
        if size < end:
            raise damaged(path, f"it has {size} bytes, its header promises {end}")

    @contextmanager
    def _reading(self) -> Iterator[Fill]:
        file = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

        def fill(start: int, out: NDArray[Any]) -> None:
            read_at(file, self._offset + start * self.row_bytes, out, self.path)
            self._count(out.nbytes)

        try:
            yield fill
        finally:
            os.close(file)


def read_at(file: int, offset: int, out: NDArray[Any], path: Path) -> None:
    """Fills a C-contiguous array with the bytes of an open file from `offset` on."""
    left = memoryview(out.reshape(-1).view(np.uint8))
    while len(left):
        got = os.preadv(file, [left[:_MOST]], offset)
        if got == 0:
            raise damaged(path, "it became shorter while it was read")
        left, offset = left[got:], offset + got


def open_npy(path: Path, name: str | None = None) -> FlatFile:
    """The array of a .npy file; only the header is read. Pickles are never loaded."""
    with path.open("rb") as file:
        if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            raise ValueError(
                f"{path}: is not a .npy file (pickles are never loaded); "
                "write it with numpy.save(path, array)"
            )
        file.seek(0)
        try:
            shape, fortran, stored = read_header(file)
        except (ValueError, EOFError) as error:
            raise damaged(path, error) from error
        offset = file.tell()
    if stored.hasobject:
        raise pickled(path)
    if fortran and len(shape) > 1 and shape[0] > 1:
        raise ValueError(
            f"{path}: is in Fortran order, its rows do not stand together; rewrite it with "
            "numpy.save(path, numpy.ascontiguousarray(numpy.load(path)))"
        )
    return FlatFile(path, "npy", shape, stored, offset, name)


def read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, Fortran order, dtype) of a .npy header, whatever its version."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    # 3.0 differs from 2.0 in the encoding of field names only, which no array of numbers has.
    return np.lib.format.read_array_header_2_0(file)


def pickled(path: Path, key: str | None = None) -> ValueError:
    """For a file that holds Python objects."""
    entry = "" if key is None else f" under {key!r}"
    return ValueError(
        f"{path}: holds pickled Python objects{entry}, which are never loaded; save plain numbers, "
        "for example numpy.save(path, array.astype('float32'))"
    )


def damaged(path: Path, why: object) -> ValueError:
    """For a file that is not what it says."""
    return ValueError(
        f"{path}: cannot be read, it may be cut short or damaged; copy or write it again ({why})"
    )
