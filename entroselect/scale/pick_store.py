"""The vectors that have been picked, in order: in memory up to a number of them, else in a file."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


class PickStore:
    """Picked vectors (count, d), read back in tiles, the newest first.

    Full tiles beyond `in_memory` of them go to a temporary file, the oldest first. The file is
    removed with this object; TMPDIR names its folder.
    """

    def __init__(self, d: int, dtype: np.dtype[Any], tile: int, in_memory: int) -> None:
        self.d, self.dtype, self.tile, self.in_memory = d, dtype, tile, max(1, in_memory)
        self.count = 0
        self._tiles: list[NDArray[Any] | None] = []  # None: in the file
        self._moved = 0
        self._file: Any = None

    def append(self, vectors: NDArray[Any]) -> None:
        """Adds picked vectors (m, d)."""
        at = 0
        while at < len(vectors):
            place = self.count % self.tile
            if place == 0:
                self._make_room()
                self._tiles.append(np.empty((self.tile, self.d), self.dtype))
            part = vectors[at : at + self.tile - place]
            newest = self._tiles[-1]
            assert newest is not None
            newest[place : place + len(part)] = part
            at += len(part)
            self.count += len(part)

    def tiles(self, first: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """(number of its first vector, vectors) of all tiles that hold any from `first` on."""
        for number in range(len(self._tiles) - 1, first // self.tile - 1, -1):
            start = number * self.tile
            held = self._tiles[number]
            if held is None:
                held = np.empty((self.tile, self.d), self.dtype)
                self._file.seek(start * held.strides[0])
                self._file.readinto(held.data.cast("B"))
            yield start, held[: self.count - start]

    def _make_room(self) -> None:
        while len(self._tiles) - self._moved >= self.in_memory:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="entroselect-")  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            oldest = self._tiles[self._moved]
            assert oldest is not None
            try:
                self._file.seek(self._moved * oldest.nbytes)
                self._file.write(oldest.data.cast("B"))
                self._file.flush()
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"{tempfile.gettempdir()}: picks do not fit under memory_limit and cannot be "
                    f"written there ({error.strerror}); set TMPDIR to a folder with more room",
                ) from error
            self._tiles[self._moved] = None
            self._moved += 1
