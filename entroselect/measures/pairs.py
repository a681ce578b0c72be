"""Sums over all pairs of rows of two sets, for any memory limit.

The sum of a row is added point after point, in the order of their indices, whatever the tiles are;
the sums of the rows are added exactly (`math.fsum`). So a mean over pairs of canonical distances is
the same float for every thread count, instruction set and memory limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from entroselect import _checks
from entroselect._progress import Report
from entroselect.io.open import as_rows
from entroselect.io.rows import Rows
from entroselect.results import Float64
from entroselect.scale.batches import Batches
from entroselect.scale.budget import TilePlan, check_least, demand_pairs

# Adds to totals[i] what row i and each point give, point after point.
Add = Callable[[Rows, Rows, Float64], None]

# Points at a time where nothing limits them: enough work between two reports of progress.
TILE = 1024


def opened(one: Any, other: Any, metric: str, limit: int | None) -> tuple[Batches, Batches]:
    """Both sets, checked as far as they are in memory; without a limit they are read into it."""
    _checks.choice("metric", metric, _checks.METRICS)
    given = {"one": one, "other": other}
    if limit is None:
        given = {name: as_rows(name, rows) for name, rows in given.items()}
    sets = {name: Batches(name, rows, metric) for name, rows in given.items()}
    _checks.same_width("other", sets["other"], "one", sets["one"])
    for rows in sets.values():
        rows.read_again()
    return sets["one"], sets["other"]


class PairMeans:
    """Means over all pairs of two sets, one sum after the other."""

    def __init__(
        self, sides: list[tuple[Batches, Batches]], limit: int | None, report: Report | None
    ) -> None:
        """`sides`: the pairs of sets whose means will be taken.

        Raises:
            ValueError: naming memory_limit, if it is too small for one of them.
        """
        self._report, self._done = report, 0
        self._pairs = sum(rows.n * points.n for rows, points in sides)
        self._limit = limit
        least = max(demand_pairs(*side).least for side in sides)
        check_least(limit, least, f"pairs of rows of {sides[0][0].d} columns")

    def mean(self, rows: Batches, points: Batches, add: Add) -> float:
        """The mean over all pairs of what `add` adds up."""
        plan = TilePlan(rows.n, TILE)
        if self._limit is not None:
            plan = demand_pairs(rows, points).plan(self._limit)
        totals = np.zeros(rows.n)
        for first in range(0, rows.n, plan.block):
            block = rows.piece(first, min(first + plan.block, rows.n), plan.tile)
            for _, tile in points.pieces(0, points.n, plan.tile):
                add(block, tile, totals[first : first + block.n])
                self._count(block.n * tile.n)
            del block  # before the next one is made
        return math.fsum(totals) / (rows.n * points.n)

    def _count(self, pairs: int) -> None:
        self._done += pairs
        if self._report is not None:
            self._report(self._done, self._pairs)
