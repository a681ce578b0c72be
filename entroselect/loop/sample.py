"""Images from a trained model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DModel
from numpy.typing import NDArray

from entroselect.loop import diffusion as diffusers_parts
from entroselect.loop import files, seeds
from entroselect.loop.config import Diffusion
from entroselect.loop.train import Stopped


@torch.no_grad()
def generate(
    net: UNet2DModel,
    diffusion: Diffusion,
    count: int,
    labels: NDArray[np.int64] | None = None,
    *,
    sampler: str,
    steps: int,
    batch: int,
    guidance: float,
    key: tuple[int | str, ...] = (0,),
    device: str = "cpu",
    parts: Path | None = None,
    report: Callable[[int], None] | None = None,
    deadline: float = math.inf,
) -> NDArray[np.uint8]:
    """`count` images (count, h, w, channels), quantised to uint8.

    Args:
        net, diffusion: as trained.
        labels: (count,) what to draw, for conditional models.
        sampler, steps, batch, guidance: see config.Sample.
        key: what the random numbers depend on; image i is the same whatever `count` is, as long
            as its batch is full.
        parts: a folder where finished batches are kept and found again.
        report: called with the number of images done.
        deadline: time.monotonic() at which to stop.

    Raises:
        Stopped: at the deadline; finished batches are in `parts`.
    """
    net.to(device).eval()
    schedule = diffusers_parts.noise_schedule(diffusion, sampler)
    done: list[NDArray[np.uint8]] = []
    for first in range(0, count, batch):
        part = parts / f"{first:08d}.npy" if parts else None
        if part and part.exists():
            done.append(files.read_array(part))
        else:
            wanted = None
            if labels is not None:
                wanted = torch.from_numpy(labels[first : first + batch]).to(device)
            size = min(batch, count - first)
            draw = seeds.noise(*key, "images", first)
            images = _batch(net, schedule, size, wanted, steps, guidance, draw, device)
            done.append(images)
            if part:
                files.write_array(part, images)
            if time.monotonic() > deadline and first + batch < count:
                raise Stopped
        if report:
            report(min(count, first + batch))
    return np.concatenate(done)


def _batch(
    net: UNet2DModel,
    schedule: Any,
    size: int,
    labels: torch.Tensor | None,
    steps: int,
    guidance: float,
    draw: torch.Generator,
    device: str,
) -> NDArray[np.uint8]:
    height, width = net.config["sample_size"]
    shape = (size, net.config["in_channels"], height, width)
    schedule.set_timesteps(steps, device=device)
    images = torch.randn(shape, generator=draw).to(device) * schedule.init_noise_sigma
    conditional = net.config["num_class_embeds"] is not None
    for moment in schedule.timesteps:
        entering = schedule.scale_model_input(images, moment)
        time_of_all = moment.expand(size).to(device)
        guess = net(entering, time_of_all, labels).sample
        if conditional and guidance != 1:
            none = torch.full((size,), net.config["num_class_embeds"] - 1, device=device)
            free = net(entering, time_of_all, none).sample
            guess = free + guidance * (guess - free)
        images = _step(schedule, guess, moment, images, draw)
    bytes_ = (images.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    made: NDArray[np.uint8] = bytes_.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return made


def _step(
    schedule: Any,
    guess: torch.Tensor,
    moment: torch.Tensor,
    images: torch.Tensor,
    draw: torch.Generator,
) -> torch.Tensor:
    stepped: torch.Tensor = schedule.step(guess, moment, images, generator=draw).prev_sample
    return stepped
