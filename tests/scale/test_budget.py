"""The byte model: what docstrings and docs/scale.md state per row, what is allocated, and that the
parts of a limit fit into it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroselect import (
    _core,
    _quotas,
    greedy_select,
    kl_entropy,
    nearest_distances,
    open_pool,
    threshold_select,
)
from entroselect.scale import budget
from entroselect.scale.batches import Batches
from tests.conftest import ROOT, normal
from tests.support.processes import python

GREEDY = str(greedy_select.__doc__)
NEAREST = str(nearest_distances.__doc__)
ENTROPY = str(kl_entropy.__doc__)
SCALE = (ROOT / "docs" / "scale.md").read_text()


def pairs_of(d: int) -> int:
    return budget.suspect_bytes(d, 1)


# Where a text states "A d + B", A alone or B alone, and what computes the same.
LINES: list[tuple[str, str, Callable[[int], int]]] = [
    (GREEDY, r"at most (\d+) d \+ (\d+) bytes per row and per pick", budget.pool_bytes),
    (GREEDY, r"(\d+) d \+ (\d+) bytes per row for a k-d tree", budget.whole_pool_bytes),
    (SCALE, r"at most (\d+) d \+ (\d+) per row for codes", budget.pool_bytes),
    (SCALE, r"(\d+) d \+ (\d+) for a k-d tree", budget.whole_pool_bytes),
    (NEAREST, r"at most (\d+) d \+ (\d+) bytes per point", budget.point_bytes),
    (NEAREST, r"(\d+) d \+ (\d+) for a k-d tree", budget.point_bytes),
    (NEAREST, r"([\d.]+) d \+ (\d+) more without `points` and for k = 1", pairs_of),
    (ENTROPY, r"at most (\d+) d \+ (\d+) bytes per row", budget.point_bytes),
    (ENTROPY, r"for k = 1 another ([\d.]+) d \+ (\d+)", pairs_of),
]


@pytest.mark.parametrize(("text", "pattern", "model"), LINES)
def test_stated_bytes_per_row(text: str, pattern: str, model: Callable[[int], int]) -> None:
    stated = re.findall(pattern, " ".join(text.split()))
    assert len(stated) == 1, pattern
    slope, constant = map(float, stated[0])
    widths = (4, 5, 8) if "tree" in pattern else (9, 64, 100, 768)
    for d in widths:
        assert model(d) == int(slope * d + constant), (d, pattern)


def test_stated_bytes_of_a_pool_that_is_read() -> None:
    words = " ".join(GREEDY.split())
    stated = re.findall(r"Read piece by piece: (\d+) bytes per row and about (\d+) rows", words)
    assert stated == [(str(budget.BYTES_PER_ROW), "200")]
    assert f"`candidates` or `groups`: {_quotas.BYTES_PER_ROW} bytes per row more" in words
    assert 180 < 3 * budget.LEAST_ROWS <= 200
    stated = re.findall(r"(\d+) n, at most (\d+) n while", SCALE)
    assert stated == [(str(budget.KEPT), str(budget.BYTES_PER_ROW))]


def test_where_memory_is_stated_once() -> None:
    assert "Memory: as `greedy_select`" in str(threshold_select.__doc__)
    for text in (GREEDY, NEAREST, ENTROPY):
        assert not re.search(r"\d bytes an? (row|pick|point|query)", text)


def test_trees_take_the_place_of_codes_only_where_they_are_larger() -> None:
    assert [budget.whole_pool_bytes(d) > budget.pool_bytes(d) for d in (1, 3, 4, 8, 9)] == [
        False, False, True, True, False,
    ]  # fmt: skip
    assert budget.point_bytes(9) == 2 * 9 + 96


MEASURED = {
    # What is called, columns, filter, and what the model says of it.
    "a pool": ("greedy_select(x, 20, metric='cosine')", 64, "bf16", budget.pool_bytes),
    "a pool in a tree": ("greedy_select(x, 20)", 8, "tree", budget.whole_pool_bytes),
    "points": ("nearest_distances(x[:200], x)", 64, "bf16", budget.point_bytes),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts its pages")
@pytest.mark.parametrize("what", MEASURED)
def test_allocated_bytes_per_row(what: str) -> None:
    """Not more than the model says, beside 5 MiB for huge pages that are not full and for what is
    there once; and not much less."""
    call, d, form, model = MEASURED[what]
    n = 32 * (2**13 + 2)  # the list of panels has just grown
    code = f"""if True:
        import numpy as np
        from entroselect import greedy_select, nearest_distances
        def peak():
            status = open("/proc/self/status").read()
            return 1024 * int(status.split("VmHWM:")[1].split()[0])
        whole = np.random.default_rng(0).random(({n}, {d}), np.float32)
        x = whole[:300]
        {call}
        x = whole
        open("/proc/self/clear_refs", "w").write("5")
        before = peak()
        {call}
        print(peak() - before)
    """
    given = {"ENTROSELECT_THREADS": "1", "ENTROSELECT_FILTER": form}
    taken = int(python("-c", code, environment=given).stdout)
    assert n * (model(d) - 50) < taken < n * model(d) + (5 << 20)


@given(
    n=st.integers(1, 10**7),
    d=st.integers(1, 4000),
    itemsize=st.sampled_from([1, 2, 4, 8]),
    beyond=st.integers(0, 10**10),
    overhead=st.integers(0, 10**8),
    expected=st.integers(1, 10**6),
)
def test_the_parts_of_a_budget_fit(
    n: int, d: int, itemsize: int, beyond: int, overhead: int, expected: int
) -> None:
    row = d * itemsize
    fixed = budget.BYTES_PER_ROW * n + overhead
    least = budget.Budget.least(fixed, row, d)
    code = _core.code_pool_bytes(d, "portable")
    parts = budget.Budget.of(least + beyond, n, row, d, overhead, expected, code)
    held = row + budget.pool_bytes(d)
    tiles = parts.tile * (held + 2 * row)
    block = parts.block * (held + row)
    picks = parts.picks * (held + parts.kept * row)
    codes = parts.coded * code[0] + expected * code[1] if parts.coded else 0
    assert fixed + tiles + block + picks + codes <= least + beyond
    assert parts.coded <= n
    assert parts.tile >= budget.LEAST_ROWS
    assert parts.block >= budget.LEAST_ROWS
    assert parts.picks >= budget.LEAST_ROWS // 2
    with pytest.raises(ValueError, match=f"^memory_limit: .* works is {least}$"):
        budget.Budget.of(least - 1, n, row, d, overhead, expected, code)


def test_rows_of_an_array_are_not_counted(tmp_path: Path) -> None:
    rows = normal(1000, 20)
    np.save(tmp_path / "rows.npy", rows)
    in_file = budget.pool_needs(open_pool(tmp_path / "rows.npy"), 10, False)
    in_array = budget.pool_needs(open_pool(rows), 10, False)
    assert in_file[0] - in_array[0] == rows.nbytes
    assert in_file[1] == in_array[1]


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("against", [0, 900])
def test_the_parts_of_a_plan_fit(k: int, against: int, tmp_path: Path) -> None:
    sides: list[Any] = []
    for number, n in enumerate((5000, against)):
        np.save(tmp_path / f"{number}.npy", normal(n, 20))
        sides.append(Batches("rows", open_pool(tmp_path / f"{number}.npy")) if n else None)
    queries, points = sides
    demand = budget.demand_alone(queries, points, k)
    for limit in np.linspace(demand.least, demand.whole, 50).astype(int)[:-1].tolist():
        plan = budget.plan_alone(queries, points, k, limit)
        assert plan is not None
        taken = demand.once + plan.block * demand.block[0] + plan.tile * demand.tile[0]
        assert taken <= limit
        assert min(plan.block, plan.tile) >= min(budget.LEAST_ROWS, against or 5000)
    assert budget.plan_alone(queries, points, k, demand.whole) is None
    tiny = Batches("rows", normal(2, 20))
    with pytest.raises(ValueError, match=f"memory_limit: .* works is {demand.least}$"):
        budget.check_limit(demand.least - 1, [(queries, points, k), (tiny, None, 1)], [], None)
    budget.check_limit(demand.least, [(queries, points, k)], [], None)
