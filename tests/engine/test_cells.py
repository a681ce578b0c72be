"""Picks grouped in cells, most of which the triangle inequality skips: the answer never changes,
and cells are used for clustered pools only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from entroselect import greedy_select, reference, threshold_select
from tests.conftest import best_first, normal, same_selection
from tests.support.pools import POOLS


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("block", best_first([16, 150]))
def test_cells_change_nothing(
    name: str, block: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENTROSELECT_CELLS", "always")
    monkeypatch.setenv("ENTROSELECT_BLOCK", str(block))
    pool = POOLS[name]()
    k = max(1, len(pool) * 2 // 3)
    ours = greedy_select(pool, k, backend=backend)
    same_selection(ours, reference.greedy_select(pool, k))


def test_threshold_selection_with_cells(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTROSELECT_CELLS", "always")
    monkeypatch.setenv("ENTROSELECT_BLOCK", "64")
    pool = POOLS["unequal_clusters"]()
    ours = threshold_select(pool, 400, seed=1, backend=backend)
    same_selection(ours, reference.threshold_select(pool, 400, seed=1))
    assert ours.profile["cells"] > 0


def test_cells_after_a_start_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTROSELECT_CELLS", "always")
    pool = POOLS["unequal_clusters"]()
    for selected in (list(range(0, 60, 3)), normal(20, pool.shape[1], 7)):
        ours = greedy_select(pool, 200, selected=selected)
        same_selection(ours, reference.greedy_select(pool, 200, selected=selected))


def _clusters(n: int, d: int, count: int) -> Any:
    centres = 6 * normal(count, d, 1)
    return centres[np.random.default_rng(2).integers(count, size=n)] + normal(n, d, 3)


@pytest.mark.slow
def test_cells_are_used_where_rows_lie_in_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = _clusters(6000, 512, 40)
    ours = greedy_select(pool, 3000)
    assert ours.profile["cells"] > 0
    monkeypatch.setenv("ENTROSELECT_CELLS", "never")
    plain = greedy_select(pool, 3000)
    assert plain.profile["cells"] == 0
    assert ours.profile["pairs"] < 0.7 * plain.profile["pairs"]
    same_selection(ours, plain)
    np.testing.assert_array_equal(ours.indices[:300], reference.greedy_select(pool, 300).indices)


def test_cells_are_not_used_where_rows_lie_anywhere() -> None:
    assert greedy_select(normal(6000, 512), 3000).profile["cells"] == 0


def test_the_variable_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTROSELECT_CELLS", "sometimes")
    with pytest.raises(ValueError, match="ENTROSELECT_CELLS: expected always or never"):
        greedy_select(normal(50, 20), 5)
