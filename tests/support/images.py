"""Folders and zips of small images, and helpers that load them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from entroselect.loop import data

Make = Callable[[Path, Iterable[str]], str]


def png(value: int = 0, mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


def folder(at: Path, names: Iterable[str]) -> str:
    for number, name in enumerate(names):
        file = at / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(number))
    return str(at / "data")


def zipped(at: Path, names: Iterable[str]) -> str:
    with zipfile.ZipFile(at / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, name in enumerate(names):
            archive.writestr(name, png(number))
    return str(at / "data.zip")


both = pytest.mark.parametrize("make", [folder, zipped])


def load(source: str, **options: Any) -> tuple[data.Images, list[str]]:
    said: list[str] = []
    images = data.load(source, say=said.append, **options)
    return images, [line.removeprefix(f"data.source: {source}: ") for line in said]


def refusal(source: str, **options: Any) -> str:
    with pytest.raises(ValueError, match=r"^data\.source: ") as raised:
        data.load(source, say=lambda _: None, **options)
    return str(raised.value).removeprefix(f"data.source: {source}: ")


def saved(at: Path, compressed: bool = False, **arrays: Any) -> str:
    (np.savez_compressed if compressed else np.savez)(at / "m.npz", **arrays)
    return str(at / "m.npz")


def stored(n: int = 4, value: int = 0) -> np.ndarray:
    return np.full((n, 8, 8), value, np.uint8)


def pixels(n: int = 6, size: int = 8, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, channels), dtype=np.uint8)
