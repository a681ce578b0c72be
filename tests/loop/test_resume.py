"""Runs that resume: changed data, two processes, links, leftovers, threads and time."""

from __future__ import annotations

import dataclasses
import shutil
import signal
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
    iterate,
    sample,
    stop,
    train,
)
from tests.support import processes  # noqa: E402
from tests.support.loop_runs import TINY  # noqa: E402
from tests.support.run_folders import SHORT, Notes, cut, same  # noqa: E402

# fingerprints


@pytest.mark.slow
def test_data_that_changed(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    np.save(tmp_path / "i.npy", draw.integers(0, 256, (64, 8, 8), dtype="u1"))
    source = dataclasses.replace(TINY.data, source=str(tmp_path / "i.npy"))
    given = dataclasses.replace(TINY, data=source, iterations=1)
    assert iterate.run(given, tmp_path / "run")
    pixels = np.load(tmp_path / "i.npy")
    pixels[5, 0, 0] ^= 1
    np.save(tmp_path / "i.npy", pixels)
    longer = dataclasses.replace(given, iterations=2)
    with pytest.raises(ValueError, match=r"run: the images or labels of data.source changed"):
        iterate.run(longer, tmp_path / "run")
    pixels[5, 0, 0] ^= 1
    np.save(tmp_path / "i.npy", pixels)
    assert iterate.run(longer, tmp_path / "run")


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
    assert iterate.run(SHORT, copy, progress=progress)
    assert any("begun without fingerprints of the images" in note for note in progress.notes)
    same(whole, copy)


@pytest.mark.slow
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
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(600)"
    )
    with processes.started("-c", code, tmp_path / _files.LOCK) as held:
        assert held.stdout is not None
        held.stdout.readline()
        with pytest.raises(ValueError, match="another process is writing this run"):
            iterate.run(SHORT, tmp_path)
    # A lock file left by a dead process blocks no other, and can be locked again.
    with _files.locked(tmp_path), pytest.raises(ValueError, match="another process"):
        iterate.run(SHORT, tmp_path)


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
    assert iterate.run(SHORT, copy)
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
        assert iterate.run(SHORT, copy, progress=Looking())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert ("iteration 2", 1) in seen
    same(whole, copy)


def test_other_threads_are_noted(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    progress = Notes()
    assert iterate.run(SHORT, tmp_path / "run", progress=progress, threads=2)
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
    assert not iterate.run(SHORT, tmp_path / "run", max_seconds=0.2, progress=progress)
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


@pytest.mark.slow
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
