"""The CUDA pool: bounds and counts of met picks, rows that drop out early, blocks of streamed
pools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import _dispatch, greedy_select, open_pool, reference, threshold_select
from entroselect.scale import budget, streamed_pool
from tests.conftest import NO_GPU, normal
from tests.support.cuda_backend import cut, new_block, same
from tests.support.pool_model import Model, check

pytest.importorskip("triton", reason="the filter's kernels are written in Triton")
torch = pytest.importorskip("torch")
filter = pytest.importorskip("entroselect.backends.cuda.filter")
refresh = pytest.importorskip("entroselect.backends.cuda.refresh")
settle = pytest.importorskip("entroselect.backends.cuda.settle")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

# The interpreter is NumPy, which warns where a GPU silently computes an infinity.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", ["digits", "duplicates", "unequal_clusters"])
def test_a_block_knows_what_it_says(
    name: str, metric: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter, "PROGRAMS", 3)  # a program has several tiles of columns to leave
    monkeypatch.setattr(refresh, "STRETCHES", (8, 20))
    monkeypatch.setattr(refresh, "PAIRS", 0 if metric == "euclidean" else refresh.PAIRS)
    pool = cut(name, metric, 70)[:70]
    n = len(pool)
    block, model = new_block(request, pool, metric), Model(pool, metric)
    rng = np.random.default_rng(2)
    everything = np.arange(n)
    for round_ in range(3):
        rows = rng.choice(model.available, 3, replace=False)
        block.add_picks(rows)
        model.add_picks(rows)
        check(block, model)
        others = rng.permutation(n)[:30]
        block.refresh(others)
        check(block, model, others)
        rows = model.available[:2]  # no row meets these before more come
        block.add_picks(rows)
        model.add_picks(rows)
        # Vectors of other places, one of them this pool's, which it may not pick itself.
        given = rng.permutation(n)[:25]
        own = given[model.start[given] >= 0][:1]
        block.add_vectors(pool[given], str(pool.dtype))
        block.exclude(own)
        model.add_vectors(pool[given])
        model.exclude(own)
        check(block, model)
        # Rows at the very bound that is enough are not below it: by a stale bound, by an exact one.
        for known in (block.bounds(others), model.nearest()[others]):
            enough = float(np.sort(known)[len(known) // 2])
            block.refresh(others, enough)
            check(block, model, others, enough)
        block.refresh(None, enough)
        check(block, model, everything, enough)
        if round_ == 1:
            bounds, met = block.state()
            # Any upper bound is a valid start, and picks that a row has met must not be compared
            # again.
            bounds = np.where(bounds < 0, bounds, np.minimum(bounds * 1.5, model.start))
            met = rng.integers(0, 3, n)
            block.restart(bounds, met)
            model.restart(bounds, met)
            check(block, model)  # no row has met any pick yet
    block.refresh()
    check(block, model, everything)
    np.testing.assert_array_equal(block.bounds(everything), model.nearest())


@pytest.mark.slow
def test_a_row_below_enough_is_left_alone(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not NO_GPU:
        pytest.skip("counts pairs of small tiles")
    monkeypatch.setattr(filter, "PROGRAMS", 1)
    pool = normal(200, 16)
    near = pool + np.float32(0.01)
    counted = []
    for enough, pairs in ((0.0, refresh.PAIRS), (1.0, refresh.PAIRS), (1.0, 0)):
        monkeypatch.setattr(refresh, "STRETCHES", (32, 64))
        monkeypatch.setattr(refresh, "PAIRS", pairs)
        block, model = new_block(request, pool, "euclidean"), Model(pool, "euclidean")
        # The newest picks lie at the first 100 rows, the older ones at no row's place.
        block.add_vectors(np.concatenate([pool[:100] * 5, near[:32]]), "float32")
        model.add_vectors(np.concatenate([pool[:100] * 5, near[:32]]))
        block.refresh(None, enough)
        check(block, model, np.arange(200), enough)
        counted.append(block.profile()["pairs"])
        if enough:
            met = block.state()[1]
            assert not met[:32].any()  # dropped out, so only picks in order count
            assert np.all(met[32:][block.bounds(np.arange(32, 200)) >= enough] == 132)
            before = block.profile()["pairs"]
            block.refresh(np.arange(32), enough)  # nothing to do
            assert block.profile()["pairs"] == before
    assert counted[0] == 200 * 132
    assert counted[1] == 200 * 132 - 32 * 96  # columns 96 to 127 are one tile
    assert counted[2] == 200 * 132 - 32 * 100  # rows leave after the 32 newest columns


@pytest.mark.slow
@pytest.mark.parametrize("case", ["few", "many", "stale", "no memory"])
def test_micro_blocks_where_there_is_no_list_of_conflicts(
    case: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "FEW", 2)
    if case == "many":
        monkeypatch.setattr(settle, "CONFLICTS_PER_ROW", 0)
    pool = np.repeat(normal(40, 6), 2, axis=0)
    block, model, first = (
        new_block(request, pool, "euclidean"),
        Model(pool, "euclidean"),
        [3, 8, 21],
    )
    block.filter.limit = 1 if case == "no memory" else None
    for each in (block, model):
        each.add_picks(np.array(first))
    block.refresh()
    if case == "stale":
        for each in (block, model):
            each.add_picks(np.array([50]))
    by_conflicts, lists = settle.Settling._by_conflicts, []
    monkeypatch.setattr(
        settle.Settling,
        "_by_conflicts",
        lambda *given: (lists.append(by_conflicts(*given)), lists[-1])[1],
    )
    rows, rival, best = block.frontier(60)
    picks, squared, ahead = block.settle(rows, rival, best, 9, 0.0)
    expected = model.settle(rows.tolist(), rival, best, 9, 0.0)
    assert (picks.tolist(), squared.tolist(), ahead) == expected
    assert len(picks)
    check(block, model)
    assert [found is None for found in lists] == [case != "few"]


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", ["digits", "duplicates"])
def test_streamed_pools_of_blocks(
    name: str, metric: str, gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = cut(name, metric, 100)[:100]
    np.save(tmp_path / "pool.npy", pool)
    gpu(pool)  # for the backend alone: the rows come from the file
    monkeypatch.setenv("ENTROSELECT_BLOCK", "24")
    monkeypatch.setattr(budget, "LEAST_ROWS", 8)
    limit = budget.Budget.least(budget.BYTES_PER_ROW * 100, pool[0].nbytes, 64)
    given, opened = open_pool(tmp_path / "pool.npy"), []
    compare = streamed_pool.StreamedPool._compare
    monkeypatch.setattr(
        streamed_pool.StreamedPool,
        "_compare",
        lambda self, *rest: (opened.append(self), compare(self, *rest))[1],
    )
    options: dict[str, Any] = {"metric": metric}
    found = greedy_select(given, 70, memory_limit=limit, **options)
    same(found, reference.greedy_select(pool, 70, **options))
    found = threshold_select(given, 60, memory_limit=limit, **options)
    same(found, reference.threshold_select(pool, 60, **options))
    assert len(set(opened)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "duplicates"])
def test_stretches_of_columns_change_nothing(
    name: str, gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "STRETCHES", (10, 25, 40))
    monkeypatch.setattr(refresh, "PAIRS", 0)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "40")
    pool = cut(name, rows=300)
    same(greedy_select(gpu(pool), 150), reference.greedy_select(pool, 150))


class Launches(TorchDispatchMode):  # type: ignore[misc]
    """Counts calls of torch that work on a device, and those of a module of kernels."""

    FREE = frozenset({"alias", "as_strided", "detach", "select", "slice", "split", "view"}) | {
        "empty", "empty_like", "empty_strided"
    }  # fmt: skip

    def __init__(self, kernels: Any) -> None:
        self.kernels, self.count = kernels, 0
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ not in self.FREE
        return func(*args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.kernels, name)
        self.count += callable(found) and not isinstance(found, type)
        return found


@pytest.mark.slow
def test_a_round_takes_few_launches(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's time for them is most of what a round takes where few rows are left."""
    monkeypatch.setattr(settle, "FEW", 2)
    monkeypatch.setattr(refresh, "STRETCHES", (8, 20))
    monkeypatch.setattr(refresh, "PAIRS", 0)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "40")
    pool = gpu(normal(150, 16))
    backend = _dispatch.BACKENDS["cuda"]("cuda")
    launches, launch = Launches(backend.kernels), filter.Filter._launch

    def emulated(*given: Any, **options: Any) -> None:  # in the interpreter, with torch
        with torch.utils._python_dispatch._disable_current_modes():
            launch(*given, **options)

    if NO_GPU:
        monkeypatch.setattr(filter.Filter, "_launch", emulated)
    monkeypatch.setattr(backend, "kernels", launches)
    with launches:
        found = greedy_select(pool, 100)
    same(found, reference.greedy_select(pool, 100))
    rounds = found.profile["rounds"]
    assert rounds > 4
    # A GPU's tiles are larger than these rows: more passes are made again in parts.
    assert launches.count < (30 if NO_GPU else 40) * rounds + 40, (launches.count, rounds)


@pytest.mark.slow
def test_a_stretch_that_leaves_more_pairs_open_than_there_is_room_for(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "STRETCHES", (10,))
    monkeypatch.setattr(refresh, "PAIRS", 0)
    pool = normal(300, 16)
    vectors = np.concatenate([pool[:40] + np.float32(0.5), np.repeat(pool[:1] * 0, 10, axis=0)])
    block, model = new_block(request, pool, "euclidean"), Model(pool, "euclidean")
    for name in ("slot", "column", "score"):  # every row is as near to all of the ten newest
        setattr(block.filter, name, getattr(block.filter, name)[:1024])
    block.add_vectors(vectors, "float32")
    model.add_vectors(vectors)
    block.refresh(None, 1e-9)
    check(block, model, np.arange(300), 1e-9)
