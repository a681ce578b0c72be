"""Answers do not depend on the caller's floating-point environment, and leave it as it was."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import entroselect
from entroselect import (
    _core,
    anchored_select,
    deduplicate,
    diagnose,
    energy_distance,
    frechet_select,
    generalization_score,
    greedy_select,
    greedy_select_batch,
    kl_entropy,
    mean_nearest_distance,
    mmd,
    nearest_distances,
    neighbours_within,
    reference,
    threshold_select,
)
from entroselect._float_environment import in_default_float_environment
from entroselect.entropy import from_neighbours
from entroselect.io.open import as_rows
from tests.conftest import BACKENDS
from tests.support import processes
from tests.support.codes import code_calls
from tests.support.exchanges import exchange_calls
from tests.support.pools import POOLS

libm = ctypes.CDLL(ctypes.util.find_library("m"))
X86 = platform.machine() == "x86_64"
ROUNDING = {
    "down": 0x400 if X86 else 0x800000,
    "up": 0x800 if X86 else 0x400000,
    "to zero": 0xC00,
}
INEXACT = 0x20 if X86 else 0x10
MODES = ["flush to zero", *ROUNDING]


@contextmanager
def mode(name: str) -> Iterator[None]:
    """Sets an environment for this thread, and checks afterwards that it is still there."""
    if name == "flush to zero":
        torch = pytest.importorskip("torch")
        torch.set_flush_denormal(True)
        try:
            yield
            assert _flushes()
        finally:
            torch.set_flush_denormal(False)
    else:
        assert libm.fesetround(ROUNDING[name]) == 0
        try:
            yield
            assert libm.fegetround() == ROUNDING[name]
        finally:
            libm.fesetround(0)


def _flushes() -> bool:
    return bool((np.full(1, 5e-324) * np.ones(1))[0] == 0.0)


LINE = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])
TINY = POOLS["denormals"]()[:120]
NORMAL = np.random.default_rng(0).standard_normal((150, 6))
SHRINKING = POOLS["shrinking_rows"]()[:200]
BITS = NORMAL.repeat(3, axis=1) > 0.8
WEIGHTS = np.random.default_rng(1).random(200) + 0.1
NEAREST = nearest_distances(NORMAL)
SELECTED = greedy_select(NORMAL, 20)


def test_every_public_function_sets_the_environment() -> None:
    """But for open_pool and take, which compute nothing."""
    public = [getattr(entroselect, name) for name in entroselect.__all__]
    functions = {thing for thing in public if not isinstance(thing, type)}
    guarded = {function for function in functions if hasattr(function, "__wrapped__")}
    assert functions - guarded == {entroselect.open_pool, entroselect.take}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODES)
def test_modes_are_noticed_by_numpy(name: str) -> None:
    """Otherwise the tests below would hold for nothing."""
    sums = np.add.accumulate(NORMAL.ravel()), NORMAL * 1e-310
    with mode(name):
        others = np.add.accumulate(NORMAL.ravel()), NORMAL * 1e-310
    assert any(a.tobytes() != b.tobytes() for a, b in zip(sums, others, strict=True))


def test_pools_whose_distances_are_subnormal() -> None:
    single, double = LINE.astype("f4") * np.float32(1e-40), LINE * 1e-155
    with mode("flush to zero"):
        picked = [greedy_select(rows, 3) for rows in (single, double)]
    for found, unit in zip(picked, (float(np.float32(1e-40)), 1e-155), strict=True):
        assert found.indices.tolist() == [0, 4, 2]
        np.testing.assert_allclose(found.distances[1:], np.array([11, 2]) * unit, rtol=1e-4)
        assert found.radius == pytest.approx(unit, rel=1e-4, abs=0)


@pytest.mark.slow
def test_threads_that_were_started_under_flush_to_zero() -> None:
    """Threads last as long as the process: the first caller's environment would decide for all."""
    pytest.importorskip("torch")
    done = _python(
        """
        import os, numpy as np, torch
        from entroselect import nearest_distances
        rows = (np.random.default_rng(0).standard_normal((3000, 16)) * 1e-40).astype("f4")
        torch.set_flush_denormal(True)
        found = []
        for count in "21":
            os.environ["ENTROSELECT_THREADS"] = count
            found.append(nearest_distances(rows).distances)
        torch.set_flush_denormal(False)
        print([int((each == 0).sum()) for each in found], (found[0] == found[1]).all())
        """
    )
    assert done == "[0, 0] True"


OPERATIONS: dict[str, Callable[[], Any]] = {
    "anchored": lambda: anchored_select(NORMAL, 20, NORMAL + 1, diversity=0.1),
    "batch": lambda: greedy_select_batch(TINY.reshape(4, 30, -1)[..., :7], 20, start="center"),
    "batch wide": lambda: greedy_select_batch(TINY.reshape(2, 60, -1), 40),
    "greedy denormals": lambda: greedy_select(TINY, 60),
    "greedy normal": lambda: greedy_select(NORMAL, 100),
    "greedy cosine": lambda: greedy_select(SHRINKING, 150, metric="cosine"),
    "greedy tanimoto": lambda: greedy_select(BITS, 150, metric="tanimoto"),
    "greedy center": lambda: greedy_select(NORMAL, 10, start="center", metric="cosine"),
    "greedy min_distance": lambda: greedy_select(NORMAL, 150, min_distance=1 / 3),
    "greedy weights": lambda: greedy_select(NORMAL, 50, weights=WEIGHTS[:150], min_distance=1 / 3),
    "greedy half": lambda: greedy_select((NORMAL * 1e-6).astype("f2"), 50),
    "greedy streamed": lambda: greedy_select(
        np.tile(TINY, (60, 1)), 60, memory_limit="400KiB", start="center"
    ),
    "threshold": lambda: threshold_select(NORMAL, 100, decay=0.9),
    "threshold denormals": lambda: threshold_select(TINY, 60, threshold=1e-43),
    "energy distance": lambda: energy_distance(NORMAL, NORMAL[:70] * 2),
    "diagnose": lambda: np.array(repr(diagnose(NORMAL, NORMAL[:70] * 2).size)),
    "mmd": lambda: mmd(NORMAL, NORMAL[:70] * 2),
    "frechet select": lambda: frechet_select(NORMAL, 70, NORMAL[:70] * 2, seed=0).indices,
    "one pass": lambda: threshold_select(NORMAL, threshold=1 / 3, decay=None),
    "deduplicate": lambda: deduplicate(TINY, 1e-43),
    "deduplicate cosine": lambda: deduplicate(SHRINKING, similarity=1 / 3),
    "within": lambda: neighbours_within(TINY, distance=1e-43),
    "within underflowing": lambda: neighbours_within(POOLS["underflowing"](), distance=1e-160),
    "assign": lambda: SELECTED.assign(NORMAL),
    "nearest": lambda: nearest_distances(NORMAL, k=3),
    "nearest underflowing": lambda: nearest_distances(POOLS["underflowing"](), k=3),
    "nearest cosine": lambda: nearest_distances(SHRINKING, NORMAL, k=3, metric="cosine"),
    "nearest tanimoto": lambda: nearest_distances(BITS, k=3, metric="tanimoto"),
    "nearest streamed": lambda: nearest_distances(np.tile(TINY, (9, 1)), memory_limit="5MB"),
    "entropy": lambda: kl_entropy(NORMAL, k=2),
    "entropy denormals": lambda: kl_entropy(NORMAL * 1e-160, duplicates="drop"),
    "score": lambda: generalization_score(NORMAL[:50], NORMAL[50:] * 1e-160, kind="mse"),
    "mean distance": lambda: mean_nearest_distance(TINY),
    "reference greedy": lambda: reference.greedy_select(SHRINKING, 50, metric="cosine"),
    "reference threshold": lambda: reference.threshold_select(TINY, 50),
    "reference nearest": lambda: reference.nearest_distances(NORMAL * 1e-160),
    "reference within": lambda: reference.neighbours_within(NORMAL * 1e-160, distance=1e-160),
    "reference duplicates": lambda: reference.deduplicate(TINY, 1e-43),
    "reference entropy": lambda: reference.kl_entropy(NORMAL),
    "reference rows": lambda: reference.canonical_rows(as_rows("features", SHRINKING), "cosine"),
    "entropy of neighbours": lambda: from_neighbours(
        as_rows("features", NORMAL), NEAREST, duplicates="error"
    ),
    "reference distances": lambda: reference.squared_distances(SHRINKING, SHRINKING[5]),
}


def _bits(found: Any) -> list[bytes]:
    """Everything that an answer holds, to the last bit."""
    names = ("indices", "distances", "thresholds", "radius", "picks", "geometric_mean_distance")
    parts = [found, *(getattr(found, name, None) for name in names)]
    return [np.asarray(part).tobytes() for part in parts if isinstance(part, (float, np.ndarray))]


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_in_every_mode(operation: str) -> None:
    run = OPERATIONS[operation]
    expected = _bits(in_default_float_environment(run)())
    for name in MODES:
        with mode(name):
            found = run()
        assert _bits(found) == expected, name


def _pool_calls(rows: Any, isa: str, form: str) -> Any:
    """What a pool answers, primitive after primitive."""
    indices = np.arange(0, 200, 3)
    pool = _core.Pool(rows.values, rows.dtype, False, isa, form, "never", 2)
    pool.add_picks(indices[:1])
    pool.add_vectors(rows.values[50:53], rows.dtype)
    pool.refresh()
    parts = [*pool.frontier(50), pool.widest()]
    parts += pool.settle(np.arange(0, 200, 2), 1e-170, 7, 30, 1e-300)
    parts += pool.next_in_order(np.arange(200), 0, 20, 1e-310)
    parts += pool.settle_in_order(np.arange(1, 200, 2), 30, 1e-310)
    parts += [pool.bounds(indices)] if form == "tree" else [*pool.state(), pool.bounds(indices)]
    pool.limit_groups(np.arange(200, dtype=np.int32) % 3, np.array([2, 0, 9]))
    bounds = pool.bounds(np.arange(20))
    free = np.flatnonzero(bounds >= 0)
    pool.exclude(free)
    parts += pool.settle(np.arange(20, 200), 1e-170, 7, 30, 1e-300)
    pool.put_back(free, bounds[free])
    if form != "tree":
        pool.weigh(WEIGHTS)
        parts += [*pool.frontier(50), *pool.settle(np.arange(1, 200, 3), 1e-300, 7, 30, 1e-310)]
    pool.refresh()
    return [*parts, pool.bounds(np.arange(200))]


def _core_calls(isa: str) -> dict[str, Callable[[], Any]]:
    rows = as_rows("features", SHRINKING)
    given = rows.values, rows.dtype
    points = np.tile(np.arange(7), (rows.n, 1))

    def total() -> Any:
        total = np.zeros(rows.d)
        _core.add_rows(rows.values[150:], rows.dtype, False, total, 2)
        return [total]

    def nearest(cosine: bool, form: str) -> Any:
        return _core.nearest(*given, *given, True, 2, cosine, isa, form, 2, None)

    clouds = rows.values, rows.dtype, np.full(4, 50)
    wide = np.tile(rows.values, 2), rows.dtype, np.full(4, 50)

    def batch(clouds: Any) -> Any:
        return _core.batch_greedy(*clouds, np.arange(4), 30, isa, 2)

    def within(form: str) -> Any:
        return _core.within(*given, *given, True, 1e-310, False, isa, form, 2, None)

    bounds = np.float64(5e-324) * np.random.default_rng(0).permutation(5000)
    return {
        "tree": lambda: _pool_calls(rows, isa, "tree"),
        "int8": lambda: _pool_calls(rows, isa, "int8"),
        "bf16": lambda: _pool_calls(rows, isa, "bf16"),
        "nearest": lambda: nearest(False, "int8"),
        "nearest tree": lambda: nearest(False, "tree"),
        "nearest cosine": lambda: nearest(True, "bf16"),
        "batch_greedy": lambda: [*batch(clouds), *batch(wide)],
        "batch_centers": lambda: [_core.batch_centers(*clouds, True, isa, 2)],
        "batch_first_unusable": lambda: [_core.batch_first_unusable(*clouds, 1e-320, 2)],
        "within": lambda: [*within("int8"), *within("tree")],
        "nearest_among": lambda: _core.nearest_among(*given, *given, True, points, 2, True, 2),
        "filter_intervals": lambda: _core.filter_intervals(*given, *given, isa, "auto"),
        "first_unusable_row": lambda: [_core.first_unusable_row(*given, 1e-320, 2)],
        "first_zero_row": lambda: [_core.first_zero_row(*given, 2)],
        "frontier": lambda: _core.frontier(bounds, 100, 2),
        "add_rows": total,
        **exchange_calls(rows, isa),
        **code_calls(rows, isa),
        "distances_to": lambda: [_core.distances_to(*given, SHRINKING[199], False, 2)],
    }


@pytest.mark.parametrize("call", _core_calls("portable"))
@pytest.mark.parametrize("isa", [name.removeprefix("cpu:") for name in BACKENDS])
def test_every_entry_into_the_core(isa: str, call: str) -> None:
    """Whoever calls it without the functions of the package has the same answer."""
    run = _core_calls(isa)[call]
    expected = [np.asarray(part).tobytes() for part in in_default_float_environment(run)()]
    for name in MODES:
        with mode(name):
            found = run()
        assert [np.asarray(part).tobytes() for part in found] == expected, name


def test_no_entry_is_forgotten() -> None:
    tried = {*_core_calls("portable"), "Pool", "CodePool", "FloatEnvironment"}
    free_of_floats = {"instruction_sets", "from_dlpack", "search_bytes", "code_pool_bytes"}
    free_of_floats |= {"TREE_WIDTH"}
    rows = ("exchange", "pool", "whole_pool", "point", "query", "pair")
    free_of_floats |= {f"{name}_bytes_per_row" for name in rows}
    there = {name for name in dir(_core) if not name.startswith("_")}
    assert there - tried == free_of_floats


@pytest.mark.parametrize("name", MODES)
def test_the_environment_is_back_after_an_exception(name: str) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyError("enough")

    with mode(name), pytest.raises(KeyError):
        greedy_select(NORMAL, 100, progress=stop)
    with mode(name), pytest.raises(KeyError):
        nearest_distances(NORMAL, progress=stop)
    with mode(name), pytest.raises(ValueError, match="k: must be"):
        greedy_select(NORMAL, 1000)
    with mode(name), pytest.raises(ValueError, match="unknown dtype"):
        _core.first_zero_row(NORMAL, "float7", 1)


@pytest.mark.parametrize("name", MODES)
def test_a_callback_cannot_change_it(name: str) -> None:
    """Its environment is the default one, and what it sets ends with it."""

    def meddle(done: int, total: int) -> None:
        if name == "flush to zero":
            pytest.importorskip("torch").set_flush_denormal(True)
        else:
            libm.fesetround(ROUNDING[name])

    for run in (
        lambda progress: greedy_select(TINY, 60, progress=progress),
        lambda progress: nearest_distances(NORMAL * 1e-160, progress=progress),
        lambda progress: greedy_select(TINY, 60, progress=progress, backend="reference"),
    ):
        assert _bits(run(meddle)) == _bits(run(None))
        assert not _flushes()
        assert np.float64(1) / np.float64(3) == 0.3333333333333333
        libm.fesetround(0)  # of the x87 unit, which nothing here uses and so nothing restores


def test_environments_nest() -> None:
    with mode("up"):
        with _core.FloatEnvironment():
            assert np.float64(1) / np.float64(3) == 0.3333333333333333
            libm.fesetround(ROUNDING["down"])
            with _core.FloatEnvironment():
                assert np.float64(-1) / np.float64(3) == -0.3333333333333333
            assert np.float64(-1) / np.float64(3) == -0.33333333333333337
            libm.fesetround(ROUNDING["up"])  # of the x87 unit as well
        assert np.float64(1) / np.float64(3) == 0.33333333333333337
    environment = _core.FloatEnvironment()
    with environment, pytest.raises(RuntimeError, match="entered twice"):
        environment.__enter__()


def test_status_flags_are_the_callers() -> None:
    third = np.full(1, 3.0)
    one, out = np.ones(1), np.empty(1)
    libm.feclearexcept(INEXACT)
    with _core.FloatEnvironment():
        np.divide(one, third, out=out)
        inside = libm.fetestexcept(INEXACT)
    assert inside
    assert not libm.fetestexcept(INEXACT)


@pytest.mark.skipif(not hasattr(libm, "feenableexcept"), reason="the C library has no traps")
def test_traps_of_the_caller_do_not_go_off() -> None:
    printed = _python(
        """
        import ctypes, ctypes.util, numpy as np
        from entroselect import _core
        rows = np.random.default_rng(0).standard_normal((300, 20)) * 1e-160
        libm = ctypes.CDLL(ctypes.util.find_library("m"))
        results = []
        for traps in (0, 0x3d):  # first without, since much is set up by a first call
            libm.feclearexcept(0x3d)  # what NumPy before 2 leaves, which would go off at once
            libm.feenableexcept(traps)
            results.append(_core.distances_to(rows, "float64", rows[3], True, 2))
            libm.fedisableexcept(traps)
        print((results[0] == results[1]).all())
        """
    )
    assert printed == "True"


def _python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = processes.python("-c", textwrap.dedent(code))
    return done.stdout.strip()
