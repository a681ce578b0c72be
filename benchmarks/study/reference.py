"""Part "reference": what is chosen from the first model's images, and one round of training on it.

How large the reference must be, and what a biased one does. Digits, where the model scatters.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study.loops import first_model, settings
from benchmarks.study.tasks import SEEDS, Given, Task
from benchmarks.support.record import Row
from entroselect.loop import data, features, metrics, plan
from entroselect.loop.config import Config
from entroselect.loop.data import Images
from entroselect.loop.denoiser import Denoiser
from entroselect.loop.progress import Progress
from entroselect.loop.selection import choose

SETTING = "digits scatters"
REFERENCES = (16, 32, 64, 128, 256, 512)
KNOWN_CLASSES = 5  # of the biased reference: digits 0 to 4
SPACES = ("encoder", "judge", "pixels")
COLUMNS = ("way", "method", "diversity", "reference", "biased", "seed", "stage", "space", "n")
COLUMNS += ("fd", "entropy", "precision", "recall", "warned")


@dataclass(frozen=True)
class Way:
    """A way to choose N of the 2N images.

    method, diversity: as in `choose`.
    reference: how many real images to match, drawn at random; None: all.
    biased: only those of the first classes.
    """

    method: Any
    diversity: float = 0.0
    reference: int | None = None
    biased: bool = False


MATCHED = {"energy": 0.0, "anchored": 0.003, "anchored 0.01": 0.01}
WAYS: dict[str, Way] = {
    **{name: Way(name) for name in ("random", "greedy", "threshold", "moments")},
    **{name: Way("anchored", weight) for name, weight in MATCHED.items()},
    **{f"anchored {weight:g}": Way("anchored", weight) for weight in (0.03, 0.1, 1.0)},
    **{
        f"{name}, {size} real": Way("anchored", MATCHED[name], size)
        for name in ("energy", "anchored")
        for size in REFERENCES
    },
    **{f"{name}, biased": Way("anchored", MATCHED[name], None, True) for name in MATCHED},
    "moments, biased": Way("moments", 0.0, None, True),
}


def tasks(given: Given) -> list[Task]:
    """A task per seed."""
    made = []
    for seed in given.seeds or SEEDS:
        own = " ".join(settings(SETTING, "none", seed, given.extra))
        arguments = {"seed": seed, "extra": given.extra, "out": given.out}
        made.append(Task(f"reference {seed}", f"{own}; {', '.join(WAYS)}", compared, arguments))
    return made


def compared(seed: int, extra: tuple[str, ...], out: Path) -> list[Row]:
    """The rows of all ways."""
    folder, config = first_model(SETTING, seed, extra, out)
    real, held_out, _ = plan.split(config)
    pool = data.read(folder / "iteration-01", "generated")
    spaces = features.spaces(SPACES, real, folder=folder, held_out=held_out, key=(seed,))
    seen = {name: extract(pool) for name, extract in spaces.items()}
    known = spaces["encoder"](real)
    found = []
    for name, way in WAYS.items():
        rows, warned = picked(seen["encoder"], known, real, way, seed)
        chosen = pool.take(rows)
        made = next_images(config, folder / name.replace(" ", "-"), chosen)
        marks = {"way": name, **asdict(way), "seed": seed, "warned": warned}
        for stage, images in (("chosen", chosen), ("next", made)):
            for space, extract in spaces.items():
                measured = distances(extract, images, held_out, config)
                found.append({**marks, "stage": stage, "space": space, **measured})
    return found


def picked(pool: Any, known: Any, real: Images, way: Way, seed: int) -> tuple[Any, bool]:
    """Rows of the pool, as many as there are real images, and whether the selection warned that
    its reference is too small."""
    if way.biased:
        assert real.labels is not None
        known = known[real.labels < KNOWN_CLASSES]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        rows = choose(
            pool,
            len(real),
            way.method,
            real=known,
            diversity=way.diversity,
            reference=None if way.reference is None else min(way.reference, len(known)),
            key=(seed, "reference"),
        )
    return rows, bool(told)


def next_images(config: Config, place: Path, chosen: Images) -> Images:
    """What a second model makes that was trained on the chosen images, by the loop's own code."""
    count = config.measure.draw or len(chosen)
    denoiser = Denoiser(
        config, "ddpm", 2, 0, config.train.steps, "cpu", _nowhere, _nowhere, Progress(False),
        math.inf,
    )  # fmt: skip
    denoiser.fit(chosen.pixels, seed=0, checkpoint=place)
    made = denoiser.sample(count, seed=0)
    shutil.rmtree(place)
    return Images(made, None, data.origins(data.SYNTHETIC, count, 2))


def _nowhere(_: object) -> None:
    """Losses are not kept."""


def distances(
    extract: Callable[[Images], Any], images: Images, held_out: Images | None, config: Config
) -> Row:
    """How far the images are from held-out ones; entropy of at most N of them, as comparable."""
    assert held_out is not None
    rows, target = extract(images), extract(held_out)
    few = rows[np.arange(min(len(rows), config.data.images or len(rows)))]
    manifold = metrics.manifold(target, rows, config.measure.neighbours)
    return {
        "n": len(rows),
        "fd": metrics.frechet_distance(target, rows),
        "entropy": metrics.spread(few)["entropy"],
        "precision": manifold["precision"],
        "recall": manifold["recall"],
    }
