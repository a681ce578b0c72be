"""The options tried on two images before a run begins, so that wrong ones fail at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from entroselect.loop import diffusion, metrics, paradigms, plan, seeds
from entroselect.loop.config import Config, Diffusion
from entroselect.loop.data import Images
from entroselect.loop.given import Space
from entroselect.loop.sample import generate
from entroselect.loop.selection import choose
from entroselect.loop.train import Steps

FEW = 64  # rows that stand for more when measuring and selecting


def try_out(
    config: Config,
    real: Images,
    classes: int,
    held_out: Images | None,
    device: str,
    own: Iterable[Space] = (),
) -> None:
    """Takes one step of training and two of sampling on two images, all steps of sampling with a
    stand-in for the network, measures and selects random rows, and calls the caller's functions on
    four images.

    Raises:
        ValueError: something cannot work with these options.
        FloatingPointError: it gives values that are not finite.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two images are too little for more; see device.WORTH
    try:
        for space in own:
            space.try_out(real)
        for kind in plan.denoisers(config):
            _try_model(config, real, classes, replace(config.diffusion, kind=kind), device)
        _try_measuring(config, len(real), 0 if held_out is None else len(held_out))
        _try_selecting(config, len(real))
    finally:
        torch.set_num_threads(threads)


def _try_model(config: Config, real: Images, classes: int, noise: Diffusion, device: str) -> None:
    with _saying("one step of training on two images", "model, diffusion and train"):
        net = diffusion.network(config.model, real.pixels.shape[1:], classes, seeds.noise(0))
        two = real.take(np.arange(len(real))[:2])
        few = replace(config.train, batch=2, accumulate=min(2, config.train.accumulate))
        taking = Steps(two, net, noise, few, device=device)
        taking.take()
        taking.check()
    sampling = asdict(config.sample) | {"batch": 2, "device": device}
    labels = two.labels if config.model.conditional else None
    with _saying("two steps of sampling two images", "model, diffusion and sample"):
        generate(net, noise, len(two), labels, **sampling, first_steps=2)
    with _saying("all steps of sampling", "diffusion and sample"):
        generate(_Still(), noise, 2, **sampling)


class _Still(torch.nn.Module):
    """Stands in for a network and costs nothing, so that all steps of sampling can be taken."""

    config = {"sample_size": (1, 1), "in_channels": 1, "num_class_embeds": None}  # noqa: RUF012

    def forward(self, images: torch.Tensor, time: Any, labels: Any = None) -> Any:
        """Guesses 0."""
        return SimpleNamespace(sample=torch.zeros_like(images))


def _try_measuring(config: Config, size: int, held_out: int) -> None:
    made = paradigms.to_generate(config, size) * paradigms.together(config)
    trained = {size, *(taken for _, taken in paradigms.sizes(config, size))}
    for training in sorted({min(count, FEW) for count in trained}):
        with _saying(
            f"measuring {training} training and {min(made, size)} generated images",
            "measure, generate and data",
        ):
            metrics.measure(
                _rows(training),
                _rows(min(made, size)),
                _rows(size),
                _rows(held_out) if held_out else None,
                neighbours=config.measure.neighbours,
                memorised=config.measure.memorised,
            )


def _try_selecting(config: Config, size: int) -> None:
    select = config.select
    for pool, taken in sorted(set(paradigms.sizes(config, size))):
        if pool > FEW or (select.method == "none" and config.paradigm == "accumulate-subsample"):
            continue  # plan.check has counted
        saying = _saying(f"selecting {taken} of {pool} images", "select, keep and generate")
        with saying, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the random rows, which mean nothing
            choose(
                _rows(pool),
                taken,
                select.method,
                drop_outliers=select.drop_outliers,
                drop_far=select.drop_far,
                real=_rows(size),
                diversity=select.diversity,
                reference=select.reference and min(select.reference, FEW),
            )


def _rows(count: int) -> np.ndarray:
    drawn = seeds.numbers(count).standard_normal((min(count, FEW), 4))
    return drawn.astype(np.float32)


@contextmanager
def _saying(what: str, groups: str) -> Iterator[None]:
    """Adds what was tried to an error of another library."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"{what}, tried before the run: {error}") from None
    except MemoryError:
        raise ValueError(f"{what}, tried before the run, is more than memory holds") from None
    except Exception as error:  # torch, diffusers and the engine raise many types
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{what}, tried before the run, does not work with the options of {groups}: {first}"
        ) from None
