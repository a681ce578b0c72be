"""Folders and zips of encoded images: what is read, what is skipped, and the classes."""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from entroselect.loop.decode import MOST_BYTES, Notes, check_length, shown, stack
from entroselect.loop.labels import numbered

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
HIDDEN = ("__MACOSX", "@eaDir")  # beside names that begin with a dot
SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "val", "valid": "val", "validation": "val",
}  # fmt: skip

Parts = tuple[str, ...]
Read = tuple[NDArray[np.uint8], NDArray[np.int64] | None, tuple[str, ...]]


def read_folder(path: Path, split: str | None, notes: Notes) -> Read:
    """Images below a folder; see data.load."""
    paths = sorted(_walk(path, notes))
    kept, classes = arranged(paths, split, notes)

    def contents() -> Iterator[tuple[str, bytes]]:
        for parts in kept:
            file, name = path.joinpath(*parts), _name(parts)
            try:
                check_length(file.stat().st_size)
                content = file.read_bytes()
            except OSError as error:
                raise ValueError(f"{name}: cannot be read ({error.strerror})") from None
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            yield name, content

    return _read(contents(), kept, classes, notes)


def read_zip(path: Path, split: str | None, notes: Notes) -> Read:
    """Images in a zip, by the same rules."""
    with zipfile.ZipFile(path) as archive:
        entries = dict(_entries(archive, notes))
        kept, classes = arranged(sorted(entries), split, notes)
        contents = ((_name(parts), read_entry(archive, entries[parts])) for parts in kept)
        return _read(contents, kept, classes, notes)


def check_entry(entry: zipfile.ZipInfo, most: int | None = None) -> None:
    """Refuses an entry that cannot be read, or only by inflating more than is declared."""
    name = shown(entry.filename)
    if entry.flag_bits & 1:
        raise ValueError(f"{name}: is encrypted; write the zip again without a password")
    # Other decompressors return a whole block at once, however few bytes are asked for.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(
            f"{name}: is compressed by method {entry.compress_type}; write the zip again with "
            "deflate, or without compression"
        )
    if most is not None and entry.file_size > most:
        try:
            check_length(entry.file_size)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of an entry, no more than it declares."""
    check_entry(entry, MOST_BYTES)
    try:
        with archive.open(entry) as file:
            # Not read(): it inflates as much as there is and cuts it afterwards.
            return file.read(entry.file_size + 1)
    except Exception as error:  # zipfile, zlib and struct raise many types
        raise damaged_entry(entry, error) from None


def damaged_entry(entry: zipfile.ZipInfo, error: Exception) -> ValueError:
    """The error about an entry that cannot be read."""
    why = shown(str(error)) or type(error).__name__
    return ValueError(f"{shown(entry.filename)}: cannot be read, the zip may be damaged ({why})")


def arranged(
    paths: Sequence[Parts], split: str | None, notes: Notes
) -> tuple[list[Parts], list[str] | None]:
    """The images of a split, and the class of each, which is the folder; None if there is one.

    Folders above everything are no classes, nor are those of splits.
    """
    level, folders = _split_level(paths), [parts[:-1] for parts in paths]
    kept = list(range(len(paths)))
    if level is not None:
        splits = [_split_of(folder[level]) if len(folder) > level else None for folder in folders]
        present = sorted({s for s in splits if s is not None})
        if split is None and len(present) > 1:
            raise ValueError(
                f"holds the splits {', '.join(present)}; choose one with data.split (--set "
                f"data.split={present[-1]})"
            )
        wanted = split or present[0]
        if wanted not in present:
            raise ValueError(f"data.split: no split {wanted!r}, only {', '.join(present)}")
        for parts, other in zip(paths, splits, strict=True):
            if other != wanted:
                notes.add(f"images outside the split {wanted}, passed over", _name(parts))
        kept = [i for i in kept if splits[i] == wanted]
        folders = [folder[:level] + folder[level + 1 :] for folder in folders]
    elif split is not None and paths:
        raise ValueError(
            f"data.split: no folders train, val and test, so that {split!r} cannot be taken"
        )
    return [paths[i] for i in kept], _classes([folders[i] for i in kept])


def _read(
    contents: Iterator[tuple[str, bytes]],
    kept: Sequence[Parts],
    classes: list[str] | None,
    notes: Notes,
) -> Read:
    if not kept:
        passed = "; ".join(notes.lines())
        raise ValueError(
            f"no images in it (looked for {', '.join(SUFFIXES)})" + (passed and f"; {passed}")
        )
    pixels = stack(contents, len(kept), notes)
    if classes is None:
        return pixels, None, ()
    numbers, names = numbered(classes)
    return pixels, numbers, tuple(map(shown, names))


def _walk(top: Path, notes: Notes) -> Iterator[Parts]:
    """Paths of the images below. Links are followed, unless they lead back up."""
    todo: list[tuple[Path, Parts, frozenset[tuple[int, int]]]] = [(top, (), frozenset())]
    while todo:
        folder, above, ids = todo.pop()
        here = folder.stat()
        if (here.st_dev, here.st_ino) in ids:
            raise ValueError(f"{_name(above)}: a link to a folder above it; remove it")
        ids |= {(here.st_dev, here.st_ino)}
        for file in sorted(folder.iterdir()):
            parts = (*above, file.name)
            if _passed_over(parts[-1:], notes, parts):
                continue
            try:
                mode = file.stat().st_mode
            except OSError as error:
                raise ValueError(f"{_name(parts)}: cannot be read ({error.strerror})") from None
            if stat.S_ISDIR(mode):
                todo.append((file, parts, ids))
            elif not file.name.lower().endswith(SUFFIXES):
                notes.add("files without an image's ending, passed over", _name(parts))
            elif not stat.S_ISREG(mode):
                notes.add("what is no file, passed over", _name(parts))
            else:
                yield parts


def _entries(archive: zipfile.ZipFile, notes: Notes) -> Iterator[tuple[Parts, zipfile.ZipInfo]]:
    seen = set()
    for entry in archive.infolist():
        name = entry.filename.replace("\\", "/")  # as some tools of Windows write them
        parts = tuple(part for part in name.split("/") if part != ".")
        if name.endswith("/"):
            continue
        if ".." in parts or "" in parts:
            raise ValueError(f"{shown(name)}: a name that leads out of the zip; write it again")
        if _passed_over(parts, notes, parts):
            continue
        if not name.lower().endswith(SUFFIXES):
            notes.add("files without an image's ending, passed over", _name(parts))
            continue
        if stat.S_ISLNK(entry.external_attr >> 16):
            notes.add("links in the zip, passed over", _name(parts))
            continue
        if parts in seen:
            raise ValueError(f"{_name(parts)}: is there twice; write the zip again")
        seen.add(parts)
        check_entry(entry, MOST_BYTES)
        yield parts, entry


def _passed_over(parts: Parts, notes: Notes, path: Parts) -> bool:
    hidden = any(part.startswith(".") or part in HIDDEN for part in parts)
    if hidden:
        notes.add("hidden files and folders, passed over", _name(path))
    return hidden


def _name(parts: Parts) -> str:
    return shown("/".join(parts))


def _split_of(folder: str) -> str | None:
    """train of train, Training, train2017, seg_train, training_set."""
    found = {SPLITS[word] for word in re.findall("[a-z]+", folder.lower()) if word in SPLITS}
    return found.pop() if len(found) == 1 else None


def _split_level(paths: Sequence[Parts]) -> int | None:
    """How deep the folders of splits stand; None without.

    "train" can be a class too, beside bus and car: folders are splits if several of them are, and
    at least half.
    """
    for level in range(max((len(parts) - 1 for parts in paths), default=0)):
        names = {parts[level] for parts in paths if len(parts) - 1 > level}
        splits = [split for name in names if (split := _split_of(name)) is not None]
        several = len(set(splits)) > 1 and 2 * len(splits) >= len(names)
        alone = len(names) == 1 and all(len(parts) - 1 > level for parts in paths)
        if several or (alone and splits):
            return level
    return None


def _classes(folders: Sequence[Parts]) -> list[str] | None:
    known = sorted(set(folders))
    if len(known) < 2:
        return None
    for one in known:
        inner = next((f for f in known if len(f) > len(one) and f[: len(one)] == one), None)
        if inner is not None:
            raise ValueError(
                f"{_name(one) or 'the top folder'} holds images and the folder {_name(inner)} "
                "with images; classes are folders beside each other: move them"
            )
    common = 0
    while len({folder[common] for folder in known}) == 1:
        common += 1
    return ["/".join(folder[common:]) for folder in folders]
