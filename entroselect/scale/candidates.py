"""The candidates of a round: up-to-date rows that still beat the rival, with their values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.results import Float64, Int64

# A row by its bound; of two, the one that comes first has the larger bound, or the lower index.
Key = tuple[float, int]

# What every row comes before.
NO_ROW: Key = (-1.0, -1)


class Candidates:
    """At most `capacity` rows and their values. When there are more, the best half stays, and `cut`
    is the best row that was dropped: every row that is no candidate comes after the cut, or is it.

    Attributes:
        rows: their numbers, ascending.
        cut: bound and number of the best row dropped, `NO_ROW` where none was.
    """

    def __init__(self, capacity: int, d: int, dtype: np.dtype[Any]) -> None:
        self.capacity = capacity
        self.rows: Int64 = np.empty(0, np.int64)
        self.cut = NO_ROW
        self._bounds: Float64 = np.empty(0)
        self._values = np.empty((0, d), dtype)

    @property
    def values(self) -> NDArray[Any]:
        """Values of `rows`, (len(rows), d)."""
        return self._values[: len(self.rows)]

    def begin(self, most: int, rows: Int64, bounds: Float64) -> None:
        """Starts again without candidates, of which at most `most` will be added. The given rows
        are up to date already and will be among them: they may decide the cut at once."""
        self.clear()
        self.cut = NO_ROW
        if len(rows) > self.capacity:
            self._halve(rows, bounds)
        # Memory that is not written to is not taken.
        self._values = np.empty(
            (min(most, self.capacity), self._values.shape[1]), self._values.dtype
        )

    def add(self, rows: Int64, bounds: Float64, values: NDArray[Any], places: Int64) -> None:
        """Adds up-to-date rows, in ascending order, above all rows added before; row i's values
        are values[places[i]]."""
        cut, at = self.cut
        new = np.flatnonzero((bounds > cut) | ((bounds == cut) & (rows < at)))
        held = len(self.rows)
        rows, bounds = np.append(self.rows, rows[new]), np.append(self._bounds, bounds[new])
        if len(rows) > self.capacity:
            kept = self._halve(rows, bounds)
            rows, bounds = rows[kept], bounds[kept]
            new = new[kept[kept >= held] - held]
            kept = kept[kept < held]
            held = len(kept)
            self._values[:held] = self._values[kept]
        np.take(values, places[new], axis=0, out=self._values[held : len(rows)], mode="clip")
        self.rows, self._bounds = rows, bounds

    def clear(self) -> None:
        """Frees the rows; the cut stays."""
        self.rows, self._bounds, self._values = (
            self.rows[:0],
            self._bounds[:0],
            self._values[:0].copy(),
        )

    def _halve(self, rows: Int64, bounds: Float64) -> Int64:
        """Places of the best rows, ascending, half the capacity of them; the best of the others is
        the cut."""
        order = np.lexsort((rows, -bounds))
        half = self.capacity // 2
        self.cut = (float(bounds[order[half]]), int(rows[order[half]]))
        places: Int64 = np.sort(order[:half])
        return places
