"""Rows of bits, such as chemical fingerprints, in the form in which they are compared: packed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.convert import as_array
from entroselect.io.rows import Rows, array_rows, is_on_cuda
from entroselect.io.source import Source
from entroselect.io.tables import is_frame, open_frame

# Bytes of a row, and bits that any of two rows has. Quotients of numbers below 2**26 differ as
# float64 if they differ at all.
WIDEST = 1 << 22
MOST_IN_ANY = 8 * WIDEST

# Rows that are packed at a time, by the bytes that they take before.
_PIECE = 1 << 26


def bit_rows(name: str, given: Any, may_be_empty: bool = False) -> Rows:
    """`given` as (n, bytes) rows of packed bits in host memory.

    bool: every element is a bit, and rows are packed here. uint8: every byte holds eight bits, as
    `numpy.packbits` makes them. Bytes that are all 0 or 1 need no packing: they share as many bits.

    Raises TypeError or ValueError naming the argument.
    """
    if isinstance(given, Rows):  # from another operation, which has packed them
        rows, stored = given, given.dtype
    elif is_on_cuda(given):
        raise ValueError(
            f"{name}: on a CUDA device, where bits are not compared yet; move it to host memory"
        )
    elif isinstance(given, Source) or is_frame(given):
        source = given if isinstance(given, Source) else open_frame(given, None, None, name)
        rows, stored = source.rows(name), source.stored
    else:
        array, stored = as_array(name, given)
        if stored not in ("bool", "uint8"):
            raise _not_bits(name, stored)
        rows = array_rows(name, array, stored, may_be_empty)
    if rows.dtype != "uint8" or stored not in ("bool", "uint8"):
        raise _not_bits(name, stored)
    if stored == "bool":
        rows = Rows(_packed(rows.values), "uint8", bits=rows.d)
    if rows.d > WIDEST:
        raise ValueError(f"{name}: a row of bits may have {WIDEST} bytes, these have {rows.d}")
    return rows


def _packed(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Rows of 0 and 1 as packed bits, with no copy of all of them in between."""
    n, d = values.shape
    packed = np.empty((n, (d + 7) // 8), dtype=np.uint8)
    step = max(1, _PIECE // d)
    for at in range(0, n, step):
        packed[at : at + step] = np.packbits(values[at : at + step], axis=1)
    return packed


def _not_bits(name: str, stored: str) -> TypeError:
    return TypeError(
        f"{name}: dtype {stored} holds no bits; pass bool (one bit per element) or uint8 (eight "
        "bits per byte, as numpy.packbits makes them)"
    )
