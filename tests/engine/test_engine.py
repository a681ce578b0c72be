"""What runs around the kernels: interrupts, threads, forks, progress."""

from __future__ import annotations

import _thread
import itertools
import os
import signal
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from entroselect import _core, engine, greedy_select, nearest_distances, reference, threshold_select
from tests.conftest import BACKENDS, normal, same_selection
from tests.support.processes import python

POOL = normal(3000, 64)


def test_portable_code_runs_everywhere_and_is_last() -> None:
    assert BACKENDS[-1] == "cpu:portable"


def test_the_backend_is_reported_and_can_be_given_back(backend: str) -> None:
    found = greedy_select(POOL, 5, backend=backend)
    assert found.backend == backend
    assert greedy_select(POOL, 5, backend=found.backend).backend == backend


def test_auto_is_the_best_that_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert greedy_select(POOL, 2).backend == BACKENDS[0]
    monkeypatch.setenv("ENTROSELECT_BACKEND", "cpu:portable")
    assert greedy_select(POOL, 2).backend == "cpu:portable"
    assert greedy_select(POOL, 2, backend="cpu").backend == BACKENDS[0]
    monkeypatch.setenv("ENTROSELECT_BACKEND", "reference")
    assert greedy_select(POOL, 2).backend == "reference"


@pytest.mark.slow
@pytest.mark.parametrize(
    "work",
    [
        lambda pool: greedy_select(pool, len(pool) - 1),
        lambda pool: threshold_select(pool, len(pool) - 1),
        lambda pool: nearest_distances(pool),
    ],
    ids=["greedy", "threshold", "nearest"],
)
def test_ctrl_c_stops_long_work_soon(work, monkeypatch: pytest.MonkeyPatch) -> None:
    # A process started in the background may have been told to ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setenv("ENTROSELECT_BACKEND", "cpu:portable")  # slow enough to be caught
    pool = normal(20000, 256)
    pressed: list[float] = []

    def press() -> None:
        pressed.append(time.monotonic())
        _thread.interrupt_main()

    timer = threading.Timer(0.3, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        work(pool)
    assert time.monotonic() - pressed[0] < 3
    timer.join()
    monkeypatch.setenv("ENTROSELECT_BACKEND", "cpu")
    same_selection(greedy_select(POOL, 50), greedy_select(POOL, 50, backend="cpu:portable"))


def test_ctrl_c_is_looked_for_within_a_long_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is made of many calls of a few milliseconds each."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "20000")
    pool = normal(20000, 32)
    began = time.monotonic()
    greedy_select(pool, 15000)
    whole = time.monotonic() - began
    pressed: list[float] = []

    def press() -> None:
        pressed.append(time.monotonic())
        _thread.interrupt_main()

    timer = threading.Timer(whole / 4, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        greedy_select(pool, 15000)
    assert time.monotonic() - pressed[0] < whole / 2
    timer.join()


def test_other_python_threads_run_meanwhile() -> None:
    ticks = 0
    done = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    nearest_distances(normal(6000, 256), backend="cpu:portable")
    done.set()
    ticker.join()
    assert ticks > 20


def test_several_callers_at_once() -> None:
    oracle = greedy_select(POOL, 400)
    found: list[object] = [None] * 4

    def work(place: int) -> None:
        found[place] = greedy_select(POOL, 400, backend=BACKENDS[place % len(BACKENDS)])

    callers = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for selection in found:
        same_selection(selection, oracle)  # type: ignore[arg-type]


# The child must neither wait for threads it does not have nor for a lock another thread held,
# and must be able to leave by the front door.
FORK = """
import os, sys, threading, numpy as np, entroselect as e
x = np.random.default_rng(0).standard_normal((4000, 64))
a = e.greedy_select(x, 300).indices
stop = threading.Event()
def work():
    while not stop.is_set():
        e.nearest_distances(x)
busy = threading.Thread(target=work)
if sys.argv[1] == "busy":
    busy.start()
for _ in range(5):
    child = os.fork()
    if not child:
        assert (e.greedy_select(x, 300).indices == a).all()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
@pytest.mark.parametrize("parent", ["idle", "busy"])
def test_a_forked_child_selects_too(parent: str) -> None:
    python("-W", "ignore", "-c", FORK, parent, environment={"ENTROSELECT_THREADS": "3"})


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_threads_that_cannot_be_started_do_not_hang() -> None:
    """No room for 1,000 stacks: fewer threads do the work, or a MemoryError says so."""
    code = (
        "import resource, numpy as np, entroselect as e\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "x = np.random.default_rng(0).standard_normal((3000, 32))\n"
        "try:\n"
        "    assert len(e.greedy_select(x, 200)) == 200\n"
        "except MemoryError:\n"
        "    pass\n"
    )
    python("-c", code, environment={"ENTROSELECT_THREADS": "1000", "OPENBLAS_NUM_THREADS": "1"})


@pytest.mark.parametrize("select", [greedy_select, threshold_select])
def test_progress_function(select) -> None:
    calls: list[tuple[int, int]] = []
    select(POOL, 500, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (500, 500)
    assert [total for _, total in calls] == [500] * len(calls)
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(calls))


def test_progress_true_prints_plain_lines_when_not_a_terminal(capsys) -> None:
    greedy_select(POOL, 100, progress=True)
    captured = capsys.readouterr()
    assert "greedy: 100 of 100" in captured.err
    assert captured.out == ""


def test_an_error_in_progress_stops_the_work() -> None:
    def fail(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        greedy_select(POOL, 500, progress=fail)
    with pytest.raises(RuntimeError, match="enough"):
        nearest_distances(POOL, progress=fail)


def test_progress_may_call_back_into_the_engine() -> None:
    found: list[object] = []

    def report(done: int, total: int) -> None:
        found.append(greedy_select(POOL, 20))

    nearest_distances(normal(6000, 256), backend="cpu:portable", progress=report)
    assert len(found) > 1
    same_selection(found[0], greedy_select(POOL, 20))  # type: ignore[arg-type]


def test_the_profile_counts_what_was_done() -> None:
    profile = greedy_select(POOL, 300).profile
    assert profile["pairs"] >= len(POOL)
    assert profile["rechecks"] > 0
    assert profile["threads"] >= 1
    assert 0 < profile["rounds"] < 300
    assert profile["picks_per_round"] == pytest.approx(300 / profile["rounds"])
    looked_at = profile["pairs"] + profile["settled"]
    assert profile["share_of_pairs"] == pytest.approx(looked_at / (len(POOL) * 300))
    phases = [value for name, value in profile.items() if name.endswith("_seconds")]
    assert all(0 <= value <= profile["total_seconds"] for value in phases)
    assert threshold_select(POOL, 300).profile["rounds"] > 0


@pytest.mark.parametrize(
    ("n", "made", "size", "picks", "following"),
    [
        (10**6, 1000, 8192, 256, 8192),  # what was wanted
        (10**6, 1000, 8192, 64, 32768),
        (10**6, 1000, 8192, 1, 32768),  # four times at most, up or down
        (10**6, 1000, 65536, 100_000, 16384),
        (10**6, 80_000, 8192, 2500, 16384),  # a sixteenth of the picks so far: 5,000
        (10**6, 1000, 1500, 512, 1024),  # never below
        (10**6, 1000, 100_000, 64, 125_000),  # nor beyond n / 8,
        (1600, 1000, 200, 64, 256),  # unless that is below 256
        (1000, 900, 1000, 800, 1000),  # small pools are one block
    ],
)
def test_a_frontier_aims_at_a_sixteenth_of_the_picks(
    n: int, made: int, size: int, picks: int, following: int
) -> None:
    class Sizes:
        count = made

    pool: Any = Sizes()
    pool.n = n
    assert engine.next_block_size(pool, size, picks) == following
    pool.picks_per_round, pool.block_limit = 4 * engine.PICKS_PER_ROUND, 2048  # what a pool says
    most = 2048 if n > 2048 else following
    larger = engine.next_block_size(pool, size, picks)
    assert min(following, most) <= larger <= most


def equal_bounds(n: int) -> np.ndarray:
    return np.ones(n)


def few_bounds(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-1, 3, n) * 1.0


def hidden_from_a_sample(n: int) -> np.ndarray:
    """Every bound that an even sample looks at is 0."""
    bounds = np.arange(n) / n + 1
    bounds[:: max(1, n // 2048)] = 0
    return bounds


@pytest.mark.parametrize("bounds_of", [equal_bounds, few_bounds, hidden_from_a_sample])
@pytest.mark.parametrize("size", [1, 100, 7000])
def test_a_frontier_is_the_first_rows_by_bound_and_index(bounds_of: Any, size: int) -> None:
    bounds = bounds_of(16384 * 5 + 7)
    rows, rival, rival_row = _core.frontier(bounds, size, 1)
    order = np.lexsort((np.arange(len(bounds)), -bounds))
    assert 0 < len(rows) <= 2 * size
    assert rows.tolist() == sorted(order[: len(rows)])
    assert (rival, rival_row) == (bounds[order[len(rows)]], order[len(rows)])
    again, *best_left = _core.frontier(bounds, size, 3)
    assert (again.tolist(), best_left) == (rows.tolist(), [rival, rival_row])


def test_tiny_pools_on_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTROSELECT_THREADS", "16")
    for n in (1, 2, 3, 17):
        pool = normal(n, 5)
        same_selection(greedy_select(pool, n), reference.greedy_select(pool, n))
        assert np.isfinite(nearest_distances(pool, pool[:1]).distances).all()
