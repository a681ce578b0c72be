"""Weighted farthest-first, against the textbook loop with the same argument."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroselect import _dispatch, greedy_select, open_pool, reference
from entroselect.scale import budget
from entroselect.scale.resident_codes import ResidentCodes
from tests.conftest import BACKENDS, normal, same_selection
from tests.support.limits import smallest_limit
from tests.support.pools import POOLS, without_zero_rows

LINE = np.arange(10.0)[:, None]


def kinds(pool: Any, metric: str = "euclidean") -> dict[str, Any]:
    """Weights of each kind: equal; few different ones; over the whole range; and such that every
    row has the same weighted distance to row 0, up to rounding."""
    n, rng = len(pool), np.random.default_rng(0)
    first = reference.greedy_select(pool, 1, metric=metric)
    assert first.indices[0] == 0
    values = reference.canonical_rows(reference.Rows(pool, str(pool.dtype)), metric)
    distances = np.sqrt(reference.squared_distances(values, values[0]))
    alike = np.clip(3.0 / np.maximum(distances, 1e-300), 1e-150, 1e150)
    return {
        "equal": np.full(n, 1 / 3),
        "few": rng.integers(1, 4, n),
        "wide": 10 ** rng.uniform(-150, 150, n).clip(-149.9, 149.9),
        "alike": alike,
    }


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", POOLS)
def test_adversarial_pools(name: str, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one block, or in many; on every instruction set in turn."""
    pool = POOLS[name]()[:150]
    if metric == "cosine":
        pool = without_zero_rows(pool)
        monkeypatch.setenv("ENTROSELECT_BLOCK", "20")
    k = max(1, len(pool) // 2)
    for backend, (_, weights) in zip(
        itertools.cycle(BACKENDS), kinds(pool, metric).items(), strict=False
    ):
        oracle = reference.greedy_select(pool, k, metric=metric, weights=weights)
        found = greedy_select(pool, k, metric=metric, weights=weights, backend=backend)
        same_selection(found, oracle)


@pytest.mark.slow
@given(
    n=st.integers(1, 250),
    d=st.one_of(st.integers(1, 4), st.integers(5, 40)),
    levels=st.sampled_from([2, 5, 100, 10**6]),
    spread=st.sampled_from([0, 0.3, 3, 140]),
    whole=st.booleans(),
    block=st.integers(1, 300),
    threads=st.integers(1, 3),
    before=st.integers(0, 3),
    half=st.booleans(),
    metric=st.sampled_from(["euclidean", "cosine"]),
    seed=st.integers(0, 2**32),
)
def test_any_pool(n, d, levels, spread, whole, block, threads, before, half, metric, seed) -> None:
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, levels, (n, d)).astype(np.float64)
    pool[:, 0] = 1
    weights = 10 ** rng.uniform(-spread, spread, n)
    weights = np.ceil(3 * weights) if whole and spread < 9 else weights
    options: dict[str, Any] = {"metric": metric, "weights": weights}
    options["selected"] = before = rng.permutation(n)[: min(before, n - 1)]
    left = np.setdiff1d(np.arange(n), before)
    if half:
        options["candidates"] = left = left[rng.random(len(left)) < 0.5]
        if len(left) == 0:
            return
    options["min_distance"] = None if seed % 2 else 0.5
    k = int(rng.integers(1, len(left) + 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENTROSELECT_BLOCK", str(block))
        patch.setenv("ENTROSELECT_THREADS", str(threads))
        same_selection(
            greedy_select(pool, k, **options), reference.greedy_select(pool, k, **options)
        )


@pytest.mark.parametrize(("coded", "cuts"), [(False, False), (False, True), (True, True)])
def test_rows_read_piece_by_piece(coded: bool, cuts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In tiles and blocks of a few rows; with frontiers that there is no room for; with codes of
    most rows, or of none."""
    monkeypatch.setattr(budget, "LEAST_ROWS", 3)
    if cuts:
        monkeypatch.setenv("ENTROSELECT_BLOCK", "60")
    divided = budget.Budget.of

    def of(limit: int, n: int, *given: Any) -> budget.Budget:
        return dataclasses.replace(divided(limit, n, *given), coded=2 * n // 3 if coded else 0)

    monkeypatch.setattr(budget.Budget, "of", of)
    for name, kind in (("duplicates", "alike"), ("integer_grid", "few"), ("digits", "wide")):
        pool = POOLS[name]()[:120]
        for more in ({}, {"groups": np.arange(len(pool)) % 3, "quotas": {0: 9}}):
            options: dict[str, Any] = {"weights": kinds(pool)[kind], **more}
            limit = smallest_limit(greedy_select, pool, 1, **options) + 2000
            found = greedy_select(pool, 40, memory_limit=limit, **options)
            assert "bytes_read" in found.profile
            same_selection(found, reference.greedy_select(pool, 40, **options))


def test_threads_that_share_the_pool() -> None:
    """So many rows that several of them compute weighted distances; the last row of a thread's part
    is the farthest of it."""
    pool, weights = normal(70_000, 2), np.random.default_rng(5).random(70_000) + 0.01
    pool[16_383::16_384] *= 99
    same_selection(
        greedy_select(pool, 6, weights=weights), reference.greedy_select(pool, 6, weights=weights)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"start": "center"},
        {"start": "random", "seed": 3},
        {"selected": [7, 3]},
        {"selected": normal(9, 5, seed=4).astype(np.float64)},
        {"candidates": np.arange(0, 300, 3)},
        {"groups": np.arange(300) % 4, "quotas": "equal"},
        {"min_distance": 0.9},
    ],
)
def test_with_other_arguments(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTROSELECT_BLOCK", "32")
    options = {"weights": np.random.default_rng(3).random(300) + 0.1, **options}
    pool = normal(300, 5)
    found, oracle = (
        select(pool, 60, **options) for select in (greedy_select, reference.greedy_select)
    )
    same_selection(found, oracle)
    assert found.counts == oracle.counts
    assert len(found) == 60 or "min_distance" in options


def test_what_distances_and_radius_are() -> None:
    """Distances without weights; the radius with them, which is what the next pick has."""
    weights = [1, 1, 1, 1, 1, 1, 1, 1, 2, 5]
    found = greedy_select(LINE, 4, weights=weights)
    assert found.indices.tolist() == [0, 9, 4, 2]
    assert found.distances.tolist() == [np.inf, 9, 4, 2]
    assert found.radius == 2.0
    assert greedy_select(LINE, 9, weights=weights, min_distance=4.0).indices.tolist() == [0, 9, 4]
    assert greedy_select(LINE, 10, weights=weights).radius == 0.0
    up = greedy_select(LINE, 4, weights=[1, 1, 1, 1, 9, 1, 1, 1, 1, 1], start=3)
    assert up.distances.tolist() == [np.inf, 1, 5, 3]  # they may increase


def test_a_power_of_two_times_the_weights_changes_no_pick() -> None:
    pool, weights = normal(400, 24), np.random.default_rng(2).random(400) + 0.01
    found = greedy_select(pool, 200, weights=weights)
    other = greedy_select(pool, 200, weights=weights * 2.0**300)
    assert found.indices.tolist() == other.indices.tolist()
    assert other.radius == found.radius * 2.0**300
    assert greedy_select(pool, 90, weights=weights).indices.tolist() == found[:90].tolist()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_selection_that_was_interrupted(
    streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its distances may increase. With other weights, or none, it does not resume."""
    monkeypatch.setattr("entroselect.scale.checkpoint.SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("entroselect.scale.checkpoint._SHARE", 1e9)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "16")
    pool, weights = normal(1000, 4), np.random.default_rng(2).random(1000) ** 2 + 0.01
    np.save(tmp_path / "pool.npy", pool)
    where = {"memory_limit": "110KiB"} if streamed else {}
    file, calls = tmp_path / "saved", itertools.count()

    def stop(*_: Any) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt

    def select(**more: Any) -> Any:
        rows = open_pool(tmp_path / "pool.npy")
        return greedy_select(rows, 80, checkpoint=file, **{"weights": weights, **where, **more})

    with pytest.raises(KeyboardInterrupt):
        select(progress=stop)
    for _ in range(2):  # from the middle, and from the end
        found = select()
        assert ("bytes_read" in found.profile) == streamed
        assert (np.diff(found.distances[1:]) > 0).any()
        same_selection(found, reference.greedy_select(pool, 80, weights=weights))
    for other in (None, weights * (1 + (np.arange(1000) == 999))):
        with pytest.raises(ValueError, match=r"checkpoint: .* another selection \(weights"):
            select(weights=other)


def test_rounds_and_pairs_stay_few() -> None:
    """Equal weights cost what none do, and unequal ones little more."""
    pool = normal(8000, 24)
    plain = greedy_select(pool, 800).profile
    equal = greedy_select(pool, 800, weights=np.full(8000, 0.7)).profile
    mild = greedy_select(pool, 800, weights=1 + np.random.default_rng(0).random(8000)).profile
    assert equal["rounds"] == plain["rounds"]
    assert equal["pairs"] == pytest.approx(plain["pairs"], rel=0.01)
    assert mild["rounds"] <= plain["rounds"] + 2
    assert mild["share_of_pairs"] < plain["share_of_pairs"]


BAD = {
    r"weights: expected one number per row of the pool, shape \(10,\).* shape \(9,\)": np.ones(9),
    r"weights: .* got dtype float64 with shape \(10, 1\)": np.ones((10, 1)),
    "weights: .* got dtype bool": np.ones(10, bool),
    "weights: .* got dtype <U1": list("aaaaaaaaaa"),
    "weights: .* got dtype float64 with shape ..$": 2.0,
    r"weights: row 3 \(the first\) has 0; expected finite numbers above 0; candidates=": [
        1, 1, 1, 0, 0, 1, 1, 1, 1, 1,
    ],
    r"weights: row 9 \(the first\) has -1; expected finite": [1] * 9 + [-1],
    "weights: row 0 .* has nan; expected finite": [np.nan] * 10,
    "weights: row 1 .* has inf; expected finite": [1, np.inf] * 5,
    r"weights: row 1 .* has 1e\+151; accepted are 1e-150 to 1e\+150; rescale": [1, 1e151] * 5,
    r"weights: row 0 .* has 1e-151; accepted are": [1e-151] * 10,
}  # fmt: skip


@pytest.mark.parametrize("why", BAD)
def test_bad_weights_are_named_before_any_work(why: str) -> None:
    for backend in ("cpu", "reference"):
        with pytest.raises(ValueError, match=why):
            greedy_select(LINE, 4, weights=BAD[why], backend=backend, progress=pytest.fail)


def test_weights_of_any_kind() -> None:
    pd, torch = pytest.importorskip("pandas"), pytest.importorskip("torch")
    for weights in ([1] * 9 + [5], pd.Series([1.0] * 9 + [5]), torch.tensor([1] * 9 + [5])):
        assert greedy_select(LINE, 3, weights=weights).indices.tolist() == [0, 9, 4]


def test_what_cannot_yet_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from entroselect.backends.cuda import Cuda

    monkeypatch.setitem(_dispatch.BACKENDS, "cuda", lambda name: Cuda(object(), "cpu"))
    with pytest.raises(
        ValueError, match="weights: backend 'cuda' compares rows by distances alone"
    ):
        greedy_select(LINE, 1, backend="cuda", weights=[1] * 10)
    with pytest.raises(ValueError, match=r"weights: several processes .* leave group out"):
        greedy_select(LINE, 1, group=True, weights=[1] * 10)


def test_narrow_rows_with_weights_take_no_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree finds the largest distance, not the largest product."""
    monkeypatch.setenv("ENTROSELECT_FILTER", "tree")
    weights = np.random.default_rng(1).random(300) + 0.1
    pool = normal(300, 3)
    found = greedy_select(pool, 100, weights=weights)
    same_selection(found, reference.greedy_select(pool, 100, weights=weights))


def test_codes_lower_bounds_as_far_as_keys_need_it() -> None:
    """A row whose key is not low enough has been compared with all picks, others with few."""
    rows, weights = 100 * normal(400, 24), 10 ** np.random.default_rng(1).uniform(-2, 2, 400)
    codes = ResidentCodes(24, "float32", "euclidean", BACKENDS[0].removeprefix("cpu:"))
    codes.begin(rows[::7], 400)
    codes.see(np.arange(400), rows)
    codes.add_picks(rows[:90], "float32")
    left, values = np.arange(90, 400), rows.astype(np.float64)
    exact = np.min(
        [reference.squared_distances(values[left], pick) for pick in values[:90]], axis=0
    )
    enough = float(np.median(weights[left] * np.sqrt(exact)))
    bounds = np.full(400, np.inf)
    codes.lower(left, enough, bounds, weights)
    low = weights[left] * np.sqrt(bounds[left]) < enough
    assert (bounds[left] >= exact).all()
    assert (bounds[left] < 1.1 * exact)[~low].all()
    assert (bounds[left] > 1.2 * exact)[low].mean() > 0.3
