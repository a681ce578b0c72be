"""Marks of rows: four bytes per row that tell whether the row is the same as when it was first
read.

Multilinear hashing (Lemire and Kaser 2014): the halves of a row's 8-byte words, each times a random
64-bit number, summed modulo 2**64, of which the upper half is kept. A row that changes in any way
keeps its mark with a chance of about 2**-32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Marks = NDArray[np.uint32]

# Bytes that are hashed at a time, so that they stay in cache.
_AT_ONCE = 1 << 18

_HALF = np.uint64(32)


def row_marks(values: NDArray[Any]) -> Marks:
    """(n,) marks of (n, d) rows, from their bytes alone; none of them is 0.

    Example:
        >>> import numpy as np
        >>> rows = np.eye(3)
        >>> before = row_marks(rows)
        >>> rows[1, 2] = 5
        >>> (row_marks(rows) != before).tolist()
        [False, True, False]
    """
    n, d = values.shape
    words = -(-d * values.itemsize // 8)
    whole, upper = _multipliers(words)
    marks = np.empty(n, np.uint32)
    step = max(1, _AT_ONCE // (8 * words))
    for at in range(0, n, step):
        part = _words(values[at : at + step], words)
        total = np.einsum("ij,j->i", part, whole)
        total += np.einsum("ij,j->i", part >> _HALF, upper)
        marks[at : at + step] = total >> _HALF
    np.maximum(marks, 1, out=marks)
    return marks


class Seen:
    """The marks of the rows read so far; checks that a row is the same each time it is read.

    Attributes:
        marks: (n,), 0 where a row was not read yet.
    """

    def __init__(self, argument: str, name: str, n: int) -> None:
        """For n rows of an argument, which are read from the file or object called `name`."""
        self.marks: Marks = np.zeros(n, np.uint32)
        self._argument, self._name, self._since = argument, name, "it was read first"

    def expect(self, marks: Marks, since: str) -> None:
        """Rows that are read from now on must have these marks; `since` says when they had them."""
        self.marks[:] = marks
        self._since = since

    def check(self, rows: Any, values: NDArray[Any], numbers: Any) -> bool:
        """Whether any of the rows is read for the first time. `numbers`: the rows' numbers in
        messages.

        Raises:
            ValueError: a row has changed.
        """
        known, now = self.marks[rows], row_marks(values)
        changed = np.flatnonzero((known != now) & (known != 0))
        if len(changed):
            raise ValueError(
                f"{self._argument}: row {int(numbers[changed[0]])} of {self._name} changed since "
                f"{self._since}; there is no one pool to answer for, start again and leave the "
                "rows alone meanwhile"
            )
        self.marks[rows] = now
        return bool((known == 0).any())


def _words(values: NDArray[Any], words: int) -> NDArray[np.uint64]:
    """Rows as 8-byte words, the last filled up with zeros."""
    raw = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
    if raw.shape[1] != 8 * words:
        padded = np.zeros((len(raw), 8 * words), np.uint8)
        padded[:, : raw.shape[1]] = raw
        raw = padded
    return raw.view(np.uint64)


@lru_cache(maxsize=8)
def _multipliers(words: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The random multipliers of whole words, and those of their upper halves; the same in every
    process and version, since checkpoints hold marks."""
    drawn: NDArray[np.uint64] = np.random.PCG64(20240707).random_raw(2 * words)
    return drawn[:words], drawn[words:]
