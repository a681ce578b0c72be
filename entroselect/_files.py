"""Files that are either complete or absent, whenever the process dies, and locks that end with the
process that holds them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing is locked there
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"  # the file of a folder that `locked` locks
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


@contextmanager
def replacing(
    name: str | Path, partial: str | Path, folder: int | None = None
) -> Iterator[BinaryIO]:
    """A new file, `partial`, that is renamed to `name` when the block has filled it and it is on
    disk. If anything fails, `partial` is removed and `name` is what it was before.

    Args:
        name, partial: in the same folder; `partial` must not exist.
        folder: a descriptor of their folder, where its path may change.
    """

    def create(path: str, flags: int) -> int:
        return os.open(path, flags, 0o666, dir_fd=folder)

    try:
        with open(partial, "xb", opener=create) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial, dir_fd=folder)
        raise


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Writes beside `path`, then renames; a failure leaves what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(path.name + ".partial")
    try:
        work.unlink(missing_ok=True)  # of a killed process, or a link that others put there
        with replacing(path, work) as file:
            file.write(content)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path}: could not be written ({error.strerror}); what was finished is kept, make "
            "room and run the same command again",
        ) from error


def write_text(path: Path, content: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """As `write_text`; the text is that of `json_text`."""
    write_text(path, json_text(content))


def json_text(content: Any) -> str:
    """Strict JSON: NaN and infinity are an error here, not in the program that reads the file."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def sweep(folder: Path) -> None:
    """Removes files that killed processes left half written; of a symbolic link, only the link
    itself."""
    for pattern in ("*.partial", "*.partial.png"):
        for path in folder.rglob(pattern):
            if path.is_symlink() or path.is_file():
                path.unlink(missing_ok=True)


def lock(descriptor: int) -> bool:
    """Locks an open file or folder until it is closed or the process ends. False where the system
    or the file system has no locks.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a run's folder.

    Raises:
        ValueError: another process holds it.
    """
    with os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | _NO_LINKS, 0o666), "rb") as file:
        try:
            lock(file.fileno())
        except BlockingIOError:
            raise ValueError(
                f"{folder}: another process is writing this run; wait for it, or choose another "
                "--out"
            ) from None
        yield
