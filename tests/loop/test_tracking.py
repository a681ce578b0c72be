"""What a run sends to a tracker: with TensorBoard's files read back, and a stand-in for wandb."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pydantic")

from entroselect.loop import tracking
from entroselect.loop.config import Config
from tests.support.measured_runs import measures

CONFIG = Config()
MEASURED: dict[str, Any] = {
    "iteration": 2,
    "origins": {"real": 0.25},
    "spaces": {"pixels": measures(CONFIG, 2, "pixels")},
}


def line(iteration: int, step: int, loss: float) -> dict[str, Any]:
    found = {"iteration": iteration, "model": "ddpm", "step": step}
    return {**found, "loss": loss, "learning_rate": 1e-3}


def report(log_with: str | None, folder: Path) -> None:
    with tracking.Tracking(log_with, folder, CONFIG) as to:
        to.trained(line(1, 50, 0.5), 100)
        to.trained(line(2, 100, 0.25), 100)
        to.measured(MEASURED)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of tensorboard and what it imports
def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    report("tensorboard", tmp_path)
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    losses = [(event.step, event.value) for event in found.Scalars("ddpm/loss")]
    assert losses == [(50, 0.5), (200, 0.25)]
    (distance,) = found.Scalars("pixels/frechet_distance")
    assert distance.step == 2
    assert distance.value == pytest.approx(MEASURED["spaces"]["pixels"]["frechet_distance"])
    assert "pixels/fld" not in found.Tags()["scalars"]  # it was not measured
    assert [event.value for event in found.Scalars("real_share")] == [0.25]


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    told: list[Any] = []
    run = SimpleNamespace(
        log=lambda values, step: told.append((values, step)), finish=lambda: told.append("finished")
    )
    config = SimpleNamespace(update=lambda values, **_: told.append(values))

    def init(**given: Any) -> Any:
        told.append(given)
        return run

    spec = importlib.util.spec_from_loader("wandb", None)
    assert spec is not None
    monkeypatch.setitem(
        sys.modules, "wandb", SimpleNamespace(init=init, config=config, __spec__=spec)
    )
    report("wandb", tmp_path / "run-7")
    given, options, first, second, last, end = told
    assert given["project"] == "entroselect"
    assert given["name"] == "run-7"
    assert options["train.steps"] == CONFIG.train.steps
    assert options["model.channels"] == str(CONFIG.model.channels)
    assert first[0] == {"ddpm/loss": 0.5, "ddpm/learning_rate": 1e-3, "iteration": 1, "step": 50}
    assert (second[0]["iteration"], second[0]["step"], second[1]) == (2, 200, None)
    assert last[0]["iteration"] == last[0]["step"] == 2
    assert end == "finished"


def test_nowhere(tmp_path: Path) -> None:
    report(None, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("missing", "told"), [("accelerate", "track"), ("wandb", "wandb")])
def test_what_is_not_installed_is_named(
    missing: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name == missing else name)
    with pytest.raises(ValueError, match=rf"log_with: wandb needs {missing}: pip install .*{told}"):
        tracking.Tracking("wandb", tmp_path, CONFIG)


def test_an_unknown_tracker_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'tensorbord' is unknown; did you mean tensorboard"):
        tracking.Tracking("tensorbord", tmp_path, CONFIG)
    assert list(tmp_path.iterdir()) == []
