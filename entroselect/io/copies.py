"""Local copies of objects: complete or absent, and used again while the object is unchanged.

A cache folder holds every object once, under a name that its address, size and version decide
(objects/), and for each pool a folder of hard links with the names that the store has (pools/).
A pool of which one object has changed therefore needs that object alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from entroselect._files import LOCK, lock, replacing, sweep
from entroselect._memory import in_words
from entroselect.io.errors import StoreError, shown
from entroselect.io.remote import AT_ONCE, PART, RemotePath, at_once, fill

_log = logging.getLogger("entroselect")

# Objects that are copied at a time; each has AT_ONCE requests and as many parts in memory.
_OBJECTS = 2

# Groups within groups of a Zarr store end before this, and so does a folder that contains itself.
_DEEPEST = 32


def local_copy(
    path: RemotePath, folder: Path, wanted: Callable[[RemotePath], bool], *beside: RemotePath
) -> Path:
    """The path of a copy of an object, or of a folder with all objects in it, at any depth, that
    are wanted. Folders that stand `beside` the path are copied too.

    Several processes may use a folder: one copies while the others wait.

    Raises:
        ValueError: the folder cannot be written to, or has no room or no hard links; or as
            `RemotePath` raises.
    """
    found = {name: o for each in (path, *beside) for name, o in _objects(each, wanted).items()}
    if not found:
        raise StoreError(f"{shown(path)}: holds no objects that could be rows")
    at_once([partial(RemotePath.exists, each) for each in found.values()], AT_ONCE)
    kept = {name: _digest([str(each), each.size, each.version]) for name, each in found.items()}
    pool = folder / "pools" / _digest([str(path), sorted(kept.items())])
    try:
        for each in (folder / "objects", folder / "pools"):
            each.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if not all(_is_whole(pool / name, each) for name, each in found.items()):
                sweep(folder / "objects")
                objects = {folder / "objects" / kept[name]: each for name, each in found.items()}
                _copy_missing(objects, path, folder)
                _link(pool, {name: folder / "objects" / kept[name] for name in found})
    except OSError as error:
        raise ValueError(
            f"cache: {shown(folder)} cannot hold a copy of {shown(path)} "
            f"({error.strerror or error}); make room, or name another folder (--cache)"
        ) from error
    return pool / path.name


def _objects(path: RemotePath, wanted: Callable[[RemotePath], bool]) -> dict[str, RemotePath]:
    """Objects by their names within the pool's folder."""
    found: dict[str, RemotePath] = {}

    def visit(here: RemotePath, name: str, depth: int) -> None:
        if here.name in ("", ".", "..") or "\0" in here.name or "\\" in here.name:
            raise StoreError(f"{shown(here)}: has a name that no file may have; rename it")
        if depth > _DEEPEST:
            raise StoreError(f"{shown(path)}: holds folders more than {_DEEPEST} deep")
        if not here.is_dir():
            found[name] = here
            return
        for child in here.iterdir():
            if child.is_dir() or wanted(child):
                visit(child, f"{name}/{child.name}", depth + 1)

    visit(path, path.name, 0)
    return found


def _copy_missing(objects: dict[Path, RemotePath], path: RemotePath, folder: Path) -> None:
    missing = {file: each for file, each in objects.items() if not _is_whole(file, each)}
    needed, free = sum(each.size for each in missing.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(None, f"{in_words(needed)} are needed and {in_words(free)} are free")
    if missing:
        _log.info(
            "%s: copying %s of %d objects to %s", path, in_words(needed), len(missing), folder
        )
    at_once([partial(_copy, each, file) for file, each in missing.items()], _OBJECTS)


def _copy(path: RemotePath, file: Path) -> None:
    """Copies an object; the file is there when all of it is on disk."""
    step = AT_ONCE * PART
    buffer = memoryview(bytearray(min(step, path.size)))
    with replacing(file, file.with_name(file.name + ".partial")) as writing:
        for start in range(0, path.size, step):
            part = buffer[: min(step, path.size - start)]
            fill(path, start, part)
            writing.write(part)
        path.check()


def _link(pool: Path, files: dict[str, Path]) -> None:
    """A folder of hard links, which is there when it is complete."""
    work = pool.with_name(pool.name + ".partial")
    # Of killed processes; with files that were changed.
    for each in (*pool.parent.glob("*.partial"), pool):
        shutil.rmtree(each, ignore_errors=True)
    for name, file in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(file, work / name)
    work.rename(pool)


def _is_whole(file: Path, path: RemotePath) -> bool:
    return file.is_file() and file.stat().st_size == path.size


def _digest(given: object) -> str:
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()[:32]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other process copies to the folder, and makes others wait."""
    with (folder / LOCK).open("ab") as file:
        while True:
            try:
                lock(file.fileno())
                break
            except BlockingIOError:
                time.sleep(0.1)
        yield
