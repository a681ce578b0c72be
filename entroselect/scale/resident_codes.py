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
from entroselect.results import Float64, Int64


class ResidentCodes:
    """Codes of the first rows of a pool, and of all its picks; none before `begin`."""

    def __init__(self, d: int, dtype: str, metric: str, isa: str | None) -> None:
        """`isa`: the instruction set; None: there never are any codes."""
        self._dtype, self._cosine, self._isa = dtype, metric == "cosine", isa
        self._pool: _core.CodePool | None = None
        self._room = 0
        self.bytes = None if isa is None else _core.code_pool_bytes(d, isa)  # of a row, of a pick

    @property
    def begun(self) -> bool:
        """Whether there are any."""
        return self._pool is not None

    @property
    def pairs(self) -> int:
        """Pairs scored."""
        return 0 if self._pool is None else self._pool.pairs

    def begin(self, sample: NDArray[Any], room: int) -> None:
        """Makes room for the codes of as many rows; some rows decide how values are coded."""
        assert self._isa is not None
        self._room = room
        self._pool = _core.CodePool(sample, self._dtype, self._cosine, self._isa, room, threads())

    def see(self, rows: Int64, values: NDArray[Any]) -> None:
        """Codes consecutive rows, if they come next and there is room."""
        if self._pool is None or len(rows) == 0 or self._pool.coded == self._room:
            return
        if rows[0] == self._pool.coded and rows[-1] - rows[0] + 1 == len(rows):
            self._pool.code(values, self._dtype)

    def add_picks(self, vectors: NDArray[Any], dtype: str) -> None:
        """Adds picked vectors."""
        if self._pool is not None:
            self._pool.add_picks(vectors, dtype)

    def restart(self) -> None:
        """Forgets all picks."""
        if self._pool is not None:
            self._pool.restart()

    def lower(
        self, rows: Int64, enough: float, bounds: Float64, weights: Float64 | None = None
    ) -> None:
        """Lowers bounds[rows] of the rows, which ascend, that have codes: to a bound by all picks,
        or to any with a key below `enough`: with weights, of all rows, the weighted distance."""
        if self._pool is not None:
            coded = rows[: np.searchsorted(rows, self._pool.coded)]
            self._pool.refresh(coded, enough, bounds, weights)

    def meet(self, rows: Int64) -> None:
        """These rows, which ascend, have been compared with all picks exactly."""
        if self._pool is not None:
            self._pool.meet(rows[: np.searchsorted(rows, self._pool.coded)])
