"""Images with labels and origins, and where they are read from."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from entroselect.loop import files

REAL, SYNTHETIC, FRESH = 0, 1, 2
ORIGINS = {REAL: "real", SYNTHETIC: "synthetic", FRESH: "fresh"}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Images:
    """n images that know where they come from.

    pixels: (n, h, w, channels) uint8, channels 1 or 3.
    labels: (n,) int64 from 0, or None.
    origins: (n, 4) int32: kind (REAL, SYNTHETIC or FRESH), the iteration that made it (0 for real
        ones), which model, and the row there.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    origins: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: Any) -> Images:
        """Those rows, in that order."""
        labels = None if self.labels is None else self.labels[rows]
        return Images(self.pixels[rows], labels, self.origins[rows])

    @property
    def classes(self) -> int:
        """How many labels there are; 0 without."""
        return 0 if self.labels is None or not len(self) else int(self.labels.max()) + 1


def stack(parts: Sequence[Images]) -> Images:
    """One after the other; labels are kept if all have them."""
    labelled = [part.labels for part in parts if part.labels is not None]
    return Images(
        np.concatenate([part.pixels for part in parts]),
        np.concatenate(labelled) if len(labelled) == len(parts) else None,
        np.concatenate([part.origins for part in parts]),
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
    """What `write` wrote."""
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


def load(source: str) -> Images:
    """Real images.

    Args:
        source: "digits", scikit-learn's 1,797 digits of 8 x 8; or a path to
            .npz with `x`, `images`, `x_train` or its only array of images, and labels in `y`,
                `labels` or `y_train`; with a bool array `train`, only those rows are taken;
            .npy of (n, h, w) or (n, h, w, channels) uint8 images;
            a folder or .zip of images of one size; subfolders are classes;
            a folder of CIFAR-10's binary version (data_batch_*.bin), or one such file;
            .parquet with a column of encoded images, and a column of integers as labels.

    Raises:
        ValueError: anything else, images of different sizes, values that are not uint8.
    """
    if source == "digits":
        return _digits()
    path = Path(source)
    if not path.exists():
        raise ValueError(
            f"data.source: {source}: no such file or folder; set data.source to your copy"
        )
    try:
        if path.is_dir():
            batches = sorted(path.glob("data_batch_*.bin"))
            pixels, labels = _cifar(batches) if batches else _folder(path)
        elif path.suffix == ".bin":
            pixels, labels = _cifar([path])
        elif path.suffix in (".npz", ".npy"):
            pixels, labels = _arrays(path)
        elif path.suffix == ".zip":
            pixels, labels = _zip(path)
        elif path.suffix == ".parquet":
            pixels, labels = _parquet(path)
        else:
            raise ValueError("expected .npz, .npy, .zip, .parquet, .bin or a folder of images")
        return _checked(pixels, labels)
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"data.source: {source}: {error}") from error


def _digits() -> Images:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return _checked(pixels, digits.target)


def _checked(pixels: NDArray[Any], labels: NDArray[Any] | None) -> Images:
    if pixels.dtype != np.uint8:
        raise ValueError(f"images must be uint8 on 0 to 255, got {pixels.dtype}")
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim == 4 and pixels.shape[-1] not in (1, 3) and pixels.shape[1] in (1, 3):
        pixels = np.moveaxis(pixels, 1, -1)
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3):
        raise ValueError(
            f"expected images (n, h, w), (n, h, w, 1) or (n, h, w, 3), got {pixels.shape}"
        )
    if len(pixels) == 0:
        raise ValueError("holds no images")
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels must be {len(pixels)} integers, got {labels.dtype} {labels.shape}"
            )
        if labels.min() < 0:
            raise ValueError(f"labels must not be negative, got {labels.min()}")
        labels = labels.astype(np.int64)
    return Images(np.ascontiguousarray(pixels), labels, origins(REAL, len(pixels)))


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded, None
    with loaded:
        images = [name for name in ("x", "images", "x_train") if name in loaded]
        images += [name for name in loaded if loaded[name].ndim >= 3]
        if not images:
            raise ValueError(f"no array of images; it holds {', '.join(loaded)}")
        pixels = loaded[images[0]]
        named = [name for name in ("y", "labels", "y_train") if name in loaded]
        labels = loaded[named[0]].reshape(-1) if named else None
        if "train" in loaded and loaded["train"].dtype == bool:
            keep = loaded["train"]
            pixels, labels = pixels[keep], None if labels is None else labels[keep]
    return pixels, labels


def _cifar(batches: Iterable[Path]) -> tuple[NDArray[Any], NDArray[Any]]:
    records = []
    for path in batches:
        held = np.fromfile(path, np.uint8)
        if len(held) == 0 or len(held) % 3073:
            raise ValueError(f"{path.name}: not CIFAR-10's binary version (records of 3,073 bytes)")
        records.append(held.reshape(-1, 3073))
    every = np.concatenate(records)
    return every[:, 1:].reshape(-1, 3, 32, 32), every[:, 0].astype(np.int64)


def _folder(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    found = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    return _decoded((f.relative_to(path).as_posix(), f.read_bytes()) for f in found)


def _zip(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    with zipfile.ZipFile(path) as archive:
        names = sorted(
            name
            for name in archive.namelist()
            if name.lower().endswith(SUFFIXES) and not name.startswith("__MACOSX")
        )
        return _decoded((name, archive.read(name)) for name in names)


def _decoded(named: Iterable[tuple[str, bytes]]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    arrays: list[NDArray[Any]] = []
    folders: list[str] = []
    first = ""
    for name, content in named:
        array = _image(name, content)
        first = first or name
        if arrays and array.shape != arrays[0].shape:
            raise ValueError(
                f"{name} is {_size(array)} but {first} is {_size(arrays[0])}; all must be of one "
                "size and mode"
            )
        arrays.append(array)
        folders.append(PurePosixPath(name).parent.as_posix())
    if not arrays:
        raise ValueError(f"no images in it (looked for {', '.join(SUFFIXES)})")
    known = sorted(set(folders))
    labels = np.searchsorted(known, folders) if len(known) > 1 else None
    return np.stack(arrays), labels


def _image(name: str, content: bytes) -> NDArray[Any]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image if image.mode == "L" else image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{name}: not an image that can be read ({error})") from None


def _size(array: NDArray[Any]) -> str:
    return f"{array.shape[1]} x {array.shape[0]} {'grey' if array.ndim == 2 else 'RGB'}"


def _parquet(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError("reading parquet needs pyarrow: pip install pyarrow") from None
    table = pq.read_table(path)
    encoded = None
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            encoded = pa.compute.struct_field(column, "bytes")  # as Hugging Face datasets has it
        elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            encoded = column
        if encoded is not None:
            break
    if encoded is None:
        raise ValueError(f"no column of encoded images; it holds {', '.join(table.column_names)}")
    pixels, _ = _decoded((f"row {i}", item.as_py()) for i, item in enumerate(encoded))
    integers = [f.name for f in table.schema if pa.types.is_integer(f.type)]
    return pixels, table[integers[0]].to_numpy() if integers else None
