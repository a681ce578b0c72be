""".npz archives. Entries may be compressed, so they are read whole."""

from __future__ import annotations

import zipfile
from typing import Any

from numpy.typing import NDArray

from entroselect.io.errors import check_fits, damaged, one_key, reading, shown
from entroselect.io.header import read_header
from entroselect.io.npy import filled
from entroselect.io.remote import AnyPath


def read_npz(path: AnyPath, key: str | None) -> tuple[NDArray[Any], Any, str]:
    """An array of the archive, what it is stored as and its key. Pickles are never loaded.

    The entry's header must agree with the archive about its size, and that much memory be
    available, before any is taken.
    """
    with reading(path):
        raw = path.open("rb")
    with raw:
        return _read(path, raw, key)


def _read(path: AnyPath, raw: Any, key: str | None) -> tuple[NDArray[Any], Any, str]:
    with reading(path):
        is_archive = zipfile.is_zipfile(raw)
    if not is_archive:
        raise ValueError(
            f"{shown(path)}: is not a .npz file, or is cut short (pickles are never loaded); copy "
            "it again, or write it with numpy.savez(path, name=array)"
        )
    with reading(path):
        archive = zipfile.ZipFile(raw)
    with archive:
        entries = _entries(archive, path)
        shapes = {name: _shape(archive, entry, path) for name, entry in entries.items()}
        key = one_key(path, key, shapes)
        with _Entry(archive, entries[key], path) as file:
            header = read_header(file, path, key)
            if header.offset + header.nbytes != file.size:
                raise damaged(
                    path,
                    f"entry {key!r} has {file.size} bytes, its header promises "
                    f"{header.offset + header.nbytes}",
                )
            check_fits(path, header.nbytes, f"entry {key!r}")
            array = filled(header, file, path)  # to its end, where the checksum is looked at
        return array, header.stored, key


class _Entry:
    """An entry's content; zipfile and its codecs raise exceptions of any type."""

    def __init__(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: AnyPath) -> None:
        self._path = path
        self.size = entry.file_size
        with reading(path):
            self._file: Any = archive.open(entry)

    def __enter__(self) -> _Entry:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        with reading(self._path):
            content: bytes = self._file.read(size)
        return content

    def readinto(self, buffer: memoryview) -> int:
        with reading(self._path):
            return int(self._file.readinto(buffer))


def _entries(archive: zipfile.ZipFile, path: AnyPath) -> dict[str, zipfile.ZipInfo]:
    """Entries by key, which is their name without ".npy"."""
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        if entry.filename.endswith("/"):  # a folder
            continue
        name = entry.filename.removesuffix(".npy")
        if name in found:
            raise ValueError(f"{shown(path)}: holds two entries called {name!r}; write it again")
        found[name] = entry
    return found


def _shape(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: AnyPath
) -> tuple[int, ...] | None:
    """The shape in an entry's header, without reading the entry; None if it has none to read."""
    try:
        with _Entry(archive, entry, path) as file:
            return read_header(file, path).shape
    except (ValueError, TypeError):
        return None
