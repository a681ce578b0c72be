"""Calls of what anchored selection uses of the core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from entroselect import _core
from entroselect.io.rows import Rows


def exchange_calls(rows: Rows, isa: str) -> dict[str, Callable[[], list[Any]]]:
    """By the name of the entry into the core: a call of it, over at least 30 tiny rows."""
    given = rows.values, rows.dtype
    attraction = np.arange(rows.n) % 50 << 20
    logs = np.geomspace(1e-300, 1e300, 999)

    def distances() -> list[Any]:
        totals = np.zeros(rows.n)
        _core.add_distances(*given, *given, False, isa, 2, totals)
        return [totals]

    def exchanges() -> list[Any]:
        squared, others = _core.nearest(*given, *given, True, 5, False, isa, "int8", 2, None)
        core = _core.Exchange(
            *given, False, isa, 2, attraction, 30, 2.0**530, 2.0**22, 2.0**-1000, 2.0**-60,
            squared, others.astype(np.int32), None,
        )  # fmt: skip
        core.begin(None)
        return [core.run(40), *core.members(), core.nearest()]

    return {
        "add_distances": distances,
        "Exchange": exchanges,
        "canonical_log": lambda: [_core.canonical_log(logs)],
    }
