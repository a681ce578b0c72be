"""The plan of a run: which images it uses, and whether its numbers fit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from entroselect.loop import data, diffusion, paradigms, seeds, shares
from entroselect.loop.config import Config
from entroselect.loop.data import Images
from entroselect.loop.device import device_of


def split(config: Config) -> tuple[Images, Images | None, Images]:
    """(the first training set, images no model is trained on, the rest: a stream of fresh ones)"""
    given = config.data
    every = data.load(
        given.source,
        split=given.split,
        image_column=given.image_column,
        label_column=given.label_column,
    )
    order = seeds.numbers(config.seed, "split").permutation(len(every))
    held = config.data.held_out
    size = len(every) - held if config.data.images is None else config.data.images
    if size < 2 or size + held > len(every):
        raise ValueError(
            f"data.images: {size} to train on and {held} held out, but {config.data.source} has "
            f"{len(every)} images; {_fitting(len(every), config.data.images, held)}"
        )
    real = every.take(np.sort(order[:size]))
    apart = every.take(np.sort(order[size : size + held])) if held else None
    rest = every.take(order[size + held :])
    fresh = rest.origins.copy()
    fresh[:, 0] = data.FRESH
    return real, apart, replace(rest, origins=fresh)


def _fitting(count: int, images: int | None, held: int) -> str:
    """Which options to change, a single one if that is enough, for the error."""
    if images is not None and 2 <= images <= count:
        return f"set data.held_out={count - images} or less"
    if held <= count - 2:
        return "set data.images=none" + ("" if images is None else f", which is {count - held}")
    if count <= 2:
        return "give more images"
    return f"pass --set data.images=none --set data.held_out={count // 5}"


def classes_of(config: Config, real: Images, stream: Images) -> int:
    """Labels that a conditional network must know: also those of fresh images still to come."""
    return max(real.classes, stream.classes if config.fresh else 0)


def check(config: Config, real: Images, stream: Images) -> None:
    """Checks that the numbers fit each other; `try_out` finds what needs a trial."""
    size, made = len(real), paradigms.to_generate(config, len(real))
    if config.model.conditional and real.labels is None:
        raise ValueError(
            f"model.conditional: {config.data.source} has no labels; give labels, or set "
            "model.conditional=false"
        )
    if config.paradigm == "fresh-data" and config.fresh * (config.iterations - 1) > len(stream):
        most = len(stream) // (config.iterations - 1)
        raise ValueError(
            f"fresh: {config.fresh} images for each of {config.iterations - 1} iterations, but "
            f"only {len(stream)} real images are left over; set "
            + (f"fresh={most} or less" if most else "data.images lower")
        )
    together = made * len(paradigms.kinds(config))
    if together < 2:
        raise ValueError(
            f"generate: {together} image an iteration, but distances between generated images are "
            "measured; set generate=2 or more"
        )
    selects = config.select.method != "none"
    if selects and config.paradigm in ("replace", "multi-model") and together < size:
        raise ValueError(
            f"generate: {together} images an iteration, but {size} are to be selected from them; "
            f"set generate=none or generate={-(-size // len(paradigms.kinds(config)))} or more"
        )
    for number, (pool, taken) in enumerate(paradigms.sizes(config, size), 1):
        if not selects and config.paradigm == "accumulate-subsample":
            paradigms.equally([size, *[together] * number], taken)
        floors = (config.select.drop_outliers, config.select.drop_far)  # 0 without a selection
        left = pool - sum(shares.part(share, pool) for share in floors)
        if left < taken:
            raise ValueError(
                f"select.drop_outliers, select.drop_far: {floors[0]} and {floors[1]} may leave "
                f"{left} of {pool} images, {taken} are wanted; set them, or keep, lower"
            )
        if taken < 2:
            raise ValueError(
                f"keep: {config.keep} of {pool} images is {taken} to train on; set keep higher"
            )
    device_of(config)
    diffusion.network(
        config.model, real.pixels.shape[1:], classes_of(config, real, stream), seeds.noise(0)
    )


def training_steps(config: Config, size: int) -> int:
    """train.steps; with equal_compute, longer by what size / keep more images would have cost.

    A training step costs about three passes of the network over its batch, a generated image one
    pass for each sampling step (two with guidance).
    """
    if not config.equal_compute:
        return config.train.steps
    extra = math.ceil(size / shares.exact(config.keep)) - size
    passes = config.sample.steps * (2 if config.sample.guidance != 1 else 1)
    return config.train.steps + math.ceil(extra * passes / (3 * config.train.batch))
