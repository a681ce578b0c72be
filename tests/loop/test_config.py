"""Configuration: presets, files, options and settings, each over the one before."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("diffusers")

from entroselect.loop import config


def test_a_preset_is_changed_by_file_then_options_then_settings(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("iterations = 7\nkeep = 0.25\n[train]\nsteps = 900\nbatch = 32\n")
    made = config.resolve("digits", file, ["train.batch=16"], iterations=3, paradigm=None)
    assert (made.iterations, made.keep) == (3, 0.25)
    assert (made.train.steps, made.train.batch) == (900, 16)
    assert made.data.source == "digits"


@pytest.mark.parametrize("preset", config.PRESETS)
def test_every_preset_resolves(preset: str, tmp_path: Path) -> None:
    made = config.resolve(preset, measure__weights="weights")
    path = tmp_path / "config.json"
    path.write_text(config.to_json(made))
    assert config.from_json(path) == made


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.stepz=3"], "train.stepz: no such option; did you mean train.steps?"),
        (["trian.steps=3"], "trian: no such option; did you mean train?"),
        (["paradigm=replac"], "did you mean replace?"),
        (["select.method=gready"], "select.method: 'gready' is unknown; did you mean greedy?"),
        (["train.steps=0"], "train.steps: input should be greater"),
        (["keep=1.5"], "keep: input should be less"),
        (["train.steps"], "expected group.field=value"),
        (["paradigm=fresh-data"], "fresh: .* needs fresh images"),
        (["sample.guidance=2"], "sample.guidance: needs model.conditional"),
        (["select.space=dinov2"], "pass --weights"),
        (["select.drop_far=0.1"], "select.drop_far: needs a selection"),
        (["model.channels=[12]"], "model.groups: 8 does not divide 12"),
        (["train.steps=10", "train.warmup=10"], "leave it out, or set train.warmup=1"),
    ],
)
def test_bad_options_are_named(settings: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.resolve("digits", None, settings)


def test_none_is_a_method_and_the_absence_of_a_number() -> None:
    made = config.resolve("digits", settings=["select.method=none", "data.images=none"])
    assert made.select.method == "none"
    assert made.data.images is None


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean digits"):
        config.resolve("digit")
