"""The loop as a whole: its folder, its resumption, its commands and its report."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from entroselect import _files, nearest_distances
from entroselect.loop import (
    compared,
    config,
    data,
    features,
    files,
    iterate,
    measuring,
    report,
    runs,
    train,
)
from tests.support import processes
from tests.support.loop_runs import TINY, contents, differing


@pytest.fixture(autouse=True)
def _states_at_every_second_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "EVERY", 2)
    monkeypatch.setattr(train, "SECONDS_BETWEEN_SAVES", -1.0)


def changed(**options: Any) -> config.Config:
    return dataclasses.replace(TINY, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run writes."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    every, seconds = train.EVERY, train.SECONDS_BETWEEN_SAVES
    train.EVERY, train.SECONDS_BETWEEN_SAVES = 2, -1.0
    try:
        assert iterate.run(TINY, folder)
    finally:
        train.EVERY, train.SECONDS_BETWEEN_SAVES = every, seconds
    return contents(folder)


def test_what_a_run_leaves(whole: dict[str, bytes]) -> None:
    each = [
        "DONE", "ddpm/scheduler/scheduler_config.json", "ddpm/unet/config.json",
        "ddpm/unet/diffusion_pytorch_model.safetensors", "generated.npy", "generated_origins.npy",
        "grid.png", "metrics.json", "training.npy", "training_labels.npy", "training_origins.npy",
    ]  # fmt: skip
    expected = {f"iteration-{n:02d}/{name}" for n in (1, 2, 3) for name in each}
    # Generated images have no labels, so later training sets have none.
    expected -= {f"iteration-{n:02d}/training_labels.npy" for n in (2, 3)}
    expected |= {"iteration-02/indices.npy", "iteration-03/indices.npy"}
    top = {"config.json", "env.json", "fingerprints.json", "stats.jsonl", "DONE", ".lock"}
    top.add("classes.json")
    assert set(whole) == expected | top
    lines = [json.loads(line) for line in whole["stats.jsonl"].splitlines()]
    assert [(m["iteration"], m["step"]) for m in lines] == [
        (n, s) for n in (1, 2, 3) for s in (2, 4, 6)
    ]


class Killed(BaseException):
    """As if the process had died: nothing after it runs, but what was written stays."""


@pytest.mark.slow
def test_killed_at_every_write_it_ends_with_the_same_bytes(
    whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt dies at its fifth write or soon after, half a file beside the real one."""
    write = _files.write_bytes
    left = 0

    def dying(path: Path, content: bytes) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(path.name + ".partial").write_bytes(bytes(content[: len(content) // 2]))
            raise Killed
        write(path, content)

    monkeypatch.setattr(_files, "write_bytes", dying)
    attempts = 0
    while True:
        attempts += 1
        assert attempts < 100
        # Going on rewrites the list of losses, and a set of images takes three writes.
        left = 5 + attempts % 3
        try:
            assert iterate.run(TINY, tmp_path / "run")
            break
        except Killed:
            continue
    assert attempts > 6
    assert differing(contents(tmp_path / "run"), whole) == []


@pytest.mark.slow
def test_killed_for_real_while_training(tmp_path: Path) -> None:
    """kill -9 of the command at a moment of its own, then the same command to the end."""
    settings = [
        "data.images=40", "data.held_out=20", "model.channels=[8,8]", "model.groups=4",
        "train.steps=400", "train.batch=8", "train.warmup=2", "sample.steps=2",
        "select.space=pixels", "measure.spaces=['pixels']",
    ]  # fmt: skip
    base = ["-m", "entroselect", "loop", "--iterations", "2", "--select", "greedy"]
    base += [part for setting in settings for part in ("--set", setting)]

    one_thread = {"OMP_NUM_THREADS": "1"}
    stats = tmp_path / "killed" / "stats.jsonl"
    with processes.started(*base, "--out", tmp_path / "killed", environment=one_thread) as killed:
        while not stats.exists() and killed.poll() is None:
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    assert not (tmp_path / "killed" / "DONE").exists()
    both = [[sys.executable, *base, "--out", tmp_path / name] for name in ("whole", "killed")]
    processes.together(both, environment=one_thread, seconds=600)
    whole, found = contents(tmp_path / "whole"), contents(tmp_path / "killed")
    assert differing(found, whole) == []


@pytest.mark.slow
def test_time_is_up_at_every_step(
    whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of training or of sampling is the least that an attempt does, and it is kept."""
    monkeypatch.setattr(iterate, "until", lambda deadline: contextlib.nullcontext())
    attempts = 0
    while not iterate.run(TINY, tmp_path / "run", max_seconds=0):
        attempts += 1
        assert attempts < 60
    assert attempts > 3 * (TINY.train.steps - 1 + 3)  # and three batches of two steps
    assert differing(contents(tmp_path / "run"), whole) == []


@pytest.mark.slow
def test_a_full_disk_loses_nothing(
    whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, room = os.fsync, 20

    def full(descriptor: int) -> None:
        nonlocal room
        room -= 1
        if room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*what was finished is kept"):
        iterate.run(TINY, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.partial"))
    room = 10**9
    assert iterate.run(TINY, tmp_path / "run")
    assert differing(contents(tmp_path / "run"), whole) == []


@pytest.mark.slow
def test_a_folder_of_another_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    iterate.run(changed(iterations=1), folder)
    other = changed(iterations=1, keep=0.25, seed=4)
    with pytest.raises(ValueError, match=r"there, seed is 0, not 4, keep is 0.5, not 0.25"):
        iterate.run(other, folder)
    assert iterate.run(changed(iterations=2), folder)  # more iterations are another matter
    assert (folder / "iteration-02" / "DONE").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=r"not a run \(thesis.tex\)"):
        iterate.run(TINY, tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": config.Data(images=5000)}, "data.images: 5000 to train on"),
        ({"generate": 10}, "generate: 10 images an iteration, but 40"),
        ({"model": config.Model(channels=(8, 8, 8, 8, 8))}, "divisible by 16, got 8 x 8"),
        ({"paradigm": "fresh-data", "fresh": 1700}, "fresh: 1700 images for each of 2"),
        ({"device": "nonsense"}, "device: 'nonsense' cannot be used"),
        (
            {"keep": 0.8, "select": config.Select("greedy", "pixels", drop_far=0.3)},
            "drop_far: 0.0 and 0.3 may leave 35 of 50 images, 40 are wanted",
        ),
    ],
)
def test_what_cannot_work_is_said_before_training(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        iterate.run(changed(**options), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_conditional_model_needs_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", data.load("digits").pixels[:100])
    options = changed(
        data=config.Data(source=str(tmp_path / "a.npy"), images=40),
        model=dataclasses.replace(TINY.model, conditional=True),
    )
    with pytest.raises(ValueError, match=r"model.conditional: .*a.npy has no labels"):
        iterate.run(options, tmp_path / "run")


PARADIGMS: list[tuple[dict[str, Any], list[int], set[str]]] = [
    ({"paradigm": "replace", "select": config.Select()}, [40, 40], {"synthetic"}),
    ({"paradigm": "accumulate", "select": config.Select()}, [80, 120], {"real", "synthetic"}),
    ({"paradigm": "accumulate"}, [40, 40], {"real", "synthetic"}),
    (
        {"paradigm": "accumulate-subsample", "select": config.Select()},
        [40, 40],
        {"real", "synthetic"},
    ),
    (
        {"paradigm": "fresh-data", "fresh": 20, "keep": 0.6},
        [60, 72],
        {"real", "synthetic", "fresh"},
    ),
    ({"paradigm": "multi-model"}, [40, 40], {"real", "synthetic"}),
    (
        {
            "model": dataclasses.replace(TINY.model, conditional=True),
            "sample": dataclasses.replace(TINY.sample, guidance=2.0),
            "equal_compute": True,
        },
        [40, 40],
        {"synthetic"},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("options", "sizes", "kinds"), PARADIGMS)
def test_paradigms(
    options: dict[str, Any], sizes: list[int], kinds: set[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert iterate.run(changed(**options), folder)
    found = runs.read_run(folder).measured
    assert [m["training_size"] for m in found] == [40, *sizes]
    assert {name for name, share in found[-1]["origins"].items() if share} == kinds
    if options.get("paradigm") == "multi-model":
        models = np.load(folder / "iteration-02" / "generated_origins.npy")[:, 2]
        assert set(models.tolist()) == {0, 1}
    rows = np.load(folder / "iteration-03" / "indices.npy")
    assert len(set(rows.tolist())) == len(rows) == sizes[-1]


def test_as_many_generated_images_are_measured_as_there_were_real_ones(
    whole: dict[str, bytes],
) -> None:
    assert measuring.evenly(80, 40).tolist() == list(range(0, 80, 2))
    assert measuring.evenly(3, 40).tolist() == [0, 1, 2]
    measured = json.loads(whole["iteration-01/metrics.json"])
    assert measured["generated_size"] == 80
    assert measured["spaces"]["pixels"]["generated"]["n"] == 40


@pytest.mark.slow
def test_provenance_points_at_the_image(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    iterate.run(changed(paradigm="accumulate"), folder)
    training = data.read(folder / "iteration-03", "training")
    sources = {n: data.read(folder / f"iteration-{n:02d}", "generated") for n in (1, 2)}
    real = data.read(folder / "iteration-01", "training")
    by_row = {int(row): i for i, row in enumerate(real.origins[:, 3])}
    for pixels, (kind, iteration, _, row) in zip(training.pixels, training.origins, strict=True):
        if kind == data.SYNTHETIC:
            np.testing.assert_array_equal(pixels, sources[iteration].pixels[row])
        else:
            np.testing.assert_array_equal(pixels, real.pixels[by_row[row]])


@pytest.mark.slow
def test_the_report_compares_arms_and_seeds(tmp_path: Path) -> None:
    folders = []
    for number, (method, seed) in enumerate((("none", 0), ("greedy", 0), ("greedy", 1))):
        folders.append(tmp_path / str(number))
        select = dataclasses.replace(TINY.select, method=method)  # type: ignore[arg-type]
        iterate.run(changed(select=select, seed=seed), folders[-1])
    arms = compared.arms([runs.read_run(folder) for folder in folders])
    assert [(arm.label, len(arm.runs)) for arm in arms] == [("none", 1), ("greedy", 2)]
    page = report.page(folders)
    for heading in (
        "Through the iterations",
        "Samples (greedy)",
        "nearest training image (none)",
        "What explains",
        "Where the training images",
        "Radius of the last",
    ):
        assert heading in page
    assert "http" not in page
    with pytest.raises(ValueError, match="not a run folder"):
        report.page([tmp_path])


def command(*arguments: str, code: int = 0) -> processes.Done:
    return processes.python("-m", "entroselect", *arguments, code=code)


@pytest.mark.slow
def test_a_dry_run_prints_configuration_time_and_disk() -> None:
    found = command("loop", "--dry-run", "--set", "train.steps=300", "--select", "greedy")
    assert '"steps": 300' in found.stdout
    assert " MB" in found.stdout
    assert "parameters" in found.stdout


@pytest.mark.slow
def test_bad_use_of_the_commands(tmp_path: Path) -> None:
    for arguments, message in (
        (("loop",), "give the folder"),
        (("loop", "--out", str(tmp_path / "a"), "--preset", "digit"), "did you mean digits"),
        (("loop", "--out", str(tmp_path / "a"), "--data", "nowhere"), "no such file"),
        (("report", str(tmp_path), "-o", str(tmp_path / "r.html")), "not a run folder"),
    ):
        found = command(*arguments, code=None)
        assert found.returncode in (1, 2)
        assert message in found.stderr
        assert "Traceback" not in found.stderr


@pytest.mark.slow
def test_a_floor_is_taken_in_the_selections_own_space(tmp_path: Path) -> None:
    """Also for a random selection, which needs features for nothing else."""
    select = config.Select("random", "encoder", drop_far=0.25)
    assert iterate.run(changed(iterations=2, select=select), tmp_path / "run")
    pool = data.read(tmp_path / "run/iteration-01", "generated")
    real = data.read(tmp_path / "run/iteration-01", "training")
    space = features.spaces(["encoder"], real, folder=tmp_path / "run")["encoder"]
    away = nearest_distances(space(pool), space(real)).distances[:, 0]
    chosen = files.read_array(tmp_path / "run/iteration-02/indices.npy")
    assert len(chosen) == 40
    assert set(chosen.tolist()) <= set(np.argsort(away, kind="stable")[:60].tolist())
