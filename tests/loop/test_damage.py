"""Damaged run folders: what is named, what is made again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("sklearn")

from entroselect.loop import data, diffusion, files, folder, iterate, sample  # noqa: E402
from tests.support.loop_runs import TINY  # noqa: E402
from tests.support.run_folders import SHORT, Notes, cut, same  # noqa: E402


@pytest.mark.slow
def test_a_damaged_configuration_is_named(copy: Path) -> None:
    for content in (b"{", b"\xff", b"[" * 100_000, b"[]", b'{"seed": "a"}'):
        (copy / "config.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"config.json: damaged.*\([\w'(]"):
            iterate.run(SHORT, copy)


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


@pytest.mark.slow
def test_a_run_says_so_and_makes_again_what_was_deleted(copy: Path, whole: Path) -> None:
    path = copy / "iteration-01" / "training_origins.npy"
    shorter(path)
    with pytest.raises(files.Damaged, match=r"training_origins.npy: damaged \(\(39, 4\) int32"):
        iterate.run(SHORT, copy)
    path.unlink()
    (copy / "iteration-01" / "metrics.json").write_text("{")  # is measured again by itself
    assert iterate.run(SHORT, copy)
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


@pytest.mark.slow
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
    assert iterate.run(SHORT, copy, progress=progress)
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
