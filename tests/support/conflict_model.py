"""Settling by conflicts in plain NumPy: the twin of csrc/select/conflicts.cpp, and the textbook
loop that both must equal."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

Settled = tuple[list[int], list[float], float]


def textbook(
    squared: Any, bounds: Any, rival: tuple[float, int], limit: int, floor: float
) -> Settled:
    """Farthest-first among rows with these bounds and squared distances (n, n), one pick at a
    time."""
    values, picks, at = bounds.copy(), [], []
    while True:
        best = int(np.argmax(values))  # the first of equals
        value = float(values[best])
        if value < 0 or (-value, best) >= (-rival[0], rival[1]):
            return picks, at, -1.0
        if len(picks) == limit or value < floor:
            return picks, at, value
        picks.append(best)
        at.append(value)
        values = np.where(values < 0, values, np.minimum(values, squared[best]))
        values[best] = -1.0


def by_conflicts(
    squared: Any, bounds: Any, rival: tuple[float, int], limit: int, floor: float
) -> Settled:
    """The same from the pairs nearer to each other than both bounds, without an order of picks."""
    first, second = np.nonzero(np.triu(squared < np.minimum.outer(bounds, bounds), 1))
    others = np.concatenate([second, first])[np.argsort(np.concatenate([first, second]))]
    begin = np.searchsorted(np.sort(np.concatenate([first, second])), np.arange(len(bounds) + 1))
    values, picks, at = bounds.tolist(), [], []
    last = (-rival[0], rival[1])
    heap = [(-value, row) for row, value in enumerate(values) if value >= 0]
    heap = [turn for turn in heap if turn < last]
    heapq.heapify(heap)
    while heap:
        value, row = heapq.heappop(heap)
        if values[row] < -value:  # lowered by a pick since it was pushed
            if (-values[row], row) < last:
                heapq.heappush(heap, (-values[row], row))
            continue
        if len(picks) == limit or -value < floor:
            return picks, at, -value
        picks.append(row)
        at.append(-value)
        for other in others[begin[row] : begin[row + 1]]:
            values[other] = min(values[other], float(squared[row, other]))
    return picks, at, -1.0
