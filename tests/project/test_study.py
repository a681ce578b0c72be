"""The study of the paper's claims: its arms, a tiny study to the end, its table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from benchmarks.study import __main__ as command
from benchmarks.study import claims, figures, runs, tables
from benchmarks.support.record import RESULTS, Row, read
from entroselect.loop import config as options
from entroselect.loop import iterate as loop
from entroselect.loop import plan

TINY = [
    "iterations=2", "data.images=40", "model.channels=[8,8]", "model.groups=4", "train.steps=4",
    "train.batch=8", "train.warmup=1", "sample.steps=2", "measure.spaces=['pixels']",
]  # fmt: skip
PARTS = [("digits", ["none", "greedy", "greedy pixels"], 2)]


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something of MNIST's form: 60 images of 28 x 28 with labels."""
    path = tmp_path_factory.mktemp("data") / "mnist.npz"
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (60, 28, 28), np.uint8)
    np.savez(path, x=x, y=np.arange(60, dtype=np.uint8) % 10)
    return path


@pytest.fixture
def small_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PLAN", PARTS)


@pytest.mark.slow
@pytest.mark.parametrize("scale", runs.SCALES)
def test_every_arm_resolves_and_is_unlike_the_others(scale: str) -> None:
    todo = runs.tasks(scale, ["digits", "mnist"], [0, 1])
    assert {task.arm for task in todo} == set(runs.ARMS)
    resolved = [options.resolve(task.data, settings=task.settings) for task in todo]
    assert len({options.to_json(config) for config in resolved}) == len(todo)
    assert len({task.name for task in todo}) == len(todo)
    # Enough digits for the arms with new images, and nothing else that can be known to fail.
    for task, config in zip(todo, resolved, strict=True):
        if task.data == "digits":
            real, _, stream = plan.split(config)
            plan.check(config, real, stream)


def test_fresh_arms_have_the_papers_proportions() -> None:
    config = options.resolve("mnist", settings=["data.images=32768"])
    settings = runs.sized("fresh greedy", config)
    assert settings == ["fresh=10000", "generate=10000", "keep=0.7580"]


@pytest.mark.slow
def test_a_tiny_study_goes_on_and_ends(
    tmp_path: Path, mnist: Path, small_plan: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PLAN", [*PARTS, ("mnist", ["none"], 2)])
    results = tmp_path / "study.csv"
    given = ["--out", str(tmp_path / "runs"), "--results", str(results), "--mnist", str(mnist)]
    given += ["--seeds", "3", *(part for one in TINY for part in ("--set", one))]

    def dying(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "add", dying)
        with pytest.raises(SystemExit):
            command.main(given)
    assert not results.exists()
    command.main(given)
    found = read(results)
    assert [(row["data"], row["arm"], row["iteration"]) for row in found] == [
        ("digits", "none", "1"), ("digits", "none", "2"), ("digits", "none", "0"),
        ("digits", "greedy", "1"), ("digits", "greedy", "2"),
        ("digits", "greedy pixels", "1"), ("digits", "greedy pixels", "2"),
        ("mnist", "none", "1"), ("mnist", "none", "2"),
    ]  # fmt: skip
    assert {row["pixels"] for row in found if row["data"] == "mnist"} == {"8x8"}
    assert all(row["commit"] and row["settings"].endswith("seed=3") for row in found)
    path = tmp_path / "runs/digits-greedy-3/iteration-02/metrics.json"
    pixels = json.loads(path.read_text())["spaces"]["pixels"]
    assert float(found[4]["entropy"]) == pytest.approx(pixels["generated"]["entropy"], rel=1e-5)
    assert float(found[4]["fd"]) == pytest.approx(pixels["frechet_distance"], rel=1e-5)

    # Done is done: nothing is run or written again.
    monkeypatch.setattr(loop, "run", dying)
    before = results.read_bytes()
    command.main(given)
    assert results.read_bytes() == before


def test_without_mnist_it_says_so_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "PLAN", [("mnist", ["none"], 2)])
    command.main(["--out", str(tmp_path / "runs"), "--results", str(tmp_path / "study.csv")])
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "digits only: no MNIST was named (--mnist FILE, or make study MNIST=FILE)"


def test_mnist_is_shrunk_by_means(tmp_path: Path) -> None:
    images = np.zeros((2, 28, 28), np.uint8)
    images[0, 2:5, 5:8] = 90
    images[0, 4, 7] = 85
    images[1, :2] = images[1, 26:] = 255  # the edge is left out
    np.savez(tmp_path / "x.npz", x=images, y=np.array([7, 1]))
    made = np.load(runs.shrunk(tmp_path / "x.npz", tmp_path / "small.npz"))
    expected = np.zeros((2, 8, 8), np.uint8)
    expected[0, 0, 1] = 89
    np.testing.assert_array_equal(made["x"], expected)
    assert made["y"].tolist() == [1, 0]  # numbered in their order


def rows_of(arm: str, seed: int, iteration: int, **measures: float) -> list[Row]:
    """Lines of the results in both spaces, with something for what is not given."""
    made: Row = dict.fromkeys(runs.COLUMNS, str(1 + 0.1 * iteration + 0.01 * seed))
    made |= {"data": "digits", "arm": arm, "seed": str(seed), "iteration": str(iteration)}
    made |= {"variance": str(iteration * iteration)}
    made |= {name: str(value) for name, value in measures.items()}
    return [made | {"space": space} for space in ("encoder", "pixels")]


def answers(rows: list[Row]) -> dict[str, claims.Answer]:
    found = claims.Found(rows, "digits")
    checked = {claimed: check(found) for _, claimed, check in claims.claims()}
    return {claimed: answer for claimed, answer in checked.items() if answer is not None}


def test_the_table_says_what_the_results_say() -> None:
    rows = []
    for seed, (falling, fd) in enumerate([((3, 2, 1), 5.0), ((3, 1, 2), 5.2), ((3, 2, 0.5), 4.8)]):
        for iteration, gs in enumerate(falling, 1):
            rows += rows_of("none", seed, iteration, entropy=10 * gs, gs=gs, fd=5)
            rows += rows_of("greedy", seed, iteration, entropy=30 + iteration, gs=gs, fd=fd)
    found = answers(rows)
    assert found["replace: GS falls (encoder)"].holds == [True, False, True]
    assert found["replace: GS falls (encoder)"].agrees == "in 2 of 3 seeds"
    assert found["replace: GS falls (encoder)"].found == "3 → 1.67 ± 0.58 → 1.17 ± 0.76"
    assert found["replace: greedy has lower fd (encoder)"].found == (
        "5.00 ± 0.20 against 5, iteration 3"
    )
    assert found["replace: greedy has lower fd (encoder)"].holds == [False, False, True]
    assert found["replace: greedy has higher entropy (encoder)"].agrees == "yes"
    assert found["replace: greedy has higher GS (encoder)"].agrees == "**no**"
    assert not any(claimed.startswith("accumulate") for claimed in found)
    text = tables.render(rows)
    assert "| 3 | replace: greedy has lower fd (encoder) | digits | 5.00 ± 0.20 against" in text
    line = next(line for line in text.splitlines() if line.startswith("| greedy | 3 | 33 | 33 |"))
    assert line.endswith("| 5, 1 of 3 |")


def test_claims_about_sizes_and_shares() -> None:
    rows = []
    for seed, best in enumerate(["keep 0.8", "none"]):
        for arm in claims.KEPT:
            rows += rows_of(arm, seed, 1, gs=1)
            rows += rows_of(arm, seed, 2, fd=1 if arm == best else 2, gs=0.9)
        for n, (arm, gs) in enumerate({"quarter": 0.5, "half": 0.7 + seed / 2}.items()):
            rows += rows_of(arm, seed, 1, gs=1, training_n=n)
            rows += rows_of(arm, seed, 2, gs=gs)
    found = answers(rows)
    assert found["fd is best at a kept share inside 0.2 to 1"].holds == [True, False]
    assert found["fd is best at a kept share inside 0.2 to 1"].found.endswith("best at 0.8, 1")
    assert found["smaller N, faster fall of GS (encoder)"].holds == [True, False]


def test_entropy_explains_gs_or_variance_does() -> None:
    draw = np.random.default_rng(0)
    rows = []
    for iteration in range(1, 9):
        gs, noise = float(np.exp(-iteration)), float(draw.random())
        for seed, names in enumerate([("entropy", "variance"), ("variance", "entropy")]):
            measures = {names[0]: 9.0 - iteration, names[1]: noise}
            rows += rows_of("none", seed, iteration, gs=gs, **measures)
    found = answers(rows)["replace: log GS goes with entropy, less with variance (encoder)"]
    assert found.holds == [True, False]


def test_committed_page_is_what_the_committed_results_give() -> None:
    assert tables.main(["--check"]) == 0
    assert tables.main(["--check", "--results", "nowhere.csv"]) == 1


@pytest.mark.slow
def test_figures_are_drawn(tmp_path: Path) -> None:
    rows = read(RESULTS / "study_small.csv")
    figures.draw(tables.data_sets(rows), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "study_replace.png", "study_accumulate.png", "study_small.png", "study_entropy_gs.png",
        "study_kept.png",
    }  # fmt: skip
