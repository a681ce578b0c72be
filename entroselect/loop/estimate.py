"""An estimate of a run's time and disk space, from a few real steps of training and sampling."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from entroselect.loop import diffusion, paradigms, plan, seeds
from entroselect.loop.config import Config
from entroselect.loop.data import Images
from entroselect.loop.sample import generate
from entroselect.loop.train import Steps

LONGEST = 2.0  # seconds that one measured step should take at most, about
REPEATS = 5


@dataclass(frozen=True)
class Step:
    """A step as it was measured: its seconds, and on how many images."""

    seconds: float
    images: int

    def of(self, images: int) -> float:
        """Seconds of a step on that many."""
        return self.seconds * images / self.images


def training_step(
    config: Config, real: Images, classes: int, device: str, longest: float = LONGEST
) -> Step:
    """One of train.batch images, or of fewer where that would take long."""
    shape: Any = real.pixels.shape[1:]

    def taking(batch: int) -> Callable[[], object]:
        net = diffusion.network(config.model, shape, classes, seeds.noise(0))
        noise = replace(config.diffusion, kind=plan.denoisers(config)[0])
        return Steps(real, net, noise, replace(config.train, batch=batch), device=device).take

    return _measured(taking, config.train.batch, longest)


def sampling_step(config: Config, real: Images, classes: int, device: str) -> Step:
    """One step of sample.steps, on a batch as the run makes it."""
    shape: Any = real.pixels.shape[1:]
    net = diffusion.network(config.model, shape, classes, seeds.noise(0))
    noise = replace(config.diffusion, kind=plan.denoisers(config)[0])

    def taking(batch: int) -> Callable[[], object]:
        labels = None if real.labels is None else np.resize(real.labels, batch)
        options = asdict(config.sample) | {"batch": batch}
        return lambda: generate(
            net,
            noise,
            batch,
            labels if config.model.conditional else None,
            **options,
            device=device,
            first_steps=1,
        )

    made = paradigms.to_generate(config, len(real))
    return _measured(taking, min(config.sample.batch, made), LONGEST)


def _measured(taking: Callable[[int], Callable[[], object]], batch: int, longest: float) -> Step:
    """The fastest of a few on the whole batch, or on a part whose quadruple would take long."""
    images = min(2, batch)
    step = taking(images)
    step()  # the first is slow
    taken = _seconds(step)
    while images < batch and taken * min(4, batch / images) <= longest:
        images = min(4 * images, batch)
        step = taking(images)
        step()
        taken = _seconds(step)
    began, found = time.perf_counter(), [taken]
    while len(found) < REPEATS and time.perf_counter() - began < longest:
        found.append(_seconds(step))
    return Step(min(found), images)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@dataclass(frozen=True)
class Estimate:
    """Time and disk of a whole run: of its diffusion models alone, without feature spaces,
    selecting and measuring."""

    parameters: int
    generated: int  # images per iteration
    training: Step
    sampling: Step
    seconds: float  # per iteration
    megabytes: float


def estimate(config: Config, real: Images, classes: int, steps: int, device: str) -> Estimate:
    """Measures for a few seconds; `steps` are those of a training."""
    shape: Any = real.pixels.shape[1:]
    net = diffusion.network(config.model, shape, classes, seeds.noise(0))
    parameters = sum(p.numel() for p in net.parameters())
    training = training_step(config, real, classes, device)
    sampling = sampling_step(config, real, classes, device)
    models, made = paradigms.together(config), paradigms.to_generate(config, len(real))
    networks = min(len(plan.denoisers(config)), models)
    drawn = made + paradigms.to_measure(config, len(real))
    seconds = steps * training.of(config.train.batch) + config.sample.steps * sampling.of(drawn)
    kept = [len(real), *(taken for _, taken in paradigms.sizes(config, len(real)))]
    images = sum(kept) + models * drawn * config.iterations
    disk = 4 * parameters * networks * config.iterations + images * (math.prod(shape) + 24)
    return Estimate(parameters, made * models, training, sampling, networks * seconds, disk / 1e6)
