"""Images from a trained model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from entroselect.loop import diffusion as diffusers_parts
from entroselect.loop import files, seeds
from entroselect.loop.config import Diffusion
from entroselect.loop.diffusion import Net
from entroselect.loop.stop import Stopped


@torch.no_grad()
def generate(
    net: Net,
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
    first_steps: int | None = None,
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
        first_steps: stop after this many steps; for trials.

    Raises:
        ValueError: more steps than diffusion.steps of noise.
        FloatingPointError: values that are not finite.
        Stopped: at the deadline; finished batches and a begun one are in `parts`.
    """
    if diffusion.kind == "ddpm" and steps > diffusion.steps:
        raise ValueError(f"sample.steps: {steps}, but diffusion.steps is {diffusion.steps}")
    net.to(device).eval()
    schedule = diffusers_parts.noise_schedule(diffusion, sampler, steps)
    done: list[NDArray[np.uint8]] = []
    for first in range(0, count, batch):
        size = min(batch, count - first)
        part = parts / f"{first:08d}.npy" if parts else None
        images = _kept(part, (size, *_shape(net))) if part else None
        if images is None:
            wanted = None
            if labels is not None:
                wanted = torch.from_numpy(labels[first : first + batch]).to(device)
            schedule.set_timesteps(steps, device=device)
            begun = _Begun(size, net, schedule, seeds.noise(*key, "images", first), device)
            state = part.with_suffix(".safetensors") if part else None
            if state and state.exists():
                begun.load(state)
            for moment in schedule.timesteps[begun.step : first_steps]:
                begun.take(moment, wanted, guidance)
                if not diffusers_parts.finite([begun.images]):
                    raise FloatingPointError(
                        f"sample.sampler={sampler}: values that are not finite at step "
                        f"{begun.step} of {steps}; try another sampler, other sample.steps, less "
                        "sample.guidance or a smaller train.learning_rate"
                    )
                if time.monotonic() > deadline and begun.step < steps:
                    if state:
                        begun.save(state)
                    raise Stopped
            images = begun.quantised()
            if part and state:
                files.write_array(part, images)
                state.unlink(missing_ok=True)
            if time.monotonic() > deadline and first + batch < count:
                raise Stopped
        done.append(images)
        if report:
            report(min(count, first + batch))
    return np.concatenate(done)


def _kept(part: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """A finished batch; None if there is none or it is damaged."""
    if not part.exists():
        return None
    try:
        images = files.read_array(part)
    except files.Damaged:
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _shape(net: Net) -> tuple[int, int, int]:
    height, width = net.config["sample_size"]
    return height, width, net.config["in_channels"]


class _Begun:
    """A batch on its way from noise to images, (size, h, w, channels)."""

    def __init__(
        self, size: int, net: Net, schedule: Any, draw: torch.Generator, device: str
    ) -> None:
        height, width, channels = _shape(net)
        start = torch.randn((size, channels, height, width), generator=draw)
        self.images = start.to(device) * schedule.init_noise_sigma
        self.net, self.schedule, self.draw, self.step = net, schedule, draw, 0

    def take(self, moment: torch.Tensor, labels: torch.Tensor | None, guidance: float) -> None:
        """The next step."""
        device, size, classes = self.images.device, len(self.images), self.net.config
        entering = self.schedule.scale_model_input(self.images, moment)
        time_of_all = moment.expand(size).to(device)
        guess = self.net(entering, time_of_all, labels).sample
        if classes["num_class_embeds"] is not None and guidance != 1:
            none = torch.full((size,), classes["num_class_embeds"] - 1, device=device)
            free = self.net(entering, time_of_all, none).sample
            guess = free + guidance * (guess - free)
        stepped = self.schedule.step(guess, moment, self.images, generator=self.draw)
        self.images, self.step = stepped.prev_sample, self.step + 1

    def quantised(self) -> NDArray[np.uint8]:
        """-1 to 1 as 0 to 255."""
        bytes_ = (self.images.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        made: NDArray[np.uint8] = bytes_.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return made

    def save(self, path: Path) -> None:
        """Saves what the remaining steps depend on; solvers of several steps need earlier ones."""
        outputs = enumerate(getattr(self.schedule, "model_outputs", []))
        files.write_state(
            path,
            {
                "images": self.images,
                "draw": self.draw.get_state(),
                **{f"output.{i}": output for i, output in outputs if output is not None},
            },
            step=str(self.step),
            lower_order_nums=str(getattr(self.schedule, "lower_order_nums", 0)),
        )

    def load(self, path: Path) -> None:
        """Reads what `save` wrote; if the file is damaged, the batch begins again."""
        try:
            held, notes = files.read_tensors(path)
            images, draw, step = held["images"], held["draw"], int(notes["step"])
            lower = int(notes["lower_order_nums"])
        except (files.Damaged, KeyError, ValueError):
            return
        if images.shape != self.images.shape or not 0 < step < len(self.schedule.timesteps):
            return
        device = self.images.device
        self.images, self.step = images.to(device), step
        self.draw.set_state(draw)
        if hasattr(self.schedule, "model_outputs"):
            for i in range(len(self.schedule.model_outputs)):
                output = held.get(f"output.{i}")
                self.schedule.model_outputs[i] = None if output is None else output.to(device)
            self.schedule.lower_order_nums = lower
