"""Objects of a store as paths that formats can open, read by ranges of bytes.

Requests that fail are made again, and an object that changed is an error.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from entroselect.io.errors import StoreError, shown
from entroselect.io.stores import Found, Store, is_address, store_of

_T = TypeVar("_T")

# Requests at a time, and the most bytes of one. Gaps of READ_THROUGH bytes are read too: what a
# connection hands over in about the time that it takes to answer another request.
AT_ONCE = 8
PART = 4 << 20
READ_THROUGH = 2 << 20

# Seconds before a failed request is made again; the last failure is the error.
WAITS = (0.25, 1.0, 4.0)

# What is asked for at first of a file that is read forward.
_FIRST = 64 << 10


class RemotePath:
    """An object or a folder of a store, with those methods of `pathlib.Path` that formats use.

    The state of an object (size and version) is that of the first time it was asked for. Bytes that
    come from another state are an error, which `check` finds: it has to be called after bytes were
    read and before they are used.

    Raises:
        StoreError: by all methods; it names the address and says what to do.
    """

    def __init__(self, store: Store, key: str, address: str, is_folder: bool | None = None) -> None:
        """`is_folder`: where a listing has told; None: it is asked for when needed."""
        self._store = store
        self._key = key
        self._address = address
        self._is_folder = is_folder
        self._found: Found | None = None  # the state, once it was asked for
        self._children: list[RemotePath] | None = None

    def __str__(self) -> str:
        return self._address

    def __lt__(self, other: RemotePath) -> bool:
        return self._key < other._key

    def __truediv__(self, name: str) -> RemotePath:
        slash = "" if self._key.endswith("/") else "/"
        return RemotePath(
            self._store, self._key + slash + name, self._address.rstrip("/") + "/" + name
        )

    @property
    def name(self) -> str:
        """The last part of the key, without the query of a signed address."""
        path = urlsplit(self._key).path if is_address(self._key) else self._key
        return PurePosixPath(path).name

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> RemotePath:
        """The folder that it is in."""
        key, address = (each.rstrip("/").rpartition("/")[0] for each in (self._key, self._address))
        return RemotePath(self._store, key, address)

    def absolute(self) -> RemotePath:
        """Itself."""
        return self

    def exists(self) -> bool:
        """Whether an object or a folder is there."""
        if self._is_folder is None:
            try:
                self._is_folder = self._state().is_folder
            except StoreError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    return False
                raise
        return True

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.exists() and self._is_folder is True

    def is_file(self) -> bool:
        """Whether it is an object."""
        return self.exists() and self._is_folder is False

    def iterdir(self) -> Iterator[RemotePath]:
        """What is directly in the folder; listed once."""
        if self._children is None:
            listed = self._tried(lambda: self._store.list(self._key))
            base = self._address.rstrip("/")
            self._children = []
            for found in listed:
                name = found.key.rstrip("/").rpartition("/")[2]
                # A folder may stand in its own list as an empty object.
                if name and found.key.rstrip("/") != self._key.rstrip("/"):
                    self._children.append(
                        RemotePath(self._store, found.key, f"{base}/{name}", found.is_folder)
                    )
        return iter(self._children)

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return self._state().size

    @property
    def version(self) -> str:
        """ETag or time of writing of the object."""
        return self._state().version

    def read_into(self, start: int, out: memoryview) -> None:
        """Fills `out` with the object's bytes from `start` on, by one request."""

        def read() -> None:
            arrived = self._store.read(self._state(), start, out)
            if arrived != len(out):
                raise _Short(f"it answered with {arrived} bytes instead of {len(out)}")

        self._tried(read)

    def check(self) -> None:
        """Raises StoreError unless the object is still in the state it had first."""
        was, now = self._state(), self._tried(lambda: self._store.find(self._key))
        if (was.size, was.version) != (now.size, now.version):
            raise StoreError(
                f"{shown(self)}: changed since it was opened ({was.size} bytes, version "
                f"{shown(was.version)}; now {now.size} bytes, {shown(now.version)}), so rows read "
                "before and after do not belong together; start again, and leave it alone meanwhile"
            )

    def open(self, mode: str = "rb") -> RemoteFile:
        """The object as a file to read, `mode` is "rb"."""
        return RemoteFile(self)

    def _state(self) -> Found:
        if self._found is None:
            self._found = self._tried(lambda: self._store.find(self._key))
        return self._found

    def _tried(self, request: Callable[[], _T]) -> _T:
        """What a request returns; one that fails is made again."""
        for wait in (*WAITS, None):
            try:
                return request()
            except FileNotFoundError as error:
                raise StoreError(
                    f"{shown(self)}: is not there; check the address, upper and lower case matter"
                ) from error
            except Exception as error:  # libraries of stores raise any type
                text = self._words(error)
                if _is_refused(error, text):
                    raise StoreError(
                        f"{shown(self)}: access was refused ({text}); set the store's credentials "
                        "in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                        "GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN), or pass a filesystem that has "
                        "them, or that is anonymous for a public bucket"
                    ) from error
                if wait is None:
                    raise StoreError(
                        f"{shown(self)}: cannot be read, {len(WAITS) + 1} requests failed "
                        f"({text}); check the network and the store and start again: a checkpoint "
                        "resumes the selection, and a cache (--cache) keeps what has arrived"
                    ) from error
            time.sleep(wait)
        raise AssertionError

    def _words(self, error: Exception) -> str:
        """A library's message, without what follows an address as its signature."""
        text = " ".join(str(error).split()) or type(error).__name__
        return shown(re.sub(r"(https?://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)[:300])


class _Short(Exception):
    """An answer of another length than was asked for."""


def _is_refused(error: Exception, text: str) -> bool:
    status = getattr(error, "status", None)  # of aiohttp
    words = ("ACCESS_DENIED", "Access Denied", "Forbidden", "Unauthorized", "InvalidAccessKeyId")
    return (
        isinstance(error, PermissionError)
        or status in (401, 403)
        or any(each in text for each in (*words, "credentials", "HTTP status 403"))
    )


AnyPath = Path | RemotePath


class RemoteFile(io.RawIOBase):
    """An object as a file. It keeps a piece that grows while it is read forward, up to what fits
    into `AT_ONCE` requests; after each piece the object is checked."""

    def __init__(self, path: RemotePath) -> None:
        self._path = path
        self._at = 0
        self._piece = bytearray()
        self._piece_start = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        """Bytes of the object; Arrow asks."""
        return self._path.size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._path.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        out = memoryview(buffer).cast("B")
        wanted = max(0, min(len(out), self._path.size - self._at))
        if not wanted:
            return 0
        within = self._at - self._piece_start
        if not 0 <= within < len(self._piece):
            self._fetch(wanted)
            within = 0
        part = memoryview(self._piece)[within : within + wanted]
        out[: len(part)] = part
        self._at += len(part)
        return len(part)

    def _fetch(self, wanted: int) -> None:
        """The piece that begins here."""
        ahead = self._at - self._piece_start - len(self._piece)
        forward = self._piece and 0 <= ahead <= READ_THROUGH
        size = max(wanted, 2 * len(self._piece) if forward else _FIRST)
        size = min(size, AT_ONCE * PART // 2, self._path.size - self._at)
        piece = bytearray(size)
        self._piece = bytearray()
        fill(self._path, self._at, memoryview(piece))
        self._path.check()
        self._piece, self._piece_start = piece, self._at


def fill(path: RemotePath, start: int, out: memoryview) -> None:
    """Fills `out` with bytes from `start` on, in requests of at most `PART`, several at a time."""
    at_once(
        [
            lambda at=at: path.read_into(start + at, out[at : at + PART])  # type: ignore[misc]
            for at in range(0, len(out), PART)
        ],
        AT_ONCE,
    )


def at_once(calls: Sequence[Callable[[], _T]], count: int) -> list[_T]:
    """What the calls return, `count` of them at a time, in threads. The first error is raised when
    those that have begun are done; the others are not made."""
    if count == 1 or len(calls) < 2:
        return [call() for call in calls]
    with ThreadPoolExecutor(min(count, len(calls))) as threads:
        futures = [threads.submit(call) for call in calls]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()


def remote(address: str, filesystem: Any = None) -> RemotePath:
    """The path behind an address.

    Raises:
        StoreError: the address cannot be understood, or a package is missing.
        TypeError: the file system is of another kind.
    """
    said = _without_secrets(address)
    try:
        store, key = store_of(address, filesystem)
    except ImportError as error:
        raise StoreError(
            f"{shown(said)}: reading it needs {error.name or shown(error)}: "
            "pip install 'entroselect[stores]'"
        ) from error
    except TypeError:
        raise
    except Exception as error:  # libraries of stores raise any type
        raise StoreError(
            f"{shown(said)}: its store cannot be opened ({shown(error)}); check the address and "
            "the network, or pass a filesystem of pyarrow.fs or fsspec"
        ) from error
    return RemotePath(store, key, said)


def _without_secrets(address: str) -> str:
    """As messages and reports have an address: the query of a signed one is left out.

    Raises:
        StoreError: it holds a password.
    """
    host = address.partition("://")[2].partition("/")[0]
    if ":" in host.rpartition("@")[0]:
        raise StoreError(
            f"{shown(address.partition('://')[0])}://...: holds a password, which reports would "
            "show; set it in the environment, or pass a filesystem that has it"
        )
    return address.partition("?")[0]
