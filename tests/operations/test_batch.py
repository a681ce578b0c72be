"""greedy_select_batch against the textbook loop on every cloud."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from entroselect import BatchSelection, greedy_select_batch, reference
from tests.conftest import BACKENDS
from tests.support.pools import POOLS


def same(found: BatchSelection, clouds: Any, k: int, lengths: Any, starts: Any) -> None:
    """Every cloud's indices, distances and radius, to the last bit."""
    for cloud, (length, start) in enumerate(zip(lengths, starts, strict=True)):
        expected = reference.greedy_select(clouds[cloud][:length], k, start=start)
        assert found.indices[cloud].tolist() == expected.indices.tolist()
        np.testing.assert_array_equal(found.distances[cloud], expected.distances)
        assert found.radius[cloud] == expected.radius
    assert found.indices.dtype == np.int64
    assert found.distances.dtype == found.radius.dtype == np.float64


@pytest.mark.parametrize("name", [name for name in POOLS if name != "one_row"])
def test_adversarial_pools(name: str) -> None:
    """Two halves of a pool, all rows of one and as many as are picked of the other; its first
    columns too, whose clouds are in leaves."""
    pool = POOLS[name]()[:180]
    n = len(pool) // 2
    k = n - n // 3
    for columns in {pool.shape[1], min(3, pool.shape[1])}:
        clouds = pool[: 2 * n, :columns].reshape(2, n, columns)
        for backend in BACKENDS:
            found = greedy_select_batch(clouds, k, [n, k], start=[0, k - 1], backend=backend)
            same(found, clouds, k, [n, k], [0, k - 1])
            assert found.backend == backend


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "u1", "i2", "bfloat16"])
def test_every_width_and_dtype(dtype: str) -> None:
    """Coarse values, so that ties abound, in clouds of more than one leaf."""
    draws = np.random.default_rng(0)
    for d in (*range(1, 18), 40):
        clouds = draws.integers(0, 12, (3, 70, d)).astype("f4" if dtype == "bfloat16" else dtype)
        given = clouds
        if dtype == "bfloat16":
            torch = pytest.importorskip("torch")
            given = torch.from_numpy(clouds).bfloat16()
        same(greedy_select_batch(given, 70, start=2), clouds, 70, [70] * 3, [2] * 3)


def test_clouds_of_many_leaves_and_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """More points than one row of leaves takes (8,192), and more than a frontier takes (1,024);
    picks enough (200) for leaves of near points, with ties and copies among them."""
    draws = np.random.default_rng(1)
    for n, d, k in ((8300, 2, 1100), (2500, 3, 300), (1500, 20, 200), (450, 2, 400), (460, 5, 300)):
        clouds = draws.standard_normal((3, n, d)).astype("f4")
        if n < 500:
            clouds = np.round(4 * clouds)
        lengths = [n, k, n - 50]
        for threads in ("3", "1"):
            monkeypatch.setenv("ENTROSELECT_THREADS", threads)
            found = greedy_select_batch(clouds, k, lengths)
            if threads == "3":
                three = found
                same(found, clouds, k, lengths, [0] * 3)
        np.testing.assert_array_equal(found.indices, three.indices)


def test_points_behind_the_lengths_are_ignored() -> None:
    clouds = np.random.default_rng(2).standard_normal((5, 40, 3))
    lengths = np.array([40, 33, 32, 31, 1], dtype=np.uint8)
    expected = greedy_select_batch(clouds, 1, lengths, start="center")
    for cloud, length in enumerate(lengths):
        clouds[cloud, length:] = [np.nan, np.inf, 1e300]
    found = greedy_select_batch(clouds, 1, lengths, start="center")
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.radius, expected.radius)
    same(greedy_select_batch(clouds[:4], 31, lengths[:4]), clouds, 31, lengths[:4], [0] * 4)


@pytest.mark.parametrize("start", ["center", "farthest-from-center", "random"])
def test_starts(start: str) -> None:
    clouds = np.random.default_rng(3).integers(0, 4, (6, 50, 2))  # ties at the center too
    lengths = np.array([50, 8, 49, 20, 8, 33])
    seed = 7 if start == "random" else None
    starts = [start] * 6
    if start == "random":
        starts = np.random.default_rng(7).integers(lengths)
        assert len(set(starts.tolist())) > 3
    for backend in (*BACKENDS, "reference"):
        found = greedy_select_batch(clouds, 8, lengths, start=start, seed=seed, backend=backend)
        same(found, clouds, 8, lengths, starts)


def test_views_and_tensors() -> None:
    torch = pytest.importorskip("torch")
    channels_first = np.random.default_rng(4).standard_normal((3, 2, 30)).astype("f4")
    clouds = channels_first.transpose(0, 2, 1)
    before = clouds.copy()
    same(greedy_select_batch(clouds, 9), clouds, 9, [30] * 3, [0] * 3)
    starts = torch.tensor([1, 2, 29])
    found = greedy_select_batch(torch.from_numpy(clouds), 9, torch.full((3,), 30), start=starts)
    same(found, clouds, 9, [30] * 3, starts.tolist())
    np.testing.assert_array_equal(clouds, before)


CLOUDS = np.zeros((3, 4, 2))
REFUSED: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "points: expected a 3-D array (clouds, points, columns), got shape (4, 2)": (
        {"points": CLOUDS[0]},
        ValueError,
    ),
    "points: empty, shape (0, 4, 2)": ({"points": CLOUDS[:0]}, ValueError),
    "points: dtype complex128 is not supported": ({"points": CLOUDS * 1j}, TypeError),
    "k: must be at least 1 and at most 3 (the points of cloud 1, which has the fewest), got 4": (
        {"k": 4, "lengths": [4, 3, 4]},
        ValueError,
    ),
    "k: expected an integer, got 0.5": ({"k": 0.5}, TypeError),
    "lengths: must be at least 1 and at most 4 for cloud 2 (the first), got 5": (
        {"lengths": [4, 4, 5]},
        ValueError,
    ),
    "lengths: must be at least 1 and at most 4 for cloud 0 (the first), got 0": (
        {"lengths": [0, 4, 0]},
        ValueError,
    ),
    "lengths: expected one integer per cloud, shape (3,), got dtype int64 with shape (2,)": (
        {"lengths": [4, 4]},
        ValueError,
    ),
    "lengths: expected one integer per cloud, shape (3,), got dtype float64": (
        {"lengths": [4.0, 4.0, 4.0]},
        ValueError,
    ),
    "start: must be at least 0 and at most 2 (a point of cloud 1, which has the fewest), got 3": (
        {"start": 3, "lengths": [4, 3, 4]},
        ValueError,
    ),
    "start: must be at least 0 and at most 2 for cloud 1 (the first), got 3": (
        {"start": [3, 3, 3], "lengths": [4, 3, 3]},
        ValueError,
    ),
    "start: must be at least 0 and at most 3 for cloud 1 (the first), got -1": (
        {"start": [3, -1, 3]},
        ValueError,
    ),
    "start: expected an integer, got 0.5": ({"start": 0.5}, TypeError),
    "start: expected one of random, center, farthest-from-center, got 'middle'": (
        {"start": "middle"},
        ValueError,
    ),
    "seed: only start='random' draws anything": ({"seed": 0}, ValueError),
    "seed: must be at least 0": ({"seed": -1, "start": "random"}, ValueError),
    "backend: 'faiss'": ({"backend": "faiss"}, ValueError),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message: str) -> None:
    if "faiss" in message:
        pytest.importorskip("faiss")
    given, error = REFUSED[message]
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        greedy_select_batch(**{"points": CLOUDS, "k": 2, **given})


def test_the_first_bad_value_is_named_by_cloud_and_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where threads find others at the same time."""
    monkeypatch.setenv("ENTROSELECT_THREADS", "3")
    clouds = np.zeros((12, 40001, 2), "f4")
    clouds[3:, 39999, 1] = np.nan
    clouds[1, 40000] = np.inf  # no point
    lengths = np.full(12, 40000)
    message = "points: cloud 3: values must be finite; row 39999 (the first) holds nan at column 1"
    for _ in range(20):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            greedy_select_batch(clouds, 2, lengths)
    large = np.zeros((3, 4, 2))
    large[2, 1, 0] = -1e151
    with pytest.raises(ValueError, match=r"^points: cloud 2: row 1 holds -1e\+151 at column 0"):
        greedy_select_batch(large, 2)


def test_clouds_on_a_gpu_are_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entroselect._dispatch.is_on_cuda", lambda given: True)
    monkeypatch.setattr(
        "entroselect._dispatch.BACKENDS",
        {"cuda": lambda name: type("Gpu", (), {"name": "cuda", "takes": {"selection", "cuda"}})},
    )
    message = "backend: 'cuda' selects from one pool at a time; use 'cpu', with the points in host"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        greedy_select_batch(CLOUDS, 2)
