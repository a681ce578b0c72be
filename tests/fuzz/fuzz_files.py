"""Files and folders of rows, as `entroselect.open_pool` reads them."""

from __future__ import annotations

import io
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from entroselect import open_pool
from entroselect.io.npy import load_npy
from tests.fuzz.driver import Run, Targets

X = np.arange(24, dtype=np.float32).reshape(8, 3)

# Between the files of a folder in one input; the name follows.
MARK = b"\n--file--"


def targets() -> Targets:
    headers = [
        str({"descr": kind, "fortran_order": order, "shape": shape}).encode()
        for kind, order, shape in (("<f4", False, (8, 3)), ("<f4", True, (24, 1)),
                                   (">i2", False, (2, 8, 3)), ("|V2", True, (6, 8)),
                                   ([("a", "<f4")], False, (24, 1)), ("<f8", False, ()))
    ]  # fmt: skip
    return {
        "npy": ([npy(X), npy(np.asfortranarray(X)), npy(X.astype(">f8"))], on_file("npy", same)),
        "npy-header": (headers, on_file("npy", same, lambda text: with_header(text, X.tobytes()))),
        "npz": ([npz(np.savez, x=X), npz(np.savez_compressed, x=X, y=X)], on_file("npz", rows)),
        "npz-entry": ([npy(X), npy(np.asfortranarray(X))], on_file("npz", rows, zipped)),
        "shards": ([joined({"0.npy": npy(X), "1.npy": npy(X), "2.npy": npy(X[:0])})],
                   on_folder(rows)),
    }  # fmt: skip


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(save: Callable[..., None], **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def zipped(content: bytes) -> bytes:
    """In an archive that is right: only what is in it was changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    return buffer.getvalue()


def with_header(text: bytes, values: bytes) -> bytes:
    """A file whose header has the right length, whatever it says."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", min(len(text), 65535)) + text[:65535] + values


def joined(files: dict[str, bytes]) -> bytes:
    return b"".join(MARK + name.encode() + b"\n" + data for name, data in files.items())


def packed(folder: Path) -> bytes:
    """A folder as one input."""
    return joined({str(path.relative_to(folder)): path.read_bytes()
                   for path in sorted(folder.rglob("*")) if path.is_file()})  # fmt: skip


def unpacked(data: bytes, folder: Path) -> None:
    """The files of an input; names that a change has made are never followed anywhere."""
    for part in data.split(MARK)[1:]:
        name, _, content = part.partition(b"\n")
        path = folder / "".join(c for c in name.decode("latin-1") if c.isalnum() or c in "./_-")
        if ".." in path.parts or not path.is_relative_to(folder) or len(str(path)) > 200:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:  # a file where a folder is meant
            continue


def rows(path: Path) -> None:
    """Opens and reads; an error has to name the file, without advice to load pickles."""
    try:
        source = open_pool(path)
        if source.row_bytes > 1 << 12:  # of thousands of chunks, say: right, and slow
            return
        source.read(0, min(source.n, 100))
        source.take(np.unique([0, source.n // 2, source.n - 1]))
        source.ids(np.array([0]))
    except (ValueError, TypeError) as error:
        if not str(error).startswith(str(path)) or "allow_pickle" in str(error):
            raise AssertionError(f"no plain message: {error}") from error
        if "\n" in str(error) or len(str(error)) > 2500:
            raise AssertionError(f"no short message: {str(error)[:3000]!r}") from error
        raise
    except OSError as error:
        raise AssertionError(f"no plain message: {error}") from error


def same(path: Path) -> None:
    """What is read is what NumPy reads."""
    found = load_npy(path)
    try:
        expected = np.load(path, max_header_size=1 << 20)
    except Exception as error:
        raise AssertionError(f"NumPy refuses: {error}") from error
    if found.dtype != expected.dtype or found.tobytes() != expected.tobytes():
        raise AssertionError("NumPy reads something else")
    rows(path)


def on_file(
    ending: str, check: Callable[[Path], None], make: Callable[[bytes], bytes] = bytes
) -> Run:
    def run(data: bytes) -> None:
        path = scratch() / f"x.{ending}"
        path.write_bytes(make(data))
        check(path)

    return run


def on_folder(check: Callable[[Path], None]) -> Run:
    def run(data: bytes) -> None:
        folder = scratch() / "x"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        unpacked(data, folder)
        check(folder)

    return run


@cache
def scratch() -> Path:
    """A folder of this process."""
    return Path(tempfile.mkdtemp())
