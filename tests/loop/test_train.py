"""Training and sampling: what a model learns, seeds, models that diffusers can read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from entroselect.loop import batches, config, data, diffusion, sample, seeds, train  # noqa: E402
from tests.support.loop_runs import TINY  # noqa: E402


def two_grey_levels(n: int = 64) -> data.Images:
    """Dark images are labelled 0, bright ones 1."""
    labels = np.arange(n) % 2
    return data.Images(
        np.broadcast_to(np.where(labels, 220, 30)[:, None, None, None], (n, 8, 8, 1)).astype(
            np.uint8
        ),
        labels.astype(np.int64),
        data.origins(data.REAL, n),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "sampler", "guidance"),
    [
        (config.Diffusion(), "dpmpp", 1.0),
        (config.Diffusion(), "ddim", 2.0),
        (config.Diffusion(prediction="epsilon", schedule="linear"), "ddpm", 1.0),
        (config.Diffusion(kind="edm"), "dpmpp", 1.0),
        (config.Diffusion(kind="edm"), "ddim", 2.0),
    ],
)
def test_a_model_learns_which_label_is_bright(
    noise: config.Diffusion, sampler: str, guidance: float
) -> None:
    training = two_grey_levels()
    model = config.Model(channels=(16,), groups=8, conditional=True)
    net = diffusion.network(model, (8, 8, 1), 2, seeds.noise(0))
    options = dataclasses.asdict(
        config.Train(steps=250, batch=32, warmup=20, learning_rate=3e-3, ema=0.9)
    )
    net = train.train(training, net, noise, **options)
    labels = np.array([0, 1] * 8)
    steps = 200 if sampler == "ddpm" else 20
    made = sample.generate(
        net, noise, 16, labels, sampler=sampler, steps=steps, batch=16, guidance=guidance
    )
    brightness = made.mean(axis=(1, 2, 3))
    assert brightness[labels == 1].mean() - brightness[labels == 0].mean() > 80


def test_a_model_that_diffusers_can_read(tmp_path: Path) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    net = diffusion.network(TINY.model, (8, 8, 1), 0, seeds.noise(0))
    diffusion.save(net, diffusion.noise_schedule(TINY.diffusion), tmp_path)
    again = UNet2DModel.from_pretrained(tmp_path / "unet")
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    schedule = DDPMScheduler.from_pretrained(tmp_path / "scheduler")
    assert schedule.config.prediction_type == "v_prediction"
    assert DDPMPipeline(again, schedule) is not None
    assert diffusion.load(tmp_path).config["sample_size"] is not None


def test_weights_depend_on_their_seed_alone() -> None:
    torch.manual_seed(0)
    one = diffusion.network(TINY.model, (8, 8, 1), 0, seeds.noise(1)).state_dict()
    torch.manual_seed(1)
    two = diffusion.network(TINY.model, (8, 8, 1), 0, seeds.noise(1)).state_dict()
    other = diffusion.network(TINY.model, (8, 8, 1), 0, seeds.noise(2)).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_every_image_is_seen_once_an_epoch() -> None:
    rows = np.concatenate([batches.rows_of((0,), 10, first, 4) for first in range(0, 40, 4)])
    for epoch in rows.reshape(4, 10):
        assert sorted(epoch) == list(range(10))


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_and_says_what_to_try() -> None:
    net = diffusion.network(TINY.model, (8, 8, 1), 0, seeds.noise(0))
    options = dataclasses.asdict(config.Train(steps=60, batch=8, warmup=1, learning_rate=1e20))
    with pytest.raises(FloatingPointError, match=r"step 50 of 60; try a smaller"):
        train.train(two_grey_levels(), net, config.Diffusion(), **options)
