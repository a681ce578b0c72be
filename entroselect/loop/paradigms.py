"""For each paradigm: how many images are generated, what the pool consists of, and how much of it
is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from entroselect.loop import seeds, shares
from entroselect.loop.config import Config
from entroselect.loop.data import Images, stack


def models(config: Config) -> list[str]:
    """Names of the models of the run."""
    return list(config.models or (config.diffusion.kind,))


def together(config: Config) -> int:
    """How many models generate at each iteration: all, or one where they alternate."""
    return len(models(config)) if config.model_order == "together" else 1


def to_generate(config: Config, size: int) -> int:
    """Images for the pool that each model makes at an iteration, where the first training set had
    `size`.

    "replace" keeps `size` images of what was made last, so the models together make size / keep
    when something selects, and `size` otherwise. Elsewhere every model makes `size`.
    """
    if config.generate is not None:
        return config.generate
    if config.paradigm != "replace":
        return size
    made = size if config.select.method == "none" else math.ceil(size / shares.exact(config.keep))
    return -(-made // together(config))


def to_measure(config: Config, size: int) -> int:
    """Images that each model makes besides, which are measured and never trained on."""
    count = together(config)
    extra = (config.measure.draw or 0) - count * to_generate(config, size)
    return max(0, -(-extra // count))


def pool(
    config: Config,
    real: Images,
    training: Images,
    generated: Sequence[Images],
    fresh: Images | None,
) -> Images:
    """The pool from which the next training set is picked.

    replace: the images made last, by all models;
    accumulate, accumulate-subsample: the real images and everything made so far;
    fresh-data: the last training set, the images made last, and new real ones.

    Args:
        config: the run.
        real: the first training set.
        training: the last training set.
        generated: the images made at each iteration so far.
        fresh: new real images, with "fresh-data".
    """
    if config.paradigm == "replace":
        return generated[-1]
    if config.paradigm == "fresh-data":
        return stack([training, generated[-1], *([fresh] if fresh is not None else [])])
    return stack([real, *generated])


def wanted(config: Config, size: int, pool_size: int) -> int:
    """The number of images of the next training set.

    Without a selection: the whole pool, except accumulate-subsample (`size`). With one: `size`,
    the number of real images at the start; with fresh-data, `keep` of the pool.
    """
    if config.select.method == "none":
        return size if config.paradigm == "accumulate-subsample" else pool_size
    if config.paradigm == "fresh-data":
        return max(1, round(shares.exact(config.keep) * pool_size))
    return min(size, pool_size)


def sizes(config: Config, size: int) -> list[tuple[int, int]]:
    """(images in the pool, images taken from it) of every iteration from the second on.

    Args:
        config: the run.
        size: of the first training set.
    """
    made = to_generate(config, size) * together(config)
    found, training = [], size
    for iteration in range(2, config.iterations + 1):
        if config.paradigm == "replace":
            held = made
        elif config.paradigm == "fresh-data":
            held = training + made + config.fresh
        else:
            held = size + (iteration - 1) * made
        training = wanted(config, size, held)
        found.append((held, training))
    return found


def equally(sources: Sequence[int], count: int) -> list[int]:
    """How many of `count` each source gives: equally many, what does not divide the first ones.

    Raises:
        ValueError: a source has fewer.
    """
    share, rest = divmod(count, len(sources))
    given = [share + (number < rest) for number in range(len(sources))]
    for quota, held in zip(given, sources, strict=True):
        if quota > held:
            raise ValueError(f"generate: {quota} images wanted of a source that has only {held}")
    return given


def quotas(key: tuple[int | str, ...], sources: Sequence[int], count: int) -> np.ndarray:
    """Rows of a stack of `sources` sizes: equally many from each, drawn at random.

    This is accumulate-subsample without a selection.
    """
    draw = seeds.numbers(*key)
    rows, start = [], 0
    for quota, held in zip(equally(sources, count), sources, strict=True):
        rows.append(start + np.sort(draw.choice(held, quota, replace=False)))
        start += held
    return np.concatenate(rows)
