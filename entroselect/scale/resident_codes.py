"""Codes of rows that are not in memory: many bounds are lowered without reading the rows.

A code takes a quarter of a float32 row. Scores of codes lower a row's bound to the upper end of an
interval that holds the distance (docs/exactness.md), and a row whose bound is then low enough need
not be read. What is not is read and compared exactly, as without codes. Where memory is too small
for the codes of all rows, the first rows have them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import _core
from entroselect._settings import threads
from entroselect.io.rows import Rows
from entroselect.results import Float64, Int64


class ResidentCodes:
    """Codes of the first `room` rows of a pool, and of all its picks.

    Attributes:
        room: how many rows have codes when all have been seen.
    """

    def __init__(self, sample: Rows, metric: str, isa: str, room: int) -> None:
        """`sample`: some of the rows, which decide how values are coded."""
        self.room, self._dtype = room, sample.dtype
        self._pool = _core.CodePool(
            sample.values, sample.dtype, metric == "cosine", isa, room, threads()
        )

    @property
    def pairs(self) -> int:
        """Pairs scored."""
        return self._pool.pairs

    def see(self, rows: Int64, values: NDArray[Any]) -> None:
        """Codes consecutive rows, if they come next and there is room."""
        coded = self._pool.coded
        if coded < self.room and rows[0] == coded and rows[-1] - rows[0] + 1 == len(rows):
            self._pool.code(values, self._dtype)

    def add_picks(self, vectors: NDArray[Any], dtype: str) -> None:
        """Adds picked vectors."""
        self._pool.add_picks(vectors, dtype)

    def restart(self) -> None:
        """Forgets all picks."""
        self._pool.restart()

    def lower(self, rows: Int64, enough: float, bounds: Float64) -> None:
        """Lowers bounds[rows] of the rows, which ascend, that have codes: to a bound by all picks,
        or to any below `enough`."""
        self._pool.refresh(rows[: np.searchsorted(rows, self._pool.coded)], enough, bounds)

    def meet(self, rows: Int64) -> None:
        """These rows, which ascend, have been compared with all picks exactly."""
        self._pool.meet(rows[: np.searchsorted(rows, self._pool.coded)])
