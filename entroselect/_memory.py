"""Amounts of memory: what a caller allows, and what the machine has left."""

from __future__ import annotations

import math
import operator
import re
from pathlib import Path
from typing import Any

import numpy as np

from entroselect import _cgroup

_UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGTP", start=1):
    _UNITS[f"{_letter}B"] = 1000**_power
    _UNITS[f"{_letter}IB"] = 1024**_power

_ACCEPTED = 'a number of bytes, or text such as "8GiB", "500MB" or "1.5 GB"'


def memory_limit(given: Any) -> int | None:
    """The argument `memory_limit` in bytes; None stays None, which means no limit.

    KB, MB, GB, TB and PB are powers of 1000; KiB, MiB, GiB, TiB and PiB powers of 1024; case does
    not matter.

    Raises:
        TypeError, ValueError: naming memory_limit, the value and what is accepted.

    Example:
        >>> memory_limit("2GiB"), memory_limit("1.5 GB"), memory_limit(4096), memory_limit(None)
        (2147483648, 1500000000, 4096, None)
    """
    if given is None:
        return None
    wrong_value = ValueError(f"memory_limit: expected {_ACCEPTED}, got {given!r}")
    if isinstance(given, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*", given, re.ASCII)
        if found is None or found[2].upper() not in _UNITS:
            raise wrong_value
        bytes_ = float(found[1]) * _UNITS[found[2].upper()]
        if not math.isfinite(bytes_) or bytes_ < 1:
            raise wrong_value
        exact = found[1].isdecimal()  # a float would round whole numbers beyond 2**53
        return int(found[1]) * _UNITS[found[2].upper()] if exact else int(bytes_)
    try:
        number = None if isinstance(given, (bool, np.bool_)) else operator.index(given)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"memory_limit: expected {_ACCEPTED}, got {given!r}")
    if number < 1:
        raise wrong_value
    return number


def available() -> int | None:
    """Bytes that can be allocated now without swapping; None where the system does not tell (only
    Linux does)."""
    known = [bytes_ for bytes_ in (_free(), _cgroup.memory()) if bytes_ is not None]
    return min(known, default=None)


def _free() -> int | None:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return None if found is None else int(found[1]) * 1024


def in_words(bytes_: int) -> str:
    """The amount in the largest binary unit that fits, with three digits.

    Example:
        >>> in_words(13_200_000_000), in_words(1023 * 1024), in_words(1_048_100), in_words(7)
        ('12.3 GiB', '1023 KiB', '1 MiB', '7 bytes')
    """
    amount, unit = float(bytes_), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if round(amount) < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if amount >= 100 else f"{amount:.3g} {unit}"
