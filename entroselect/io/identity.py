"""What tells whether a file is still the one that was opened."""

from __future__ import annotations

import os

from entroselect.io.errors import reading, shown
from entroselect.io.remote import AnyPath, RemotePath


class FileIdentity:
    """The file that a path led to when this object was made, and the file's state.

    Files are opened again for every read: rows of a file that took the place of the first one, or
    that was written to meanwhile, would be mixed with those read before.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> file = tempfile.NamedTemporaryFile()
        >>> identity = FileIdentity(Path(file.name))
        >>> identity.check()
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = path
        if not isinstance(path, RemotePath):  # which keeps its own state
            self._was = _state(path.stat())

    def check(self, file: int | None = None) -> None:
        """Raises ValueError if the path, or the open file, is not what the path was then."""
        if isinstance(self.path, RemotePath):
            self.path.check()
            return
        with reading(self.path):
            now = _state(self.path.stat() if file is None else os.fstat(file))
        if now == self._was:
            return
        (place, size, _), (place_now, size_now, _) = self._was, now
        what = "it was written to"
        if place_now != place:
            what = "another file took its place"
        elif size_now != size:
            what = f"it became {'shorter' if size_now < size else 'longer'}"
        raise ValueError(
            f"{shown(self.path)}: changed since it was opened ({what}), so rows read before and "
            "after do not belong together; start again, and leave it alone meanwhile"
        )


def _state(found: os.stat_result) -> tuple[tuple[int, int], int, int]:
    return (found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns
