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
from torch import nn
from torch.nn.functional import mse_loss

from entroselect.loop import diffusion as diffusers_parts
from entroselect.loop import files, seeds
from entroselect.loop.config import Diffusion, Precision, Train, warmup_of
from entroselect.loop.data import Images
from entroselect.loop.stop import Stopped

EVERY = 50  # steps between reports; states are saved at reports
SECONDS_BETWEEN_SAVES = 30.0

Report = Callable[[int, float, float], None]  # step, mean loss since the last, learning rate


def train(
    images: Images,
    net: UNet2DModel,
    diffusion: Diffusion,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    warmup: int | None,
    betas: tuple[float, float],
    weight_decay: float,
    clip: float,
    precision: Precision,
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
    and the step, so a run that was killed and resumed from `state` ends with the same bits, with
    the same number of threads (sums are split among them).

    Args:
        images: what to learn.
        net: fresh weights; changed in place.
        diffusion: noise, and what the network predicts.
        steps, batch, learning_rate, warmup, betas, weight_decay, clip, precision, ema,
            label_dropout: see config.Train.
        key: what the random numbers depend on.
        device: "cpu", "cuda", ...
        state: a file to save to every 30 seconds, and to resume from if it exists.
        report: called every EVERY steps.
        deadline: time.monotonic() at which to save and stop.

    Raises:
        FloatingPointError: the loss or the weights are not finite, or the loss that the final
            weights give; `state` holds the last good step.
        files.Damaged: `state` is not a state of this training.
        Stopped: at the deadline.
    """
    options = Train(
        steps=steps, batch=batch, learning_rate=learning_rate, warmup=warmup, betas=betas,
        weight_decay=weight_decay, clip=clip, precision=precision, ema=ema,
        label_dropout=label_dropout,
    )  # fmt: skip
    taking = Steps(images, net, diffusion, options, key=key, device=device)
    if state and state.exists():
        taking.load(state)
    saved = time.monotonic()
    while taking.done < steps:
        rate = taking.take()
        done, now = taking.done, time.monotonic()
        reports, late = done % EVERY == 0 or done == steps, now > deadline and done < steps
        saves = state and reports and now - saved > SECONDS_BETWEEN_SAVES and done < steps
        if reports or late:
            taking.check()
        if reports:
            if report:
                report(done, float(taking.total) / ((done - 1) % EVERY + 1), rate)
            taking.total.zero_()
        if state and (saves or late):
            taking.save(state)
            saved = now
        if late:
            raise Stopped
    return taking.finish()


_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Steps:
    """A training that is taken step by step; see `train`."""

    def __init__(
        self,
        images: Images,
        net: UNet2DModel,
        diffusion: Diffusion,
        options: Train,
        *,
        key: tuple[int | str, ...] = (0,),
        device: str = "cpu",
    ) -> None:
        self.images, self.net, self.key, self.device = images, net.to(device).train(), key, device
        self.options, self.noise = options, _Noise(diffusion, device)
        self.warmup = warmup_of(options.steps) if options.warmup is None else options.warmup
        averaged = net.named_parameters() if options.ema else ()
        self.average = {name: parameter.detach().clone() for name, parameter in averaged}
        self.optimiser = torch.optim.AdamW(
            net.parameters(),
            options.learning_rate,
            options.betas,
            weight_decay=options.weight_decay,
            foreach=False,
        )
        self.scaler = torch.amp.GradScaler(device, enabled=options.precision == "fp16")
        self.done = 0
        self.total = torch.zeros((), device=device)  # of the losses since the last report

    def take(self) -> float:
        """Takes the next step; returns its learning rate."""
        step, net, options = self.done, self.net, self.options
        rate = options.learning_rate * _share(step, options.steps, self.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss = self.loss(step, seeds.noise(*self.key, "step", step))
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(net.parameters(), options.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        decay = min(options.ema, step / (step + 9))  # 0 at first: fresh weights count nothing
        with torch.no_grad():
            for name, parameter in net.named_parameters() if options.ema else ():
                self.average[name].lerp_(parameter, 1 - decay)
            self.total += loss.detach()
        self.done = step + 1
        return rate

    def loss(self, step: int, draw: torch.Generator) -> torch.Tensor:
        """The loss of the step's batch, with noise from `draw`."""
        batch, dropout = self.options.batch, self.options.label_dropout
        rows = _rows(self.key, len(self.images), step * batch, batch)
        clean = scaled(self.images, rows).to(self.device)
        labels = _labels(self.net, self.images, rows, dropout, draw, self.device)
        # Dropout draws from the global generator, which is seeded here and restored after.
        drops = self.net.training and bool(self.net.config.get("dropout"))
        cards = [self.device] if self.device != "cpu" else []
        with (
            torch.random.fork_rng(cards, enabled=drops),
            torch.autocast(
                torch.device(self.device).type,
                _DTYPES[self.options.precision],
                enabled=self.options.precision != "fp32",
            ),
        ):
            if drops:
                torch.manual_seed(seeds.noise(*self.key, "dropout", step).initial_seed())
            return self.noise.loss(self.net, clean, labels, draw)

    def check(self) -> None:
        """Raises FloatingPointError unless losses and weights are finite, and the loss that these
        weights give."""
        found = float(self.total)
        if math.isfinite(found):
            held = (*self.net.state_dict().values(), *self.average.values())
            found = self.judged() if diffusers_parts.finite(held) else math.nan
        if not math.isfinite(found):
            raise FloatingPointError(
                f"the loss is {found} by step {self.done} of {self.options.steps}; try a smaller "
                "train.learning_rate, more train.warmup or train.precision=fp32"
            )

    @torch.no_grad()
    def judged(self) -> float:
        """The loss of the last batch with the weights as they are now."""
        self.net.eval()
        draw = seeds.noise(*self.key, "check", self.done)
        found = float(self.loss(max(0, self.done - 1), draw))
        self.net.train()
        return found

    def finish(self) -> UNet2DModel:
        """The network to sample from."""
        with torch.no_grad():
            for name, parameter in self.net.named_parameters() if self.options.ema else ():
                parameter.copy_(self.average[name])
        self.check()
        return self.net.eval()

    def save(self, path: Path) -> None:
        """Writes all that the remaining steps depend on."""
        tensors = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        tensors["total"] = self.total
        tensors |= optimiser_tensors(self.net, self.optimiser)
        held = self.scaler.state_dict() or {"scale": 0.0, "_growth_tracker": 0}
        files.write_state(
            path,
            tensors,
            step=str(self.done),
            scale=repr(held["scale"]),
            growth=str(held["_growth_tracker"]),
        )

    def load(self, path: Path) -> None:
        """Reads what `save` wrote; files.Damaged if it is not of this training."""
        held, notes = files.read_tensors(path)
        try:
            with torch.no_grad():
                for name, tensor in self.net.state_dict().items():
                    tensor.copy_(_like(tensor, held[f"net.{name}"]))
                for name, tensor in self.average.items():
                    tensor.copy_(_like(tensor, held[f"average.{name}"]))
                self.total.copy_(_like(self.total, held["total"]))
            set_optimiser(self.net, self.optimiser, held)
            if self.scaler.is_enabled():
                scale = {"scale": float(notes["scale"]), "_growth_tracker": int(notes["growth"])}
                self.scaler.load_state_dict(self.scaler.state_dict() | scale)
            self.done = int(notes["step"])
        except (KeyError, ValueError) as error:
            raise files.Damaged(path, f"not a state of this training: {error}") from None
        if not 0 <= self.done <= self.options.steps:
            raise files.Damaged(path, f"step {self.done} of {self.options.steps}")


_PARTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW's state


def optimiser_tensors(net: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """AdamW's state by the names of the parameters."""
    return {
        f"optimiser.{part}.{name}": torch.as_tensor(tensor)
        for name, parameter in net.named_parameters()
        for part, tensor in optimiser.state[parameter].items()
    }


def set_optimiser(
    net: nn.Module, optimiser: torch.optim.Optimizer, held: dict[str, torch.Tensor]
) -> None:
    """Sets the state that `optimiser_tensors` returned; it has no parameters without a step."""
    for name, parameter in net.named_parameters():
        found = {part: held.get(f"optimiser.{part}.{name}") for part in _PARTS}
        optimiser.state[parameter] = {
            part: tensor.to("cpu" if part == "step" else parameter.device)
            for part, tensor in found.items()
            if tensor is not None
        }


def _like(tensor: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    if found.shape != tensor.shape:
        raise ValueError(f"{tuple(found.shape)} instead of {tuple(tensor.shape)}")
    return found


def saved_step(state: Path) -> int:
    """The number of steps that the training in that file has done; 0 if there is no file."""
    if not state.exists():
        return 0
    try:
        with safe_open(state, "pt") as held:
            return int((held.metadata() or {})["step"])
    except OSError:
        raise
    except Exception as error:  # safetensors raises an error that is only an Exception
        raise files.Damaged(state, f"not a state: {error}") from None


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
    """The batch that begins at place `first` of an endless sequence of shuffled epochs."""
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
