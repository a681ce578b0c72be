"""How entroselect's time grows with twice the rows and twice the picks, and falls with twice the
threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from benchmarks.bench_greedy import verify as verify_selection
from benchmarks.bench_nearest import verify as verify_neighbours
from benchmarks.support.harness import THREADS, Case, Contest, ours
from benchmarks.support.pools import POOLS
from entroselect import greedy_select, nearest_distances

ROWS = [Case("normal", n, 384, 2_000) for n in (20_000, 40_000, 80_000)]
PICKS = [Case("normal", 40_000, 384, k) for k in (4_000, 8_000)]
NEIGHBOURS = [Case("normal", 20_000, 384)]


def on_one_thread(run: Callable[[], Any]) -> Any:
    """The call with ENTROSELECT_THREADS=1."""
    before = os.environ["ENTROSELECT_THREADS"]
    os.environ["ENTROSELECT_THREADS"] = "1"
    try:
        return run()
    finally:
        os.environ["ENTROSELECT_THREADS"] = before


@pytest.mark.parametrize("case", ROWS + PICKS + NEIGHBOURS, ids=lambda case: case.label)
def bench_scaling(case: Case, benchmark: Any, save: Any) -> None:
    """Selection, or neighbours where k is 1: on all threads and on one."""
    case = case.here()
    x = POOLS[case.pool](case.n, case.d)
    selects = case.k > 1
    run = partial(greedy_select, x, case.k) if selects else partial(nearest_distances, x)
    verify = partial(verify_selection, x, case.k) if selects else partial(verify_neighbours, x)
    field = [ours("entroselect", "auto", run)]
    if THREADS > 1:
        field.append(ours("entroselect, 1 thread", "auto", partial(on_one_thread, run), threads=1))
    save("scaling", Contest(case, field, verify).run(benchmark))
