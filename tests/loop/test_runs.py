"""Runs read from their folders, and as one table."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("pydantic")

from entroselect.loop import runs
from entroselect.loop.config import Config, Select
from tests.support.measured_runs import value, write_run


def write(root: Path, method: str, seed: int, **options: object) -> Path:
    run = Config(seed=seed, select=Select(method=method), keep=0.25)  # type: ignore[arg-type]
    return write_run(root / f"{method}-{seed}", run, **options)  # type: ignore[arg-type]


def test_one_row_per_run_iteration_and_space(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    folders = [write(tmp_path, method, seed) for method in ("none", "greedy") for seed in (0, 1)]
    found = runs.read(folders)
    table = found.to_dataframe()
    assert len(table) == 4 * 3 * 2
    assert list(table.columns[:3]) == ["run", "seed", "select.method"]
    assert "keep" not in table.columns  # it is the same everywhere
    assert table["frechet_distance"].dtype == table["fld"].dtype == float
    assert table["fld"].isna().all()
    for (folder, iteration, space), group in table.groupby(["run", "iteration", "space"]):
        run = next(r for r in found if str(r.folder) == folder)
        (line,) = group.to_dict("records")
        for name in ("frechet_distance", "generated.entropy", "training.variance"):
            assert line[name] == value(run.config, iteration, space, name)
        assert line["seed"] == run.config.seed
        assert line["select.method"] == run.config.select.method
        assert line["origins.real"] == (1.0 if iteration == 1 else 0.0)


def test_a_single_run_has_its_seed(tmp_path: Path) -> None:
    rows = runs.read([write(tmp_path, "none", 3, real=(1.0,), spaces=("pixels",))]).rows()
    assert [row["seed"] for row in rows] == [3]
    assert "select.method" not in rows[0]


def test_numbers_of_a_diagnosis_are_columns(tmp_path: Path) -> None:
    rows = runs.read([write(tmp_path, "none", 0, diagnosis="It scatters.")]).rows()
    assert rows[0]["diagnosis.entropy_gap"] == 1.5
    assert "diagnosis.entropy_gap" not in rows[-1]


def test_without_pandas_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    found = runs.read([write(tmp_path, "none", 0)])
    with pytest.raises(ImportError, match="needs pandas"):
        found.to_dataframe()


def test_where_a_run_is_judged(tmp_path: Path) -> None:
    run = runs.read_run(write(tmp_path, "none", 0))
    assert run.judge == "encoder"
    measure = dataclasses.replace(run.config.measure)
    object.__setattr__(measure, "judge", "pixels")
    config = dataclasses.replace(run.config, measure=measure)
    assert dataclasses.replace(run, config=config).judge == "pixels"


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folders: none given"):
        runs.read([])
    with pytest.raises(ValueError, match=r"empty: not a run folder"):
        runs.read([tmp_path / "empty"])
    folder = write(tmp_path, "none", 0, diagnosis="It scatters.")
    file = folder / "iteration-01" / "metrics.json"
    measured = json.loads(file.read_text())
    for damaged in ([], {"text": 3}):
        file.write_text(json.dumps(measured | {"diagnosis": damaged}))
        with pytest.raises(ValueError, match=r"iteration-01/metrics\.json: damaged"):
            runs.read([folder])
