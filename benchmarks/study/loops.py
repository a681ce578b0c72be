"""Runs of the loop: settings, arms, and what is measured in a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.study.tasks import SEEDS, Given, Task, shrunk
from benchmarks.support.record import Row
from entroselect.loop import config as options
from entroselect.loop import features, metrics, plan
from entroselect.loop import iterate as loop
from entroselect.loop.config import Config
from entroselect.loop.progress import Progress

# The paper keeps N of 2N. Selections take distances in an encoder taught on the training images;
# judged is in pixels and in an encoder taught on held-out images, against held-out images.
COMMON = ["keep=0.5", "measure.spaces=['pixels','judge']", "measure.judge=judge"]


@dataclass(frozen=True)
class Setting:
    """Images and a model that is trained on them: a preset and what is changed of it."""

    data: str
    preset: str
    options: tuple[str, ...] = ()


SETTINGS = {
    "digits repeats": Setting("digits", "repeats"),
    "digits scatters": Setting("digits", "scatters"),
    # 499 of the 1,797 digits are left over to be the fresh ones.
    "digits scatters, fresh left": Setting(
        "digits", "scatters", ("data.held_out=400", "iterations=2")
    ),
    "mnist repeats": Setting(
        "mnist",
        "repeats",
        (
            "data.images=256", "data.held_out=2000", "iterations=4", "train.steps=2500",
            "train.learning_rate=5e-3",
        ),
    ),  # with 512 images as many steps do not repeat them
    # Convolutions, so that the finding does not hang on the MLP.
    "mnist scatters": Setting(
        "mnist",
        "scatters",
        (
            "data.images=4096", "data.held_out=2000", "iterations=2", "model.network=unet",
            "model.channels=[16,32]", "train.steps=600", "train.learning_rate=3e-3",
        ),
    ),
}  # fmt: skip

GREEDY = ["select.method=greedy"]
ANCHORED = ["select.method=anchored"]
ACCUMULATE, SUBSAMPLE = ["paradigm=accumulate"], ["paradigm=accumulate-subsample"]
GUIDED = ["model.conditional=true", "sample.guidance=2.0"]
FRESH = ["paradigm=fresh-data"]
BOTH = ["models=['ddpm','edm']"]

# What each arm changes. Arms without a paradigm replace.
ARMS: dict[str, list[str]] = {
    "none": [],
    "greedy": GREEDY,
    "threshold": ["select.method=threshold"],
    "anchored": ANCHORED,
    "energy": [*ANCHORED, "select.diversity=0.0"],
    "anchored 0.01": [*ANCHORED, "select.diversity=0.01"],
    "anchored 0.1": [*ANCHORED, "select.diversity=0.1"],
    "anchored 1": [*ANCHORED, "select.diversity=1.0"],
    "moments": ["select.method=moments"],
    "variance": ["select.method=variance"],
    **{f"keep {share}": [*GREEDY, f"keep={share}"] for share in (0.2, 0.4, 0.6, 0.8)},
    "N / 2": [],
    "2 N": [],
    "accumulate none": SUBSAMPLE,
    "accumulate greedy": [*ACCUMULATE, *GREEDY],
    "accumulate anchored": [*ACCUMULATE, *ANCHORED],
    "guided none": [*SUBSAMPLE, *GUIDED],
    "guided greedy": [*ACCUMULATE, *GUIDED, *GREEDY],
    "guided anchored": [*ACCUMULATE, *GUIDED, *ANCHORED],
    "fresh random": [*FRESH, "select.method=random"],
    "fresh greedy": [*FRESH, *GREEDY],
    "fresh anchored": [*FRESH, *ANCHORED],
    "two models none": [*SUBSAMPLE, *BOTH],
    "two models greedy": [*ACCUMULATE, *BOTH, *GREEDY],
    "two models anchored": [*ACCUMULATE, *BOTH, *ANCHORED],
}
SIZES = {"N / 2": 0.5, "none": 1.0, "2 N": 2.0}

COLUMNS = [
    "setting", "arm", "seed", "iteration", "space", "training_n", "entropy", "entropy_training",
    "gs", "variance", "mnnd", "fd", "precision", "recall", "memorised", "duplicates", "real",
    "fresh", "verdict", "gap",
]  # fmt: skip

Plan = Sequence[tuple[str, Sequence[str]]]


def tasks(given: Given, parts: Plan) -> list[Task]:
    """All runs of a plan in its order.

    An arm has all its seeds before the next arm: arms of a seed share their first training, which
    is copied from the arm that has it.
    """
    made = []
    for name, arms in parts:
        setting = SETTINGS[name]
        source = "digits"
        if setting.data == "mnist":
            if not given.mnist:
                continue
            source = shrunk(given.mnist, given.out, 14)
        for arm in arms:
            for seed in given.seeds or SEEDS:
                own = settings(name, arm, seed, given.extra)
                arguments = {"name": name, "arm": arm, "seed": seed, "own": own}
                arguments |= {"source": source, "out": given.out}
                made.append(Task(f"{name} {arm} {seed}", " ".join(own), measured_run, arguments))
    return made


def settings(name: str, arm: str, seed: int, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """The options of a run, as `entroselect loop --set` takes them; an arm's own come last."""
    base = [*COMMON, *SETTINGS[name].options, *extra]
    config = options.resolve(SETTINGS[name].preset, settings=base)
    return (*base, *ARMS[arm], *sized(arm, config), f"seed={seed}")


def sized(arm: str, config: Config) -> list[str]:
    """Options of an arm that depend on N.

    The arms with fresh images are the paper's in small: of 32,768 real images, 10,000 made from
    them and 10,000 new ones, 40,000 are kept.
    """
    n = config.data.images or 0
    if arm in SIZES and SIZES[arm] != 1:
        return [f"data.images={round(n * SIZES[arm])}"]
    if arm.startswith("fresh"):
        new = round(n * 10_000 / 32_768)
        return [f"fresh={new}", f"generate={new}", f"keep={40_000 / 52_768:.4f}"]
    return []


def resolved(name: str, own: Sequence[str], source: str) -> Config:
    """The configuration of a run."""
    return options.resolve(SETTINGS[name].preset, settings=own, data__source=source)


def measured_run(
    name: str, arm: str, seed: int, own: Sequence[str], source: str, out: Path
) -> list[Row]:
    """Runs an arm, or what is left of it, and gives its rows."""
    folder = out / f"{name}-{arm}-{seed}".replace(" ", "-").replace("/", "over").replace(",", "")
    config = resolved(name, own, source)
    others = sorted(out.glob(f"{name.replace(' ', '-').replace(',', '')}-*-{seed}"))
    with Progress(False) as progress:
        loop.run(config, folder, progress=progress, threads=1, begin_from=others)
    marks = {"setting": name, "arm": arm, "seed": seed}
    rows = [{**marks, **row} for row in measured(folder)]
    if arm == "none":
        rows += [{**marks, **row} for row in real_images(folder, config)]
    return rows


def measured(folder: Path) -> list[Row]:
    """The rows of a run, one per iteration and space."""
    rows = []
    for path in sorted(folder.glob("iteration-*/metrics.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        told = found["diagnosis"]
        row = {"iteration": found["iteration"], "training_n": found["training_size"]}
        row |= {"real": found["origins"]["real"], "fresh": found["origins"]["fresh"]}
        row |= {"verdict": told["verdict"], "gap": told["entropy_gap"]}
        rows += [
            {**row, "space": space, **columns(values)} for space, values in found["spaces"].items()
        ]
    return rows


def real_images(folder: Path, config: Config) -> list[Row]:
    """Iteration 0: the real training images in the place of generated ones."""
    real, held_out, _ = plan.split(config)
    assert held_out is not None
    spaces = features.spaces(
        ("pixels", "judge"), real, folder=folder, held_out=held_out, key=(config.seed,)
    )
    found = []
    for space, extract in spaces.items():
        values = metrics.measure(
            extract(real), extract(real), extract(real), extract(held_out), reference="held-out"
        )
        row = {"iteration": 0, "space": space, "training_n": len(real), "real": 1.0, "fresh": 0.0}
        found.append({**row, **columns(values)})
    return found


def columns(values: dict[str, Any]) -> Row:
    """The measures of one set in one space (metrics.measure) by their short names."""
    training, generated = values["training"], values["generated"]
    return {
        "entropy": generated["entropy"],
        "entropy_training": training["entropy"],
        "variance": generated["variance"],
        "duplicates": training["duplicates"],
        "gs": values["generalization_score"],
        "mnnd": values["mean_nearest_distance"],
        "memorised": values["memorised_fraction"],
        "fd": values["frechet_distance"],
        "precision": values["precision"],
        "recall": values["recall"],
    }


def first_model(name: str, seed: int, extra: Sequence[str], out: Path) -> tuple[Path, Config]:
    """A run that has a first model of digits and what that made, 2N images; its options."""
    own = [*settings(name, "greedy", seed, extra), "iterations=1"]
    config = resolved(name, own, "digits")
    folder = out / f"first {name} {seed}".replace(" ", "-")
    others = sorted(out.glob(f"{name.replace(' ', '-')}-*-{seed}"))
    loop.run(config, folder, threads=1, begin_from=others)
    return folder, options.from_json(folder / "config.json")
