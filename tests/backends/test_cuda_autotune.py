"""Which shape of tiles is taken. test_cuda.py tests that every shape gives the same answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import NO_GPU, normal, same_selection

torch = pytest.importorskip("torch")
tiles = pytest.importorskip("entroselect.backends.cuda.autotune")
errors = pytest.importorskip("triton.runtime.errors")

A, B, C = (replace(tiles.TILES[9][0], stages=stages) for stages in (2, 3, 4))
TOO_LARGE = errors.OutOfResources(2, 1, "shared memory")


def _timing(calls: list[Any], **milliseconds: Any) -> Any:
    def timed(tile: Any) -> float:
        calls.append(tile)
        found = milliseconds["ABC"[tile.stages - 2]]
        if isinstance(found, Exception):
            raise found
        return float(found)

    return timed


@pytest.mark.parametrize(
    ("milliseconds", "best", "timed"),
    [
        ({"A": 3, "B": 2, "C": 1}, C, [A, B, C]),
        ({"A": 1, "B": 2, "C": 3}, A, [A, B, C]),
        ({"A": 2, "B": 1, "C": 1}, B, [A, B, C]),
        ({"A": 1, "B": TOO_LARGE, "C": 0.5}, C, [A, B, C]),
        ({"A": TOO_LARGE, "B": 2, "C": 1}, C, [A, B, C]),
        ({"A": 1, "B": RuntimeError("PassManager::run failed"), "C": 2}, A, [A, B, C]),
        ({"A": 1, "B": 0.92, "C": 0.91}, A, [A, B, C]),
        ({"A": TOO_LARGE, "B": 1, "C": 0.91}, B, [A, B, C]),
        ({"A": 9, "B": 1, "C": 1}, A, [A]),
        ({"A": 5, "B": 4, "C": 1}, B, [A, B]),
    ],
)
def test_the_first_or_what_is_clearly_faster(milliseconds: Any, best: Any, timed: Any) -> None:
    calls: list[Any] = []
    choice = tiles.fastest((A, B, C), _timing(calls, **milliseconds))
    assert (choice.tile, calls) == (best, timed)
    for tile, taken in choice.timed.items():
        failed = isinstance(milliseconds["ABC"[tile.stages - 2]], Exception)
        assert str(taken).startswith("cannot run: ") == failed


def test_a_failure_on_the_device_is_no_failure_of_a_shape() -> None:
    """After it nothing that the device returns can be trusted."""
    calls: list[Any] = []
    with pytest.raises(RuntimeError, match="illegal memory access"):
        tiles.fastest((A, B), _timing(calls, A=RuntimeError("illegal memory access"), B=1))
    assert calls == [A]
    with pytest.raises(errors.OutOfResources, match="shared memory"):
        tiles.fastest((A, B), _timing([], A=TOO_LARGE, B=TOO_LARGE))


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(tiles, "CHOICES", {})
    monkeypatch.setattr(tiles, "TILES", {9: (A, B, C), 10: (B, C)})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    return torch.device("cuda", 0)


def test_a_choice_is_made_once_for_a_device_and_a_class_of_widths(device: Any) -> None:
    calls: list[Any] = []
    timing = _timing(calls, A=3, B=2, C=1)
    for width in (768, 4096, 768):
        assert tiles.choose(device, width, 1 << 20, timing) == C
    assert calls == [A, B, C]
    other = torch.device("cuda", 1)
    for where, width in ((device, 64), (other, 768)):
        calls.clear()
        assert tiles.choose(where, width, 1 << 20, _timing(calls, A=1, B=2, C=3)) == A
        assert calls == [A, B, C]
    assert tiles.choose(device, 768, 1 << 20, timing) == C
    assert list(tiles.CHOICES) == [("GPU 0", 1024), ("GPU 0", 64), ("GPU 1", 1024)]


def test_nothing_is_timed_for_little_work_or_without_a_gpu(device: Any) -> None:
    def never(tile: Any) -> float:
        raise AssertionError

    assert tiles.choose(device, 64, 1000, never) == A
    assert tiles.choose(torch.device("cpu"), 768, 1 << 20, never) == B
    assert not tiles.CHOICES


def test_a_shape_can_be_pinned(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTROSELECT_TILE", "2")
    assert tiles.choose(device, 768, 1 << 20, _timing([], A=1)) == C
    for wrong in ("3", "-1", "big"):
        monkeypatch.setenv("ENTROSELECT_TILE", wrong)
        with pytest.raises(ValueError, match=r"ENTROSELECT_TILE: expected one of 0: 128 x"):
            tiles.choose(device, 768, 1 << 20, _timing([], A=1))


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")
def test_passes_are_timed_on_a_sample(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The passes are real, the clock is not: events count the passes before them."""
    if not NO_GPU:
        pytest.skip("needs a clock of its own")
    pytest.importorskip("triton", reason="the filter's kernels are written in Triton")
    from entroselect.backends.cuda import Cuda, filter
    from entroselect.io.open import as_rows

    passes: list[Any] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = len(passes)

        def elapsed_time(self, later: Any) -> float:
            return 1.0 / later.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(filter, "TIMED", 64 * 70 * 40)
    monkeypatch.setattr(filter, "TIMED_ROWS", 40)
    launch = filter.Filter._launch

    def counted(self: Any, tile: Any, found: Any, *given: Any, **options: Any) -> None:
        before = found.reach.clone()
        launch(self, tile, found, *given, **options)
        passes.append((given, int(found.count[1]), before, found.reach, options))

    monkeypatch.setattr(filter.Filter, "_launch", counted)
    tile = tiles.Tile(32, 32, 32, 4, 1)
    host = Cuda(request.getfixturevalue("host_kernels"), "cpu", tile)
    held = host._hold(as_rows("rows", normal(400, 64)), "euclidean")
    assert filter.Filter(held, tile)._timed()(tile) == 1 / 5  # the last that ends
    ranges, listed, before, after, options = zip(*passes, strict=True)
    assert ranges == ((40, 110),) + 5 * ((110, 180),)
    assert all(given == {"tighten": True, "stop": 0.0} for given in options)
    for start, end in zip(before[1:], after[1:], strict=True):
        assert (start == after[0]).all()
        # As when picks have doubled: every other row has a nearer one.
        assert 0.2 < (end < start).float().mean() < 0.8
    assert listed[0] >= 40 > listed[1] > 0


@pytest.mark.skipif(bool(NO_GPU), reason=f"needs a GPU: {NO_GPU}")
def test_every_shape_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    from entroselect import greedy_select, nearest_distances

    pool = normal(30_000, 600)
    monkeypatch.setattr(tiles, "CHOICES", {})
    chosen = greedy_select(pool, 300, backend="cuda")
    ((_, choice),) = tiles.CHOICES.items()
    assert all(isinstance(taken, float) for taken in choice.timed.values()), choice
    neighbours = nearest_distances(pool[:5000], backend="cuda")
    for place in range(len(tiles.table(torch.device("cuda", 0)))):
        monkeypatch.setenv("ENTROSELECT_TILE", str(place))
        same_selection(greedy_select(pool, 300, backend="cuda"), chosen)
        again = nearest_distances(pool[:5000], backend="cuda")
        assert (again.indices == neighbours.indices).all()
