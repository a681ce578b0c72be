"""The smoke checks of `make gpu-check`: they pass where all is well, and name what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from entroselect import _dispatch
from tests.conftest import NO_GPU

pytest.importorskip("torch")
pytest.importorskip("triton", reason="the filter's kernels are written in Triton")

# The interpreter is NumPy, which warns where a GPU silently computes an infinity.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")


@pytest.fixture
def smoke(host_build: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs the checks; it takes further arguments and gives the exit status."""
    from benchmarks.gpu import smoke

    for name in ("BACKEND", "BLOCK"):  # main sets them; monkeypatch takes that back
        monkeypatch.setenv(f"ENTROSELECT_{name}", "")
    monkeypatch.setitem(_dispatch.BACKENDS, "cuda", _dispatch.BACKENDS["cuda"])
    host = ["--host", str(host_build)] if NO_GPU else []
    return lambda *more: smoke.main([*host, *more])


def test_all_checks_pass(smoke: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.gpu.bench import CHECKS

    assert smoke() == 0
    assert f"smoke: all {len(CHECKS)} checks passed" in capsys.readouterr().out


def test_a_wrong_kernel_is_named(
    smoke: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from entroselect.backends.cuda.device_rows import DeviceRows

    right = DeviceRows.distances_to

    def wrong(self: DeviceRows, vector: Any) -> Any:
        out = right(self, vector)
        out[-1] *= 1 + 2**-52
        return out

    monkeypatch.setattr(DeviceRows, "distances_to", wrong)
    assert smoke() == 1
    told = capsys.readouterr().out
    assert "FAILED at check 4 of" in told
    assert "kernel DistancesTo" in told
    assert "1 of 70 differ, the first at (69,)" in told
    assert "look at: kernels/cuda/row_passes.cu" in told
    assert "MeanRow" not in told  # stopped there
