"""Images that are stored as numbers: .npy, .npz and CIFAR's binary version."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.errors import pickled
from entroselect.loop.decode import Notes, check_memory, shown
from entroselect.loop.labels import NAMES, chosen, numbered
from entroselect.loop.pictures import SPLITS, Read, check_entry, damaged_entry

IMAGES = ("x", "images", "image", "data")
Shapes = dict[str, tuple[int, ...]]


def read_npy(path: Path) -> NDArray[Any]:
    """The array, whole and nothing behind it."""
    with path.open("rb") as file:
        shape, dtype = _header(file, path.name)
        expected = file.tell() + math.prod(shape) * dtype.itemsize
        size = path.stat().st_size
        _check_images(path.name, shape, dtype)
        if size != expected:
            raise ValueError(f"{size} bytes, its header promises {expected}; write it again")
        file.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


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
        shapes = {name: shape for name, (shape, _) in headers.items()}

        def read(name: str) -> NDArray[Any]:
            return _entry_array(archive, entries[name], *headers[name])

        images = _images(shapes, split, image, notes)
        _check_images(shown(images), *headers[images])
        rows, of = shapes[images][0], _split(images)
        named = _labels(shapes, rows, of, label)
        keep = None
        if of is None and "train" in headers and headers["train"][1].kind == "b":
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


def _header(file: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype; the file stands behind the header then."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"version {version}")
        # 3.0 differs from 2.0 in the encoding of field names, which no array of numbers has.
        first = version == (1, 0)
        shape, _, dtype = (
            np.lib.format.read_array_header_1_0(file)
            if first
            else np.lib.format.read_array_header_2_0(file)
        )
        if min(shape, default=0) < 0:
            raise ValueError(f"shape {shape}")
    except Exception as error:  # the header is parsed as Python, which fails in many ways
        why = shown(str(error).split("\n")[0]) or type(error).__name__
        raise ValueError(f"{name}: no array that can be read ({why})") from None
    return shape, dtype


def _entry_header(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    check_entry(entry)
    try:
        file = archive.open(entry)
    except Exception as error:  # zipfile raises whatever struct runs into
        raise damaged_entry(entry, error) from None
    with file:
        shape, dtype = _header(file, shown(entry.filename))
        expected = file.tell() + math.prod(shape) * dtype.itemsize
    # Pickles have any length; they are refused where they are wanted.
    if entry.file_size != expected and not dtype.hasobject:
        raise ValueError(
            f"{shown(entry.filename)}: {entry.file_size} bytes, its header promises {expected}"
        )
    return shape, dtype


def _entry_array(
    archive: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    if dtype.hasobject:
        raise pickled(Path(shown(entry.filename)))
    check_memory(shown(entry.filename), math.prod(shape) * dtype.itemsize)
    try:
        with archive.open(entry) as file:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # zipfile raises whatever zlib and struct run into
        raise damaged_entry(entry, error) from None
    return array


def _check_images(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Before anything is read."""
    if dtype.hasobject:
        raise pickled(Path(name))
    if dtype != np.uint8:
        how = {
            "f": "numpy.rint(x * 255) if they are on 0 to 1",
            "u": "x // 257 if they are on 0 to 65535",
            "b": "x * 255",
        }.get(dtype.kind, "x")
        raise ValueError(
            f"{name}: images must be uint8 on 0 to 255, got {dtype}; save "
            f"({how}).astype('uint8') in their place"
        )
    check_memory(name, math.prod(shape))


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
