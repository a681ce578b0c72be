"""Where backend "cuda" cannot run, and what only a GPU shows: streams, devices, larger pools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from entroselect import greedy_select, nearest_distances, reference, threshold_select
from entroselect.io.rows import Rows
from entroselect.results import on_host
from tests.conftest import NO_GPU, normal, same_selection

torch = pytest.importorskip("torch")
pytest.importorskip("triton", reason="the filter's kernels are written in Triton")

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
    from entroselect.loop.selection import choose

    pool = normal(900, 24)
    there = torch.as_tensor(pool, device="cuda")
    np.testing.assert_array_equal(
        choose(there, 200, method, drop_outliers=0.05),
        choose(pool, 200, method, drop_outliers=0.05),
    )
