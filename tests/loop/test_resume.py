"""Run folders that others touched: changed data, damage, two processes, links, leftovers."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("sklearn")

from entroselect import _files  # noqa: E402
from entroselect.loop import (  # noqa: E402
    config,
    data,
    diffusion,
    features,
    files,
    folder,
    run,
    sample,
    stop,
    train,
)
from entroselect.loop.progress import Progress  # noqa: E402
from tests.support.loop_runs import TINY  # noqa: E402

SHORT = dataclasses.replace(TINY, iterations=2)


class Notes(Progress):
    """Remembers what was noted."""

    def __init__(self) -> None:
        super().__init__(False)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    made = tmp_path_factory.mktemp("whole") / "run"
    assert run.run(SHORT, made)
    return made


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """Its first iteration, the second one still to come."""
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "iteration-02")
    (tmp_path / "run" / "DONE").unlink()
    return tmp_path / "run"


def same(one: Path, other: Path) -> None:
    """All files, byte by byte."""
    for path in sorted(p for p in one.rglob("*") if p.is_file()):
        name = path.relative_to(one)
        assert (other / name).read_bytes() == path.read_bytes(), name


# fingerprints


def test_data_that_changed(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    np.save(tmp_path / "i.npy", draw.integers(0, 256, (64, 8, 8), dtype="u1"))
    source = dataclasses.replace(TINY.data, source=str(tmp_path / "i.npy"))
    given = dataclasses.replace(TINY, data=source, iterations=1)
    assert run.run(given, tmp_path / "run")
    pixels = np.load(tmp_path / "i.npy")
    pixels[5, 0, 0] ^= 1
    np.save(tmp_path / "i.npy", pixels)
    longer = dataclasses.replace(given, iterations=2)
    with pytest.raises(ValueError, match=r"run: the images or labels of data.source changed"):
        run.run(longer, tmp_path / "run")
    pixels[5, 0, 0] ^= 1
    np.save(tmp_path / "i.npy", pixels)
    assert run.run(longer, tmp_path / "run")


def test_labels_and_shapes_belong_to_the_fingerprint() -> None:
    one = data.load("digits").take(np.arange(20))
    turned = dataclasses.replace(one, pixels=one.pixels.reshape(20, 4, 16, 1))
    other = dataclasses.replace(one, labels=(one.labels + 1) % 10)  # type: ignore[operator]
    marks = [folder.fingerprint([i]) for i in (one, turned, other, one.take(np.arange(20)[::-1]))]
    assert len(set(marks)) == 4
    assert folder.fingerprint([one]) == marks[0]


def test_encoder_or_weights_that_changed(tmp_path: Path) -> None:
    notes: list[str] = []
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"1")
    marks = {"weights": folder.of_weights(str(weights)), "encoder": "0"}
    folder.check_fingerprints(tmp_path, marks, notes.append)
    folder.check_fingerprints(tmp_path, marks, notes.append)
    (weights / "model.safetensors").write_bytes(b"2")
    marks = {"weights": folder.of_weights(str(weights))}
    with pytest.raises(ValueError, match=r"the file or folder measure.weights changed"):
        folder.check_fingerprints(tmp_path, marks, notes.append)
    with pytest.raises(ValueError, match=r"encoder.safetensors changed"):
        folder.check_fingerprints(tmp_path, {"encoder": "1"}, notes.append)
    assert notes == []


def test_a_folder_without_fingerprints_is_taken_with_a_note(copy: Path, whole: Path) -> None:
    (copy / folder.FINGERPRINTS).unlink()
    progress = Notes()
    assert run.run(SHORT, copy, progress=progress)
    assert any("begun without fingerprints of the images" in note for note in progress.notes)
    same(whole, copy)


# damage


def test_a_damaged_configuration_is_named(copy: Path) -> None:
    for content in (b"{", b"\xff", b"[" * 100_000, b"[]", b'{"seed": "a"}'):
        (copy / "config.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"config.json: damaged.*\([\w'(]"):
            run.run(SHORT, copy)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def shorter(path: Path) -> None:
    files.write_array(path, files.read_array(path)[:-1])


def float32(path: Path) -> None:
    files.write_array(path, files.read_array(path).astype(np.float32))


def rubbish(path: Path) -> None:
    path.write_bytes(b"\x93NUMPY\x01\x00\x06\x003(, }\n")


@pytest.mark.parametrize("damage", [cut, shorter, float32, rubbish])
@pytest.mark.parametrize(
    "name", ["training.npy", "training_origins.npy", "generated.npy", "generated_origins.npy"]
)
def test_a_damaged_array_is_named_and_made_again(damage: Any, name: str, copy: Path) -> None:
    path = copy / "iteration-01" / name
    before = path.read_bytes()
    damage(path)
    here, count = copy / "iteration-01", 40 if name.startswith("training") else 80
    with pytest.raises(files.Damaged, match=rf"{name}: damaged .*; delete it and run the same"):
        folder.read_images(here, name.split(".")[0].split("_")[0], count, (8, 8, 1))
    path.write_bytes(before)
    folder.read_images(here, name.split(".")[0].split("_")[0], count, (8, 8, 1))


def test_a_run_says_so_and_makes_again_what_was_deleted(copy: Path, whole: Path) -> None:
    path = copy / "iteration-01" / "training_origins.npy"
    shorter(path)
    with pytest.raises(files.Damaged, match=r"training_origins.npy: damaged \(\(39, 4\) int32"):
        run.run(SHORT, copy)
    path.unlink()
    (copy / "iteration-01" / "metrics.json").write_text("{")  # is measured again by itself
    assert run.run(SHORT, copy)
    same(whole, copy)


def test_names_of_labels_are_kept(whole: Path, tmp_path: Path) -> None:
    assert json.loads((whole / "classes.json").read_text()) == list("0123456789")
    images = data.Images(
        np.zeros((2, 8, 8, 1), np.uint8), np.arange(2), data.origins(data.REAL, 2), ("dög", "cat")
    )
    folder.keep_classes(tmp_path, images)
    assert json.loads((tmp_path / "classes.json").read_text()) == ["dög", "cat"]
    folder.keep_classes(tmp_path / "none", dataclasses.replace(images, labels=None))
    assert not (tmp_path / "none").exists()


def test_labels_must_fit(tmp_path: Path) -> None:
    images = data.load("digits").take(np.arange(20))
    data.write(tmp_path, "training", images)
    folder.read_images(tmp_path, "training", 20, (8, 8, 1), classes=10)
    for labels in (np.full(20, 10), np.arange(19), np.arange(20, dtype=np.float64)):
        files.write_array(tmp_path / "training_labels.npy", labels)
        with pytest.raises(files.Damaged, match=r"training_labels.npy"):
            folder.read_images(tmp_path, "training", 20, (8, 8, 1), classes=10)
    (tmp_path / "training_labels.npy").unlink()
    with pytest.raises(files.Damaged, match=r"training_labels.npy is missing"):
        folder.read_images(tmp_path, "training", 20, (8, 8, 1), classes=10)


def test_an_array_is_not_allocated_before_the_file_is_long_enough(tmp_path: Path) -> None:
    for shape in ("(1000000000000,)", "(-5, -3)", "(10000000000, 10000000000, 10000000000)"):
        head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        (tmp_path / "a.npy").write_bytes(
            b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
        )
        with pytest.raises(files.Damaged, match=r"a.npy: damaged"):
            files.read_array(tmp_path / "a.npy")


@pytest.mark.parametrize("damage", ["empty", "cut", "another network's", "a bit"])
def test_a_damaged_state_costs_time_only(damage: str, copy: Path, whole: Path) -> None:
    state = copy / "iteration-02" / "ddpm" / "state.safetensors"
    state.parent.mkdir(parents=True)
    files.write_state(state, {"net.a": torch.ones(9)}, step="2", scale="0.0", growth="0")
    if damage == "a bit":
        state.write_bytes(state.read_bytes()[:-1] + b"\x3e")
        with pytest.raises(files.Damaged, match="checksum"):
            files.read_tensors(state)
    elif damage != "another network's":
        state.write_bytes(state.read_bytes()[: 0 if damage == "empty" else 40])
    progress = Notes()
    assert run.run(SHORT, copy, progress=progress)
    assert any("training begins again" in note for note in progress.notes)
    same(whole, copy)


def test_a_damaged_model_is_named(whole: Path, tmp_path: Path) -> None:
    net = diffusion.load(whole / "iteration-01" / "ddpm")
    diffusion.save(net, diffusion.noise_schedule(TINY.diffusion), tmp_path)
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    cut(weights)
    with pytest.raises(files.Damaged, match=r"diffusion_pytorch_model.safetensors: damaged"):
        diffusion.load(tmp_path)
    files.write_tensors(weights, {"conv_in.weight": torch.ones(3)})
    with pytest.raises(files.Damaged, match="weights of another network"):
        diffusion.load(tmp_path)
    with torch.no_grad():
        next(net.parameters()).fill_(torch.nan)
    files.write_tensors(weights, net.state_dict())
    with pytest.raises(files.Damaged, match="not finite"):
        diffusion.load(tmp_path)
    (tmp_path / "unet" / "config.json").write_text("{")
    with pytest.raises(files.Damaged, match=r"config.json: damaged"):
        diffusion.load(tmp_path)


def test_lines_of_stats_that_are_none(tmp_path: Path) -> None:
    stats = tmp_path / "stats.jsonl"
    good = json.dumps({"iteration": 1, "model": "ddpm", "step": 2})
    later = json.dumps({"iteration": 1, "model": "ddpm", "step": 4})
    stats.write_bytes(f"{{}}\n[]\n7\n{good}\n\n{later}\n".encode() + b'\xff\n{"iteration": 1, "mo')
    folder.cut_stats(stats, 1, "ddpm", 2)
    assert stats.read_text() == good + "\n"


def test_parts_of_the_wrong_size_are_made_again(whole: Path, tmp_path: Path) -> None:
    net = diffusion.load(whole / "iteration-01" / "ddpm")
    options: dict[str, Any] = {"sampler": "dpmpp", "steps": 2, "batch": 4, "guidance": 1.0}
    made = sample.generate(net, TINY.diffusion, 8, **options, parts=tmp_path)
    first = tmp_path / "00000000.npy"
    for damage in (cut, shorter, float32, rubbish):
        damage(first)
        again = sample.generate(net, TINY.diffusion, 8, **options, parts=tmp_path)
        np.testing.assert_array_equal(again, made)


@pytest.mark.parametrize("sampler", ["dpmpp", "ddim", "ddpm"])
@pytest.mark.parametrize("kind", ["ddpm", "edm"])
def test_a_batch_goes_on_where_it_was_stopped(sampler: str, kind: Any, tmp_path: Path) -> None:
    net = diffusion.network(TINY.model, (8, 8, 1), 0, torch.Generator().manual_seed(1))
    noise = config.Diffusion(kind=kind)
    options: dict[str, Any] = {"sampler": sampler, "steps": 4, "batch": 3, "guidance": 1.0}
    whole = sample.generate(net, noise, 5, **options)
    stops = 0
    while True:
        try:
            made = sample.generate(net, noise, 5, **options, parts=tmp_path, deadline=0.0)
            break
        except stop.Stopped:
            stops += 1
            assert stops < 20
    assert stops == 7  # after every step but the last
    np.testing.assert_array_equal(made, whole)
    assert not list(tmp_path.glob("*.safetensors"))


# locks, links and leftovers


def test_two_processes_in_one_folder(tmp_path: Path) -> None:
    held = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
            "print('held', flush=True); time.sleep(600)",
            str(tmp_path / _files.LOCK),
        ],
        stdout=subprocess.PIPE,
    )
    assert held.stdout is not None
    try:
        held.stdout.readline()
        with pytest.raises(ValueError, match="another process is writing this run"):
            run.run(SHORT, tmp_path)
    finally:
        held.send_signal(signal.SIGKILL)
        held.communicate()
    # Left by a dead process it blocks nobody, and then it is ours.
    with _files.locked(tmp_path), pytest.raises(ValueError, match="another process"):
        run.run(SHORT, tmp_path)


def test_partial_files_never_follow_links_and_are_swept_up(copy: Path, tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("years of work")
    (copy / "stats.jsonl.partial").symlink_to(precious)
    (copy / "iteration-01" / "old.npy.partial").write_bytes(b"half")
    (copy / "iteration-01" / "link.partial").symlink_to(precious)
    _files.write_text(copy / "stats.jsonl", "")
    assert precious.read_text() == "years of work"
    assert not (copy / "stats.jsonl").is_symlink()
    _files.sweep(copy)
    assert not list(copy.rglob("*.partial"))
    assert precious.read_text() == "years of work"


def test_a_run_sweeps_and_goes_on(copy: Path, whole: Path) -> None:
    (copy / "config.json.partial").write_bytes(b"{")
    assert run.run(SHORT, copy)
    assert not list(copy.rglob("*.partial"))
    same(whole, copy)


# threads and time


def test_a_run_goes_on_with_the_threads_it_was_begun_with(copy: Path, whole: Path) -> None:
    before = torch.get_num_threads()
    seen = []

    class Looking(Notes):
        def start(self, what: str, total: int | None, unit: str = "") -> None:
            seen.append((what.split(":")[0], torch.get_num_threads()))
            super().start(what, total, unit)

    torch.set_num_threads(2)
    try:
        assert run.run(SHORT, copy, progress=Looking())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert ("iteration 2", 1) in seen
    same(whole, copy)


def test_other_threads_are_noted(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    progress = Notes()
    assert run.run(SHORT, tmp_path / "run", progress=progress, threads=2)
    assert any("begun on 1 threads of cpu, goes on with 2" in note for note in progress.notes)


def test_what_saves_nothing_is_broken_off_at_the_deadline() -> None:
    began = time.monotonic()
    with pytest.raises(stop.Stopped), stop.until(began + 0.2):
        time.sleep(60)
    assert time.monotonic() - began < 5
    with pytest.raises(stop.Stopped), stop.until(began):
        raise AssertionError
    with stop.until(time.monotonic() + 60):
        pass
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_time_is_up_while_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "load", lambda *_, **__: time.sleep(60))
    progress = Notes()
    assert not run.run(SHORT, tmp_path / "run", max_seconds=0.2, progress=progress)
    assert not (tmp_path / "run").exists()


def test_the_encoder_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "ENCODER_STEPS", 5)
    monkeypatch.setattr(features, "_BATCH", 8)
    real = data.load("digits").take(np.arange(50))
    for name in ("whole", "stopped", "damaged"):
        (tmp_path / name).mkdir()
    features.spaces(["encoder"], real, folder=tmp_path / "whole")
    steps: list[int] = []
    for name, stops in (("stopped", 5), ("damaged", 1)):
        for _ in range(stops):
            with pytest.raises(stop.Stopped):
                features.spaces(
                    ["encoder"], real, folder=tmp_path / name, deadline=0.0, report=steps.append
                )
    cut(tmp_path / "damaged" / "encoder.state.safetensors")
    for name in ("stopped", "damaged"):
        features.spaces(["encoder"], real, folder=tmp_path / name)
        same(tmp_path / "whole", tmp_path / name)
        assert not (tmp_path / name / "encoder.state.safetensors").exists()
    assert steps[:5] == [1, 2, 3, 4, 5]


def test_training_stops_at_any_step_and_ends_the_same(tmp_path: Path) -> None:
    """Also the losses that are reported, whose sum goes over a stop."""
    digits = data.load("digits").take(np.arange(40))
    options = dataclasses.asdict(config.Train(steps=5, warmup=1, batch=8, ema=0.9))

    def trained(told: list[Any], **extra: Any) -> dict[str, Any]:
        net = diffusion.network(TINY.model, (8, 8, 1), 0, torch.Generator().manual_seed(1))
        report = lambda *line: told.append(line)  # noqa: E731
        train.train(digits, net, config.Diffusion(), **options, report=report, **extra)
        return dict(net.state_dict())

    once: list[Any] = []
    often: list[Any] = []
    whole = trained(once)
    state = tmp_path / "state.safetensors"
    for done in range(1, 5):
        with pytest.raises(stop.Stopped):
            trained(often, state=state, deadline=0.0)
        assert train.saved_step(state) == done
    resumed = trained(often, state=state)
    assert once == often
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_numpy_reads_them(version: Any, order: Any, tmp_path: Path) -> None:
    array = np.asarray(np.arange(12).reshape(3, 4), order=order)
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version)
    assert files.read_array(tmp_path / "a.npy").tolist() == array.tolist()
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(files.Damaged, match=r"a.npy: damaged \(not an array: holds pickled"):
        files.read_array(tmp_path / "a.npy")
