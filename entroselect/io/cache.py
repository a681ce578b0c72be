"""Rows that have to be decoded, decoded once: a temporary file that later passes read."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect._memory import in_words
from entroselect._settings import has_temporary_folder
from entroselect.io.npy import read_at
from entroselect.io.source import PIECE, READ_THROUGH, READERS, Fill, Source
from entroselect.results import Int64

_log = logging.getLogger("entroselect")


def decoded_once(source: Source) -> Source:
    """`source`, or a copy of its rows as they are stored in a temporary file, where reading them
    from `source` would decode or compute them every time (parquet, Zarr, objects with items).

    The file is in TMPDIR, or else in /var/tmp, which is on a disk where /tmp may be memory. It has
    no name, so that nothing stays behind however the process ends. The logger "entroselect" says
    its size; where the disk has no room for it, it warns of that, and `source` is returned.
    """
    if not source.decodes or not source.n:
        return source
    folder = _folder()
    needed, free = source.n * source.row_bytes, shutil.disk_usage(folder).free
    # Some of the disk is left to others.
    if needed > free * 0.9:
        _log.warning(
            "%s: %s decoded do not fit into %s (%s free; TMPDIR names another folder), so every "
            "pass decodes them again; write the rows to .npy files to avoid that",
            source.name,
            in_words(needed),
            folder,
            in_words(free),
        )
        return source
    _log.info(
        "%s: decoded once into a temporary file of %s in %s (TMPDIR names another folder)",
        source.name,
        in_words(needed),
        folder,
    )
    return Decoded(source, folder)


def _folder() -> Path:
    if not has_temporary_folder() and os.access("/var/tmp", os.W_OK):
        return Path("/var/tmp")
    return Path(tempfile.gettempdir())


class Decoded(Source):
    """A copy of another source's rows in a file without a name."""

    def __init__(self, whole: Source, folder: Path) -> None:
        self.__dict__.update(whole.__dict__)  # all but how rows are read is the same
        self.decodes = False
        # What decoding took stays with the C library's allocator: `overhead` stays as it is.
        self._read_through = READ_THROUGH
        self._in_flight, self._readers = 1, READERS
        self._whole = whole
        self._bytes_read = 0
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                self._write(file)
                self._file = os.dup(file.fileno())
        except OSError as error:
            raise OSError(
                error.errno,
                f"{self.name}: decoded rows could not be written to {folder} ({error.strerror}); "
                "make room, or set TMPDIR to another folder",
            ) from error
        weakref.finalize(self, os.close, self._file)
        whole._release()

    def _write(self, file: Any) -> None:
        # Small compared with what decoding them takes.
        step = max(1, PIECE // 4 // self.row_bytes)
        buffer = np.empty((min(step, self.n), self.d), self.buffer_dtype)
        with self._whole._reading() as fill:
            for start in range(0, self.n, step):
                part = buffer[: min(step, self.n - start)]
                fill(start, part)
                file.write(part.data)
        file.flush()

    @property
    def bytes_read(self) -> int:
        """Bytes asked of files and of the copy so far."""
        return self._whole.bytes_read + self._bytes_read

    @contextmanager
    def _reading(self) -> Iterator[Fill]:
        def fill(start: int, out: NDArray[Any]) -> None:
            read_at(self._file, start * self.row_bytes, out, self.name)
            self._count(out.nbytes)

        yield fill

    def _find_ids(self, rows: Int64) -> NDArray[Any] | None:
        return self._whole.ids(rows)

    def _release(self) -> None:
        pass
