"""Inputs made from good ones: bits, bytes, numbers, words and pieces changed."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Sequence

NUMBERS = [
    0, 1, -1, 2, 7, 8, 127, 128, 255, 256, 32767, 65535, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1,
    2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -(2**31), -(2**63),
]  # fmt: skip
WORDS = [
    b"null", b"true", b"NaN", b"Infinity", b"1e999", b"-0", b"\x00", b"\xff\xff\xff\xff", b"{",
    b"}", b"[", b"]", b"(", b")", b",", b"'", b'"', b"\n", b"pickle", b"|O", b"<f4", b">f8",
    b"True", b"False", b"../", b"\x1b[2J", b"[" * 500, b"(" * 500, b"9" * 30,
]  # fmt: skip


def mutated(data: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One to five changes of an input."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        rng.choice(_CHANGES)(changed, seeds, rng)
    return bytes(changed)


def _place(data: bytearray, rng: random.Random) -> int:
    """Anywhere, more often near the beginning or the end, where headers and footers are."""
    if rng.random() < 0.5 or len(data) < 200:
        return rng.randrange(len(data) + 1)
    near = min(len(data), int(rng.expovariate(1 / 100)))
    return near if rng.random() < 0.5 else len(data) - near


def _flip(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    if data:
        data[min(_place(data, rng), len(data) - 1)] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    if data:
        data[min(_place(data, rng), len(data) - 1)] = rng.randrange(256)


def _number(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    """A binary number, in either byte order, in place of what is there."""
    kind = rng.choice("BHIQ")
    value = rng.choice(NUMBERS) % (1 << 8 * struct.calcsize(kind))
    at = _place(data, rng)
    data[at : at + struct.calcsize(kind)] = struct.pack(rng.choice("<>") + kind, value)


def _digits(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    """Another number where one stands in a text."""
    found = list(re.finditer(rb"\d+", bytes(data[:100_000])))
    if found:
        place = rng.choice(found)
        data[place.start() : place.end()] = str(rng.choice(NUMBERS)).encode()


def _word(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    """A word put in, or in place of another."""
    word = rng.choice(WORDS)
    found = list(re.finditer(rb"[A-Za-z_]{2,}", bytes(data[:100_000])))
    if found and rng.random() < 0.5:
        place = rng.choice(found)
        other = rng.choice(found).group()
        data[place.start() : place.end()] = rng.choice((word, other))
    else:
        at = _place(data, rng)
        data[at:at] = word


def _cut(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    del data[_place(data, rng) :]


def _remove(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    at = _place(data, rng)
    del data[at : at + rng.choice((1, 2, 4, 8, 30, 200))]


def _repeat(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    at = _place(data, rng)
    data[at:at] = data[at : at + rng.choice((1, 4, 8, 30, 200))] * rng.choice((1, 1, 3))


def _splice(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    """A piece of another good input."""
    other = rng.choice(seeds)
    if other:
        begin = rng.randrange(len(other))
        piece = other[begin : begin + rng.choice((4, 16, 64, 500))]
        at = _place(data, rng)
        data[at : at + rng.choice((0, len(piece)))] = piece


_CHANGES = (_flip, _flip, _flip, _byte, _number, _number, _digits, _digits, _word, _cut, _remove,
            _repeat, _splice)  # fmt: skip
