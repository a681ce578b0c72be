"""File systems behind addresses (s3://, https://, ...), with the three questions that are asked of
them: what is at a key, what is in a folder, and the bytes [a, b) of an object.

pyarrow knows s3, gs, abfs and hdfs; fsspec knows https, hf and what is registered with it.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

# Seconds after which a connection without an answer counts as failed. It holds for the file systems
# that are made here; one that the caller passes has its own.
LATE = 30.0

# Where the schemes of pyarrow's own file systems come first.
_ARROW = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")

# What tells two states of an object apart, by the names that fsspec's file systems have for it.
_VERSIONS = (
    *("ETag", "etag", "e_tag", "generation", "blob_id", "Content-MD5", "md5Hash"),
    *("LastModified", "last_modified", "Last-Modified", "mtime", "updated"),
)


_MARKS = (0xA5, 0x5A)


class Found(NamedTuple):
    """What is at a key. version: the ETag, or else the time of writing; size and version mean
    nothing for folders and in listings. idle: open files, where opening one takes a request."""

    key: str
    is_folder: bool
    size: int = 0
    version: str = ""
    idle: tuple[Any, ...] | list[Any] = ()


class Store(Protocol):
    """A file system. Errors are those of its library; FileNotFoundError where a key is missing."""

    def find(self, key: str) -> Found:
        """What is at a key, asked for anew."""

    def list(self, key: str) -> list[Found]:
        """What is directly in a folder; sizes and versions may be missing."""

    def read(self, found: Found, start: int, out: memoryview) -> int:
        """Fills `out` with the bytes of an object from `start` on. Returns how many arrived. From
        any thread."""


class ArrowStore:
    """A file system of pyarrow."""

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem

    def find(self, key: str) -> Found:
        from pyarrow.fs import FileType

        try:  # one request, which tells the size and the ETag of an object
            file = self._filesystem.open_input_file(key)
        except FileNotFoundError:
            pass
        except OSError:  # some file systems: it is a folder
            if self._filesystem.get_file_info(key).type != FileType.Directory:
                raise
            return Found(key, True)
        else:
            about = {_text(name): value for name, value in (file.metadata() or {}).items()}
            version = next((_text(about[each]) for each in _VERSIONS if each in about), None)
            return Found(key, False, file.size(), version or self._written(key), [file])
        if self._filesystem.get_file_info(key).type == FileType.Directory:
            return Found(key, True)
        raise FileNotFoundError(key)

    def _written(self, key: str) -> str:
        return str(self._filesystem.get_file_info(key).mtime_ns)

    def list(self, key: str) -> list[Found]:
        from pyarrow.fs import FileSelector, FileType

        found = self._filesystem.get_file_info(FileSelector(key, recursive=False))
        return [Found(each.path, each.type == FileType.Directory) for each in found]

    def read(self, found: Found, start: int, out: memoryview) -> int:
        assert isinstance(found.idle, list)
        try:
            file = found.idle.pop()
        except IndexError:
            file = self._filesystem.open_input_file(found.key)
        # Of a short answer of S3, pyarrow says that it was whole (seen with 26.0). The last byte
        # then is what it was before, which two values tell from a byte that arrived.
        arrived = 0
        for mark in _MARKS:
            out[-1] = mark
            file.seek(start)
            arrived = int(file.readinto(out))
            if arrived < len(out) or out[-1] != mark:
                break
        else:
            arrived = len(out) - 1
        found.idle.append(file)
        return arrived


def _text(given: str | bytes) -> str:
    return given.decode() if isinstance(given, bytes) else given


class FsspecStore:
    """A file system of fsspec."""

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem

    def find(self, key: str) -> Found:
        self._filesystem.invalidate_cache(key.rpartition("/")[0])
        about = self._filesystem.info(key)
        if about["type"] == "directory":
            return Found(key, True)
        if about.get("size") is None:
            raise ValueError(
                "the server does not say how long it is; download it and pass its path"
            )
        version = next((str(about[each]) for each in _VERSIONS if about.get(each)), "")
        return Found(key, False, int(about["size"]), version)

    def list(self, key: str) -> list[Found]:
        found = self._filesystem.ls(key, detail=True)
        return [Found(each["name"], each["type"] == "directory") for each in found]

    def read(self, found: Found, start: int, out: memoryview) -> int:
        content = self._bytes(found, start, start + len(out))
        if len(content) == len(out):
            out[:] = content
        return len(content)

    def _bytes(self, found: Found, start: int, stop: int) -> bytes:
        content: bytes = self._filesystem.cat_file(found.key, start=start, end=stop)
        return content


class HttpStore(FsspecStore):
    """fsspec's file system of web servers. A folder is a page with links to what is in it; its
    address ends in a slash, or it has no file of that name."""

    def find(self, key: str) -> Found:
        if urlsplit(key).path.endswith("/"):
            return Found(key, True)
        try:
            return super().find(key)
        except FileNotFoundError as error:
            cause = error.__cause__  # any failure has this name here
            if cause is not None and getattr(cause, "status", None) not in (404, 410):
                raise cause from None
            if PurePosixPath(urlsplit(key).path).suffix:
                raise
            self._filesystem.info(key + "/")
            return Found(key, True)

    def list(self, key: str) -> list[Found]:
        return super().list(key.rstrip("/") + "/")

    def _bytes(self, found: Found, start: int, stop: int) -> bytes:
        # In contrast to cat_file, it does not take all of an object from a server without ranges.
        with self._filesystem.open(found.key, size=found.size, cache_type="none") as file:
            file.seek(start)
            content: bytes = file.read(stop - start)
        return content


def is_address(text: str) -> bool:
    """Whether a text begins with a scheme: "s3://bucket/x", not "C:/x" or "x"."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def address_of(path: str | os.PathLike[str]) -> str | None:
    """The address that a path is, with the two slashes of which `Path` makes one; None for files.

    Example:
        >>> from pathlib import Path
        >>> address_of(Path("s3://bucket/x.npy")), address_of("x.npy")
        ('s3://bucket/x.npy', None)
    """
    text = os.fspath(path)
    if not is_address(text):
        if not isinstance(path, os.PathLike) or os.path.lexists(path):
            return None
        text = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?=[^/])", r"\1://", text)
    return text if is_address(text) else None


def s3_at(endpoint_url: str) -> Any:
    """The file system of an S3 server elsewhere than at Amazon, with the credentials that pyarrow
    finds in the environment.

    Raises:
        ImportError: pyarrow is missing.
        ValueError: the address of the server cannot be understood.
    """
    if not re.match(r"https?://[^/]", endpoint_url):
        raise ValueError(f"endpoint_url: expected http://... or https://..., got {endpoint_url!r}")
    from pyarrow.fs import S3FileSystem

    return S3FileSystem(endpoint_override=endpoint_url.rstrip("/"))


def store_of(address: str, filesystem: Any = None) -> tuple[Store, str]:
    """The file system behind an address, and the address's key in it.

    Args:
        filesystem: of pyarrow or fsspec; None: the one that belongs to the scheme, with the
            credentials that its library finds in the environment.

    Raises:
        ImportError: naming the package that is missing.
        TypeError, ValueError: the file system is of another kind; the scheme is not known.
    """
    if filesystem is not None:
        return _given(address, filesystem)
    scheme, _, rest = address.partition("://")
    scheme = scheme.lower()
    if scheme in _ARROW:
        from pyarrow.fs import FileSystem

        host, _, key = rest.partition("/")
        key, _, query = key.partition("?")
        made, root = FileSystem.from_uri(f"{scheme}://{host}/?{query}".rstrip("?"))
        return ArrowStore(made), f"{root.rstrip('/')}/{key}".strip("/")
    import fsspec

    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        import aiohttp

        late = aiohttp.ClientTimeout(total=None, sock_connect=LATE, sock_read=LATE)
        plain = {"Accept-Encoding": "identity"}  # ranges are of the object, not of a packed one
        options = {"client_kwargs": {"timeout": late, "headers": plain}}
    return _fsspec(fsspec.filesystem(scheme, **options), address)


def _fsspec(filesystem: Any, address: str) -> tuple[Store, str]:
    key = filesystem._strip_protocol(address)
    return (HttpStore if key.startswith("http") else FsspecStore)(filesystem), key


def _given(address: str, filesystem: Any) -> tuple[Store, str]:
    """The caller's file system."""
    made = getattr(
        getattr(filesystem, "handler", None), "fs", filesystem
    )  # fsspec's within Arrow's
    if hasattr(made, "cat_file"):
        return _fsspec(made, address)
    if not hasattr(made, "open_input_file"):
        raise TypeError(
            f"filesystem: expected one of pyarrow.fs or of fsspec, got {type(filesystem).__name__}"
        )
    if not is_address(address):
        return ArrowStore(made), address
    host, _, key = address.partition("://")[2].partition("/")
    # abfs://container@account.dfs.core.windows.net/key
    return ArrowStore(made), f"{host.partition('@')[0]}/{key}".strip("/")
