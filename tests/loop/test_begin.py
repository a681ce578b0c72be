"""A run that begins with another run's first training ends with the same bytes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from entroselect.loop import begin, run
from entroselect.loop.config import Config, Select, from_json
from tests.support.loop_runs import TINY, contents, differing

NONE = replace(
    TINY,
    iterations=2,
    select=Select(method="none", space="pixels"),
    measure=replace(TINY.measure, spaces=("encoder",)),
)
GREEDY = replace(NONE, select=Select(method="greedy", space="pixels"))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run without a selection, as the first to begin from."""
    root = tmp_path_factory.mktemp("runs")
    assert run(replace(NONE, iterations=1), root / "none", threads=1)
    return root


def copied(config: Config, begun: Path, to: Path) -> set[str]:
    """What a new run of that configuration copies."""
    to.mkdir()
    shutil.copy(begun / "none" / "fingerprints.json", to)
    begin.copy_first(config, to, 40, [begun / "absent", begun / "none"])
    first = to / "iteration-01"
    return {path.name for path in first.iterdir()} if first.exists() else set()


@pytest.mark.slow
def test_no_byte_changes(begun: Path, tmp_path: Path) -> None:
    for config, trained in ((GREEDY, False), (replace(GREEDY, generate=40, keep=0.9), True)):
        shared, alone = tmp_path / f"shared-{trained}", tmp_path / f"alone-{trained}"
        assert run(config, shared, threads=1, begin_from=[begun / "none"])
        assert run(config, alone, threads=1)
        assert differing(contents(shared), contents(alone)) == []


@pytest.mark.slow
def test_what_is_copied(begun: Path, tmp_path: Path) -> None:
    settled = from_json(begun / "none" / "config.json")
    greedy = replace(settled, select=GREEDY.select)
    everything = {path.name for path in (begun / "none" / "iteration-01").iterdir()}
    trained = {"training.npy", "training_origins.npy", "training_labels.npy", "ddpm"}

    def like(**options: Any) -> set[str]:
        number = len(list(tmp_path.iterdir()))
        return copied(replace(greedy, **options), begun, tmp_path / str(number))

    assert like(generate=40) == everything
    assert like() == trained  # twice as many images are made where something selects
    assert like(generate=40, sample=replace(TINY.sample, steps=3)) == trained
    other_space = replace(greedy.select, space="encoder")
    assert like(generate=40, select=other_space) == everything - {"DONE", "metrics.json"}
    assert like(seed=1) == set()
    assert like(train=replace(TINY.train, steps=7)) == set()
    assert like(equal_compute=True) == set()  # it trains longer
    assert like(models=("edm",)) == set()
    assert like(paradigm="accumulate", iterations=9, generate=40) == everything


@pytest.mark.slow
def test_only_from_the_same_data(begun: Path, tmp_path: Path) -> None:
    settled = from_json(begun / "none" / "config.json")
    new = tmp_path / "new"
    new.mkdir()
    files_of = json.loads((begun / "none" / "fingerprints.json").read_text())
    (new / "fingerprints.json").write_text(json.dumps(files_of | {"data": "other"}))
    begin.copy_first(settled, new, 40, [begun / "none"])
    assert [path.name for path in new.iterdir()] == ["fingerprints.json"]


@pytest.mark.slow
def test_a_run_that_has_begun_copies_nothing(begun: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    assert copied(from_json(begun / "none" / "config.json"), begun, new)
    (new / "iteration-01" / "metrics.json").write_text("{}")
    begin.copy_first(NONE, new, 40, [begun / "none"])
    assert json.loads((new / "iteration-01" / "metrics.json").read_text()) == {}
