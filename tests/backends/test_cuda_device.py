"""Where backend "cuda" cannot run, and what only a GPU shows: streams, devices, larger pools."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from entroselect import greedy_select, nearest_distances, reference, threshold_select
from entroselect.engine import SelectionState, farthest_first
from entroselect.io.open import as_rows
from entroselect.io.rows import Rows
from entroselect.results import on_host
from tests.conftest import NO_GPU, normal, same_selection
from tests.support.cuda_backend import new_block

torch = pytest.importorskip("torch")
pytest.importorskip("triton", reason="the filter's kernels are written in Triton")
Counting = pytest.importorskip("tests.support.device_calls").Counting
Cuda = pytest.importorskip("entroselect.backends.cuda").Cuda
Tile = pytest.importorskip("entroselect.backends.cuda.autotune").Tile

# The interpreter is NumPy, which warns where a GPU silently computes an infinity.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")


def test_without_a_gpu_it_says_so() -> None:
    if not NO_GPU:
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="backend: 'cuda' cannot run here: ") as refused:
        greedy_select(normal(10, 3), 2, backend="cuda")
    assert NO_GPU in str(refused.value)


def test_device_memory_is_never_read_by_a_cpu_backend() -> None:
    there = Rows(torch.zeros((4, 3)), "float32")  # a tensor is what rows on a device hold
    with pytest.raises(ValueError, match="backend: 'cpu' reads host memory"):
        greedy_select(there, 2, backend="cpu")
    if NO_GPU:
        with pytest.raises(ValueError, match="backend: 'cuda' cannot run here"):
            greedy_select(there, 2)


@pytest.mark.slow
def test_a_frontier_of_many_blocks(request: pytest.FixtureRequest) -> None:
    n = 7000 if NO_GPU else 3_000_001
    pool = new_block(request, np.zeros((n, 1), np.float32), "euclidean")
    rng = np.random.default_rng(0)
    for bounds in (rng.random(n), rng.integers(-1, 3, n) * 1.0, 1 + rng.integers(0, 9, n) * 2**-52):
        pool.restart(bounds, np.zeros(n, np.int64))
        order = np.lexsort((np.arange(n), -bounds))
        order = order[bounds[order] >= 0]
        for size in (1, n // 16, n - 1):
            rows, rival, best = pool.frontier(size)
            np.testing.assert_array_equal(on_host(rows), np.sort(order[:size]))
            left = order[size] if size < len(order) else -1
            assert (rival, best) == (bounds[left] if left >= 0 else -1, left)


@pytest.mark.slow
def test_a_round_waits_three_times(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the frontier's size, for that of its candidates, for the picks."""
    if not NO_GPU:
        pytest.skip("counts on the host build")
    kernels = request.getfixturevalue("host_kernels")
    monkeypatch.setenv("ENTROSELECT_BLOCK", "64")
    monkeypatch.setattr("entroselect.backends.cuda.settle.FEW", 0)  # always by conflicts
    with Counting(monkeypatch) as counting:
        cuda = Cuda(counting.kernels(kernels), "cpu", Tile(32, 32, 32, 4, 1))
        pool = cuda.new_pool(as_rows("pool", normal(500, 24)), "euclidean", sub=True)
        pool.filter.kernel = counting.triton(pool.filter.kernel)
        made, state = [counting.now()], SelectionState()
        farthest_first(pool, 150, None, 0, state, lambda _: made.append(counting.now()))
    rounds = [after - before for before, after in itertools.pairwise(made)]
    assert state.rounds > 5
    assert {each.waits for each in rounds[1:]} == {3}
    assert max(each.queued for each in rounds[1:]) <= 70
    # Each candidate's row and bound.
    assert max(each.to_host for each in rounds[1:]) <= 200 + 64 * 2 * 8


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "uint8"])
@pytest.mark.parametrize("d", [1, 5])
def test_input_is_checked_on_the_device(
    dtype: str, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Rows(torch.ones((9, d), dtype=getattr(torch, dtype)), dtype)
    with Counting(monkeypatch) as counting:
        assert there.first_unusable(1e150) == there.first_zero() == -1
    assert counting.now().waits == (1 if dtype == "uint8" else 2)
    there.values[[4, 6]] = 0
    assert there.first_zero() == 4
    if dtype == "uint8":
        return
    largest = 1e150 if dtype == "float64" else torch.finfo(there.values.dtype).max
    there.values[8] = -largest
    assert there.first_unusable(1e150) == -1
    for value in (math.nan, math.inf, -math.inf, *([1e151, -1e151] if largest == 1e150 else [])):
        there.values[7, d - 1] = there.values[8, 0] = value
        assert there.first_unusable(1e150) == 7


needs_gpu = pytest.mark.skipif(bool(NO_GPU), reason=f"needs a GPU: {NO_GPU}")


@needs_gpu
def test_a_larger_pool_of_every_type() -> None:
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        pool = torch.randn((20000, 96), generator=torch.Generator().manual_seed(0)).to(dtype)
        there = pool.cuda()
        for call in (
            lambda x: greedy_select(x, 1500),
            lambda x: threshold_select(x, 1500),
            lambda x: nearest_distances(x, k=1),
            lambda x: nearest_distances(x[:2000], x, k=5),
        ):
            ours, cpu = call(there), call(pool)
            assert ours.indices.device == there.device
            np.testing.assert_array_equal(on_host(ours.indices), cpu.indices)
            np.testing.assert_array_equal(on_host(ours.distances), cpu.distances)


@needs_gpu
def test_the_callers_stream_and_device_are_used() -> None:
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        stream = torch.cuda.Stream(device)
        with torch.cuda.stream(stream):
            # Still being filled when the selection starts: another stream would read zeros.
            pool = torch.zeros((50000, 64), device=device)
            for _ in range(50):
                pool = pool @ torch.eye(64, device=device)
            pool += torch.arange(3200000, device=device).reshape(50000, 64) % 251
            found = greedy_select(pool, 300)
        stream.synchronize()
        assert found.indices.device == device
        np.testing.assert_array_equal(
            on_host(found.indices), greedy_select(on_host(pool), 300).indices
        )


@needs_gpu
def test_host_arrays_may_be_sent_there() -> None:
    pool = normal(3000, 40)
    found = greedy_select(pool, 200, backend="cuda")
    assert isinstance(found.indices, np.ndarray)
    same_selection(found, reference.greedy_select(pool, 200))


@needs_gpu
@pytest.mark.parametrize("method", ["greedy", "threshold", "variance", "random", "none"])
def test_the_loop_chooses_the_same_from_features_on_the_device(method: Any) -> None:
    choose = pytest.importorskip("entroselect.loop.selection", exc_type=ImportError).choose
    pool = normal(900, 24)
    there = torch.as_tensor(pool, device="cuda")
    np.testing.assert_array_equal(
        choose(there, 200, method, drop_outliers=0.05),
        choose(pool, 200, method, drop_outliers=0.05),
    )
