"""Part "resample": no network. A generator copies training rows and moves the copies.

How far a copy moves, as a share h of the typical nearest distance, decides whether a selection for
diversity helps. The chain is the loop's under "replace", by its own generator and selections,
without the folder that a run has.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study.tasks import Given, Task, flattened, shrunk
from benchmarks.support.record import Row
from entroselect.loop import data, features, metrics
from entroselect.loop.resample import Resample
from entroselect.loop.seeds import numbers
from entroselect.loop.selection import choose
from entroselect.measures.frechet import frechet_distance

SEEDS = range(10)
ITERATIONS, MEASURED = 8, (1, 2, 4, 8)
DRAWN = 1000  # copies that are measured
NEIGHBOURS = 10
# h of noise, and how far towards one of the nearest rows.
NOISE, TOWARDS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0), (0.5, 1.0)
# Method and diversity: "energy" is the anchored selection without the term that spreads rows out.
METHODS: dict[str, tuple[Any, float]] = {
    "none": ("none", 0),
    "random": ("random", 0),
    "greedy": ("greedy", 0),
    "threshold": ("threshold", 0),
    "anchored": ("anchored", 0.003),
    "energy": ("anchored", 0),
}
# N, and how many rows are held out to measure by.
SIZES = {"digits": (128, 899), "mnist": (256, 2000), "25 gaussians": (256, 2000)}
COLUMNS = ("data", "n", "move", "h", "method", "seed", "iteration", "space", "fd", "entropy")
COLUMNS += ("duplicates",)


def tasks(given: Given) -> list[Task]:
    """A task per data set, way to move and seed; all selections in it start alike."""
    made, seeds = [], given.seeds or SEEDS
    ways = [("noise", h) for h in NOISE] + [("towards", h) for h in TOWARDS]
    for name in SIZES:
        if name == "mnist" and not given.mnist:
            continue
        source = shrunk(given.mnist, given.out, 8) if name == "mnist" else name
        for move, h in ways:
            for seed in seeds:
                own = {"name": name, "move": move, "h": h, "seed": seed}
                text = " ".join(f"{key}={value}" for key, value in own.items())
                arguments = {**own, "source": source, "out": given.out}
                made.append(Task(f"{name} {move} {h:g} {seed}", text, compared, arguments))
    return made


def compared(name: str, move: str, h: float, seed: int, source: str, out: Path) -> list[Row]:
    """The rows of all selections."""
    real, held_out = rows_of(name, source, seed)
    spaces = judging(name, held_out, seed, out)
    target = {space: extract(held_out.pixels) for space, extract in spaces.items()}
    marks = {"data": name, "n": len(real.pixels), "move": move, "h": h, "seed": seed}
    generator = Resample(h, NEIGHBOURS if move == "towards" else 0)
    found = []
    for method in METHODS:
        for iteration, training, made in chain(generator, real.pixels, method, seed):
            for space, extract in spaces.items():
                here = {"method": method, "iteration": iteration, "space": space}
                spread = metrics.spread(extract(training))
                entropy, copies = spread["entropy"], spread["duplicates"]
                fd = frechet_distance(target[space], extract(made))
                found.append({**marks, **here, "fd": fd, "entropy": entropy, "duplicates": copies})
    return found


def chain(generator: Resample, real: Any, method: str, seed: int) -> Iterator[tuple[int, Any, Any]]:
    """(iteration, its training set, what is measured of what was made from it), where MEASURED."""
    training, count = real, len(real)
    for iteration in range(1, ITERATIONS + 1):
        draws = [int(numbers(seed, "made", iteration, n).integers(2**31)) for n in (0, 1)]
        generator.fit(training, seed=seed)
        if iteration in MEASURED:
            yield iteration, training, generator.sample(DRAWN, seed=draws[1])
        pool = generator.sample(count if method == "none" else 2 * count, seed=draws[0])
        training = pool[picked(pool, count, method, real, (seed, "select", iteration))]


def picked(pool: Any, count: int, method: str, real: Any, key: tuple[int | str, ...]) -> Any:
    """Rows of the pool."""
    name, diversity = METHODS[method]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few real rows: that is a question of part "reference"
        return choose(
            flattened(pool), count, name, real=flattened(real), diversity=diversity, key=key
        )


def rows_of(name: str, source: str, seed: int) -> tuple[data.Images, data.Images]:
    """(the first training set, what is measured against)"""
    n, held = SIZES[name]
    if name == "25 gaussians":
        draw = numbers(seed, name)
        centres = draw.integers(5, size=(n + held, 2)) * 2.0 - 4.0
        rows = (centres + 0.1 * draw.standard_normal(centres.shape)).astype(np.float32)
        every = data.Images(rows, None, data.origins(data.REAL, len(rows)))
    else:
        every = data.load(source)
    order = numbers(seed, "split").permutation(len(every))
    return every.take(order[:n]), every.take(order[n : n + held])


def judging(
    name: str, held_out: data.Images, seed: int, out: Path
) -> dict[str, Callable[[Any], Any]]:
    """Spaces to measure in: that of the selection, and for images an encoder of its own."""
    if not held_out.are_images:
        return {"plane": flattened}
    folder = out / f"resample-{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    judge = features.spaces(("judge",), held_out, folder=folder, held_out=held_out, key=(seed,))

    def extract(pixels: Any) -> Any:
        kinds = data.origins(data.SYNTHETIC, len(pixels))
        return judge["judge"](data.Images(pixels, None, kinds))

    return {"pixels": flattened, "judge": extract}
