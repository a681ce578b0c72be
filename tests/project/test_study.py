"""The study: its tasks, every part in small, its claims, tables and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from benchmarks.study import __main__ as command
from benchmarks.study import (
    cifar,
    loops,
    paradigms,
    reference,
    regimes,
    resample,
    tasks,
)
from benchmarks.support.record import read
from entroselect.loop import data, plan
from entroselect.loop import iterate as loop

TINY = [
    "iterations=2", "data.images=24", "data.held_out=40", "model.width=8", "model.blocks=1",
    "train.steps=4", "train.batch=8", "train.warmup=1", "sample.steps=4", "measure.draw=30",
]  # fmt: skip
SET = [part for one in TINY for part in ("--set", one)]


@pytest.fixture
def untaught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entroselect.loop.features.ENCODER_STEPS", 1)


def dying(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_task_that_fails_is_named_and_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "x.csv"
    todo = [
        tasks.Task("bad", "1", json.loads, {"s": "?"}),
        tasks.Task("good", "1", json.loads, {"s": '[{"a": 1}, {"a": 2.0000001}]'}),
    ]
    assert tasks.run(todo, results, ["a"], jobs=2) == 1
    assert "bad: " in capsys.readouterr().err
    assert [(r["task"], r["a"], r["settings"]) for r in read(results)] == [
        ("good", "1", "1"), ("good", "2", "1"),
    ]  # fmt: skip
    todo = [tasks.Task("bad", "1", json.loads, {"s": "[{}]"}), todo[1]]
    todo += [tasks.Task("good", "2", json.loads, {"s": '[{"a": 3}]'})]
    assert tasks.run(todo, results, ["a"]) == 0
    # Of a task whose settings have changed only the new rows are kept.
    assert [(r["task"], r["a"]) for r in read(results)] == [("bad", ""), ("good", "3")]
    assert all(row["commit"] for row in read(results))


def test_every_arm_is_in_a_plan_and_resolves() -> None:
    given = tasks.Given(Path("x"), seeds=(0,))
    parts = [*regimes.PLAN, *paradigms.PLAN]
    assert {arm for _, arms in parts for arm in arms} == set(loops.ARMS)
    runs = [(name, arm) for name, arms in parts for arm in arms]
    assert len(set(runs)) == len(runs)
    own = [loops.settings(name, arm, 0) for name, arm in runs]
    unlike = {
        (loops.SETTINGS[name], *options) for (name, _), options in zip(runs, own, strict=True)
    }
    assert len(unlike) == len(own)
    for (name, _), options in zip(runs, own, strict=True):
        loops.resolved(name, options, "digits")
    # Without MNIST, what needs digits only.
    made = regimes.tasks(given)
    assert {task.arguments["name"] for task in made} == {"digits repeats", "digits scatters"}


@pytest.mark.slow
def test_the_digits_suffice_for_every_arm() -> None:
    for name, arms in [*regimes.PLAN, *paradigms.PLAN]:
        for arm in arms if name.startswith("digits") else ():
            config = loops.resolved(name, loops.settings(name, arm, 1), "digits")
            real, _, stream = plan.split(config)
            plan.check(plan.settled(config, real, None), real, stream)


def test_fresh_arms_have_the_papers_proportions() -> None:
    config = loops.resolved("digits scatters", ["data.images=32768"], "digits")
    assert loops.sized("fresh greedy", config) == ["fresh=10000", "generate=10000", "keep=0.7580"]
    assert loops.sized("N / 2", config) == ["data.images=16384"]
    assert loops.sized("none", config) == []


def test_runs_of_the_loop_resume_and_are_measured(
    tmp_path: Path, untaught: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regimes, "PLAN", [("digits repeats", ("none", "anchored"))])
    given = ["--out", str(tmp_path / "runs"), "--results", str(tmp_path), "--seeds", "3"]
    given += ["--part", "regimes", *SET]
    with monkeypatch.context() as patch:
        patch.setattr(loops, "real_images", dying)
        with pytest.raises(SystemExit):
            command.main(given)
    assert not (tmp_path / "study_regimes.csv").exists()
    command.main(given)
    found = read(tmp_path / "study_regimes.csv")
    assert [(r["arm"], r["iteration"], r["space"]) for r in found] == [
        ("none", "1", "pixels"), ("none", "1", "judge"), ("none", "2", "pixels"),
        ("none", "2", "judge"), ("none", "0", "pixels"), ("none", "0", "judge"),
        ("anchored", "1", "pixels"), ("anchored", "1", "judge"), ("anchored", "2", "pixels"),
        ("anchored", "2", "judge"),
    ]  # fmt: skip
    assert all(row["commit"] and row["settings"].endswith("seed=3") for row in found)
    folder = tmp_path / "runs" / "digits-repeats-none-3"
    judged = json.loads((folder / "iteration-02/metrics.json").read_text())
    assert float(found[3]["fd"]) == pytest.approx(
        judged["spaces"]["judge"]["frechet_distance"], rel=1e-5
    )
    assert found[3]["verdict"] == judged["diagnosis"]["verdict"]
    # Real images are no copies of held-out ones, but lie where those lie.
    assert 1 < float(found[4]["fd"]) < float(found[2]["fd"])
    # The arms of a seed share what they can.
    model = "iteration-01/ddpm/unet/diffusion_pytorch_model.safetensors"
    other = tmp_path / "runs" / "digits-repeats-anchored-3"
    assert (other / model).read_bytes() == (folder / model).read_bytes()
    # Done is done: nothing is run or written again.
    monkeypatch.setattr(loop, "run", dying)
    before = (tmp_path / "study_regimes.csv").read_bytes()
    command.main(given)
    assert (tmp_path / "study_regimes.csv").read_bytes() == before


def test_copies_in_the_plane_are_kept_apart_by_a_selection(tmp_path: Path) -> None:
    rows = resample.compared("25 gaussians", "noise", 0.25, 0, "", tmp_path)
    assert len(rows) == len(resample.METHODS) * len(resample.MEASURED)
    fd = {(row["method"], row["iteration"]): row["fd"] for row in rows}
    assert len({fd[method, 1] for method in resample.METHODS}) == 1  # all start alike
    for method in ("greedy", "threshold", "anchored", "energy"):
        assert fd[method, 8] < 0.6 * fd["none", 8]
    assert fd["energy", 8] != fd["anchored", 8]


def test_copies_of_digits_are_judged_in_an_encoder_too(tmp_path: Path, untaught: None) -> None:
    real, held_out = resample.rows_of("digits", "digits", 0)
    assert (len(real), len(held_out)) == resample.SIZES["digits"]
    assert not {image.tobytes() for image in real.pixels} & {
        image.tobytes() for image in held_out.pixels[:200]
    }
    spaces = resample.judging("digits", held_out, 0, tmp_path)
    assert {name: extract(real.pixels).shape for name, extract in spaces.items()} == {
        "pixels": (128, 64), "judge": (128, 64),
    }  # fmt: skip
    assert (tmp_path / "resample-digits-0" / "judge.safetensors").exists()


def test_a_biased_reference_has_the_first_classes_only() -> None:
    labels = np.repeat(np.arange(10), 2)
    known = labels[:, None].astype(float)  # class n lies at n
    real = data.Images(known, labels, data.origins(data.REAL, 20))
    pool = np.repeat(np.arange(10.0), 4)[:, None]
    picked, _ = reference.picked(pool, known, real, reference.Way("anchored", biased=True), 0)
    assert sorted(pool[picked, 0]) == np.repeat(np.arange(5.0), 4).tolist()
    unbiased, _ = reference.picked(pool, known, real, reference.Way("anchored"), 0)
    assert sorted(pool[unbiased, 0]) == np.repeat(np.arange(10.0), 2).tolist()


def test_a_round_of_training_on_each_chosen_set(
    tmp_path: Path, untaught: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: reference.WAYS[name] for name in ("random", "anchored", "anchored, 16 real")}
    monkeypatch.setattr(reference, "WAYS", few)
    taught, fit = [], reference.Denoiser.fit

    def recorded(denoiser: Any, images: Any, **options: Any) -> None:
        taught.append(images)
        fit(denoiser, images, **options)

    monkeypatch.setattr(reference.Denoiser, "fit", recorded)
    rows = reference.compared(0, tuple(TINY), tmp_path)
    assert [(r["way"], r["stage"], r["space"]) for r in rows] == [
        (way, stage, space)
        for way in few
        for stage in ("chosen", "next")
        for space in reference.SPACES
    ]
    assert [row["n"] for row in rows[:4]] == [24, 24, 24, 30]
    fd = {(r["way"], r["stage"], r["space"]): r["fd"] for r in rows}
    assert fd["anchored", "chosen", "encoder"] < fd["random", "chosen", "encoder"]
    pool = data.read(tmp_path / "first-digits-scatters-0" / "iteration-01", "generated")
    made = {image.tobytes() for image in pool.pixels}
    for images in taught[-len(few) :]:  # the first model was taught before
        assert len({image.tobytes() for image in images}) == 24
        assert {image.tobytes() for image in images} <= made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first-digits-scatters-0"]


@pytest.fixture
def small_cifar(monkeypatch: pytest.MonkeyPatch) -> data.Images:
    sizes = {"CLEAN": 24, "COPIES": 12, "CORRUPTED": 12, "PICKED": 24, "REFERENCE": 30}
    for name, size in {**sizes, "HELD_OUT": 30, "COPIED": 3, "DIRECTIONS": 4}.items():
        monkeypatch.setattr(cifar, name, size)
    smooth = np.random.default_rng(0).uniform(60, 180, (100, 2, 2, 3))
    pixels = smooth.repeat(16, 1).repeat(16, 2).astype(np.uint8)
    return data.Images(pixels, None, data.origins(data.REAL, 100))


def test_the_pool_has_what_it_says(small_cifar: data.Images) -> None:
    pool, kinds, originals, known, held_out = cifar.sets_of(small_cifar, 0)
    assert (len(pool), len(known), len(held_out)) == (48, 30, 30)
    assert np.bincount(kinds).tolist() == [24, 12, 12]
    assert len(np.unique(originals)) == 36
    real = small_cifar.pixels[originals].astype(float)
    error = np.abs(pool.pixels - real).mean(axis=(1, 2, 3))
    assert error[:24].max() == 0
    assert 0 < error[24:36].min() <= error[24:36].max() < 20 < error[36:].mean()
    assert len(np.unique(originals[24:36])) <= 3
    kept = (pool.pixels[36:] == real[36:]).mean(axis=(1, 2, 3))
    assert kept[1::3].min() > 0.5  # a square was laid over these
    with pytest.raises(ValueError, match="--cifar: 96 images needed, got 95"):
        cifar.sets_of(small_cifar.take(np.arange(95)), 0)


def test_cifar_is_selected_in_one_space_and_judged_in_the_other(
    tmp_path: Path, small_cifar: data.Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "find_spec", lambda _: None)
    source = tmp_path / "x.npz"
    tasks.write_images(source, small_cifar.pixels, np.zeros(100))
    assert cifar.tasks(tasks.Given(tmp_path, cifar=str(source))) == []  # without the network
    plain = cifar.reduced("pixels", (small_cifar, small_cifar))
    assert plain[1].shape == (100, 4)
    assert np.abs(plain[1].mean(axis=0)).max() < 1e-3
    monkeypatch.setattr(cifar, "reduced", lambda space, sets: [s[:, ::-1] for s in split(sets)])
    rows = cifar.compared(0, cifar.kept(str(source), tmp_path))
    ways = [(row["space"], row["judge"], row["method"]) for row in rows]
    assert ways == [(s, j, m) for s, j in cifar.JUDGES.items() for m in cifar.METHODS]
    for row in rows:
        assert row["clean"] + row["copies"] + row["corrupted"] == pytest.approx(1)
    taken = {row["method"]: row for row in rows}
    assert taken["greedy"]["originals"] > taken["random"]["originals"]
    assert taken["energy"]["fd"] < taken["random"]["fd"]


def split(sets: tuple[data.Images, ...]) -> list[Any]:
    """Mean colours."""
    return [images.pixels.mean(axis=(1, 2), dtype=np.float32) for images in sets]


@pytest.mark.parametrize("side", [8, 14])
def test_mnist_is_shrunk_by_means(tmp_path: Path, side: int) -> None:
    images = np.zeros((2, 28, 28), np.uint8)
    edge, factor = {8: (2, 3), 14: (0, 2)}[side]
    images[0, edge : edge + factor, edge + factor : edge + 2 * factor] = 90
    images[0, edge, edge + factor] = 85
    if edge:
        images[1, :edge] = images[1, -edge:] = 255  # is left out
    np.savez(tmp_path / "x.npz", x=images, y=np.array([7, 1]))
    made = np.load(tasks.shrunk(str(tmp_path / "x.npz"), tmp_path, side))
    expected = np.zeros((2, side, side), np.uint8)
    expected[0, 0, 1] = 89
    np.testing.assert_array_equal(made["x"], expected)
    assert made["y"].tolist() == [1, 0]  # numbered in their order


def test_names_of_tasks_are_unique(tmp_path: Path) -> None:
    made = [task for part in command.PARTS.values() for task in part.tasks(tasks.Given(tmp_path))]
    assert len({task.name for task in made}) == len(made) > 100
