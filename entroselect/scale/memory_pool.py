"""A pool whose rows are in memory: what a selection needs of it besides the engine's primitives.

`scale.streamed_pool.StreamedPool` has the same, but for `center`, for rows that are read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import engine
from entroselect.backends.base import Backend
from entroselect.backends.cpu import add_rows, distances_to
from entroselect.io.rows import Rows
from entroselect.results import Float64, Int64
from entroselect.scale.marks import Marks, row_marks

# Rows are marked in pieces of this many float64 bytes.
_PIECE = 1 << 26


class MemoryPool:
    """Rows in memory and the backend's pool over them.

    Attributes:
        n, d: rows and columns.
        first: number of the first row in a pool of several processes.
        primitives: the backend's pool, which the engine calls without a detour through this class.
    """

    def __init__(
        self,
        rows: Rows,
        metric: str,
        backend: Backend,
        first: int = 0,
        *,
        sub: bool = False,
        limit: int | None = None,
    ) -> None:
        """For rows whose values have been checked; `sub` and `limit` as in `Backend.new_pool`."""
        self._rows, self.metric, self.backend, self.first = rows, metric, backend, first
        self.n, self.d = rows.n, rows.d
        self.primitives: engine.SubPool = backend.new_pool(rows, metric, sub=sub, limit=limit)
        self._marks: Marks | None = None

    def take(self, rows: Int64) -> NDArray[Any]:
        """The given rows, in that order, in host memory."""
        return self._rows.take(rows)

    @property
    def on_device(self) -> Callable[[Int64], Any] | None:
        """As `take`, for a tensor on the rows' CUDA device; None if they are in host memory."""
        return self._rows.values.__getitem__ if self._rows.on_cuda else None

    def like(self, found: Any) -> Any:
        """Puts a result where the rows are: in host memory or on their CUDA device."""
        return self._rows.like(found)

    def center(self, farthest: bool) -> int:
        """The row nearest to the mean row, or farthest from it; the first of equals."""
        return self.backend.center(self._rows, self.metric, farthest)

    def add_rows(self, total: Float64) -> None:
        """Adds all rows to a sum (d,), in order."""
        add_rows(self._rows.on_host(), self.metric, total)

    def nearest_to(
        self, vector: Float64, farthest: bool, among: NDArray[np.bool_] | None = None
    ) -> tuple[float, int]:
        """(squared distance, row) of the row nearest to a float64 vector, or farthest from it; the
        first of equals. `among`: which rows may be it; infinite, and any row, if none may."""
        squared = distances_to(self._rows.on_host(), self.metric, vector)
        if among is not None:
            squared[~among] = -np.inf if farthest else np.inf
        row = int(np.argmax(squared) if farthest else np.argmin(squared))
        return float(squared[row]), row

    def marks(self) -> Marks:
        """The marks of all rows, computed at the first call."""
        if self._marks is None:
            marks, step = np.empty(self.n, np.uint32), max(1, _PIECE // (8 * self.d))
            for at in range(0, self.n, step):
                marks[at : at + step] = row_marks(self._rows.take(slice(at, at + step)))
            self._marks = marks
        return self._marks

    def verify(self, marks: Marks) -> None:
        """Compares the marks of the rows with those of a checkpoint.

        Raises:
            ValueError: naming the first row that differs.
        """
        changed = np.flatnonzero(self.marks() != marks)
        if len(changed):
            raise ValueError(
                f"features: row {self.first + int(changed[0])} changed since the checkpoint was "
                f"saved ({len(changed)} of {self.n} rows did); delete the checkpoint, or pass the "
                "rows that it is of"
            )
