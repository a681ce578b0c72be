"""Zarr arrays, versions 2 and 3, decoded a row of chunks at a time."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.errors import check_fits, needs, one_key, reading, shown
from entroselect.io.identity import FileIdentity
from entroselect.io.source import PIECE, Fill, Source
from entroselect.io.zarr_metadata import MARKS, arrays, check


class ZarrArray(Source):
    """An array whose first axis are the rows.

    A row of chunks that is not read to its end stays decoded for the next call. Chunks that were
    never written are what the array's fill value says, as everywhere in Zarr.
    """

    _kept: NDArray[Any]  # the row of chunks that was decoded last, and where it begins
    _kept_start: int

    def __init__(self, path: Path, key: str | None) -> None:
        with reading(path):
            self._identity = FileIdentity(path)  # of the folder
        self._array, key = _open(path, key)
        with reading(path):
            shape, dtype = self._array.shape, self._array.dtype
            chunks = [int(length) for length in self._array.chunks]
        super().__init__(shown(path), "zarr", shape, dtype, key)
        self.path = path
        self.decodes = True
        self._chunk_rows = chunks[0]
        # Zarr decodes whole chunks, however far they reach over the array's end.
        check_fits(
            path,
            max(math.prod(chunks) * dtype.itemsize, min(chunks[0], self.n) * self.row_bytes),
            f"a row of chunks of shape {tuple(chunks)}",
            "; write it again with fewer rows to a chunk",
        )
        self.overhead = 2 * max(
            PIECE, min(self._chunk_rows, self.n) * self.row_bytes
        )  # chunks, and as rows
        self._read_through = 0  # what lies between has been decoded anyway, or is skipped
        self._lock = threading.Lock()
        self._release()

    @contextmanager
    def _reading(self) -> Iterator[Fill]:
        with self._lock:
            yield self._fill

    def _fill(self, start: int, out: NDArray[Any]) -> None:
        chunk = self._chunk_rows
        while len(out):
            whole = min(len(out), max(chunk, PIECE // self.row_bytes)) // chunk * chunk
            if start % chunk == 0 and whole:
                part = self._decode(start, start + whole)
            else:
                first = start - start % chunk
                if first != self._kept_start:
                    self._kept = self._decode(first, min(first + chunk, self.n))
                    self._kept_start = first
                part = self._kept[start - first :][: len(out)]
            out[: len(part)] = part
            start, out = start + len(part), out[len(part) :]

    def _decode(self, start: int, stop: int) -> NDArray[Any]:
        self._count((stop - start) * self.row_bytes)
        self._identity.check()
        with reading(self.path):
            values = np.asarray(self._array[start:stop])
        return values.reshape(stop - start, self.d)

    def _release(self) -> None:
        self._kept = np.empty((0, 1))
        self._kept_start = -1


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return any((folder / mark).is_file() for mark in MARKS)


def _open(path: Path, key: str | None) -> tuple[Any, str | None]:
    """The array and its key; the key is None where the folder is an array."""
    try:
        import zarr
    except ImportError:
        raise needs(path, "zarr") from None
    if not hasattr(zarr.Group, "members"):
        raise needs(path, "zarr 3 (Python 3.11 or later)")
    found = arrays(path)
    if "" in found and key is not None:
        raise ValueError(f"{shown(path)}: is one Zarr array without a name; drop the key (--key)")
    if "" not in found:
        key = one_key(path, key, {name: array.shape for name, array in found.items()})
    array = found[key or ""]
    check(path, array)
    with reading(path):
        return zarr.open_array(str(array.folder), mode="r", zarr_format=array.version), key
