"""Selection from rows that are read piece by piece: whole index lists equal the oracle's."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import engine, greedy_select, open_pool, reference, threshold_select
from entroselect.backends.cpu import Cpu
from entroselect.io.open import as_rows
from entroselect.scale import budget, streamed_pool
from tests.conftest import BACKENDS, normal, same_selection
from tests.support.limits import smallest_limit
from tests.support.pools import POOLS


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles and blocks of as few as three rows."""
    monkeypatch.setattr(budget, "LEAST_ROWS", 3)


@pytest.fixture
def coded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of the first two thirds of the rows."""
    whole = budget.Budget.of

    def of(limit: int, n: int, *given: Any) -> budget.Budget:
        return dataclasses.replace(whole(limit, n, *given), coded=2 * n // 3)

    monkeypatch.setattr(budget.Budget, "of", of)


# Blocks of three rows make many rounds, so most cases are slow.
QUICK = [(name, 4) for name in ("duplicates", "integer_grid", "denormals")]
CASES = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
    for case in itertools.product(POOLS, (1, 4))
]


@pytest.mark.parametrize(("name", "room"), CASES)
def test_adversarial_pools(
    name: str, room: int, tiny: None, request: pytest.FixtureRequest
) -> None:
    if room == 4:
        request.getfixturevalue("coded")
    pool = POOLS[name]()[: 300 if room == 1 else 600]
    limit = smallest_limit(greedy_select, pool, 1) + 16 * (room - 1) * len(pool)
    k = max(1, len(pool) // (2 if room == 4 else 10))
    oracle = reference.greedy_select(pool, k)
    found = greedy_select(pool, k, memory_limit=limit)
    same_selection(found, oracle)
    assert "bytes_read" in found.profile or len(pool) < 3  # it did not simply fit
    oracle = reference.threshold_select(pool, k, decay=0.7)
    same_selection(threshold_select(pool, k, decay=0.7, memory_limit=limit), oracle)


@pytest.mark.slow
@pytest.mark.parametrize("backend", [BACKENDS[0], BACKENDS[-1]])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_options(metric: str, backend: str, tiny: None, tmp_path: Path) -> None:
    pool = normal(300, 12)
    limit = smallest_limit(greedy_select, pool, 1)
    for options in (
        {"start": "center"},
        {"start": "random", "seed": 3},
        {"start": 299},
        {"selected": [7, 3, 250]},
        {"selected": normal(40, 12, seed=9).astype(np.float64)},
        {"min_distance": 0.3 if metric == "cosine" else 2.5},
    ):
        oracle = reference.greedy_select(pool, 50, metric=metric, **options)
        found = greedy_select(
            pool, 50, metric=metric, backend=backend, memory_limit=2 * limit, **options
        )
        same_selection(found, oracle)
    for options in (
        {"order": np.random.default_rng(0).permutation(300)},
        {"seed": 5, "threshold": 0.4, "decay": 0.5},
        {"selected": [7, 3, 250], "decay": 0.8},
    ):
        oracle = reference.threshold_select(pool, 50, metric=metric, **options)
        found = threshold_select(
            pool, 50, metric=metric, backend=backend, memory_limit=limit, **options
        )
        same_selection(found, oracle)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "int32", ">f4"])
def test_files(dtype: str, tiny: None, tmp_path: Path) -> None:
    pool = (normal(500, 8) * 50).clip(0).astype(dtype)
    np.save(tmp_path / "pool.npy", pool)
    oracle = reference.greedy_select(pool, 120)
    source = open_pool(tmp_path / "pool.npy")
    limit = smallest_limit(greedy_select, pool, 1) + 4000
    found = greedy_select(source, 120, memory_limit=limit)
    same_selection(found, oracle)
    assert found.profile["bytes_read"] == source.bytes_read >= pool.nbytes
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    same_selection(
        greedy_select(mapped, 120, memory_limit=limit),
        oracle,
    )
    same_selection(greedy_select(source, 120), oracle)


@pytest.mark.slow
def test_rows_are_read_a_handful_of_times(tmp_path: Path) -> None:
    pool = normal(20000, 32)
    np.save(tmp_path / "pool.npy", pool)
    source = open_pool(tmp_path / "pool.npy")
    found = greedy_select(source, 2000, memory_limit=1_500_000)
    same_selection(found, greedy_select(pool, 2000))
    assert found.profile["reads_per_row"] < 5


def test_everything_that_fits_is_held(tmp_path: Path) -> None:
    pool = normal(300, 8)
    found = greedy_select(pool, 30, memory_limit="1GiB")
    assert "bytes_read" not in found.profile
    same_selection(found, reference.greedy_select(pool, 30))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_bad_values_are_named_by_their_row(bad: float, tiny: None) -> None:
    pool = normal(300, 8).astype(np.float64)
    limit = smallest_limit(greedy_select, pool, 1)
    pool[211, 5] = bad
    with pytest.raises(ValueError, match=r"features: .*row 211.*column 5"):
        greedy_select(pool, 30, memory_limit=limit)


def test_a_zero_row_has_no_direction(tiny: None) -> None:
    pool = normal(300, 8)
    pool[77] = 0
    with pytest.raises(ValueError, match=r"features: row 77 .*cosine"):
        greedy_select(
            pool, 30, metric="cosine", memory_limit=smallest_limit(greedy_select, pool, 1)
        )


def test_values_come_in_the_order_asked_for() -> None:
    pool = normal(50, 4)
    opened = streamed_pool.StreamedPool(
        open_pool(pool), "euclidean", None, budget.BYTES_PER_ROW * 50 + 10**6
    )
    rows = np.array([31, 2, 2, 49, 0])
    assert (opened.take(rows) == as_rows("pool", pool).values[rows]).all()


@pytest.mark.parametrize("seeds", [range(first, first + 100) for first in range(0, 400, 100)])
def test_a_block_is_settled_up_to_its_rival(seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers, so that rows of the block fall to the very bound of the best row outside."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        monkeypatch.setenv("ENTROSELECT_BLOCK", str(rng.integers(1, 30)))
        rows = rng.integers(0, 4, (40, 3)).astype(np.float32)
        bounds = ((rows - rng.integers(0, 4, 3)) ** 2).sum(axis=1, dtype=np.float64)
        rival, place = float(rng.integers(0, 8)), int(rng.integers(0, 41))
        limit, floor = int(rng.integers(0, 41)), float(rng.integers(0, 4))
        block = Cpu(BACKENDS[0]).new_pool(as_rows("rows", rows), "euclidean", sub=True)
        block.restart(bounds, np.zeros(40, np.int64))
        found, squared, ahead = engine.settle_block(block, rival, place, limit, floor)

        picked, at, next_one = [], [], -1.0
        while True:
            best = int(np.argmax(bounds))
            if not (bounds[best] > rival or (bounds[best] == rival and best < place)):
                break
            if len(picked) == limit or bounds[best] < floor:
                next_one = bounds[best]
                break
            picked.append(best)
            at.append(bounds[best])
            bounds = np.minimum(bounds, ((rows - rows[best]) ** 2).sum(axis=1))
            bounds[picked] = -1
        assert (found.tolist(), squared.tolist(), ahead) == (picked, at, next_one)
        kept, met = block.state()
        assert (kept >= bounds).all()
        assert (kept[met == len(picked)] == bounds[met == len(picked)]).all()
