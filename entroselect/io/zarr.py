"""Zarr arrays, versions 2 and 3, decoded a row of chunks at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.errors import damaged, needs, one_key
from entroselect.io.source import PIECE, FileIdentity, Fill, Source

MARKS = (".zarray", ".zgroup", "zarr.json")


class ZarrArray(Source):
    """An array whose first axis are the rows.

    A row of chunks that is not read to its end stays decoded for the next call. Chunks that were
    never written are what the array's fill value says, as everywhere in Zarr.
    """

    _kept: NDArray[Any]  # the row of chunks that was decoded last, and where it begins
    _kept_start: int

    def __init__(self, path: Path, key: str | None) -> None:
        self._identity = FileIdentity(path)  # of the folder
        self._array, key = _open(path, key)
        super().__init__(str(path), "zarr", self._array.shape, self._array.dtype, key)
        self.path = path
        self._chunk_rows = int(self._array.chunks[0])
        self.overhead = 2 * max(PIECE, self._chunk_rows * self.row_bytes)  # chunks, and as rows
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
        try:
            values = np.asarray(self._array[start:stop])
        except Exception as error:  # codecs raise whatever they like
            raise damaged(self.path, error) from error
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
    try:
        node = zarr.open(str(path), mode="r")
        if isinstance(node, zarr.Array):
            if key is not None:
                raise KeyError("key")
            return node, None
        arrays = {
            name: member
            for name, member in node.members(max_depth=None)
            if isinstance(member, zarr.Array)
        }
    except KeyError:
        raise ValueError(
            f"{path}: is one Zarr array without a name; drop the key (--key)"
        ) from None
    except Exception as error:  # metadata is parsed with whatever errors come of it
        raise damaged(path, error) from error
    key = one_key(path, key, {name: array.shape for name, array in arrays.items()})
    return arrays[key], key
