"""Images that are stored as numbers: .npy, .npz and CIFAR's binary version."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.errors import pickled
from entroselect.io.header import Header, any_header, read_header
from entroselect.io.npy import filled
from entroselect.loop.decode import Notes, check_memory, shown
from entroselect.loop.labels import NAMES, chosen, numbered
from entroselect.loop.pictures import SPLITS, Read, check_entry, damaged_entry

IMAGES = ("x", "images", "image", "data")
Shapes = dict[str, tuple[int, ...]]


def read_npy(path: Path) -> NDArray[Any]:
    """The array; the file must hold all of it and nothing else."""
    name = Path(path.name)
    with path.open("rb") as file:
        header = read_header(file, name)
        expected, size = header.offset + header.nbytes, path.stat().st_size
        _check_images(path.name, header)
        if size != expected:
            raise ValueError(f"{size} bytes, its header promises {expected}; write it again")
        return filled(header, file, name)


def read_npz(
    path: Path, split: str | None, image: str | None, label: str | None, notes: Notes
) -> Read:
    """Images and labels by the names of the arrays; see data.load. Only those are read."""
    with zipfile.ZipFile(path) as archive:
        entries: dict[str, zipfile.ZipInfo] = {}
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name == entry.filename:
                continue
            if name in entries:
                raise ValueError(f"{shown(name)}: is there twice; write the file again")
            entries[name] = entry
        headers = {name: _entry_header(archive, entry) for name, entry in entries.items()}
        shapes = {name: header.shape for name, header in headers.items()}

        def read(name: str) -> NDArray[Any]:
            return _entry_array(archive, entries[name], headers[name])

        images = _images(shapes, split, image, notes)
        _check_images(shown(images), headers[images])
        rows, of = shapes[images][0], _split(images)
        named = _labels(shapes, rows, of, label)
        keep = None
        if of is None and "train" in headers and headers["train"].dtype.kind == "b":
            keep = _kept(read("train"), rows, split)
        elif split is not None and of != split:
            raise ValueError(f"data.split: no images for {split!r}; it holds {_list(shapes)}")
        pixels = read(images)
        try:
            labels, names = (None, ()) if named is None else numbered(read(named).reshape(-1))
        except ValueError as error:
            raise ValueError(f"{shown(str(named))}: {error}") from None
    if keep is not None:
        pixels, labels = pixels[keep], None if labels is None else labels[keep]
    return pixels, labels, names


def read_cifar(paths: Sequence[Path]) -> Read:
    """Files of CIFAR-10's binary version, or of CIFAR-100's, with its fine labels."""
    sizes = [path.stat().st_size for path in paths]
    check_memory("it", 2 * sum(sizes))
    files = [np.fromfile(path, np.uint8) for path in paths]
    for before, classes, kind in ((1, 10, "CIFAR-10"), (2, 100, "CIFAR-100")):
        record = before + 3072
        if any(len(file) == 0 or len(file) % record for file in files):
            continue
        every = np.concatenate([file.reshape(-1, record) for file in files])
        labels = every[:, before - 1]
        if labels.max() < classes and (before == 1 or every[:, 0].max() < 20):
            pixels = every[:, before:].reshape(-1, 3, 32, 32)
            return pixels, labels.astype(np.int64), tuple(map(str, range(classes)))
        if len(paths) == 1 or kind == "CIFAR-100":
            raise ValueError(f"not {kind}'s binary version: label {labels.max()} of {classes}")
    raise ValueError(
        f"{', '.join(path.name for path in paths)}: not CIFAR-10's binary version (records of "
        "3,073 bytes) nor CIFAR-100's (3,074)"
    )


def _entry_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Header:
    check_entry(entry)
    try:
        file = archive.open(entry)
    except Exception as error:  # zipfile and struct raise many types
        raise damaged_entry(entry, error) from None
    with file:
        try:
            header = any_header(file, entry.filename)
        except ValueError:
            raise
        except Exception as error:  # zlib's, and EOFError
            raise damaged_entry(entry, error) from None
    expected = header.offset + header.nbytes
    # Pickled arrays may have any length; they are refused when they are to be read.
    if entry.file_size != expected and not header.dtype.hasobject:
        raise ValueError(
            f"{shown(entry.filename)}: {entry.file_size} bytes, its header promises {expected}"
        )
    return header


def _entry_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, header: Header) -> NDArray[Any]:
    if header.dtype.hasobject:
        raise pickled(entry.filename)
    check_memory(shown(entry.filename), header.nbytes)
    try:
        with archive.open(entry) as file:
            file.seek(header.offset)
            return filled(header, file, Path(entry.filename))  # to its end, with its checksum
    except Exception as error:  # zipfile, zlib and struct raise many types
        raise damaged_entry(entry, error) from None


def _check_images(name: str, header: Header) -> None:
    """Checks type, shape and size before anything is read."""
    if header.dtype.hasobject:
        raise pickled(name)
    if len(header.shape) == 2:
        raise ValueError(
            f"{name}: expected images (n, h, w) or (n, h, w, channels), got {header.shape}; rows "
            "that are no images are passed in Python, as real= of entroselect.loop.run"
        )
    if header.dtype != np.uint8:
        how = {
            "f": "numpy.rint(x * 255) if they are on 0 to 1",
            "u": "x // 257 if they are on 0 to 65535",
            "b": "x * 255",
        }.get(header.dtype.kind, "x")
        raise ValueError(
            f"{name}: images must be uint8 on 0 to 255, got {header.dtype}; save "
            f"({how}).astype('uint8') in their place"
        )
    check_memory(name, header.nbytes)


def _split(name: str) -> str | None:
    found = {SPLITS[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLITS}
    return found.pop() if len(found) == 1 else None


def _plain(name: str) -> str:
    """x of x_train, images of train_images."""
    words = [word for word in re.split("[_.-]", name.lower()) if word not in SPLITS]
    return "_".join(words)


def _list(shapes: Shapes) -> str:
    return ", ".join(f"{shown(name)} {shape}" for name, shape in shapes.items())


def _images(shapes: Shapes, split: str | None, asked: str | None, notes: Notes) -> str:
    candidates = {name: shape for name, shape in shapes.items() if len(shape) in (3, 4)}
    if asked is not None or not candidates:
        chosen("images", "data.image_column", asked, candidates, ())
        if asked is None:
            raise ValueError(f"no array of images; it holds {_list(shapes)}")
        return asked
    splits = {_split(name) for name in candidates}
    if splits != {None}:
        wanted = split or ("train" if "train" in splits else None)
        if wanted not in splits or (wanted is None and len(splits) > 1):
            raise ValueError(
                f"data.split: choose one of {', '.join(sorted(s for s in splits if s))}; it holds "
                f"{_list(shapes)}"
            )
        for name in candidates:
            if _split(name) != wanted:
                notes.add(f"arrays outside the split {wanted}, passed over", shown(name))
        candidates = {name: s for name, s in candidates.items() if _split(name) == wanted}
    if len(candidates) == 1:
        return next(iter(candidates))
    known = [name for name in candidates if _plain(name) in IMAGES]
    if len(known) != 1:
        raise ValueError(
            f"{_list(candidates)} could hold images; choose one with data.image_column"
        )
    return known[0]


def _labels(shapes: Shapes, rows: int, split: str | None, asked: str | None) -> str | None:
    candidates = {
        name: shape
        for name, shape in shapes.items()
        if (asked == name or _plain(name) in NAMES) and _split(name) in (split, None)
    }
    if any(_split(name) == split for name in candidates):
        candidates = {name: s for name, s in candidates.items() if _split(name) == split}
    named = chosen(
        "labels", "data.label_column", asked, candidates, map(str.lower, candidates), shapes
    )
    if named is not None and shapes[named] not in ((rows,), (rows, 1)):
        raise ValueError(
            f"{shown(named)}: expected {rows} labels, got shape {shapes[named]}; of one-hot rows "
            "save .argmax(axis=1)"
        )
    return named


def _kept(train: NDArray[Any], rows: int, split: str | None) -> NDArray[np.bool_]:
    if train.shape != (rows,) or split == "val":
        raise ValueError(f"train: marks {train.shape} of {rows} images, as train or test")
    return ~train if split == "test" else train
