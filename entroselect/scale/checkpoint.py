"""The state of a selection in a file, from which a killed one resumes.

The file is in the safetensors format: picks, squared distances and thresholds in order, and for
every row of the pool its bound, how many picks it has been compared with and its mark, which tells
whether the row is still the same. That is enough to resume with another number of processes. Every
process writes the part of its own rows into one temporary file. One of them then reads all of it
and adds a checksum; the file replaces the old one when it is on disk.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import _files, engine
from entroselect.results import Float64, Int64, on_host
from entroselect.scale.marks import Marks
from entroselect.scale.process_group import ProcessGroup, shared_errors

SECONDS_BETWEEN = 120.0
# Of the time of a selection, at most this share is spent on saving it.
_SHARE = 0.05

# What is in the file, and what that means.
_FORMAT = 2

_NAMES = {"int64": "I64", "int32": "I32", "uint32": "U32", "float64": "F64"}
_ORDERED = {"picks": "int64", "squared": "float64", "thresholds": "float64"}
_BY_ROW = {"bounds": "float64", "met": "int32", "marks": "uint32"}
_DIGEST_BYTES = 16

# What stands in the file for an argument that is an array (`digest` in process_group.py).
_OF_ARRAY = re.compile("[0-9a-f]{16}")


@dataclass
class Saved:
    """The contents of a checkpoint: the state, and the bounds, counts of picks met and marks of
    this process's rows."""

    state: engine.SelectionState
    bounds: Float64
    met: NDArray[np.int32]
    marks: Marks


class Checkpoint:
    """Saves and restores one selection; until it is closed, no other selection can use the file.

    Args:
        path: the file; its folder must exist, and be the same one for all processes.
        about: the arguments that identify the selection, by name; a file of another one is refused.
        n: rows of the whole pool.
        first: number of this process's first row in it.
        ranks: the processes, None for a single one.

    Raises:
        ValueError, OSError: naming checkpoint, when the file cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        about: dict[str, Any],
        n: int,
        first: int,
        ranks: ProcessGroup | None,
    ) -> None:
        self.path, self.about, self.n, self.first, self.ranks = Path(path), about, n, first, ranks
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        self._leads = ranks is None or ranks.rank == 0
        self._lock: Lock | None = None
        self._next = time.monotonic() + SECONDS_BETWEEN
        try:
            with shared_errors(ranks):
                if not self.path.parent.is_dir():
                    raise ValueError(f"checkpoint: {self.path.parent}: no such folder")
                if self.path.is_dir():
                    raise ValueError(f"checkpoint: {self.path} is a folder; name a file")
                if self.path.exists() and not self.path.is_file():
                    raise ValueError(f"checkpoint: {self.path} is not a regular file")
                if self._leads:
                    self._lock = Lock(self.path.with_name(f".{self.path.name}.lock"), self.path)
                    # A folder that cannot be written to is found out now, not at the first save.
                    with self._opened(create=True):
                        pass
            with shared_errors(ranks), self._opened():
                pass
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets other selections use the file, and removes what an unfinished save has left."""
        if self._lock is not None:
            with suppress(OSError):
                self._partial.unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def load(self, rows: int, before: Int64, vectors: int) -> Saved | None:
        """The saved state, with that of the `rows` rows of this process; None if nothing was saved.
        It must be of a selection that began with the pool rows `before` and this many given
        vectors.

        Raises:
            ValueError: the file is damaged, or is of another selection.
        """
        if not self.path.exists():
            return None
        with self.path.open("rb") as file:
            with self._damage():
                header, saved = self._head(file)
                about = dict(saved["about"])
            for name, value in self.about.items():
                if about.get(name) != value:
                    raise ValueError(
                        f"checkpoint: {self.path} belongs to another selection "
                        f"({_difference(name, about.get(name), value)}); delete it or name another "
                        "file"
                    )
            with self._damage():
                found = self._contents(file, header, saved["trail"], rows)
                self._check(found, before, vectors)
            return found

    def offer(
        self, state: engine.SelectionState, pool: engine.SubPool, marks: Callable[[], Marks]
    ) -> None:
        """Saves if a save is due; on all processes or on none."""
        due = time.monotonic() >= self._next
        if self.ranks is not None:
            due = bool(self.ranks.broadcast(np.array([due]), 0, 1)[0])
        if due:
            self.save(state, pool, marks)

    def save(
        self, state: engine.SelectionState, pool: engine.SubPool, marks: Callable[[], Marks]
    ) -> None:
        """Saves; a process that dies meanwhile leaves either the old file or the new one."""
        began = time.monotonic()
        head, places, end = self._layout(state)
        with shared_errors(self.ranks):
            if self._leads:
                with self._opened(create=True) as file:
                    file.truncate(end)
                    file.write(head)
                    for array in state.joined():
                        file.write(array.tobytes())
        with shared_errors(self.ranks), self._opened() as file:
            bounds, met = pool.state()
            own = {"bounds": on_host(bounds), "met": on_host(met), "marks": marks()}
            for name, array in own.items():
                array = array.astype(_BY_ROW[name], copy=False)
                file.seek(len(head) + places[name] + self.first * array.itemsize)
                file.write(array.data.cast("B"))
        with shared_errors(self.ranks):
            if self._leads:
                with self._opened() as file:
                    digest = _digest(file, end - _DIGEST_BYTES)
                    file.seek(end - _DIGEST_BYTES)
                    file.write(digest)
                self._partial.replace(self.path)
                folder = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        now = time.monotonic()
        self._next = now + max(SECONDS_BETWEEN, (now - began) / _SHARE)

    def _entries(self, picks: int) -> dict[str, dict[str, Any]]:
        """Dtype, shape and place of every array, as they are in the file's header."""
        entries: dict[str, dict[str, Any]] = {}
        at = 0
        for name, dtype in (_ORDERED | _BY_ROW).items():
            count = picks if name in _ORDERED else self.n
            end = at + count * np.dtype(dtype).itemsize
            entries[name] = {"dtype": _NAMES[dtype], "shape": [count], "data_offsets": [at, end]}
            at = end
        offsets = [at, at + _DIGEST_BYTES]
        entries["digest"] = {"dtype": "U8", "shape": [_DIGEST_BYTES], "data_offsets": offsets}
        return entries

    def _layout(self, state: engine.SelectionState) -> tuple[bytes, dict[str, int], int]:
        """(what comes before the arrays, where each begins after it, size of the file)."""
        place = {"rounds": state.rounds, "position": state.position}
        saved = {
            "format": _FORMAT,
            "about": self.about,
            "trail": {**place, "tau": state.tau, "floor": state.floor},
        }
        entries = self._entries(state.done)
        text = json.dumps({"__metadata__": {"entroselect": json.dumps(saved)}, **entries})
        text += " " * (-len(text) % 8)
        head = len(text).to_bytes(8, "little") + text.encode()
        places = {name: entry["data_offsets"][0] for name, entry in entries.items()}
        return head, places, len(head) + places["digest"] + _DIGEST_BYTES

    def _head(self, file: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """(entries, the saved numbers that are no arrays), after a check of the checksum."""
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < min(1 << 20, size - 8 - _DIGEST_BYTES):
            raise ValueError("it has no header")
        header = json.loads(file.read(length))
        saved = json.loads(header.pop("__metadata__")["entroselect"])
        if saved.get("format", 1) != _FORMAT:
            raise ValueError(f"its format is {saved.get('format', 1)!r}, not {_FORMAT}")
        if self._leads:
            digest = _digest(file, size - _DIGEST_BYTES)
            if file.read(_DIGEST_BYTES) != digest:
                raise ValueError("its checksum is another one")
        return header, saved

    def _contents(
        self, file: Any, header: dict[str, Any], saved: dict[str, Any], rows: int
    ) -> Saved:
        entries = self._entries(header["picks"]["shape"][0])
        begin = os.fstat(file.fileno()).st_size - entries["digest"]["data_offsets"][1]
        file.seek(0)
        if header != entries or begin != 8 + int.from_bytes(file.read(8), "little"):
            raise ValueError("its header does not fit its size")
        if set(saved) != {"rounds", "position", "tau", "floor"}:
            raise ValueError("its state is not that of a selection")

        def read(name: str, dtype: str, start: int, count: int) -> NDArray[Any]:
            at = begin + entries[name]["data_offsets"][0]
            file.seek(at + start * np.dtype(dtype).itemsize)
            return np.fromfile(file, dtype, count)

        picks, squared, thresholds = (
            [read(name, dtype, 0, entries[name]["shape"][0])] for name, dtype in _ORDERED.items()
        )
        state = engine.SelectionState(picks, squared, thresholds, **saved)
        return Saved(
            state, *(read(name, dtype, self.first, rows) for name, dtype in _BY_ROW.items())
        )

    def _check(self, found: Saved, before: Int64, vectors: int) -> None:
        """Raises unless everything in the file is a state that a selection can have written."""
        state = found.state
        picks, squared, thresholds = state.joined()
        picked = np.concatenate([before, picks])
        own = picked[(picked >= self.first) & (picked < self.first + len(found.bounds))]
        free = np.ones(len(found.bounds), dtype=bool)
        free[own - self.first] = False
        later = squared[1:] if len(picked) + vectors == len(picks) else squared
        integers = [state.rounds, state.position]
        reals = [state.tau, state.floor]
        right = {
            "numbers": all(type(x) is int for x in integers)
            and all(isinstance(x, (int, float)) for x in reals),
            "progress": state.rounds >= 0 and 0 <= state.position <= self.n,
            "threshold": math.isfinite(state.tau) and state.tau >= 0,
            "floor": state.floor >= 0 or state.floor == -1,
            "picks": bool(((picked >= 0) & (picked < self.n)).all())
            and len(np.unique(picked)) == len(picked),
            "distances": bool((np.isfinite(later) & (later >= 0)).all())
            and (len(later) == len(squared) or bool((squared[:1] == np.inf).all())),
            "order": self.about.get("operation") != "greedy"
            or self.about.get("weights") is not None
            or bool((squared[1:] <= squared[:-1]).all()),
            "thresholds": bool((np.isfinite(thresholds) & (thresholds >= 0)).all()),
            "bounds": bool((found.bounds[~free] == -1).all())
            and bool((np.isfinite(found.bounds[free]) & (found.bounds[free] >= 0)).all()),
            "choices met": bool(((found.met >= 0) & (found.met <= len(picked) + vectors)).all()),
            "marks": bool((found.marks != 0).all()),
        }
        wrong = [name for name, is_right in right.items() if not is_right]
        if wrong:
            raise ValueError(f"{wrong[0]} out of range")

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Turns errors in reading the file's contents into one that names the file."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as why:
            raise ValueError(
                f"checkpoint: {self.path} was not written by a selection of this version, or is "
                f"damaged ({why}); delete it or name another file"
            ) from why

    @contextmanager
    def _opened(self, create: bool = False) -> Iterator[Any]:
        """The temporary file, never what a link leads to; on disk when this ends."""
        try:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            if create:  # removes what a killed run has left
                self._partial.unlink(missing_ok=True)
                flags |= os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(self._partial, flags, 0o666), "r+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(
                error.errno,
                f"checkpoint: {self._partial} cannot be written ({error.strerror}); what was saved "
                "before stands. All processes need to see the same folder",
            ) from error


class Lock:
    """A file that one process at a time holds locked, and that is removed when it is released. A
    process that dies releases the lock; the file then stays, and the next process takes it.

    Raises:
        ValueError: another process holds it.
    """

    def __init__(self, path: Path, of: Path) -> None:
        self.path = path
        for _ in range(100):  # again each time another process has just removed the file
            try:
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as error:
                raise OSError(
                    error.errno, f"checkpoint: {path} cannot be written ({error.strerror})"
                ) from error
            try:
                if not _files.lock(self._file):  # a file system without locks
                    return
            except BlockingIOError:
                os.close(self._file)
                break
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._file), path.lstat()):
                    return
            os.close(self._file)
        raise ValueError(
            f"checkpoint: {of} is in use by another selection; wait for it or name another file"
        )

    def release(self) -> None:
        """Lets another process have the lock."""
        self.path.unlink(missing_ok=True)
        os.close(self._file)


def _difference(name: str, there: Any, here: Any) -> str:
    """What differs, in words: an array is known by a digest alone, which would tell people
    nothing."""
    if not any(isinstance(value, str) and _OF_ARRAY.fullmatch(value) for value in (there, here)):
        return f"{name} is {there!r} there and {here!r} here"
    if there is None or here is None:
        return f"{name}: none {'there' if there is None else 'here'}"
    return f"{name}: other values there"


def _digest(file: Any, size: int) -> bytes:
    """Checksum of the first `size` bytes; leaves the file's position after them."""
    file.seek(0)
    found = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    while size > 0:
        part = file.read(min(size, 1 << 20))
        if not part:
            raise ValueError("it ends too early")
        found.update(part)
        size -= len(part)
    return found.digest()
