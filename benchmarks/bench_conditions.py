"""What conditions cost: quotas and deduplication beside plain farthest-first selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.support.harness import Case, Contest, ours
from benchmarks.support.pools import POOLS
from entroselect import deduplicate, greedy_select, reference

CASES = [Case("normal", 20_000, 64, 2_000), Case("clustered", 20_000, 384, 2_000)]
GROUPS = 10
CUT, FEW = 1_500, 150  # rows and picks that are compared with the textbook loop


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def bench_quotas(case: Case, benchmark: Any, save: Any) -> None:
    """As many rows of each of ten groups, of unequal sizes: `ratio_to_ours` of plain is below 1 by
    what quotas cost."""
    case = case.here()
    x = POOLS[case.pool](case.n, case.d)
    sizes = np.arange(1, GROUPS + 1) / np.arange(1, GROUPS + 1).sum()
    among = {"groups": np.random.default_rng(0).choice(GROUPS, case.n, p=sizes), "quotas": "equal"}

    def check(answer: Any) -> None:
        few = min(case.k, FEW)
        part = {**among, "groups": among["groups"][:CUT]}
        expected = reference.greedy_select(x[:CUT], few, **part).indices
        np.testing.assert_array_equal(greedy_select(x[:CUT], few, **part).indices, expected)

    field = [
        ours("entroselect, quotas", "auto", lambda: greedy_select(x, case.k, **among)),
        ours("entroselect", "auto", lambda: greedy_select(x, case.k)),
    ]
    save("quotas", Contest(case, field, check).run(benchmark))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def bench_deduplicate(case: Case, benchmark: Any, save: Any) -> None:
    """`deduplicate` at the radius of k picks, which keeps fewer rows, and says of every row
    of the pool which kept row is nearest, beside `greedy_select` of k."""
    case = case.here()
    x = POOLS[case.pool](case.n, case.d)
    distance = greedy_select(x, case.k).radius

    def check(answer: Any) -> None:
        expected = reference.deduplicate(x[:CUT], distance).indices
        np.testing.assert_array_equal(deduplicate(x[:CUT], distance).indices, expected)

    found = deduplicate(x, distance)
    note = f"keeps {len(found.indices):,} rows"
    field = [
        ours("entroselect, deduplicate", "auto", lambda: deduplicate(x, distance), note=note),
        ours("entroselect", "auto", lambda: greedy_select(x, case.k)),
    ]
    save("deduplicate", Contest(case, field, check).run(benchmark))
