"""The MLP: what it computes, that it learns, and that it is stored as a UNet is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from entroselect.loop import (  # noqa: E402
    config,
    data,
    diffusion,
    files,
    sample,
    seeds,
    train,
)
from entroselect.loop.mlp import MLPModel  # noqa: E402

SMALL = config.Model(network="mlp", width=32, blocks=2)


def two_grey_levels(n: int = 64, shape: tuple[int, ...] = (6, 5, 1)) -> data.Images:
    """Dark images are labelled 0, bright ones 1; sides that no UNet takes."""
    labels = np.arange(n) % 2
    grey = np.where(labels, 220, 30).reshape(n, 1, 1, 1)
    pixels = np.broadcast_to(grey, (n, *shape)).astype(np.uint8)
    return data.Images(pixels, labels.astype(np.int64), data.origins(data.REAL, n))


def moved(net: Any) -> Any:
    """The network with weights of which none is 0, as after training."""
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=seeds.noise(number)) / 8)
    return net


@pytest.mark.parametrize(
    ("noise", "sampler", "guidance"),
    [
        (config.Diffusion(), "ddim", 1.0),
        (config.Diffusion(prediction="epsilon"), "ddim", 1.0),
        (config.Diffusion(kind="edm"), "dpmpp", 1.5),
    ],
)
def test_it_learns_which_label_is_bright(
    noise: config.Diffusion, sampler: str, guidance: float
) -> None:
    model = config.Model(network="mlp", width=64, blocks=2, conditional=True)
    net = diffusion.network(model, (6, 5, 1), 2, seeds.noise(0))
    net = train.train(
        two_grey_levels(), net, noise, steps=200, batch=64, warmup=10, learning_rate=1e-2
    )
    labels = np.array([0, 1] * 8)
    made = sample.generate(
        net, noise, 16, labels, sampler=sampler, steps=20, batch=16, guidance=guidance
    )
    brightness = made.mean(axis=(1, 2, 3))
    assert brightness[labels == 1].mean() - brightness[labels == 0].mean() > 80


def test_it_begins_at_a_guess_of_zero_and_every_row_is_its_own() -> None:
    images, times = torch.randn((3, 2, 4, 6), generator=seeds.noise(0)), torch.tensor([0, 7, 999])
    net = diffusion.network(SMALL, (4, 6, 2), 0, seeds.noise(1)).eval()
    assert torch.equal(net(images, times).sample, torch.zeros_like(images))
    found = moved(net)(images, times).sample
    assert found.shape == images.shape
    alone = net(images[1:2], times[1:2]).sample
    torch.testing.assert_close(alone, found[1:2], rtol=1e-5, atol=1e-6)
    later = net(images, times.flip(0)).sample
    assert (later - found).abs()[0].max() > 1e-4  # the noise level counts
    torch.testing.assert_close(later[1], found[1], rtol=1e-5, atol=1e-6)


def test_a_block_is_its_formula() -> None:
    net = moved(diffusion.network(SMALL, (4, 4, 1), 0, seeds.noise(1))).eval()
    hidden = torch.randn((2, 32), generator=seeds.noise(2))
    level = torch.randn((2, 32), generator=seeds.noise(3))
    block = net.body[0]
    shift, scale, gate = (block.modulation.weight @ level.T).T.reshape(2, 3, 32).unbind(1)
    extra = block.modulation.bias.reshape(3, 32)
    mean, variance = hidden.mean(1, keepdim=True), hidden.var(1, correction=0, keepdim=True)
    inner = (hidden - mean) / (variance + 1e-5).sqrt() * (1 + scale + extra[1]) + shift + extra[0]
    inner = inner @ block.first.weight.T + block.first.bias
    inner = inner * torch.sigmoid(inner)
    outer = inner @ block.second.weight.T + block.second.bias
    expected = hidden + (gate + extra[2]) * outer
    torch.testing.assert_close(block(hidden, level), expected, rtol=1e-4, atol=1e-5)


def test_labels_are_asked_for() -> None:
    model = config.Model(network="mlp", width=8, blocks=1, conditional=True)
    net = diffusion.network(model, (4, 4, 1), 3, seeds.noise(1))
    assert net.label.num_embeddings == 4
    with pytest.raises(ValueError, match="class_labels: this model takes labels"):
        net(torch.zeros(1, 1, 4, 4), torch.zeros(1))


def test_it_is_stored_as_diffusers_does(tmp_path: Path) -> None:
    net = moved(diffusion.network(SMALL, (6, 5, 3), 0, seeds.noise(0)))
    diffusion.save(net, diffusion.noise_schedule(config.Diffusion()), tmp_path)
    for again in (diffusion.load(tmp_path), MLPModel.from_pretrained(tmp_path / "unet")):
        assert isinstance(again, MLPModel)
        assert again.config["width"] == 32
        for name, tensor in net.state_dict().items():
            assert torch.equal(tensor, again.state_dict()[name])
    path = tmp_path / "unet" / "config.json"
    path.write_text(path.read_text().replace("MLPModel", "Another"))
    with pytest.raises(files.Damaged, match=r"_class_name is none of UNet2DModel, MLPModel"):
        diffusion.load(tmp_path)


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 30, "batch": 16, "warmup": 3, "ema": 0.9, "flip": True}
    state = tmp_path / "state.safetensors"

    def steps() -> train.Steps:
        net = diffusion.network(
            config.Model(network="mlp", width=16, blocks=1, dropout=0.2), (6, 5, 1), 0,
            seeds.noise(0),
        )  # fmt: skip
        noise = config.Diffusion()
        return train.Steps(two_grey_levels(20), net, noise, config.Train(**options))

    whole, killed, resumed = steps(), steps(), steps()
    while whole.done < 30:
        whole.take()
    while killed.done < 13:
        killed.take()
    killed.save(state)
    resumed.load(state)
    while resumed.done < 30:
        resumed.take()
    for name, tensor in whole.finish().state_dict().items():
        assert torch.equal(tensor, resumed.net.state_dict()[name]) or resumed.options.ema
    for name, tensor in whole.net.state_dict().items():
        assert torch.equal(tensor, resumed.finish().state_dict()[name])
