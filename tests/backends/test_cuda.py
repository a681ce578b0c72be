"""The CUDA backend against the oracle: whole index lists.

Without a GPU, the host build of kernels/cuda and Triton's interpreter stand in for it: everything
is tested but the devices themselves, on pools cut short. On a GPU the same tests run there, on
whole pools, with inputs that are tensors of the device.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from entroselect import (
    _dispatch,
    greedy_select,
    kl_entropy,
    nearest_distances,
    reference,
    threshold_select,
)
from entroselect.io.open import as_rows
from entroselect.scale import budget
from tests.conftest import NO_GPU, normal
from tests.support.cuda_backend import cut, same
from tests.support.pools import POOLS

torch = pytest.importorskip("torch")
settle = pytest.importorskip("entroselect.backends.cuda.settle")
pytest.importorskip("triton", reason="the filter's kernels are written in Triton")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from entroselect.backends.cuda.autotune import Tile  # noqa: E402

# The interpreter is NumPy, which warns where a GPU silently computes an infinity.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", POOLS)
def test_greedy(name: str, metric: str, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if metric == "euclidean":  # settled by conflicts where these are few, not by micro-blocks
        monkeypatch.setattr(settle, "FEW", 2)
    pool = cut(name, metric)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "24")  # many rounds, so that the filter has work
    oracle = reference.greedy_select(pool, len(pool), metric=metric)
    same(greedy_select(gpu(pool), len(pool), metric=metric), oracle)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", POOLS)
def test_threshold(name: str, metric: str, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = cut(name, metric, 70)
    k = max(1, len(pool) * 3 // 4)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "24")
    options = {"metric": metric, "decay": 0.8, "seed": 3}
    same(threshold_select(gpu(pool), k, **options), reference.threshold_select(pool, k, **options))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", POOLS)
def test_nearest(name: str, metric: str, gpu: Any) -> None:
    pool = cut(name, metric, 80)
    if len(pool) < 2:
        pytest.skip("a single row has no neighbour")
    same(
        nearest_distances(gpu(pool), metric=metric),
        reference.nearest_distances(pool, metric=metric),
    )


@pytest.mark.parametrize("name", ["digits", "duplicates", "unequal_clusters", "one_outlier"])
@pytest.mark.parametrize("k", [3, 20])
def test_several_neighbours(name: str, k: int, gpu: Any) -> None:
    pool = cut(name, rows=170)
    same(
        nearest_distances(gpu(pool[:30]), gpu(pool[10:]), k),
        reference.nearest_distances(pool[:30], pool[10:], k),
    )


def test_neighbours_among_several_blocks_of_points(gpu: Any) -> None:
    pool = cut("unequal_clusters", rows=150)
    limit = 2 * 64 * 140  # 64 coded rows at a time
    same(nearest_distances(gpu(pool, limit=limit)), reference.nearest_distances(pool))


@pytest.mark.parametrize("k", [1, 4])
def test_neighbours_in_tiles(k: int, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies lie in several tiles, whose lists are merged by (distance, index)."""
    pool = np.repeat(cut("images", rows=20), 3, axis=0)
    plan = budget.TilePlan(23, 17)
    monkeypatch.setattr(budget, "plan_alone", lambda *_: plan)
    for against in (None, pool[::-1].copy()):
        there = None if against is None else gpu(against)
        found = nearest_distances(gpu(pool), there, k, memory_limit="1GiB")
        same(found, reference.nearest_distances(pool, against, k))
        assert found.profile["tiles"] > 5


@pytest.mark.parametrize("queries", [np.float64, np.float16, np.uint8])
@pytest.mark.parametrize("points", [np.float32, np.float64])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_queries_and_points_of_other_types(
    queries: type, points: type, metric: str, gpu: Any
) -> None:
    rng = np.random.default_rng(0)
    q, p = (rng.integers(1, 200, (n, 20)).astype(t) for n, t in ((20, queries), (70, points)))
    oracle = reference.nearest_distances(q, p, metric=metric)
    same(nearest_distances(gpu(q), gpu(p), metric=metric), oracle)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_selected_vectors(dtype: type, metric: str, gpu: Any) -> None:
    pool = POOLS["digits"]()[:120]
    vectors = np.random.default_rng(5).integers(1, 17, (37, 64)).astype(dtype)
    options: dict[str, Any] = {"selected": vectors, "metric": metric}
    oracle = reference.greedy_select(pool, 60, **options)
    options["selected"] = gpu(vectors)
    same(greedy_select(gpu(pool), 60, **options), oracle)


def test_selected_indices_and_min_distance(gpu: Any) -> None:
    pool = cut("unequal_clusters", rows=150)
    before = [3, 149, 77]
    whole = reference.greedy_select(pool, 80, selected=before)
    limit = float(whole.distances[50])
    options = {"selected": before, "min_distance": limit}
    same(greedy_select(gpu(pool), 80, **options), reference.greedy_select(pool, 80, **options))
    same(
        threshold_select(gpu(pool), 80, selected=before),
        reference.threshold_select(pool, 80, selected=before),
    )


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("start", ["center", "farthest-from-center", "random", 7])
def test_starts(start: Any, metric: str, gpu: Any) -> None:
    pool = normal(90, 19) + 3
    options = {"start": start, "metric": metric, "seed": 11 if start == "random" else None}
    same(greedy_select(gpu(pool), 30, **options), reference.greedy_select(pool, 30, **options))


@pytest.mark.parametrize("block", ["1", "7", "64", "1000"])
def test_block_size_changes_nothing(block: str, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = cut("digits", rows=300)
    monkeypatch.setenv("ENTROSELECT_BLOCK", block)
    k = {"1": 20, "7": 100}.get(block, 200)
    same(greedy_select(gpu(pool), k), reference.greedy_select(pool, k))


def test_more_pairs_than_there_is_room_for(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal rows far from the centre leave every pair open."""
    pool = np.concatenate([normal(70, 8), np.full((40, 8), 50, np.float32)])
    pool[70:, 0] += np.random.default_rng(1).integers(0, 2, 40) * np.float32(1e-5)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "40")
    few = {"columns": 16, "capacity": 512}
    same(greedy_select(gpu(pool, **few), 100), reference.greedy_select(pool, 100))
    monkeypatch.setattr("entroselect.backends.cuda.nearest.PAIRS", 300)
    same(nearest_distances(gpu(pool, **few), k=2), reference.nearest_distances(pool, k=2))


def test_copies_are_compared_with_few_of_each_other(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that has k copies at lower indices than all points left is finished."""
    from entroselect.backends.cuda import nearest

    pairs = []
    recheck = nearest.Search._recheck

    def counted(self: Any, found: Any, batch: Any) -> None:
        pairs.append(len(found.slot))
        recheck(self, found, batch)

    monkeypatch.setattr(nearest.Search, "_recheck", counted)
    monkeypatch.setattr(nearest, "FIRST", 8)
    equal = np.ones((96, 3), np.float32)
    same(nearest_distances(gpu(equal)), reference.nearest_distances(equal))
    assert 7 * len(equal) < sum(pairs) <= 8 * len(equal)
    # Copies that begin in a range of many columns, which is halved where it overflows.
    pairs.clear()
    late = np.concatenate([normal(66, 3), equal[:62]])
    same(nearest_distances(gpu(late, columns=16, capacity=512)), reference.nearest_distances(late))
    assert sum(pairs) < (24 * 62 + 20 * 66 if NO_GPU else 64 * 62 + 40 * 66)


def test_a_copy_at_a_higher_index_finishes_nothing(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entroselect.backends.cuda.nearest.MANY", -1)
    monkeypatch.setattr("entroselect.backends.cuda.nearest.FIRST", 1)  # at least 4 for k = 1
    gpu(np.zeros((1, 1)))  # for the backend alone
    points = np.zeros((5, 2), np.float32)
    points[4] = 1
    squared, indices = np.zeros((3, 1)), np.full((3, 1), 7)
    _dispatch.BACKENDS["cuda"]("cuda").update_neighbours(
        as_rows("queries", np.ones((3, 2), np.float32)), as_rows("points", points), 0,
        squared, indices, "euclidean", None,
    )  # fmt: skip
    assert indices.ravel().tolist() == [4] * 3


class Waits(TorchDispatchMode):  # type: ignore[misc]
    """Counts the calls of torch for which the host waits for a GPU."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        places = args[1] if name.startswith("index") and len(args) > 1 else ()
        masked = isinstance(places, (list, tuple)) and any(
            place is not None and place.dtype == torch.bool for place in places
        )
        if masked or name in ("_local_scalar_dense", "nonzero", "_unique2", "masked_select"):
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("k", [1, 3])
def test_one_wait_for_each_range(k: int, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And at most two more, where rows have met many points in the first ranges."""
    from entroselect.backends.cuda import nearest

    pool = gpu(normal(70, 8))
    held = _dispatch.BACKENDS["cuda"]("cuda")._hold(as_rows("pool", pool), "euclidean")
    monkeypatch.setattr(nearest, "FIRST", 12)
    search = nearest.Search(held, held, k, Tile(32, 32, 32, 4, 1))
    passes, recheck = 0, search._recheck

    def counted(*given: Any) -> None:
        nonlocal passes
        passes += 1
        recheck(*given)

    monkeypatch.setattr(search, "_recheck", counted)
    waits, tolist = Waits(), torch.Tensor.tolist

    def listed(tensor: Any) -> Any:  # by which torch asks for values without an operation
        waits.count += 1
        with torch.utils._python_dispatch._disable_current_modes():
            return tolist(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", listed)
    with waits:
        search.run(None)
    assert passes >= 4
    assert passes <= waits.count <= passes + 2


def test_a_pool_whose_codes_do_not_fit(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = cut("unequal_clusters", rows=200)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "40")
    same(greedy_select(gpu(pool, limit=20000), 150), reference.greedy_select(pool, 150))


def test_out_of_memory_takes_smaller_tiles_then_says_what_it_needs(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from entroselect.backends.cuda.frame import Frame

    if not NO_GPU:
        pytest.skip("needs tiles smaller than a GPU's")
    pool = cut("unequal_clusters", rows=200)
    room, largest = Frame.room, 40

    def full(self: Any, rows: Any, n: int) -> Any:
        if n > largest:
            raise torch.OutOfMemoryError("no more")
        return room(self, rows, n)

    monkeypatch.setattr(Frame, "room", full)
    same(nearest_distances(gpu(pool)), reference.nearest_distances(pool))
    largest = 20
    with pytest.raises(MemoryError, match=r"backend 'cuda': \d+ more bytes of GPU memory needed"):
        nearest_distances(gpu(pool))


def test_the_filter_does_the_work(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = normal(400, 64)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "60")
    found = greedy_select(gpu(pool), 120)
    same(found, reference.greedy_select(pool, 120))
    profile = found.profile
    assert 0 < profile["pairs"] < 0.8 * 400 * 120  # lazy
    assert 0 < profile["rechecks"] < 0.15 * profile["pairs"] + 4 * 400  # certified


@pytest.mark.parametrize("columns", [16, 64])
@pytest.mark.parametrize("name", ["digits", "unequal_clusters", "one_outlier"])
def test_tiles_copied_by_descriptors(
    name: str, columns: int, gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rows by index and of rows in order, with a last tile that is not full."""
    pool = cut(name, rows=107)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "24")
    tile = {"columns": columns, "tma": True}
    k = min(90, len(pool))
    same(greedy_select(gpu(pool, **tile), k), reference.greedy_select(pool, k))
    same(nearest_distances(gpu(pool, **tile)), reference.nearest_distances(pool))
    queries = pool[:30]
    same(
        nearest_distances(gpu(queries, **tile), gpu(pool[10:], **tile), 5),
        reference.nearest_distances(queries, pool[10:], 5),
    )


def test_a_near_code_does_not_hide_a_nearer_row(gpu: Any) -> None:
    """What roundings of codes move together and apart, in tiles met one after the other: the codes'
    nearest is another row than the nearest."""
    step = (
        2.0**-10
    )  # of float16 from 1 to 2, and of codes: the frame is centred at 0 and scaled by 1
    a, rows = 0.3, np.zeros((100, 1))
    rows[::10, 0] = 1.0
    rows[5::10, 0] = -1.0
    # Codes: the query's is 1.5, one is 480 steps to its right, one 481 to its left. The rows
    # themselves: 480 + 2a and 481 - 2a, and a is more than a quarter.
    rows[[1, 42, 73], 0] = 1.5 - a * step, 1.5 + (480 + a) * step, 1.5 - (481 - a) * step
    same(nearest_distances(gpu(rows), k=1), reference.nearest_distances(rows))


def test_entropy_and_copies(gpu: Any) -> None:
    pool = cut("duplicates", rows=120)
    with pytest.raises(ValueError, match="have their nearest row at distance 0"):
        kl_entropy(gpu(pool))
    ours = kl_entropy(gpu(pool), duplicates="drop")
    oracle = kl_entropy(pool, duplicates="drop", backend="reference")
    assert float(ours) == float(oracle)
    assert ours.n == oracle.n


def test_progress(gpu: Any) -> None:
    calls: list[tuple[int, int]] = []
    nearest_distances(gpu(normal(50, 8)), progress=lambda done, n: calls.append((done, n)))
    assert calls[-1] == (50, 50)


def test_smallest_distances_are_kept_apart(gpu: Any) -> None:
    """A row's residual may be far larger than the distances to its copies."""
    pool = np.repeat(normal(12, 33, dtype=np.float64), 8, axis=0)
    pool += np.arange(96)[:, None] % 8 * 1e-13
    assert math.isfinite(float(kl_entropy(pool)))
    same(nearest_distances(gpu(pool)), reference.nearest_distances(pool))
