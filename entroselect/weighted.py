"""Weighted farthest-first: what a pool must do so that rows are compared by weight x distance.

The engine's rounds stay as they are. Where they compare rows (the rival of a frontier, what is
enough in a refresh, the floor and the next pick of settling), a row's key is its weighted distance,
weight * sqrt(bound) in float64, and no longer its bound. Keys fall with bounds, so a row that is
not up to date has too large a key still. Bounds, and the distances of picks, stay squared.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from entroselect import engine
from entroselect.results import Float64, Int64

# The most bytes per row of the pool that a selection keeps for weights: a weight, a key and a flag,
# and for pools that are read the first two again in a tile and a block of a third of the rows each.
BYTES_PER_ROW = 17 + 2 * 16 // 3 + 1


class WeightedPool(engine.SubPool, Protocol):
    """What a pool must do besides."""

    def weigh(self, weights: Float64) -> None:
        """From now on `frontier`, `refresh` and `settle` take and return weighted distances for
        what were squared ones, but for the picks' own.

        Args:
            weights: (n,), one per row, from 1e-150 to 1e150; kept, not copied.
        """


class WeighsRows:
    """The part of a pool that has its bounds in NumPy, and compares rows in sub-pools."""

    _weights: Float64 | None = None
    _bounds: Float64

    def weigh(self, weights: Float64) -> None:
        """From now on rows are compared by their weighted distances."""
        self._weights = weights

    def keys(self, rows: Int64 | slice, bounds: Float64 | None = None) -> Float64:
        """What these rows are compared by. `bounds`: theirs, if not those of the pool."""
        bounds = self._bounds[rows] if bounds is None else bounds
        if self._weights is None:
            return bounds
        keys = np.sqrt(bounds, out=bounds.copy(), where=bounds >= 0)  # picked rows stay below 0
        keys *= self._weights[rows]
        return keys

    def weighed(self, block: Any, rows: Int64) -> Any:
        """The sub-pool over these rows, with their weights."""
        if self._weights is not None:
            block.weigh(self._weights[rows])
        return block
