"""The page of `entroselect report`: runs, and folders that are damaged or incomplete."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("matplotlib")

from typer.testing import CliRunner

from entroselect.cli.app import app
from entroselect.loop import compared, config, data, iterate, plots, report, runs
from entroselect.loop.compared import Arm
from entroselect.loop.runs import Run
from entroselect.report import figures as pictures
from tests.support.loop_runs import TINY
from tests.support.measured_runs import write_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two iterations without a selection and with."""
    root = tmp_path_factory.mktemp("runs")
    for method in ("none", "greedy"):
        select = dataclasses.replace(TINY.select, method=method)
        iterate.run(dataclasses.replace(TINY, iterations=2, select=select), root / method)
    return {method: root / method for method in ("none", "greedy")}


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A run folder to be damaged."""
    return shutil.copytree(folders["greedy"], tmp_path / "greedy")


def text(page: str) -> str:
    return re.sub(
        r"\s+", " ", html.unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.S))
    )


@pytest.mark.slow
def test_the_page_says_what_came_out_and_where(folders: dict[str, Path]) -> None:
    page = text(report.page(list(folders.values())))
    assert "pixels, iteration 2 none greedy" in page
    assert "in the space pixels. All distances are Euclidean" in page
    assert re.search(
        r"greedy against none, iteration 2: .* by that measure the selection made", page
    )
    assert "none: what the first model makes is more scattered than the real images" in page
    assert "too few points for a correlation (4)" not in page  # that is inside a picture
    for word in ("Words on this page", "D_n, G_n", "generalisation score", "arm Runs with"):
        assert word in page


def figures(entropy: float, distance: float) -> dict[str, Any]:
    spread = {"entropy": entropy, "geometric_mean_distance": 1.0, "variance": 1.0}
    return {
        "generated": spread, "training": {**spread, "entropy": 30.0},
        "mean_nearest_distance": 1.0, "generalization_score": 1.0, "frechet_distance": distance,
        "precision": 1.0, "recall": 1.0, "density": 1.0, "coverage": 1.0, "vendi_score": 1.0,
        "fld": None, "memorised_fraction": 0.0,
    }  # fmt: skip


def arm(method: str, *values: tuple[float, float]) -> Arm:
    select = dataclasses.replace(TINY.select, method=method)  # type: ignore[arg-type]
    measured = [
        {"iteration": i + 1, "spaces": {"encoder": figures(*value)}}
        for i, value in enumerate(values)
    ]
    return Arm(method, "", [Run(Path(), dataclasses.replace(TINY, select=select), measured)])


def test_findings_go_by_the_figures() -> None:
    none, greedy = arm("none", (51, 4), (55, 10.2)), arm("greedy", (51, 4), (68, 29.2))
    told = compared.findings([none, greedy], "encoder")
    assert told == [
        "none: what the first model makes is more scattered than the real images it was trained "
        "on (entropy 51 against 30): where images are more scattered than real ones, many are "
        "failures, and a selection for diversity takes those first.",
        "greedy against none, iteration 2: the generated images are more varied (entropy 68 "
        "against 55) and farther from the real ones (Frechet distance 29.2 against 10.2): by that "
        "measure the selection made the next models worse here (1 seed).",
    ]
    none, greedy = arm("none", (20, 4), (15, 60)), arm("greedy", (20, 4), (14, 50))
    told = compared.findings([none, greedy], "encoder")
    assert "less varied than the real images" in told[0]
    assert "less varied (entropy 14 against 15) and nearer to" in told[1]
    assert "better here" in told[1]
    assert compared.findings([greedy], "encoder") == []
    unknown = arm("greedy", (20, 4), (14, float("nan")))
    assert len(compared.findings([none, unknown], "encoder")) == 1
    for one in (none, greedy):
        first = one.runs[0].measured[0]["spaces"]["encoder"]
        first["precision"], first["coverage"] = 0.0, 0.01
    told = compared.findings([none, greedy], "encoder")
    assert len(told) == 2
    assert all("have not learned enough" in sentence for sentence in told)
    first["coverage"] = 0.5  # greedy's alone: nothing to compare it with
    assert len(compared.findings([none, greedy], "encoder")) == 1


def test_each_paradigm_has_its_own_arm_to_compare_with() -> None:
    def of(paradigm: str, method: str, *values: tuple[float, float]) -> Arm:
        made = arm(method, *values)
        config = dataclasses.replace(made.runs[0].config, paradigm=paradigm)  # type: ignore[arg-type]
        run = dataclasses.replace(made.runs[0], config=config)
        return dataclasses.replace(made, label=f"{paradigm} {method}", runs=[run])

    told = compared.findings(
        [
            of("replace", "none", (51, 4), (55, 10)),
            of("accumulate", "greedy", (51, 4), (52, 3)),
            of("replace", "greedy", (51, 4), (68, 29)),
            of("accumulate-subsample", "none", (51, 4), (53, 5)),
            of("fresh-data", "greedy", (51, 4), (53, 5)),
        ],
        "encoder",
    )
    assert [sentence.partition(",")[0] for sentence in told] == [
        "replace none; accumulate-subsample none: what the first model makes is more scattered "
        "than the real images it was trained on (entropy 51 against 30): where images are more "
        "scattered than real ones",
        "accumulate greedy against accumulate-subsample none",
        "replace greedy against replace none",
    ]


def test_no_correlation_of_a_handful_of_points() -> None:
    x = np.arange(10.0)
    assert plots.correlation(x, 3 * x) == "Pearson r = 1.00 (10 points)"
    assert plots.correlation(x, -x) == "Pearson r = -1.00 (10 points)"
    for n in (0, 1, 2, 3, 4, 5, 9):
        assert plots.correlation(x[:n], -x[:n]) == f"too few points for a correlation ({n})"
    assert plots.correlation(x, np.ones(10)).startswith("too few")


@pytest.mark.slow
def test_real_images_are_shown_from_all_classes(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def images(labels: Any) -> data.Images:
        n = 150
        pixels = np.repeat(np.arange(n) // 10, 64).reshape(n, 8, 8, 1).astype(np.uint8)
        return data.Images(pixels, labels, data.origins(data.REAL, n))

    sorted_by_class = images(np.arange(150) // 15)
    rows = report.spread_out(sorted_by_class, 15)
    assert set(np.asarray(sorted_by_class.labels)[rows]) == set(range(10))
    assert len(set(images(None).pixels[report.spread_out(images(None), 15), 0, 0, 0])) == 15
    in_turns = images(np.arange(150) % 15)  # every tenth row would be of three classes
    assert len(set(np.asarray(in_turns.labels)[report.spread_out(in_turns, 15)])) == 15

    shown: list[Any] = []

    def image_grid(sheet: Any, columns: int) -> str:
        shown.append((sheet, columns))
        return ""

    monkeypatch.setattr(pictures, "image_grid", image_grid)
    report.samples(runs.read_run(folders["none"]))
    sheet, columns = shown[0]
    assert (len(sheet), columns) == (45, 15)
    real = data.read(folders["none"] / "iteration-01", "training")
    labels = [int(label) for label in np.asarray(real.labels)[report.spread_out(real, 15)]]
    assert len(set(labels)) > 7


@pytest.mark.slow
def test_runs_of_fewer_images_than_a_line_holds(tmp_path: Path) -> None:
    few = dataclasses.replace(
        TINY, iterations=2, data=dataclasses.replace(TINY.data, images=8, held_out=4)
    )
    iterate.run(few, tmp_path / "few")
    assert "Samples" in report.page([tmp_path / "few"])


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[1, 2]", "{}", "[" * 100_000, '{"iteration": 1}', "null", "\x00",
        '{"iteration": 1, "training_size": 4, "origins": {}, "spaces": {}}',
    ],
)  # fmt: skip
def test_damaged_metrics_are_named(content: str, copy: Path) -> None:
    file = copy / "iteration-02" / "metrics.json"
    file.write_text(content)
    found = CliRunner().invoke(app, ["report", str(copy), "-o", str(copy / "r.html")])
    assert found.exit_code == 1
    assert f"{file}: damaged" in found.stderr.replace("\n", "")
    assert "Traceback" not in found.stderr
    assert not (copy / "r.html").exists()


@pytest.mark.parametrize("value", ["NaN", '"three"', "[1]", "{}", "1" + 400 * "0"])
def test_a_damaged_measure_is_named(value: str, copy: Path) -> None:
    file = copy / "iteration-01" / "metrics.json"
    found = json.loads(file.read_text())
    found["spaces"]["pixels"]["generated"]["entropy"] = "HERE"
    file.write_text(json.dumps(found).replace('"HERE"', value))
    with pytest.raises(ValueError, match=re.escape(f"{file}: damaged")):
        report.page([copy])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"iterations": "many"}'])
def test_a_damaged_configuration_is_named(content: bytes, copy: Path) -> None:
    (copy / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(copy / "config.json"))):
        report.page([copy])


@pytest.mark.parametrize("name", ["r.pdf", "r", "r.html.png", "html"])
def test_only_html_is_written(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["report", str(folders["none"]), "-o", str(tmp_path / name)])
    assert found.exit_code == 2
    assert ".html" in found.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
def test_names_with_dollars_and_bytes_that_are_not_text(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """The source becomes the label of the arms, which stands in pictures too."""
    odd = []
    for number, name in enumerate(("a$x_{$b.npy", "b\udcff$\\frac$.npy")):
        folder = tmp_path / f"run$\udcfe$_{number}"
        shutil.copytree(folders["none"], folder)
        options = json.loads((folder / "config.json").read_text())
        options["data"]["source"] = name
        (folder / "config.json").write_text(json.dumps(options))
        odd.append(folder)
    out = tmp_path / "r.HTML"
    found = CliRunner().invoke(app, ["report", *map(str, odd), "-o", str(out)])
    assert found.exit_code == 0, found.output
    page = out.read_text(encoding="utf-8")
    assert "source a$x_{$b.npy" in page
    assert "source b\\udcff$\\frac$.npy" in page


def test_the_page_of_two_seeds_and_paradigms(tmp_path: Path) -> None:
    """Diagnosis and judging space are on it; a selection judged by its own space is warned of."""
    greedy = config.Select(method="greedy", space="encoder")
    made = [
        write_run(tmp_path / f"{name}-{seed}", dataclasses.replace(options, seed=seed),
                  real=(1.0, share), diagnosis=f"Seed {seed} repeats itself.")
        for seed in (0, 1)
        for name, options, share in (
            ("none", config.Config(), 0.0),
            ("greedy", config.Config(paradigm="accumulate", select=greedy), 0.5),
        )
    ]  # fmt: skip
    page = text(report.page(made))
    others = "accumulate, greedy, space encoder, seed 0"
    assert f"replace, none, seed 0; {others} Seed 0 repeats itself." in page
    assert "seed 1 Seed 1 repeats itself." in page
    assert "Warning: images were selected by their distances in the space encoder" in page
    for heading in ("Share of real images", "Where generated images lie", "What a selection buys"):
        assert heading in page
    elsewhere = dataclasses.replace(greedy, space="pixels")
    other = write_run(tmp_path / "other", config.Config(select=elsewhere))
    page = text(report.page([other]))
    assert "Warning" not in page
    assert "What the first models lack" not in page
    assert "Share of real images" not in page


@pytest.mark.slow
def test_pages_fit_a_phone_and_the_dark(folders: dict[str, Path]) -> None:
    """What is wide has a container that scrolls; colours are given for both schemes."""
    page = report.page([folders["none"]])
    assert page.count('<div class="wide" tabindex="0">') == page.count("<table>") + page.count(
        "<img "
    )
    assert "overflow-x: auto" in page
    assert "@media (prefers-color-scheme: dark)" in page
    assert 'name="color-scheme" content="light dark"' in page
    assert 'content="width=device-width, initial-scale=1"' in page
