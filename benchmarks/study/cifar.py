"""Part "cifar": selection from real CIFAR-10 images among near-copies and corrupted ones.

No model is trained. What is wrong with each image of the pool is known, so a selection is judged by
what it takes as well as by its distance to held-out images, in a space in which nothing was
selected: selected in EfficientNet's features and judged in pixels, and the other way round.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study.tasks import SEEDS, Given, Task, flattened, write_images
from benchmarks.support.record import Row
from entroselect.cli.output import say
from entroselect.loop import data, features, metrics
from entroselect.loop.data import Images
from entroselect.loop.plan import EFFICIENTNET
from entroselect.loop.seeds import numbers
from entroselect.loop.selection import choose

READ = 20_000  # images of the file that are kept
CLEAN, COPIES, CORRUPTED = 1000, 500, 500
PICKED, REFERENCE, HELD_OUT = 1000, 1000, 2000
COPIED = 25  # images that all copies are of
DIRECTIONS = 64
METHODS: dict[str, tuple[Any, float]] = {
    "random": ("random", 0),
    "greedy": ("greedy", 0),
    "threshold": ("threshold", 0),
    "moments": ("moments", 0),
    "energy": ("anchored", 0),
    **{f"anchored {w:g}": ("anchored", w) for w in (0.003, 0.01, 0.1, 1)},
}
JUDGES = {"efficientnet": "pixels", "pixels": "efficientnet"}  # by the space of selection
KINDS = ("clean", "copies", "corrupted")
COLUMNS = ("space", "judge", "method", "seed", "n", "fd", "entropy", "entropy_selecting", *KINDS)
COLUMNS += ("originals",)


def tasks(given: Given) -> list[Task]:
    """A task per seed; none without the images or the network."""
    if not given.cifar:
        return []
    if find_spec(EFFICIENTNET) is None:
        say("cifar: EfficientNet is not installed: pip install 'entroselect[features]'")
        return []
    source = kept(given.cifar, given.out)
    sizes = f"{CLEAN} {COPIES} {CORRUPTED} {PICKED} {REFERENCE} {HELD_OUT} {COPIED} {DIRECTIONS}"
    return [
        Task(f"cifar {seed}", f"{sizes} seed={seed}", compared, {"seed": seed, "source": source})
        for seed in given.seeds or SEEDS
    ]


def kept(source: str, out: Path) -> str:
    """Some of the images in a file that is read at once; its path."""
    target = out / "cifar.npz"
    if not target.exists():
        images = data.load(source)
        rows = numbers(0, "cifar").permutation(len(images))[:READ]
        write_images(target, images.pixels[rows], images.take(rows).labels)
    return str(target)


def compared(seed: int, source: str) -> list[Row]:
    """The rows of all selections in both spaces."""
    pool, kinds, originals, reference, held_out = sets_of(data.load(source), seed)
    seen = {space: reduced(space, (pool, reference, held_out)) for space in JUDGES}
    found = []
    for space, judge in JUDGES.items():
        for method, (name, diversity) in METHODS.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the reference's size
                rows = choose(
                    seen[space][0],
                    PICKED,
                    name,
                    real=seen[space][1],
                    diversity=diversity,
                    key=(seed, "cifar"),
                )
            taken, target = seen[judge][0][rows], seen[judge][2]
            row = {"space": space, "judge": judge, "method": method, "seed": seed, "n": len(rows)}
            row |= {name: float(np.mean(kinds[rows] == n)) for n, name in enumerate(KINDS)}
            found.append(
                {
                    **row,
                    "fd": metrics.frechet_distance(target, taken),
                    "entropy": metrics.spread(taken)["entropy"],
                    "entropy_selecting": metrics.spread(seen[space][0][rows])["entropy"],
                    "originals": len(np.unique(originals[rows])),
                }
            )
    return found


def sets_of(images: Images, seed: int) -> tuple[Images, Any, Any, Images, Images]:
    """(pool, the kind of each of its images, which image it was, the reference, held out)"""
    draw = numbers(seed, "cifar", "sets")
    order = draw.permutation(len(images))
    ends = np.cumsum([CLEAN, CORRUPTED, REFERENCE, HELD_OUT])
    if ends[-1] > len(images):
        raise ValueError(f"--cifar: {ends[-1]} images needed, got {len(images)}")
    clean, spoilt, reference, held_out = np.split(order[: ends[-1]], ends[:-1])
    copied = clean[:COPIED][draw.integers(COPIED, size=COPIES)]
    pixels = np.concatenate(
        [
            images.pixels[clean],
            near_copies(images.pixels[copied], draw),
            corrupted(images.pixels[spoilt], draw),
        ]
    )
    kinds = np.repeat(np.arange(len(KINDS)), (CLEAN, COPIES, CORRUPTED))
    pool = Images(pixels, None, data.origins(data.SYNTHETIC, len(pixels)))
    originals = np.concatenate([clean, copied, spoilt])
    return pool, kinds, originals, images.take(reference), images.take(held_out)


def near_copies(pixels: Any, draw: np.random.Generator) -> Any:
    """Moved by at most a pixel, a little lighter or darker, with a little noise."""
    moves = draw.integers(-1, 2, size=(len(pixels), 2))
    moved = [np.roll(one, move, (0, 1)) for one, move in zip(pixels, moves, strict=True)]
    light = draw.uniform(-8, 8, (len(pixels), 1, 1, 1))
    return clipped(np.stack(moved) + light + draw.normal(0, 3, pixels.shape))


def corrupted(pixels: Any, draw: np.random.Generator) -> Any:
    """A third each: strong noise, a large square of one colour, squares that changed places."""
    made = pixels.astype(np.float64)
    for number, image in enumerate(made):
        if number % 3 == 0:
            image += draw.normal(0, 60, image.shape)
        elif number % 3 == 1:
            top, left = draw.integers(0, 13, size=2)
            image[top : top + 20, left : left + 20] = draw.integers(0, 256, size=3)
        else:
            tiles = image.reshape(4, 8, 4, 8, 3).swapaxes(1, 2).reshape(16, 8, 8, 3)
            mixed = tiles[draw.permutation(16)].reshape(4, 4, 8, 8, 3).swapaxes(1, 2)
            image[:] = mixed.reshape(image.shape)
    return clipped(made)


def clipped(pixels: Any) -> Any:
    """uint8."""
    return pixels.round().clip(0, 255).astype(np.uint8)


def reduced(space: str, sets: tuple[Images, ...]) -> list[Any]:
    """The first directions of the reference (the second set), of all sets' features."""
    extract: Any = lambda images: flattened(images.pixels)  # noqa: E731
    if space != "pixels":
        extract = features.spaces((space,), sets[1], folder=Path())[space]  # type: ignore[arg-type, index]
    rows = [np.asarray(extract(images), np.float64) for images in sets]
    mean = rows[1].mean(axis=0)
    _, _, directions = np.linalg.svd(rows[1] - mean, full_matrices=False)
    return [((part - mean) @ directions[:DIRECTIONS].T).astype(np.float32) for part in rows]
