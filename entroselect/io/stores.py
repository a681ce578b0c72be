"""File systems behind addresses (s3://, https://, ...), with the three questions that are asked of
them: what is at a key, what is in a folder, and the bytes [a, b) of an object.

pyarrow knows s3, gs, abfs and hdfs; fsspec knows https, hf and what is registered with it.
"""

from __future__ import annotations

import re
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


class Found(NamedTuple):
    """What is at a key. version: the ETag, or else the time of writing; size and version mean
    nothing for folders and in listings. file: an open file where that spares requests."""

    key: str
    is_folder: bool
    size: int = 0
    version: str = ""
    file: Any = None


class Store(Protocol):
    """A file system. Errors are those of its library; FileNotFoundError where a key is missing."""

    def find(self, key: str) -> Found:
        """What is at a key, asked for anew."""

    def list(self, key: str) -> list[Found]:
        """What is directly in a folder; sizes and versions may be missing."""

    def read(self, found: Found, start: int, stop: int) -> bytes:
        """The bytes [start, stop) of an object; fewer if the answer is short. From any thread."""


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
            return Found(key, False, file.size(), version or self._written(key), file)
        if self._filesystem.get_file_info(key).type == FileType.Directory:
            return Found(key, True)
        raise FileNotFoundError(key)

    def _written(self, key: str) -> str:
        return str(self._filesystem.get_file_info(key).mtime_ns)

    def list(self, key: str) -> list[Found]:
        from pyarrow.fs import FileSelector, FileType

        found = self._filesystem.get_file_info(FileSelector(key, recursive=False))
        return [Found(each.path, each.type == FileType.Directory) for each in found]

    def read(self, found: Found, start: int, stop: int) -> bytes:
        content: bytes = found.file.read_at(stop - start, start)
        return content


def _text(given: str | bytes) -> str:
    return given.decode() if isinstance(given, bytes) else given


class FsspecStore:
    """A file system of fsspec."""

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem

    def find(self, key: str) -> Found:
        if key.startswith("http") and urlsplit(key).path.endswith("/"):
            return Found(key, True)  # an index page, which looks like a file
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

    def read(self, found: Found, start: int, stop: int) -> bytes:
        content: bytes = self._filesystem.cat_file(found.key, start=start, end=stop)
        return content


def is_address(text: str) -> bool:
    """Whether a text begins with a scheme: "s3://bucket/x", not "C:/x" or "x"."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


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
        options = {"client_kwargs": {"timeout": late}}
    made = fsspec.filesystem(scheme, **options)
    return FsspecStore(made), made._strip_protocol(address)


def _given(address: str, filesystem: Any) -> tuple[Store, str]:
    """The caller's file system."""
    made = getattr(
        getattr(filesystem, "handler", None), "fs", filesystem
    )  # fsspec's within Arrow's
    if hasattr(made, "cat_file"):
        return FsspecStore(made), made._strip_protocol(address)
    if not hasattr(made, "open_input_file"):
        raise TypeError(
            f"filesystem: expected one of pyarrow.fs or of fsspec, got {type(filesystem).__name__}"
        )
    if not is_address(address):
        return ArrowStore(made), address
    host, _, key = address.partition("://")[2].partition("/")
    # abfs://container@account.dfs.core.windows.net/key
    return ArrowStore(made), f"{host.partition('@')[0]}/{key}".strip("/")
