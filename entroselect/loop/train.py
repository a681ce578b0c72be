"""Training one diffusion model. The page to read first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from safetensors import safe_open
from torch.nn.functional import mse_loss

from entroselect.loop import diffusion as diffusers_parts
from entroselect.loop import files, seeds
from entroselect.loop.config import Diffusion
from entroselect.loop.data import Images

EVERY = 50  # steps between reports, and the grid on which a state can be saved
SECONDS_BETWEEN_SAVES = 30.0

Report = Callable[[int, float, float], None]  # step, mean loss since the last, learning rate


class Stopped(Exception):
    """The time given is over; the state is saved."""


def train(
    images: Images,
    net: UNet2DModel,
    diffusion: Diffusion,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    warmup: int,
    betas: tuple[float, float],
    weight_decay: float,
    clip: float,
    precision: str,
    ema: float,
    label_dropout: float,
    key: tuple[int | str, ...] = (0,),
    device: str = "cpu",
    state: Path | None = None,
    report: Report | None = None,
    deadline: float = math.inf,
) -> UNet2DModel:
    """Trains `net` on the images and returns what to sample from (the average, with `ema`).

    Every step draws its batch, noise levels and noise from a generator of its own, made of `key`
    and the step, so a run that was killed and resumed from `state` ends with the same bits.

    Args:
        images: what to learn.
        net: fresh weights; changed in place.
        diffusion: noise, and what the network predicts.
        steps, batch, learning_rate, warmup, betas, weight_decay, clip, precision, ema,
            label_dropout: see config.Train.
        key: what the random numbers depend on.
        device: "cpu", "cuda", ...
        state: a file to save to now and then, and to resume from if it is there.
        report: called every EVERY steps.
        deadline: time.monotonic() at which to save and stop.

    Raises:
        FloatingPointError: the loss is not finite; `state` holds the last good step.
        Stopped: at the deadline.
    """
    noise = _Noise(diffusion, device)
    net.to(device).train()
    average = {n: p.detach().clone() for n, p in net.named_parameters()} if ema else {}
    optimiser = torch.optim.AdamW(
        net.parameters(), learning_rate, betas, weight_decay=weight_decay, foreach=False
    )
    scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
    first = _load(state, net, average, optimiser, scaler) if state and state.exists() else 0
    saved, total = time.monotonic(), torch.zeros((), device=device)

    for step in range(first, steps):
        rate = learning_rate * _share(step, steps, warmup)
        for group in optimiser.param_groups:
            group["lr"] = rate
        draw = seeds.noise(*key, "step", step)
        rows = _rows(key, len(images), step * batch, batch)
        clean = scaled(images, rows).to(device)
        labels = _labels(net, images, rows, label_dropout, draw, device)
        with torch.autocast(
            torch.device(device).type, _DTYPES[precision], enabled=precision != "fp32"
        ):
            loss = noise.loss(net, clean, labels, draw)
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
        scaler.step(optimiser)
        scaler.update()
        with torch.no_grad():
            for name, parameter in net.named_parameters() if ema else ():
                average[name].lerp_(parameter, 1 - ema)
            total += loss.detach()

        done = step + 1
        if done % EVERY == 0 or done == steps:
            mean = float(total) / ((done - 1) % EVERY + 1)
            total.zero_()
            if not math.isfinite(mean):
                raise FloatingPointError(
                    f"the loss is {mean} by step {done} of {steps}; try a smaller "
                    "train.learning_rate, more train.warmup or train.precision=fp32"
                )
            if report:
                report(done, mean, rate)
            now = time.monotonic()
            if state and done < steps and (now - saved > SECONDS_BETWEEN_SAVES or now > deadline):
                _save(state, done, net, average, optimiser, scaler)
                saved = now
            if now > deadline and done < steps:
                raise Stopped
    with torch.no_grad():
        for name, parameter in net.named_parameters() if ema else ():
            parameter.copy_(average[name])
    return net.eval()


_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class _Noise:
    """The loss of one batch."""

    diffusion: Diffusion
    device: str

    def __post_init__(self) -> None:
        self.schedule = diffusers_parts.noise_schedule(self.diffusion)

    def loss(
        self,
        net: UNet2DModel,
        clean: torch.Tensor,
        labels: torch.Tensor | None,
        draw: torch.Generator,
    ) -> torch.Tensor:
        noise = torch.randn(clean.shape, generator=draw).to(self.device)
        count, schedule = len(clean), self.schedule
        if self.diffusion.kind == "ddpm":
            times = torch.randint(self.diffusion.steps, (count,), generator=draw).to(self.device)
            guess = net(schedule.add_noise(clean, noise, times), times, labels).sample
            target = noise
            if self.diffusion.prediction == "v":
                target = schedule.get_velocity(clean, noise, times)
            return mse_loss(guess.float(), target)
        # Karras et al. 2022, table 1 and equations 7 and 8.
        normal = torch.randn((count, 1, 1, 1), generator=draw).to(self.device)
        sigma = (self.diffusion.log_sigma_mean + self.diffusion.log_sigma_std * normal).exp()
        noisy = clean + sigma * noise
        entering = schedule.precondition_inputs(noisy, sigma)
        guess = net(entering, schedule.precondition_noise(sigma).flatten(), labels).sample
        denoised = schedule.precondition_outputs(noisy, guess.float(), sigma)
        data = self.diffusion.sigma_data
        weight = (sigma**2 + data**2) / (sigma * data) ** 2
        return (weight * (denoised - clean) ** 2).mean()


def scaled(images: Images, rows: Any) -> torch.Tensor:
    """(n, channels, h, w) float32 on -1 to 1."""
    pixels = torch.from_numpy(images.pixels[rows]).permute(0, 3, 1, 2)
    return pixels.float() / 127.5 - 1


def _rows(key: tuple[int | str, ...], count: int, first: int, batch: int) -> Any:
    """The batch that starts at that place in an endless row of shuffled epochs."""
    places = torch.arange(first, first + batch)
    epochs = torch.div(places, count, rounding_mode="floor")
    rows = torch.empty(batch, dtype=torch.long)
    for epoch in epochs.unique().tolist():
        inside = epochs == epoch
        rows[inside] = _shuffled(key, count, epoch)[places[inside] % count]
    return rows.numpy()


@lru_cache(maxsize=4)
def _shuffled(key: tuple[int | str, ...], count: int, epoch: int) -> torch.Tensor:
    return torch.randperm(count, generator=seeds.noise(*key, "epoch", epoch))


def _labels(
    net: UNet2DModel, images: Images, rows: Any, dropout: float, draw: torch.Generator, device: str
) -> torch.Tensor | None:
    if net.config["num_class_embeds"] is None or images.labels is None:
        return None
    labels = torch.from_numpy(images.labels[rows])
    none = net.config["num_class_embeds"] - 1
    dropped = torch.rand(len(labels), generator=draw) < dropout
    return torch.where(dropped, none, labels).to(device)


def _share(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def _save(state: Path, step: int, net: Any, average: Any, optimiser: Any, scaler: Any) -> None:
    tensors = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
    for name, parameter in net.named_parameters():
        for part, tensor in optimiser.state[parameter].items():
            tensors[f"optimiser.{part}.{name}"] = torch.as_tensor(tensor)
    held = scaler.state_dict() or {"scale": 0.0, "_growth_tracker": 0}
    files.write_tensors(
        state,
        tensors,
        step=str(step),
        scale=repr(held["scale"]),
        growth=str(held["_growth_tracker"]),
    )


def saved_step(state: Path) -> int:
    """How far the training in that file is; 0 without."""
    if not state.exists():
        return 0
    with safe_open(state, "pt") as held:
        return int(held.metadata()["step"])


def _load(state: Path, net: Any, average: Any, optimiser: Any, scaler: Any) -> int:
    with safe_open(state, "pt") as held, torch.no_grad():
        notes = held.metadata()
        for name, tensor in net.state_dict().items():
            tensor.copy_(held.get_tensor(f"net.{name}"))
        for name, tensor in average.items():
            tensor.copy_(held.get_tensor(f"average.{name}"))
        names = set(held.keys())
        for name, parameter in net.named_parameters():
            optimiser.state[parameter] = {
                part: held.get_tensor(f"optimiser.{part}.{name}").to(
                    parameter.device if part != "step" else "cpu"
                )
                for part in ("step", "exp_avg", "exp_avg_sq")
                if f"optimiser.{part}.{name}" in names
            }
        if scaler.is_enabled():
            scaler.load_state_dict(
                scaler.state_dict()
                | {"scale": float(notes["scale"]), "_growth_tracker": int(notes["growth"])}
            )
    return int(notes["step"])
