"""Calls of the core's codes of rows that are not in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from entroselect import _core
from entroselect.io.rows import Rows


def code_calls(rows: Rows, isa: str) -> dict[str, Callable[[], Any]]:
    """Calls of every function of `_core.CodePool` on some rows, by name."""

    weights = np.geomspace(0.1, 10, rows.n)

    def lowered(cosine: bool) -> Any:
        pool = _core.CodePool(rows.values, rows.dtype, cosine, isa, rows.n - 50, 2)
        pool.code(rows.values, rows.dtype)
        pool.add_picks(rows.values[50:90], rows.dtype)
        bounds = np.full(rows.n, np.inf)
        pool.refresh(np.arange(0, rows.n - 50, 3), 1e-300, bounds)
        pool.meet(np.arange(20))
        pool.add_picks(rows.values[90:99], rows.dtype)
        pool.refresh(np.arange(0, rows.n - 50, 3), 1e-200, bounds, weights)
        return [bounds]

    return {"codes": lambda: lowered(False), "codes cosine": lambda: lowered(True)}
