"""The paper's figures as files: which there are, and that their CSVs hold what is drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
pytest.importorskip("pandas")

import pandas
from typer.testing import CliRunner

from entroselect.cli.app import app
from entroselect.loop import plots
from entroselect.loop.compared import arms
from entroselect.loop.config import Config, Measure, Select
from entroselect.loop.export import export, table
from entroselect.loop.runs import read
from tests.support.measured_runs import value, write_run

BASE = Config(measure=Measure(spaces=("pixels", "encoder")))
GREEDY = replace(BASE, select=Select(method="greedy"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both paradigms, two seeds, and two shares that are kept."""
    root, made = tmp_path_factory.mktemp("runs"), []
    for seed in (0, 1):
        accumulate = replace(GREEDY, seed=seed, paradigm="accumulate", generate=12)
        runs = {
            "none": (replace(BASE, seed=seed), (1.0, 0.0, 0.0)),
            "greedy": (replace(GREEDY, seed=seed), (1.0, 0.0, 0.0)),
            "keep": (replace(GREEDY, seed=seed, keep=0.25), (1.0, 0.0, 0.0)),
            "accumulate": (accumulate, (1.0, 0.7, 0.6 + 0.1 * seed)),
        }
        for name, (run, real) in runs.items():
            made.append(write_run(root / f"{name}-{seed}", run, real=real))
    return made


def points(axes: Any) -> set[tuple[float, float]]:
    """Every point of lines, error bars and scatters, but for the empty lines of a legend."""
    lines = [np.column_stack(line.get_data()) for line in axes.lines]
    drawn = [*lines, *(found.get_offsets() for found in axes.collections)]
    return {(float(x), float(y)) for part in drawn for x, y in part}


def test_all_files_are_there_and_can_be_read(folders: list[Path], tmp_path: Path) -> None:
    written = export(folders, tmp_path / "made" / "out")
    names = (
        "projection", "generalisation", "mnnd_variance", "real_share", "kept_share",
        "entropy_distance",
    )  # fmt: skip
    expected = {"runs.csv", *(f"{name}.{end}" for name in names for end in ("svg", "csv"))}
    assert {path.name for path in written} == expected
    assert {path.name for path in (tmp_path / "made" / "out").iterdir()} == expected
    for path in written:
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            assert len(pandas.read_csv(path))
    before = {path: path.read_bytes() for path in written}
    export(folders, tmp_path / "made" / "out")
    assert before == {path: path.read_bytes() for path in written}


def test_csv_holds_what_is_drawn(folders: list[Path]) -> None:
    runs = read(folders)
    drawn = {plot.name: plot for plot in plots.plots(arms(runs), "encoder")}
    columns = {
        "projection": ("x", "y"),
        "mnnd_variance": ("variance", "mean_nearest_distance"),
    }
    for name, (x, y) in columns.items():
        found = {pair for axes in drawn[name].figure.axes for pair in points(axes)}
        assert {(row[x], row[y]) for row in drawn[name].rows} == found
    means: dict[str, Callable[[Any], tuple[str, list[str]]]] = {
        "generalisation": lambda row: ("generalization_score", ["arm", "iteration"]),
        "real_share": lambda row: ("real_share", ["arm", "iteration"]),
        "kept_share": lambda row: ("frechet_distance", ["arm"]),
        "entropy_distance": lambda row: ("frechet_distance", ["arm"]),
    }
    for name, of in means.items():
        column, keys = of(None)
        expected = pandas.DataFrame(drawn[name].rows).groupby(keys)[column].mean()
        heights = {y for axes in drawn[name].figure.axes for _, y in points(axes)}
        for mean in expected:
            assert min(abs(mean - height) for height in heights) < 1e-12, name


def test_values_are_those_of_the_runs(folders: list[Path]) -> None:
    runs = read(folders)
    drawn = {plot.name: plot.rows for plot in plots.plots(arms(runs), "encoder")}
    kept = {(row["keep"], row["seed"]): row["frechet_distance"] for row in drawn["kept_share"]}
    assert set(kept) == {(share, seed) for share in (0.25, 0.5) for seed in (0, 1)}
    for (share, seed), found in kept.items():
        run = replace(GREEDY, seed=seed, keep=share)
        assert found == value(run, 3, "encoder", "frechet_distance")
    plain = [row for row in drawn["entropy_distance"] if row["arm"].startswith("none")]
    assert [row["seed"] for row in plain] == [0, 1]
    for row in plain:
        run = replace(BASE, seed=row["seed"])
        assert row["entropy_of_chosen"] == value(run, 2, "encoder", "training.entropy")
        assert row["frechet_distance"] == value(run, 2, "encoder", "frechet_distance")
    shares = {(row["seed"], row["iteration"]): row for row in drawn["real_share"]}
    assert [shares[1, n]["real_share"] for n in (1, 2, 3)] == pytest.approx([1.0, 0.7, 0.7])
    assert [shares[0, n]["pool_share"] for n in (1, 2, 3)] == pytest.approx([1.0, 1 / 2, 1 / 3])


def test_only_what_the_runs_have(tmp_path: Path) -> None:
    alone = read([write_run(tmp_path / "run", BASE, real=(1.0,))])
    names = [plot.name for plot in plots.plots(arms(alone), "encoder")]
    assert names == ["projection", "generalisation", "mnnd_variance"]


def test_a_table_of_rows_with_other_keys() -> None:
    text = table([{"a": 1, "b": float("nan")}, {"a": "x,\udcff", "c": 0.1}])
    assert text == 'a,b,c\n1,,\n"x,\\udcff",,0.1\n'


def test_the_command_writes_page_and_figures(folders: list[Path], tmp_path: Path) -> None:
    page, out = tmp_path / "r.html", tmp_path / "out"
    given = ["report", *map(str, folders[:2]), "-o", str(page), "--export", str(out)]
    found = CliRunner().invoke(app, given)
    assert found.exit_code == 0, found.output
    assert page.exists()
    assert f"9 files in {out}" in " ".join(found.stderr.split())


def test_a_file_is_no_folder_for_figures(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    page = tmp_path / "r.html"
    given = ["report", str(folders[0]), "-o", str(page), "--export", str(tmp_path / "file")]
    found = CliRunner().invoke(app, given)
    assert found.exit_code == 2
    assert "--export" in found.stderr
    assert not page.exists()
