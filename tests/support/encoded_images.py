"""Images encoded by hand, and their pixels."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from entroselect.loop.decode import Notes, decode

RNG = np.random.default_rng(0)


def seen(content: bytes) -> np.ndarray:
    notes = Notes()
    picture = decode("a", content, notes)
    assert notes.lines() == []
    return picture


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(samples: np.ndarray, depth: int, colour: int, adam7: bool = False, **more: bytes) -> bytes:
    """(h, w, channels) integers as a PNG; `more` are chunks before the pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        check = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)

    def lines(part: np.ndarray) -> bytes:
        bits = (part[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(bits.reshape(len(part), -1).astype(np.uint8), axis=1)
        return b"".join(b"\0" + row.tobytes() for row in packed)

    passes = [(0, 0, 1, 1)]
    if adam7:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)]
        passes += [(2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    height, width = samples.shape[:2]
    parts = (samples[y::dy, x::dx] for y, x, dy, dx in passes)
    body = b"".join(lines(part) for part in parts if part.size)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(adam7))
    chunks = [(b"IHDR", head), *((name.encode(), text) for name, text in more.items())]
    chunks += [(b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)


def tiff(
    values: np.ndarray, photometric: int = 1, kind: int = 1, bits: int = 0, order: str = "<"
) -> bytes:
    """(h, w) or (h, w, channels) numbers as an uncompressed TIFF of one strip."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    bits = bits or 8 * values.dtype.itemsize
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if bits == 12:
        pairs = np.unpackbits(values.astype(">u2").view(np.uint8)).reshape(height, width, 16)
        data = np.packbits(pairs[..., 4:].reshape(height, -1), axis=1).tobytes()
    tags = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 0), (277, 3, channels), (278, 3, height), (279, 4, len(data)), (339, 3, kind)]
    begin = 8 + 2 + 12 * len(tags) + 4
    ifd = struct.pack(order + "H", len(tags))
    for tag, size, value in tags:
        value = begin if tag == 273 else value
        packed = struct.pack(order + ("H2x" if size == 3 else "I"), value)
        ifd += struct.pack(order + "HHI", tag, size, 1) + packed
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8) + ifd + bytes(4) + data


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha / 255 if colours.ndim == 2 else alpha[..., None] / 255
    return np.floor(colours * share + 255 * (1 - share) + 0.5).astype(np.uint8)


def to_eight(values: np.ndarray, depth: int) -> np.ndarray:
    return np.floor(values * (255 / (2**depth - 1)) + 0.5).astype(np.uint8)
