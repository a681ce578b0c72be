"""The demo of the loop: small runs of both regimes, resumed, and what it says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("sklearn")

from entroselect.cli import demo_loop as demo
from entroselect.loop import config

TINY = [
    "data.images=40", "data.held_out=200", "model.width=16", "model.blocks=1", "train.steps=6",
    "train.batch=8", "train.warmup=2", "sample.steps=4", "iterations=2", "measure.draw=none",
    "measure.spaces=['pixels']", "measure.judge=pixels", "select.space=pixels",
]  # fmt: skip


def test_the_settings_fit_and_no_space_judges_itself() -> None:
    for regime in demo.REGIMES.values():
        found = config.resolve("digits", settings=[*demo.COMMON, *regime.settings])
        assert found.measure.judge != found.select.space
        assert found.data.held_out == 899
        assert (found.data.images or 0) + found.data.held_out <= 1797


@pytest.mark.slow
def test_it_runs_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("OMP_NUM_THREADS", "1"), ("ENTROSELECT_THREADS", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(demo, "SEEDS", (0,))
    arguments = [part for setting in TINY for part in ("--set", setting)]
    demo.main(["--out", str(tmp_path), *arguments])
    printed = capfd.readouterr()
    assert "6 of 6" in printed.err
    assert printed.out.count("What to use here") == 2
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in ("repeats its training images", "that scatters", "no selection", "anchored"):
        assert text in page
    assert (tmp_path / "repeats.html").exists()
    trained = tmp_path / "repeats" / "none-0" / "iteration-02" / "ddpm"
    before = (trained / "unet" / "config.json").stat().st_mtime_ns
    monkeypatch.setenv("ENTROSELECT_THREADS", "1")
    demo.main(["--out", str(tmp_path), *arguments])
    assert (trained / "unet" / "config.json").stat().st_mtime_ns == before
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


@pytest.mark.slow
def test_what_fails_in_a_run_is_a_plain_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("ENTROSELECT_THREADS", "1")
    with pytest.raises(SystemExit) as ended:
        demo.main(["--out", str(tmp_path), "--set", "data.images=5000"])
    assert ended.value.code == 1
    assert "data.images: 5000 to train on" in capfd.readouterr().err
