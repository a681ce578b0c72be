"""`make gpu-check`: what it measures, how it fails, and that it keeps to its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import check, stages
from benchmarks.gpu.stages import Stage
from entroselect import greedy_select, nearest_distances
from tests.conftest import NO_GPU, ROOT, normal
from tests.support.processes import started

torch = pytest.importorskip("torch")
pytest.importorskip("triton", reason="the filter's kernels are written in Triton")

# The interpreter is NumPy, which warns where a GPU silently computes an infinity.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")


def test_the_measurements_of_gpu_check_run(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.gpu import common, measure, precompile
    from benchmarks.support import record

    # One case of each kind.
    cases = {
        part: list({case[0]: case for case in reversed(cases)}.values())
        for part, cases in measure.CASES.items()
    }
    monkeypatch.setattr(measure, "CASES", {**cases, "certificate": [(measure.certificate, (1,))]})
    device = "cpu" if NO_GPU else "cuda"
    precompile.passes(common.backend().tile, False, False, device)
    for part in measure.CASES:
        assert measure.run(part, device, 60, tmp_path, quick=True) == []
    rows = record.read(tmp_path / "gpu.csv")
    assert all(row["instruction_set"].startswith("cuda: ") for row in rows)
    told = {row["case"]: row for row in rows if row["kind"] == "ours"}
    assert told["greedy normal 150 x 32, k=20"]["agreement"] == "20 of 20 as on the CPU"
    assert told["nearest normal 150 x 32"]["agreement"] == "64 of 64 as in float64"
    chunks = [row for row in rows if row["contestant"].startswith("torch addmm")]
    assert [row["agreement"] for row in chunks] == ["wrong neighbour for 0 of 150 (0)"]
    assert told["settle 5 of 20, nothing known, 150 x 32"]["note"].startswith("5 picks, ")
    assert " pairs a row left open" in told["filter 150 rows, 20 x 32"]["note"]
    scores = [row["note"] for row in rows if row["case"].startswith("error of scores")]
    assert len(scores) >= 2
    assert all(" of the bound at most (768: 0." in note for note in scores)
    assert " rounds, " in told["profile of greedy normal 150 x 32, k=20"]["note"]
    assert "under the profiler" in (tmp_path / "profile.txt").read_text()
    printed = capsys.readouterr().out
    assert "% of the product's rate, 64 of 64 as in float64" in printed
    assert "skipped, not installed: flashlib\n" in printed or not NO_GPU
    assert measure.run("headline", device, -1.0, tmp_path, quick=True) == []
    assert "skipped, no time left: greedy (" in capsys.readouterr().out


def test_a_wrong_answer_fails_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.gpu import calls, measure
    from benchmarks.support import record

    real = calls.greedy_select

    def wrong(pool: Any, k: int, backend: str) -> Any:
        found = real(pool, k)
        found.indices[[3, 4]] = found.indices[[4, 3]]
        return found

    monkeypatch.setattr(calls, "greedy_select", wrong)
    monkeypatch.setattr(calls, "SMALL", 0)
    (failed,) = measure.run("headline", "cpu", 60, tmp_path, quick=True)[:1]
    assert failed.startswith("greedy (150, 32, 20): Wrong: greedy normal 150 x 32, k=20: 19 of 20")
    assert record.read(tmp_path / "gpu.csv")[0]["agreement"].startswith("19 of 20 first picks")


def test_answers_are_checked_in_float64() -> None:
    from benchmarks.gpu import exact

    pool = torch.from_numpy(normal(300, 20))
    found = greedy_select(pool, 40)
    assert exact.farthest(pool, found.indices) == 40
    assert exact.checked(pool, found) == (0, 0, 39)
    swapped = found.indices.copy()
    swapped[[7, 30]] = swapped[[30, 7]]
    assert exact.farthest(pool, swapped) < 40
    distances = found.distances.copy()
    distances[-1] *= 1 - 1e-6
    wrong, uncovered, _ = exact.checked(pool, replace(found, distances=distances))
    assert (wrong, uncovered) == (1, 0)
    short = replace(found, indices=found.indices[:20], distances=found.distances[20:])
    assert exact.checked(pool, short)[1] > 0  # rows farther than the last pick is said to be
    neighbours = nearest_distances(pool).indices[:, 0].copy()
    assert exact.nearest_right(pool, neighbours, 30) == 30
    neighbours[12] = (neighbours[12] + 1) % 300
    assert exact.nearest_right(pool, neighbours, 30) in (28, 29)


def test_scores_that_are_missing_break_the_certificate(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.gpu import certificate, common

    def missing(*given: Any, kept: bool) -> Any:
        return np.array([[1.0, np.nan]]), np.ones((1, 2)), np.ones((1, 2))

    monkeypatch.setattr("tests.support.cuda_scores.measured", missing)
    with pytest.raises(common.Wrong, match="nan of the bound at d=768"):
        list(certificate.certificate(1, "cpu", 0.0))


def test_what_the_profiler_saw() -> None:
    from benchmarks.gpu import watch

    def event(name: str, start: float, end: float, device: str = "DeviceType.CUDA") -> Any:
        span = SimpleNamespace(start=start, end=end)
        return SimpleNamespace(name=name, time_range=span, device_type=device)

    own = "void entroselect::cuda::run<entroselect::cuda::(anonymous namespace)::TakeBest>(entrose"
    seen = watch.sorted_out(
        1e-3,
        [
            event(own, 0, 100),
            event(own, 150, 350),
            event("void at::native::reduce<512, at::native::Op<float> >(float)", 300, 400),
            event("Stream Sync", 0, 1000),
            event("cudaStreamSynchronize", 10, 60, "DeviceType.CPU"),
            event("cudaMemcpyAsync", 10, 60, "DeviceType.CPU"),
        ],
    )
    assert seen.busy == pytest.approx(350e-6)
    assert seen.most(9) == "TakeBest 2 x 150 us, reduce 1 x 100 us"
    assert seen.table()[0].endswith("device busy 0.00035 s (35 %), 1 waits of the host")
    assert seen.table()[1].startswith("0.05      ms        1 x  host in cudaStreamSynchronize")
    assert watch.short("filter_pairs") == "filter_pairs"


def test_peers_that_fail_or_err_cost_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.gpu import calls
    from benchmarks.gpu.peers import wrong_neighbours

    exact = torch.tensor([[1], [0], [3], [2]])

    def broken(pool: Any) -> Any:
        raise RuntimeError("no kernel image\nand more")

    def missing(pool: Any) -> Any:
        raise ImportError

    def itself_second(pool: Any) -> Any:  # right for rows 0, 1 and 3
        return lambda: np.array([[1, 0], [0, 1], [2, 1], [2, 3]])

    peers = [
        ("a", "a", broken, 9.0),
        ("b", "b", missing, 9.0),
        ("c", "c", itself_second, 9.0),
        ("d", "d", itself_second, 0.5),
    ]
    (row,) = calls.against(
        peers, "case", (4, 1, 1), 1.0, 1.0, 0.0, (None,),
        lambda answer: wrong_neighbours(exact, answer),
    )  # fmt: skip
    assert row["contestant"] == "c"
    assert row["agreement"] == "wrong neighbour for 1 of 4 (0.25)"
    assert capsys.readouterr().out.splitlines() == [
        "  skipped, failed: a on case: RuntimeError: no kernel image",
        "  skipped, not installed: b",
        "  skipped, would take too long: d on case",
    ]


def test_the_shapes_chosen_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu import measure as measurements
    from entroselect.backends.cuda import autotune

    monkeypatch.setattr(autotune, "CHOICES", {})
    assert measurements.shapes_chosen().startswith("tiles: none timed")
    first, second = autotune.TILES[9][:2]
    autotune.CHOICES["H", 64] = autotune.Choice(second, {first: "cannot run: X", second: 0.25})
    assert measurements.shapes_chosen().splitlines() == [
        f"tiles for widths to 64 on H: {second}",
        f"    {first}: cannot run: X",
        f"    {second}: 0.250 ms",
    ]


HANGS = "import signal, time; signal.signal(signal.SIGINT, lambda *_: None); time.sleep(99)"


def _stage(name: str, script: str, seconds: float = 20, **more: Any) -> Stage:
    return Stage(name, [[sys.executable, "-c", script]], seconds, **more)


@pytest.fixture
def run_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs stages as the check does, with less patience."""
    graces = [(number, 0.3) for number, _ in stages.SIGNALS]
    monkeypatch.setattr(stages, "SIGNALS", graces)
    monkeypatch.setattr(stages, "LEAST", 0.5)

    def run(*given: Stage, seconds: float = 60) -> tuple[int, list[str]]:
        environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
        end = time.monotonic() + seconds
        code = check.check(given, "title", tmp_path, end, environment)
        return code, (tmp_path / "SUMMARY.txt").read_text().splitlines()

    return run


def test_stages_that_fail_hang_and_leave_something_behind(
    run_stages: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    child = (
        f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {HANGS!r}]).pid)"
    )
    code, told = run_stages(
        _stage("good", "print('a figure\\n  a detail')"),
        _stage("bad", "raise KeyError('why')"),
        _stage("hangs", HANGS, 1.0),
        _stage("leaves", child),
        Stage("missing", [["no-such-tool"]], 9),
        _stage("base", "import os; os.abort()", needed=True),
        _stage("later", "print('never')"),
    )
    assert code == 1
    states = [line[23:] for line in told[1:8]]
    assert states == [
        "passed", "FAILED (1)", "TIMED OUT", "passed", "skipped: no-such-tool was not found",
        "FAILED (-6)", "skipped: base did not pass",
    ]  # fmt: skip
    assert "a figure" in told
    assert "  a detail" not in told
    assert "KeyError: 'why'" in told
    assert told[-1] == "gpu-check: failed: bad, hangs, base"
    where = told.index("-- hangs: TIMED OUT")
    assert any("Fatal Python error: Aborted" in line for line in told[where:])
    assert any('File "<string>", line 1 in <module>' in line for line in told[where:])
    left = int(next(line for line in told if line.isdigit()))
    assert not Path(f"/proc/{left}").exists() or "Z" in Path(f"/proc/{left}/stat").read_text()
    log = (tmp_path / "logs.txt").read_text()
    assert "==== good: " in log
    assert "never" not in log
    printed = capsys.readouterr().out
    assert printed.splitlines()[-len(told) :] == told
    assert "== hangs          " in printed


def test_the_check_keeps_to_its_time(run_stages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "ENDING", 0.5)
    began = time.monotonic()
    code, told = run_stages(
        _stage("quick", "print('seconds', {seconds})"), _stage("long", HANGS),
        _stage("last", "print('never')"), seconds=4,
    )  # fmt: skip
    assert code == 1
    assert time.monotonic() - began < 4
    assert told[-1] == "gpu-check: failed: long"
    assert told[3].endswith("skipped: no time left")
    assert next(line for line in told if line.startswith("seconds ")) in ("seconds 3", "seconds 4")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_check_that_is_ended_tells_what_it_knows(number: int, tmp_path: Path) -> None:
    program = f"""
import os, sys, time
from pathlib import Path
from benchmarks.gpu import check
from benchmarks.gpu.stages import Stage
scripts = {{
    "first": "print('a figure')",
    "second": "import os, time; print(os.getpid(), flush=True); time.sleep(9)",
    "third": "print('never')",
}}
chosen = [Stage(name, [[sys.executable, "-c", script]], 9) for name, script in scripts.items()]
sys.exit(check.check(chosen, "title", Path({str(tmp_path)!r}), time.monotonic() + 60, os.environ))
"""
    log = tmp_path / "logs.txt"
    with started("-c", program) as process:
        until = time.monotonic() + 60
        while not (log.exists() and (text := log.read_text()).count("\n") >= 6):
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
        stopped = int(text.splitlines()[-1])
        if number == signal.SIGKILL:
            os.killpg(stopped, signal.SIGKILL)
    told = (tmp_path / "SUMMARY.txt").read_text()
    assert "first " in told
    assert "a figure\n" in told
    if number != signal.SIGKILL:
        assert process.returncode == 1
        assert "INTERRUPTED" in told
        assert out.endswith(told)
        assert "KeyboardInterrupt" in told  # where the stage was
        assert "third" not in told
        with pytest.raises(ProcessLookupError):
            os.killpg(stopped, 0)


@pytest.mark.parametrize("failing", [4, 11])
def test_the_summary_is_short_enough_to_come_back(failing: int, tmp_path: Path) -> None:
    each = [stages.Outcome(stage, "FAILED (1)", 1.0, ["x" * 500] * 99)
            for stage in check.stages(tmp_path, [])[:failing]]  # fmt: skip
    told = stages.summary("title", each)
    assert len(told) <= 100
    assert len("\n".join(told)) < 12_000
    assert sum(line.startswith("-- ") for line in told) == failing
    # Failures come before what passed.
    each = [stages.Outcome(each[0].stage, "passed", 1.0, ["y"] * 99), *each[1:]]
    assert sum(line.startswith("x") for line in stages.summary("title", each)) > 60


def test_the_summary_shows_where_a_stage_was_aborted() -> None:
    place = [f"  File {i}" for i in range(90)]
    told = ["said", "Fatal Python error: Aborted", "Thread 0x1 (most recent call first):", *place,
            "Current thread 0x2 (most recent call first):", *place]  # fmt: skip
    shown = stages.summary("title", [stages.Outcome(_stage("one", ""), "TIMED OUT", 1.0, told)])
    at = shown.index("said")
    assert shown[at + 1] == "Fatal Python error: Aborted"
    assert shown[at + 2].startswith("Current thread")
    assert shown[at + 3 : at + 8] == place[:5]


def test_a_log_is_cut_in_its_middle(run_stages: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(stages, "LONGEST_LOG", 1000)
    run_stages(_stage("one", "print('first')"), _stage("two", "print('x' * 5000, '\\nlast')"))
    log = (tmp_path / "logs.txt").read_text()
    assert "first" in log
    assert log.endswith("last\n")
    assert "[...]" in log
    assert len(log) < 1500


def test_gpu_check_asks_for_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.delenv("CUDAARCHS", raising=False)
    given = check.environment({"architecture": "90"})
    assert given["ENTROSELECT_CUDA"] == "on"
    assert given["CUDAARCHS"] == "90-real"
    assert given["PYTHONPATH"] == os.pathsep.join([str(ROOT), "/elsewhere"])
    assert "TRITON_INTERPRET" not in given
    every = check.stages(tmp_path, ["pytest_timeout", "xdist"])
    names = [stage.name for stage in every]
    assert names[:3] == ["build", "precompile", "smoke"]
    assert [stage.name for stage in every if stage.needed] == ["build", "smoke"]
    tests = every[names.index("tests")].commands[0]
    assert " --timeout=60 --timeout-method=thread -n 8 " in " ".join(tests)
    assert [word for word in tests if word.endswith(".py") and not (ROOT / word).is_file()] == []
    if not NO_GPU:
        return
    # Without a GPU the build's last command fails and says why.
    done = subprocess.run(every[0].commands[1], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert NO_GPU in done.stderr


def test_gpu_check_knows_its_stages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"why_not": "", "plugins": [], "card": "a card", "architecture": "90"}
    monkeypatch.setattr(check, "machine", lambda: found)
    monkeypatch.setattr(sys, "argv", ["check", "--only", "smoke,nothing"])
    with pytest.raises(SystemExit):
        check.main()
    assert "--only: nothing: expected some of build, precompile, smoke" in capsys.readouterr().err


@pytest.mark.slow
def test_gpu_check_says_what_is_missing() -> None:
    if not NO_GPU:
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout.startswith("gpu-check: cannot run here: ")
