"""Training one diffusion model. The page to read first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from entroselect.loop import diffusion as diffusers_parts
from entroselect.loop import files, seeds
from entroselect.loop.batches import Batches, Loss
from entroselect.loop.config import Diffusion, Precision, Train, warmup_of
from entroselect.loop.data import Images
from entroselect.loop.diffusion import Net
from entroselect.loop.stop import Stopped

EVERY = 50  # steps between reports; states are saved at reports
SECONDS_BETWEEN_SAVES = 30.0

Report = Callable[[int, float, float], None]  # step, mean loss since the last, learning rate


def train(
    images: Images,
    net: Net,
    diffusion: Diffusion,
    *,
    key: tuple[int | str, ...] = (0,),
    device: str = "cpu",
    state: Path | None = None,
    report: Report | None = None,
    deadline: float = math.inf,
    **options: Any,
) -> Net:
    """Trains `net` on the images and returns what to sample from (the average, with `ema`).

    Every step draws its batch, noise levels and noise from a generator of its own, made of `key`
    and the step, so a run that was killed and resumed from `state` ends with the same bits, with
    the same number of threads (sums are split among them).

    Args:
        images: what to learn.
        net: fresh weights; changed in place.
        diffusion: noise, and what the network predicts.
        key: what the random numbers depend on.
        device: "cpu", "cuda", ...
        state: a file to save to every 30 seconds, and to resume from if it exists.
        report: called every EVERY steps.
        deadline: time.monotonic() at which to save and stop.
        options: the fields of config.Train, those that differ from their defaults.

    Raises:
        FloatingPointError: the loss or the weights are not finite, or the loss that the final
            weights give; `state` holds the last good step.
        files.Damaged: `state` is not a state of this training.
        Stopped: at the deadline.
    """
    given = Train(**options)
    taking = Steps(images, net, diffusion, given, key=key, device=device)
    steps = given.steps
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


def precision_on(device: str, precision: Precision) -> Precision:
    """What "auto" means there: bf16 on a GPU that has it and does not emulate it, else fp32."""
    if precision != "auto":
        return precision
    on_gpu = torch.device(device).type == "cuda"
    return "bf16" if on_gpu and torch.cuda.is_bf16_supported(False) else "fp32"


class Steps:
    """A training that is taken step by step; see `train`."""

    def __init__(
        self,
        images: Images,
        net: Net,
        diffusion: Diffusion,
        options: Train,
        *,
        key: tuple[int | str, ...] = (0,),
        device: str = "cpu",
    ) -> None:
        self.net, self.options, self.key, self.device = net.to(device).train(), options, key, device
        labels = net.config["num_class_embeds"]
        no_label = None if labels is None else labels - 1
        self.batches = Batches(images, diffusion, options, no_label, key, device)
        self.loss = Loss(diffusion)
        self.called: Any = torch.compile(net) if options.compile else net
        self.precision = precision_on(device, options.precision)
        self.warmup = warmup_of(options.steps) if options.warmup is None else options.warmup
        # Looked up once: finding them in a small network takes longer than averaging them.
        self.parameters = dict(net.named_parameters())
        averaged = self.parameters if options.ema else {}
        self.average = {name: tensor.detach().clone() for name, tensor in averaged.items()}
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(),
            options.learning_rate,
            options.betas,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self.scaler = torch.amp.GradScaler(device, enabled=self.precision == "fp16")
        self.done = 0
        self.total = torch.zeros((), device=device)  # of the losses since the last report

    def take(self) -> float:
        """Takes the next step; returns its learning rate."""
        step, options = self.done, self.options
        rate = options.learning_rate * _share(step, options.steps, self.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        batch = self.batches.at(step, seeds.noise(*self.key, "step", step))
        with self._dropout(step):
            for share, part in batch.parts(options.accumulate):
                with self._autocast():
                    loss = share * self.loss(self.called, part)
                self.scaler.scale(loss).backward()
                self.total += loss.detach()
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), options.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        decay = min(options.ema, step / (step + 9))  # 0 at first: fresh weights count nothing
        with torch.no_grad():
            for name, average in self.average.items():
                average.lerp_(self.parameters[name], 1 - decay)
        self.done = step + 1
        return rate

    def _autocast(self) -> Any:
        kind, on = torch.device(self.device).type, self.precision != "fp32"
        return torch.autocast(kind, _DTYPES[self.precision], enabled=on)

    @contextmanager
    def _dropout(self, step: int) -> Iterator[None]:
        """Seeds torch's global generator, which dropout draws from, and restores it after."""
        if not self.net.config.get("dropout"):
            yield
            return
        with torch.random.fork_rng([self.device] if self.device != "cpu" else []):
            torch.manual_seed(seeds.noise(*self.key, "dropout", step).initial_seed())
            yield

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
        batch = self.batches.at(max(0, self.done - 1), seeds.noise(*self.key, "check", self.done))
        with self._autocast():
            parts = batch.parts(self.options.accumulate)
            found = sum(share * float(self.loss(self.net, part)) for share, part in parts)
        self.net.train()
        return found

    def finish(self) -> Net:
        """The network to sample from."""
        with torch.no_grad():
            for name, average in self.average.items():
                self.parameters[name].copy_(average)
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
            part: tensor.to(parameter.device)
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


def _share(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
