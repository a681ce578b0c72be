"""`make gpu-check`: what it measures, how it fails, and that it keeps to its time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import _dispatch
from tests.conftest import NO_GPU, ROOT

torch = pytest.importorskip("torch")
pytest.importorskip("triton", reason="the filter's kernels are written in Triton")

# The interpreter is NumPy, which warns where a GPU silently computes an infinity.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")


def test_the_measurements_of_gpu_check_run(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.gpu import measure as measurements
    from benchmarks.support import record

    first = {name: (name, *rest) for name, *rest in reversed(measurements.CASES)}
    monkeypatch.setattr(measurements, "CASES", list(reversed(first.values())))
    device = "cpu" if NO_GPU else "cuda"
    rows = measurements.run(device, 60, tmp_path, quick=True)
    ours = [row for row in rows if row["kind"] == "ours"]
    agreement = {row["case"].split()[0]: row.get("agreement") for row in ours}
    assert agreement["greedy"] == "20 of 20 as on the CPU"
    assert agreement["nearest"] == "64 of 64 as in float64"
    chunks = [row for row in rows if row["contestant"].startswith("torch addmm")]
    assert [row["agreement"] for row in chunks] == ["wrong neighbour for 0 of 150 (0)"]
    assert len(record.read(tmp_path / "gpu-greedy.csv")) >= 3
    assert len(record.read(tmp_path / "gpu-nearest.csv")) >= 3
    (settled,) = record.read(tmp_path / "gpu-settle.csv")
    assert settled["note"].endswith(" ns a pick")
    passes = record.read(tmp_path / "gpu-filter.csv")
    assert passes[0]["note"].endswith(" % of the product's rate")
    assert passes[0]["instruction_set"].startswith("cuda: ")
    printed = capsys.readouterr().out
    assert "of the product's rate" in printed
    assert "skipped, not installed: flashlib\n" in printed or not NO_GPU
    none = measurements.run(device, -1.0, tmp_path, quick=True)
    assert none == []
    assert "skipped, no time left: greedy (10000, 64, 1000)" in capsys.readouterr().out
    (error,) = measurements.certificate(
        _dispatch.choose("cuda", "selection"), seeds=1, widths=(16,)
    )
    assert "of the bound" in error["note"]


def test_peers_that_fail_or_err_cost_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.gpu import measure as measurements

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
    (row,) = measurements.against(
        peers, "case", (4, 1, 1), 1.0, 1.0, 0.0, (None,),
        lambda answer: measurements.wrong_neighbours(exact, answer),
    )  # fmt: skip
    assert row["contestant"] == "c"
    assert row["agreement"] == "wrong neighbour for 1 of 4 (0.25)"
    assert capsys.readouterr().out.splitlines() == [
        "skipped, failed: a on case: RuntimeError: no kernel image",
        "skipped, not installed: b",
        "skipped, would take too long: d on case",
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


def test_gpu_check_keeps_to_its_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.gpu import check as gpu_check

    now, given = 0.0, []

    def slow(command: list[str], timeout: float, **_options: Any) -> Any:
        nonlocal now
        given.append(command)
        if "setup.py" in command:
            now += 100
            return subprocess.CompletedProcess(command, 0)
        now += timeout  # everything else takes all it is given
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(gpu_check, "why_not", lambda: "")
    monkeypatch.setattr(gpu_check.time, "monotonic", lambda: now)
    monkeypatch.setattr(gpu_check.subprocess, "run", slow)
    monkeypatch.setattr(gpu_check.shutil, "which", lambda tool: tool)
    assert gpu_check.main() == 1
    assert now <= gpu_check.SECONDS
    printed = capsys.readouterr().out
    assert "== tests: FAILED (no end after 285 s)" in printed
    assert "== memcheck: skipped, no time left" in printed
    assert given[-1][-2:] == ["--seconds", "140"]


@pytest.mark.slow
def test_gpu_check_says_what_is_missing() -> None:
    if not NO_GPU:
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu" / "check.py")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout.startswith("gpu-check: cannot run here: ")
