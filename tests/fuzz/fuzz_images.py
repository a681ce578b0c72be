"""Bytes that images, zips, arrays and tables of images are read from, for a fuzzer to change.

`targets()` gives, for each reader, well-formed files and a function that reads bytes as one. Bad
input may end in a ValueError whose message begins with the file; every other end is a finding. Run
alone, it changes the files at random for a while:

    python -m tests.fuzz.fuzz_images SECONDS [SEED] [TARGET]
"""

from __future__ import annotations

import io
import random
import resource
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from entroselect.loop import data
from entroselect.loop.decode import Notes, decode

Target = tuple[list[bytes], Callable[[bytes], None]]

PARQUET = "parquet of images"  # pyarrow itself can end the process: run it in a child


def targets() -> dict[str, Target]:
    """Well-formed files and the function that reads bytes, by the name of the reader."""
    images = _images()
    return {
        "image": (images, _read_image),
        "zip of images": (_zips(images), lambda content: _load(content, ".zip")),
        "npz of images": (_archives(), lambda content: _load(content, ".npz")),
        "npy of images": (_arrays(), lambda content: _load(content, ".npy")),
        "cifar": (_records(), lambda content: _load(content, ".bin")),
        PARQUET: (_tables(images), lambda content: _load(content, ".parquet")),
    }


def _read_image(content: bytes) -> None:
    try:
        decode("a.png", content, Notes())
    except ValueError as error:
        if not str(error).startswith("a.png: "):
            raise AssertionError(f"does not name the file: {error}") from error


def _load(content: bytes, ending: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"pool{ending}")
        path.write_bytes(content)
        try:
            data.load(str(path), say=lambda line: None)
        except ValueError as error:
            if not str(error).startswith(f"data.source: {path}: "):
                raise AssertionError(f"does not name the file: {error}") from error


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _images() -> list[bytes]:
    values = np.random.default_rng(0).integers(0, 256, (12, 10, 4), dtype=np.uint8)
    colour, alpha = Image.fromarray(values[..., :3]), Image.fromarray(values)
    grey, deep = Image.fromarray(values[..., 0]), Image.fromarray(values[..., 0].astype("u2") * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    made = [_saved(colour, kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")]
    made += [_saved(alpha, kind) for kind in ("PNG", "GIF", "WEBP", "TIFF")]
    made += [_saved(grey, kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "PPM")]
    made += [_saved(deep, kind) for kind in ("PNG", "TIFF", "PPM")]
    made += [_saved(colour.convert("CMYK"), kind) for kind in ("JPEG", "TIFF")]
    made += [_saved(colour, kind, exif=exif) for kind in ("PNG", "JPEG", "WEBP", "TIFF")]
    made += [_saved(colour.convert("P"), kind, transparency=3) for kind in ("PNG", "GIF")]
    made += [_saved(colour, "TIFF", compression=c) for c in ("tiff_lzw", "jpeg", "packbits")]
    made += [_saved(grey.point(lambda v: v > 99, "1"), "TIFF", compression="group4")]
    made += [_saved(grey.convert("F").point(lambda v: v / 255), "TIFF")]
    made += [_saved(colour, "JPEG", progressive=True), _saved(colour, "WEBP", lossless=True)]
    pages: dict[str, Any] = {"save_all": True, "append_images": [colour.rotate(180)]}
    made += [_saved(colour, kind, **pages) for kind in ("PNG", "GIF", "WEBP", "TIFF", "MPO")]
    return [*made, b"P2 2 1 900\n7 900\n", b"P1 3 1\n1 0 1\n", b"P5 2 1 100\n\x07\x64"]


def _zips(images: list[bytes]) -> list[bytes]:
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for number, name in enumerate(("cat/a.png", "dog/b.png", "dog/c.tif", "x.txt")):
                archive.writestr(f"top/{name}", images[number % 2])
        made.append(buffer.getvalue())
    return made


def _archives() -> list[bytes]:
    pixels, labels = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8), np.arange(4)
    made = []
    for save in (np.savez, np.savez_compressed):
        for arrays in (
            {"x": pixels, "y": labels, "train": labels > 0},
            {"train_images": pixels, "test_images": pixels, "train_labels": labels[:, None]},
            {"x": pixels, "y": np.array(["a", "b", "a", "b"])},
        ):
            buffer = io.BytesIO()
            save(buffer, **arrays)  # type: ignore[arg-type]
            made.append(buffer.getvalue())
    return made


def _arrays() -> list[bytes]:
    made = []
    for array in (np.zeros((4, 8, 8), np.uint8), np.asfortranarray(np.zeros((2, 3, 4, 3), "u1"))):
        buffer = io.BytesIO()
        np.save(buffer, array)
        made.append(buffer.getvalue())
    return made


def _records() -> list[bytes]:
    return [bytes(3073 * 2), bytes(3074 * 3)]


def _tables(images: list[bytes]) -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = []
    for column in (
        [{"bytes": images[0], "path": "a"}, {"bytes": images[1], "path": None}],
        [images[0], images[1]],
    ):
        for options in (
            {"compression": "none"},
            {"compression": "zstd"},
            {"use_dictionary": False},
        ):
            buffer = io.BytesIO()
            pq.write_table(pa.table({"image": column, "label": ["a", "b"]}), buffer, **options)
            made.append(buffer.getvalue())
    return made


def _changed(seeds: list[bytes], rng: random.Random) -> bytes:
    content = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(content) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(content):
            content[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            content = content[:at]
        elif kind == 3:
            content[at : at + 4] = rng.randbytes(4)
        elif kind == 4:
            other = rng.choice(seeds)
            begin = rng.randrange(len(other))
            content[at : at + rng.choice((0, 8, 64))] = other[begin : begin + 64]
        else:
            content[at : at + 4] = rng.choice((b"\xff" * 4, b"\x7f" + b"\xff" * 3, bytes(4)))
        if not content:
            break
    return bytes(content)


def main(seconds: float, seed: int, only: str | None) -> int:
    """Changes files for that long; the number of findings."""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    rng, findings = random.Random(seed), 0
    tried: dict[str, int] = {}
    slowest = (0.0, "")
    every = {n: t for n, t in targets().items() if (n == only if only else n != PARQUET)}
    seen: set[str] = set()
    last = Path(tempfile.gettempdir(), f"fuzz-images-{seed}.last")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        name = rng.choice(list(every))
        seeds, read = every[name]
        content = _changed(seeds, rng)
        last.write_bytes(content)  # what killed the process, if it dies
        began = time.monotonic()
        try:
            read(content)
        except Exception:
            where = traceback.format_exc()
            if where[-300:] not in seen:
                seen.add(where[-300:])
                last.with_suffix(f".{findings}").write_bytes(content)
                findings += 1
                print(f"{name}: {last.with_suffix(f'.{findings}')}\n{where}", flush=True)
        slowest = max(slowest, (time.monotonic() - began, name))
        tried[name] = tried.get(name, 0) + 1
    print(f"tried {tried}, findings {findings}, slowest {slowest[0]:.2f} s ({slowest[1]})")
    return findings


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(
        main(
            float(given[0]),
            int(given[1]) if len(given) > 1 else 0,
            given[2] if len(given) > 2 else None,
        )
        > 0
    )
