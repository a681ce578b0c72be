"""Codes lower bounds, never below the distance, and save reading."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import greedy_select, open_pool
from entroselect._float_environment import in_default_float_environment
from entroselect.backends.cpu import distances_to
from entroselect.io.open import as_rows
from entroselect.scale.budget import Budget
from entroselect.scale.resident_codes import ResidentCodes
from tests.conftest import BACKENDS, normal, same_selection
from tests.support.pools import POOLS

ISAS = [name.removeprefix("cpu:") for name in (BACKENDS[0], BACKENDS[-1])]


@in_default_float_environment
def exact_bounds(pool: np.ndarray, metric: str, picks: np.ndarray) -> np.ndarray:
    rows = as_rows("pool", pool)
    columns = [distances_to(rows, metric, as_rows("pick", pool[[i]]).float64()[0]) for i in picks]
    return np.min(columns, axis=0)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["normal", *POOLS])
def test_bounds_are_never_below_the_distance(name: str, isa: str) -> None:
    pool = normal(500, 40) if name == "normal" else POOLS[name]()[:500]
    rows, n = as_rows("pool", pool), len(pool)
    room = 2 * n // 3
    codes = ResidentCodes(pool.shape[1], rows.dtype, "euclidean", isa)
    codes.begin(rows.values[::7], room)
    parts = np.array_split(np.arange(n), 3)
    codes.see(parts[1], rows.values[parts[1]])  # not the next ones
    for part in (*parts, parts[0]):
        codes.see(part, rows.values[part])
    bounds, whole = np.full(n, np.inf), np.arange(n)
    picks = np.random.default_rng(0).permutation(n)[:70]
    for done, more, enough in ((0, 20, 0.0), (20, 50, 0.5), (50, 70, 0.0)):
        codes.add_picks(rows.values[picks[done:more]], rows.dtype)
        exact = exact_bounds(pool, "euclidean", picks[:more])
        enough *= float(np.median(exact))
        codes.lower(whole[whole % 5 > 0], enough, bounds)
        assert (bounds >= exact).all()
        untouched = (whole % 5 == 0) | (whole >= room)
        assert (bounds[untouched] == math.inf).all()
        if name == "normal" and enough:
            close = (bounds < enough) | (bounds < 1.1 * exact)
            assert close[~untouched].all()
    codes.restart()
    codes.add_picks(rows.values[picks[:1]], rows.dtype)
    bounds[:] = np.inf
    codes.lower(whole, 0.0, bounds)
    assert (bounds >= exact_bounds(pool, "euclidean", picks[:1])).all()
    assert name != "normal" or (bounds[:room] < math.inf).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_rows_with_codes_are_read_less(
    metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = normal(3000, 128)
    np.save(tmp_path / "pool.npy", pool)
    whole, read, divided = greedy_select(pool, 150, metric=metric), [], Budget.of
    for coded in (0, 3000):

        def of(*given: Any, coded: int = coded) -> Budget:
            return dataclasses.replace(divided(*given), coded=coded)

        monkeypatch.setattr(Budget, "of", of)
        found = greedy_select(
            open_pool(tmp_path / "pool.npy"), 150, metric=metric, memory_limit=600_000
        )
        same_selection(found, whole)
        read.append(found.profile["reads_per_row"])
    assert read[1] < 1 + 0.8 * (read[0] - 1), read
