"""Images with labels and origins, and where they are read from."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from entroselect.loop import files
from entroselect.loop.arrays import read_cifar, read_npy, read_npz
from entroselect.loop.decode import Notes, check_memory, shown
from entroselect.loop.labels import numbered
from entroselect.loop.pictures import SUFFIXES, read_folder, read_zip
from entroselect.loop.table import read_parquet

REAL, SYNTHETIC, FRESH = 0, 1, 2
ORIGINS = {REAL: "real", SYNTHETIC: "synthetic", FRESH: "fresh"}


@dataclass(frozen=True)
class Images:
    """n images, or rows that are no images, and where they come from.

    pixels: (n, h, w, channels) uint8, channels 1 or 3; of rows the values, (n, d) or of any other
        shape and real dtype.
    labels: (n,) int64 from 0, or None.
    origins: (n, 4) int32: kind (REAL, SYNTHETIC or FRESH), the iteration that made it (0 for real
        ones), which model, and the row there.
    names: what the labels 0, 1, ... are called in the source; empty where that is not known.
    """

    pixels: NDArray[Any]
    labels: NDArray[np.int64] | None
    origins: NDArray[np.int32]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: Any) -> Images:
        """Those rows, in that order."""
        labels = None if self.labels is None else self.labels[rows]
        return Images(self.pixels[rows], labels, self.origins[rows], self.names)

    @property
    def are_images(self) -> bool:
        """Whether they can be shown."""
        shape = self.pixels.shape
        return self.pixels.dtype == np.uint8 and len(shape) == 4 and shape[-1] in (1, 3)

    @property
    def classes(self) -> int:
        """The number of labels, including those that no image here has; 0 without labels."""
        if self.labels is not None and self.names:
            return len(self.names)
        return 0 if self.labels is None or not len(self) else int(self.labels.max()) + 1


def stack(parts: Sequence[Images]) -> Images:
    """Concatenates them; labels are kept if all have them."""
    labelled = [part.labels for part in parts if part.labels is not None]
    return Images(
        np.concatenate([part.pixels for part in parts]),
        np.concatenate(labelled) if len(labelled) == len(parts) else None,
        np.concatenate([part.origins for part in parts]),
        next((part.names for part in parts if part.names), ()),
    )


def origins(kind: int, count: int, iteration: int = 0, model: int = 0) -> NDArray[np.int32]:
    """Origins of `count` images made together."""
    made = np.empty((count, 4), np.int32)
    made[:, 0], made[:, 1], made[:, 2] = kind, iteration, model
    made[:, 3] = np.arange(count)
    return made


def write(folder: Path, name: str, images: Images) -> None:
    """Images, labels and origins; the images last, because they tell that the rest is there."""
    files.write_array(folder / f"{name}_origins.npy", images.origins)
    if images.labels is not None:
        files.write_array(folder / f"{name}_labels.npy", images.labels)
    files.write_array(folder / f"{name}.npy", images.pixels)


def read(folder: Path, name: str) -> Images:
    """Reads what `write` wrote."""
    labels = folder / f"{name}_labels.npy"
    return Images(
        files.read_array(folder / f"{name}.npy"),
        files.read_array(labels) if labels.exists() else None,
        files.read_array(folder / f"{name}_origins.npy"),
    )


def save_grid(path: Path, images: Images, columns: int = 16, lines: int = 8) -> None:
    """The first images, row by row, as a PNG enlarged to be seen."""
    shown = images.pixels[: columns * lines]
    count, height, width, channels = shown.shape
    sheet = np.full((lines, columns, height + 1, width + 1, channels), 255, np.uint8)
    sheet.reshape(lines * columns, height + 1, width + 1, channels)[:count, :-1, :-1] = shown
    sheet = sheet.transpose(0, 2, 1, 3, 4).reshape(lines * (height + 1), -1, channels)
    factor = max(1, 720 // sheet.shape[1])
    sheet = sheet.repeat(factor, 0).repeat(factor, 1)
    work = path.with_name("grid.partial.png")
    Image.fromarray(sheet[..., 0] if channels == 1 else sheet).save(work)
    work.replace(path)


def load(
    source: str,
    *,
    split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    say: Callable[[str], None] | None = None,
) -> Images:
    """Real images, as a viewer shows them, or an error that names the file.

    Sources:
        "digits", scikit-learn's 1,797 digits of 8 x 8; or a path to
        a folder or .zip of images of one size. Folders beside each other are classes, folders above
            everything are not. Where they stand for splits (train, val, test), `split` says which.
            Links in folders are followed. Hidden files and folders (a leading dot, __MACOSX) and
            files without an image's ending are skipped;
        .parquet with a column of encoded images (binary, or a struct with `bytes`);
        .npy of (n, h, w) or (n, h, w, channels) uint8 images;
        .npz: its only array of images, or the one called x, images, image or data, alone or with
            train, val or test (x_train, train_images); of several splits `split`, else train. With
            a bool array `train`, only those rows are taken;
        CIFAR-10's or CIFAR-100's binary version, a file or its folder: of that the training files,
            or those of `split`; CIFAR-100 has its fine labels.
    Encoded images: PNG, JPEG, BMP, GIF, WebP, TIFF and PPM, whatever their ending, of at most
        8192 x 8192 pixels. 16 bits of grey are divided by 257 and rounded, 12 bits accordingly; of
        16 bits of colour Pillow keeps the high byte; floats must be on 0 to 1; integers that are
        signed or of 32 bits are refused. EXIF's orientation is applied, colour profiles and gamma
        are not. Transparent images are laid on white. All grey: one channel; grey beside colour is
        widened to RGB. Animations and files of several pages are refused; of JPEGs with previews
        behind them the picture is taken.
    Labels: integers, strings or booleans become 0 to c-1 in their sorted order and keep their
        names; classes that the file itself declares (CIFAR, ClassLabel of Hugging Face datasets)
        keep their numbers. A column or array is taken by its name (label, labels, class, target,
        y, ...; y_train, train_labels).

    Args:
        source: see above.
        split: "train", "val" or "test".
        image_column: the column of a .parquet, or the array of an .npz, that holds the images.
        label_column: the same of the labels.
        say: is given a line for each kind of thing that was skipped or is not as expected,
            with its number; by default they are printed on stderr.

    Raises:
        ValueError: anything else: images of different sizes, damaged files, what may not fit into
            memory, several columns that could be meant, an option that the source has no use for.
    """
    notes = Notes()
    try:
        images = _load(source, split, image_column, label_column, notes)
    except (ValueError, OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"data.source: {shown(source)}: {error}") from error
    for line in notes.lines():
        (say or _print)(f"data.source: {shown(source)}: {line}")
    return images


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _load(
    source: str, split: str | None, image: str | None, label: str | None, notes: Notes
) -> Images:
    path = Path(source)
    ending = path.suffix.lower()
    if source == "digits":
        _no_use(split=split, image_column=image, label_column=label)
        return _digits()
    if not path.exists():
        raise ValueError("no such file or folder; pass the place of your copy with --data")
    if ending not in (".npz", ".parquet") or path.is_dir():
        _no_use(image_column=image, label_column=label)
    if path.is_dir():
        batches = _cifar_files(path, split, notes)
        return _checked(*(read_cifar(batches) if batches else read_folder(path, split, notes)))
    if ending == ".zip":
        return _checked(*read_zip(path, split, notes))
    if ending == ".npz":
        return _checked(*read_npz(path, split, image, label, notes))
    _no_use(split=split)
    if ending == ".npy":
        return _checked(read_npy(path), None, ())
    if ending == ".bin":
        return _checked(*read_cifar([path]))
    if ending == ".parquet":
        return _checked(*read_parquet(path, image, label, notes))
    if ending in SUFFIXES:
        raise ValueError("one image; give the folder of images")
    raise ValueError("expected .npz, .npy, .zip, .parquet, .bin or a folder of images")


def _no_use(**options: str | None) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"data.{name}: {value!r} has no meaning for this source; leave it out")


def _digits() -> Images:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return _checked(pixels, *numbered(digits.target))


def _cifar_files(folder: Path, split: str | None, notes: Notes) -> list[Path]:
    """The files of the split where the folder has CIFAR's, those of training without `split`."""
    found = {
        "train": sorted(folder.glob("data_batch_*.bin")) or sorted(folder.glob("train.bin")),
        "test": [*folder.glob("test_batch.bin"), *folder.glob("test.bin")],
    }
    if not found["train"] + found["test"]:
        return []
    wanted = split or "train"
    if not found.get(wanted):
        raise ValueError(f"data.split: no files of CIFAR's for {wanted!r}")
    for name, others in found.items():
        if name != wanted and others:
            notes.add(f"files of the split {name}, passed over", others[0].name, len(others))
    return found[wanted]


def _checked(
    pixels: NDArray[np.uint8], labels: NDArray[np.int64] | None, names: tuple[str, ...]
) -> Images:
    if pixels.ndim == 3:
        if pixels.shape[-1] in (3, 4):
            raise ValueError(
                f"got {pixels.shape}, one image? Expected images (n, h, w), (n, h, w, 1) or "
                "(n, h, w, 3)"
            )
        pixels = pixels[..., None]
    if pixels.ndim == 4 and pixels.shape[-1] not in (1, 3) and pixels.shape[1] in (1, 3):
        pixels = np.moveaxis(pixels, 1, -1)
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3):
        raise ValueError(
            f"expected images (n, h, w), (n, h, w, 1) or (n, h, w, 3), got {pixels.shape}"
        )
    if pixels.size == 0:
        raise ValueError(f"holds no images, {pixels.shape}")
    if not pixels.flags.c_contiguous:
        check_memory("a copy in the order of rows", pixels.nbytes)
        pixels = np.ascontiguousarray(pixels)
    return Images(pixels, labels, origins(REAL, len(pixels)), names)
