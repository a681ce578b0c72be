"""Which backend serves a request, and with which error a request is refused. Tests register
backends of their own in `_dispatch.BACKENDS`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import (
    _dispatch,
    engine,
    greedy_select,
    kl_entropy,
    nearest_distances,
    open_pool,
    reference,
    threshold_select,
)
from entroselect.backends.base import not_taken
from entroselect.backends.cpu import Cpu
from entroselect.backends.faiss import Faiss
from entroselect.backends.reference import Reference
from entroselect.scale import budget
from tests.conftest import BACKENDS, NO_GPU, normal, same_neighbours, same_selection

POOL = normal(300, 6)
ARGUMENTS = ("memory_limit", "group", "checkpoint")
NEAREST_ONLY = (
    "backend: {!r} finds approximate neighbours, and selection is exact only; nearest_distances, "
    "kl_entropy, generalization_score and mean_nearest_distance take it"
)


class Partial(Cpu):
    """The CPU, as far as a test lets it."""

    def __init__(self, *takes: str) -> None:
        super().__init__(BACKENDS[0])
        self.name = "partial"
        self.takes = frozenset(takes)


@pytest.fixture
def partial(monkeypatch: pytest.MonkeyPatch) -> Any:
    def register(*takes: str) -> Partial:
        made = Partial(*takes)
        monkeypatch.setitem(_dispatch.BACKENDS, "partial", lambda name: made)
        return made

    return register


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Any]:
    """A process group of this process alone."""
    distributed = pytest.importorskip("torch.distributed")
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    yield distributed.group.WORLD
    distributed.destroy_process_group()


def _refused(message: str, call: Any, *given: Any, **more: Any) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call(*given, **more)


# What the built-in backends take


def _made(name: str) -> Any:
    if name == "cuda" and NO_GPU:
        return pytest.importorskip("entroselect.backends.cuda").Cuda(object(), "cpu")
    if name == "faiss":
        pytest.importorskip("faiss")
    return _dispatch.BACKENDS[name](name)


def test_what_each_takes() -> None:
    """The whole table: a claim more or less is a change of what may be called."""
    everything = {"selection", "nearest", *ARGUMENTS}
    constraints = {"candidates", "groups", "weights", "bits"}
    operations = {"selection", "nearest", "within", "batch", "pairs", "exchange"}
    assert Cpu.takes == {*everything, *constraints, *operations}
    assert Reference.takes == {*operations, *constraints}
    assert Faiss.takes == {"nearest"}
    assert _made("cuda").takes == {*everything, "cuda"}
    sets = [name for name in _dispatch.why_not() if name != "cuda"]
    assert list(_dispatch.BACKENDS) == ["cpu", *sets, "cuda", "reference", "faiss"]


@pytest.mark.parametrize("name", ["cpu", "reference", "faiss", "cuda"])
def test_a_method_that_is_not_taken_says_so(name: str) -> None:
    backend = _made(name)
    serves = {
        "new_pool": "selection",
        "center": "selection",
        "update_neighbours": "memory_limit",
        "add_distances": "pairs",
        "within": "within",
        "batch_centers": "batch",
        "batch_greedy": "batch",
        "exchange": "exchange",
    }
    for method, needed in serves.items():
        own = backend.loops is not None and needed == "selection"  # served without the method
        has_it = needed in backend.takes and not own
        assert (getattr(type(backend), method) is not not_taken) == has_it
        if not has_it:
            with pytest.raises(NotImplementedError, match=f"'{name}' takes .*'nearest'"):
                getattr(backend, method)("any", arguments=1)


@pytest.mark.parametrize("name", ["cpu", "reference", "faiss"])
@pytest.mark.parametrize("argument", ["memory_limit", "group"])
def test_neighbours(
    name: str, argument: str, tmp_path: Path, request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each argument is taken, and the answer is that of the oracle, or refused before any work."""
    backend = _made(name)
    monkeypatch.setattr(budget, "plan_alone", lambda *_: budget.TilePlan(70, 40))
    np.save(tmp_path / "rows.npy", POOL)
    rows = open_pool(tmp_path / "rows.npy")
    value = request.getfixturevalue("group") if argument == "group" else 1 << 30
    if argument in backend.takes:
        found = nearest_distances(rows, k=3, backend=name, **{argument: value})
        same_neighbours(found, reference.nearest_distances(POOL, k=3))
    else:
        message = f"{argument}: backend '{name}' holds all rows at once, in one process; use 'cpu'"
        _refused(message, nearest_distances, rows, backend=name, **{argument: value})
        _refused(message, kl_entropy, rows, backend=name, **{argument: value})


@pytest.mark.parametrize("name", ["cpu", "reference", "faiss"])
@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("operation", ["greedy", "threshold"])
def test_selection(name: str, argument: str, operation: str, tmp_path: Path, request: Any) -> None:
    """As above; a checkpoint is written."""
    backend = _made(name)
    select = {"greedy": greedy_select, "threshold": threshold_select}[operation]
    value: Any = {"memory_limit": "1GiB", "checkpoint": tmp_path / "state"}.get(argument)
    if argument == "group":
        value = request.getfixturevalue("group")
    given = {"backend": name, argument: value}
    if "selection" not in backend.takes:
        _refused(NEAREST_ONLY.format(name), select, POOL, 9, **given)
    elif argument not in backend.takes:
        message = f"{argument}: backend '{name}' has no use for it; leave it out"
        _refused(message, select, POOL, 9, **given)
    else:
        oracle = getattr(reference, select.__name__)
        same_selection(select(POOL, 9, **given), oracle(POOL, 9))
        assert (tmp_path / "state").exists() == (argument == "checkpoint")


def test_the_first_argument_that_is_refused_is_named() -> None:
    given: dict[str, Any] = {"backend": "reference", "checkpoint": "x", "group": True}
    for argument in ("group", "memory_limit"):
        message = f"{argument}: backend 'reference' has no use for it; leave it out"
        _refused(message, greedy_select, POOL, 2, **given)
        _refused(message, threshold_select, POOL, 2, **given)
        given["memory_limit"] = 1


# The reference


@pytest.mark.parametrize("select", [greedy_select, threshold_select])
def test_the_reference_selects_without_the_engine(
    select: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = select(POOL, 20)

    def engine_runs(*_: Any) -> None:
        raise AssertionError("the oracle must not run what it checks")

    for loop in ("farthest_first", "threshold_decay"):
        monkeypatch.setattr(engine, loop, engine_runs)
    found = select(POOL, 20, backend="reference")
    assert found.backend == "reference"
    same_selection(expected, found)
    with pytest.raises(AssertionError):
        select(POOL, 20)


# Backends of a test's own


def test_a_registered_backend_is_asked(partial: Any) -> None:
    partial("selection", "nearest")
    assert greedy_select(POOL, 5, backend="partial").backend == "partial"
    assert threshold_select(POOL, 5, backend="partial").backend == "partial"
    assert _dispatch.name_of("partial") == "partial"
    same_selection(greedy_select(POOL, 5, backend="partial"), reference.greedy_select(POOL, 5))
    known = ", ".join(("auto", *_dispatch.BACKENDS))
    assert known.endswith(", partial")
    _refused(f"backend: expected one of {known}; got 'gpu'", greedy_select, POOL, 5, backend="gpu")


def test_what_a_registered_backend_does_not_take(partial: Any, tmp_path: Path) -> None:
    partial("selection", "memory_limit")
    greedy_select(POOL, 5, backend="partial", memory_limit="1GiB")
    message = "checkpoint: backend 'partial' has no use for it; leave it out"
    _refused(message, greedy_select, POOL, 5, backend="partial", checkpoint=tmp_path / "state")
    message = "backend: 'partial' finds no neighbours; use 'cpu'"
    _refused(message, nearest_distances, POOL, backend="partial")


# Requests


def test_auto_and_the_variable(partial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    partial("selection", "nearest")
    assert _dispatch.choose("auto", "selection").name == BACKENDS[0]
    for empty in ("", "auto"):
        monkeypatch.setenv("ENTROSELECT_BACKEND", empty)
        assert _dispatch.choose("auto", "selection").name == BACKENDS[0]
    monkeypatch.setenv("ENTROSELECT_BACKEND", "partial")
    assert _dispatch.choose("auto", "selection").name == "partial"
    assert _dispatch.choose("cpu", "selection").name == BACKENDS[0]
    monkeypatch.setenv("ENTROSELECT_BACKEND", "faiss:Flat")
    message = (
        "ENTROSELECT_BACKEND: 'faiss:Flat' is approximate, and 'auto' is always exact; pass "
        "backend='faiss:Flat' where that will do"
    )
    _refused(message, _dispatch.choose, "auto", "nearest")


def test_inputs_on_a_gpu(partial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dispatch, "is_on_cuda", lambda rows: rows == "on a GPU")
    message = (
        "backend: {!r} reads host memory, but an input is on a CUDA device; move it to the CPU, or "
        "use backend='cuda'"
    )
    for name in ("cpu", BACKENDS[-1], "reference"):
        _refused(message.format(name), _dispatch.choose, name, "nearest", None, "on a GPU")
    partial("selection", "nearest", "cuda")
    assert _dispatch.choose("partial", "nearest", "on a GPU").name == "partial"
    monkeypatch.setitem(_dispatch.BACKENDS, "cuda", _dispatch.BACKENDS["partial"])
    assert _dispatch.choose("auto", "selection", "on a GPU", None).name == "partial"
    assert _dispatch.choose("auto", "selection", None).name == BACKENDS[0]


def test_what_cannot_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, reason in _dispatch.why_not().items():
        if reason:
            message = f"backend: {name!r} cannot run here: {reason}"
            _refused(message, _dispatch.choose, name, "selection")
    monkeypatch.setattr("entroselect.backends.faiss.why_not", lambda: "no such thing")
    message = "backend: 'faiss:Flat' cannot run here: no such thing"
    _refused(message, _dispatch.choose, "faiss:Flat", "selection")  # before what it does not take


@pytest.mark.parametrize("name", ["cpu:", "cuda:0", "reference:x", "faissy", "CPU", ""])
def test_unknown_names(name: str) -> None:
    with pytest.raises(ValueError, match=r"^backend: expected one of auto, cpu, cpu:.*, cuda, ref"):
        _dispatch.choose(name, "nearest")


@pytest.mark.parametrize("name", [None, 1, b"cpu"])
def test_no_string(name: Any) -> None:
    with pytest.raises(TypeError, match=f"^backend: expected a string, got {type(name).__name__}$"):
        _dispatch.choose(name, "nearest")
