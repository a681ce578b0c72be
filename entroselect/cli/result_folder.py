"""Result folders that are either complete or absent, even when other processes write there too.

A folder is filled beside OUT under a name of its own, `.OUT.PID-RANDOM.partial`, and renamed. It
is locked (flock, which ends with the process) until the command ends. A folder of such a name that
is not locked was left by a process that was killed; the next run with the same OUT removes it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from entroselect import _files

# What the commands write: a folder that holds anything else is never replaced.
OURS = frozenset(
    {
        "indices.npy",
        "distances.npy",
        "duplicate_of.npy",
        "selection.csv",
        "selection.parquet",
        "joined.parquet",
        "report.json",
        "report.html",
        "index.html",
    }
)


class Folder:
    """A folder of results that is being filled; see `new_folder`."""

    def __init__(self, out: Path, work: Path, lock: int, force: bool) -> None:
        self.out = out
        self._work, self._lock, self._force = work, lock, force
        self._keep = self._published = False

    @property
    def placed(self) -> bool:
        """Whether the results are at `out`."""
        return self._published or _same(self.out, self._lock)

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """A file of the folder, which is there when the block ends well, also if the folder has
        been renamed meanwhile."""
        try:
            with _files.replacing(name, f".{name}.partial", self._lock) as file:
                yield file
        except OSError as error:
            if error.errno is None:  # NumPy's, of a full disk
                raise OSError(f"{self.out / name}: could not be written: {error}") from error
            raise OSError(error.errno, error.strerror, str(self.out / name)) from error

    def write(self, name: str, text: str) -> None:
        """A text file, UTF-8."""
        with self.file(name) as file:
            file.write(text.encode())

    def write_json(self, name: str, content: Any) -> None:
        """Strict JSON, as `_files.json_text` has it."""
        self.write(name, _files.json_text(content))

    def publish(self) -> None:
        """Puts the folder in its place; more files may follow.

        Raises:
            ValueError: something else is there by now. The results are then beside it, under the
                name that the message gives.
        """
        if self._published:
            return
        try:
            why = self._put()
        except OSError as error:
            why = f"cannot be written ({error.strerror})"
        if why:
            raise ValueError(f"{self.out}: {why}; the results are in {self._put_beside()}")
        self._published = True

    def _put(self) -> str:
        """Renames the folder into place and returns ""; or returns the reason why not, if files of
        others would be lost."""
        try:
            self._work.rename(self.out)  # onto nothing or an empty folder, never onto files
            return ""
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        if not self._force:
            return "exists by now, made by somebody else"
        why = _not_ours(self.out)
        if why:
            return f"{why}, so --force does not replace it"
        aside = self._work
        if not _exchange(self._work, self.out):
            aside = self._work.with_suffix(".replaced")
            self.out.rename(aside)
            try:
                self._work.rename(self.out)
            except BaseException:
                aside.rename(self.out)
                raise
        # Check the folder again, now that no process finds it under its name.
        why = _not_ours(aside)
        if why and aside == self._work and _exchange(self._work, self.out):
            return f"{why}, so --force does not replace it"
        if not _discard(aside):
            raise ValueError(f"{self.out}: is written, but what was there {why}: {aside}")
        return ""

    def _put_beside(self) -> Path:
        number = 2
        while True:
            other = self.out.with_name(f"{self.out.name}-{number}")
            try:
                other.mkdir()
                self._work.rename(other)
                return other
            except FileExistsError:
                number += 1
            except OSError:
                self._keep = True
                return self._work

    def clean(self) -> None:
        """Removes the work folder, if it is still there."""
        if not self._keep:
            _discard(self._work)


@contextmanager
def new_folder(out: Path, force: bool) -> Iterator[Folder]:
    """A folder to fill, put in its place by `publish` or when the block ends well.

    If the block fails before that, Ctrl-C included, nothing of it stays and `out` is as it was. An
    `out` that exists is an error without `force`; with it, the new folder replaces it in one step.
    Files that others put there are never removed, neither at the start nor at the end.

    Raises:
        ValueError: before the block runs, if `out` cannot be made there, may not be replaced or is
            being written by another process; after it, as `Folder.publish`.
        KeyboardInterrupt: its message says whether something was written.
    """
    out = out.resolve()
    if not out.parent.exists():
        raise ValueError(f"{out.parent}: no such folder; create it or choose another --out")
    if not out.parent.is_dir():
        raise ValueError(f"{out.parent}: is a file, not a folder; choose another --out")
    try:
        _sweep(out)
        there = _lock(out) if out.is_dir() else None
        try:
            if os.path.lexists(out):
                _check_replaceable(out, force)
            work, lock = _work_folder(out)
        finally:
            if there is not None:
                os.close(there)
    except OSError as error:
        raise ValueError(
            f"{out.parent}: cannot be written to ({error.strerror}); choose another --out"
        ) from error
    folder = Folder(out, work, lock, force)
    try:
        yield folder
        folder.publish()
    except KeyboardInterrupt as error:
        placed = folder.placed
        folder.clean()
        if not error.args:
            error.args = (f"{out} is written" if placed else "nothing was written",)
        raise
    except BaseException:
        folder.clean()
        raise
    finally:
        os.close(lock)


def _work_folder(out: Path) -> tuple[Path, int]:
    while True:
        work = out.parent / f".{out.name}.{os.getpid()}-{secrets.token_hex(4)}.partial"
        work.mkdir()
        try:
            lock = _lock(work)
        except BaseException:
            work.rmdir()
            raise
        if _same(work, lock):  # not swept up in between
            return work, lock
        os.close(lock)


def _lock(folder: Path) -> int:
    """A descriptor of the folder, locked where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _files.lock(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        raise ValueError(
            f"{folder}: another entroselect is writing it; wait for that or choose another --out"
        ) from None
    return descriptor


def _same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def _sweep(out: Path) -> None:
    """Removes work folders for `out` that killed processes left, and puts back an earlier `out`
    that one of them had moved aside."""
    left = re.compile(rf"\.{re.escape(out.name)}\.(\d+)-[0-9a-f]{{8}}\.(partial|replaced)")
    try:
        entries = list(os.scandir(out.parent))
    except PermissionError:
        return  # a folder that may be written to, not listed
    for entry in entries:
        found = left.fullmatch(entry.name)
        if not found or not entry.is_dir(follow_symlinks=False):
            continue
        folder = Path(entry.path)
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if not _files.lock(descriptor):  # so it may be in use on another machine
                    continue
                if _lives(int(found[1])):
                    continue
                if found[2] == "replaced" and not os.path.lexists(out):
                    folder.rename(out)
                else:
                    _discard(folder)
            except BlockingIOError:
                raise ValueError(
                    f"{out}: another entroselect (process {found[1]}) is writing it; wait for "
                    "that or choose another --out"
                ) from None
            except OSError:
                continue
            finally:
                os.close(descriptor)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _check_replaceable(out: Path, force: bool) -> None:
    if not out.is_dir():
        raise ValueError(f"{out}: is a file; choose another --out")
    if not force:
        raise ValueError(f"{out}: exists already; choose another --out, or --force to replace it")
    why = _not_ours(out)
    if why:
        raise ValueError(f"{out}: {why}, so --force does not replace it; choose another --out")


def _not_ours(folder: Path) -> str:
    """Why a folder was not written by the commands; "" if it was, or is empty."""
    if not folder.is_dir():
        return "is no folder"
    names = sorted(entry.name for entry in os.scandir(folder))
    strange = [name for name in names if not _known(folder / name)]
    if strange:
        return f"holds files that entroselect did not write ({strange[0]})"
    if names and not any(_signed(folder / name) for name in ("report.json", "index.html")):
        return f"holds no report.json of entroselect beside {names[0]}"
    return ""


def _known(path: Path) -> bool:
    """A plain file with a name that the commands use, or the partial file that a killed process
    left of one."""
    name = path.name.removeprefix(".").removesuffix(".partial")
    if path.name != name and path.name != f".{name}.partial":
        return False
    return name in OURS and stat.S_ISREG(path.lstat().st_mode)


def _signed(path: Path) -> bool:
    try:
        if path.suffix == ".json":
            return "entroselect" in json.loads(path.read_bytes())["versions"]
        return b"entroselect" in path.read_bytes()
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def _discard(folder: Path) -> bool:
    """Removes the files that the commands write from a folder, then the folder if it is empty.
    Returns whether the folder is gone."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if _known(Path(entry.path)):
                Path(entry.path).unlink()
        folder.rmdir()
    return not os.path.lexists(folder)


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two names at once; False where the system or the file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), str(other))
