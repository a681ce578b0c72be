"""Which runs the study takes, and what is measured in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.record import PROVENANCE, Row, provenance, read, rounded, write_csv
from entroselect.cli.errors import say
from entroselect.loop import config as options
from entroselect.loop import data, features, files, metrics, plan
from entroselect.loop import iterate as loop
from entroselect.loop.config import Config
from entroselect.loop.progress import Progress

SEEDS = (0, 1, 2)

# Options of every run of a data set, as `entroselect loop --set` takes them.
COMMON = ["data.held_out=0", "measure.spaces=['pixels','encoder']"]
_SMALL = ["train.steps=800", "train.warmup=80", "sample.steps=10"]
SCALES: dict[str, dict[str, list[str]]] = {
    "small": {
        "digits": _SMALL,
        "mnist": [
            *_SMALL,
            "data.images=2048",
            "model.channels=[16,32]",
            "train.learning_rate=3e-3",
        ],
    },
    "full": {
        "digits": ["iterations=8", "train.steps=4000", "train.warmup=250"],
        "mnist": ["iterations=8", "train.steps=8000", "train.warmup=400"],
    },
}
SHRUNK = ("small",)  # scales whose MNIST is 8 x 8

GREEDY = ["select.method=greedy"]
SUBSAMPLE = ["paradigm=accumulate-subsample"]
ACCUMULATE = ["paradigm=accumulate"]
GUIDED = ["model.conditional=true", "sample.guidance=2.0"]
ONE = ["iterations=2"]  # the first training is on real images, the second on what was selected
FLOOR = ["select.drop_outliers=0.2"]
REAL_FLOOR = ["select.drop_far=0.4"]
FRESH = [*ONE, "paradigm=fresh-data"]

# What each arm changes. Arms without a paradigm replace; select.space is the encoder's.
ARMS: dict[str, list[str]] = {
    "none": [],
    "greedy": GREEDY,
    "threshold": ["select.method=threshold"],
    "variance": [*ONE, "select.method=variance"],
    "greedy pixels": [*GREEDY, "select.space=pixels"],
    "greedy floor": [*GREEDY, *FLOOR],
    "greedy floor 0.4": [*GREEDY, "select.drop_outliers=0.4"],
    "greedy near real": [*GREEDY, *REAL_FLOOR],
    "random near real": [*ONE, "select.method=random", *REAL_FLOOR],
    "keep 0.2": [*ONE, *GREEDY, "keep=0.2"],
    "keep 0.4": [*ONE, *GREEDY, "keep=0.4"],
    "keep 0.6": [*ONE, *GREEDY, "keep=0.6"],
    "keep 0.8": [*ONE, *GREEDY, "keep=0.8"],
    "keep 0.8 floor": [*ONE, *GREEDY, "keep=0.8", "select.drop_outliers=0.1"],
    "accumulate none": SUBSAMPLE,
    "accumulate greedy": [*ACCUMULATE, *GREEDY],
    "accumulate threshold": [*ACCUMULATE, "select.method=threshold"],
    "accumulate greedy floor": [*ACCUMULATE, *GREEDY, *FLOOR],
    "guided none": [*SUBSAMPLE, *GUIDED],
    "guided greedy": [*ACCUMULATE, *GUIDED, *GREEDY],
    "fresh random": [*FRESH, "select.method=random"],
    "fresh greedy": [*FRESH, *GREEDY],
    "fresh greedy floor": [*FRESH, *GREEDY, *FLOOR],
    "half": [],
    "quarter": [],
    "long none": ONE,
    "long greedy": [*ONE, *GREEDY],
    "long greedy near real": [*ONE, *GREEDY, *REAL_FLOOR],
}
# The same with an eighth of the images, which a model of this size learns by heart.
_SMALL_ARMS = ("none", "greedy", "greedy near real", "accumulate none", "accumulate greedy")
for _arm in (*_SMALL_ARMS, "guided none", "guided greedy"):
    ARMS[f"small {_arm}"] = ARMS[_arm]
SHARES = {"half": 2, "quarter": 4, "small": 8}  # first words of arms with N over this many images

# What is run, most telling first: images, arms, and their iterations at the small scale. Within a
# part all arms of a seed come before the next seed, so that a study that was stopped early has
# whole seeds.
PLAN: list[tuple[str, list[str], int]] = [
    ("digits", ["none", "greedy", "threshold", "greedy floor"], 3),
    ("digits", ["greedy near real"], 3),
    ("digits", ["accumulate none", "accumulate greedy"], 3),
    ("digits", ["fresh random", "fresh greedy"], 2),
    ("digits", ["small accumulate none", "small accumulate greedy"], 2),
    ("digits", ["keep 0.8"], 2),
    ("digits", ["small none", "small greedy"], 3),
    ("mnist", ["none", "greedy"], 2),
    ("mnist", ["small accumulate none", "small guided none", "small guided greedy"], 2),
    ("digits", ["keep 0.2"], 2),
    ("mnist", ["small none", "small greedy"], 2),
    ("digits", ["keep 0.4", "keep 0.6", "random near real"], 2),
    ("digits", ["small greedy near real"], 3),
    ("digits", ["quarter"], 3),
    ("mnist", ["greedy near real"], 2),
    ("digits", ["long none", "long greedy", "long greedy near real"], 2),
    ("mnist", ["accumulate none", "guided none", "guided greedy"], 2),
    ("digits", ["accumulate threshold", "accumulate greedy floor"], 3),
    ("digits", ["fresh greedy floor", "keep 0.8 floor", "variance", "greedy pixels"], 2),
    ("digits", ["half", "greedy floor 0.4"], 3),
    ("mnist", ["greedy floor"], 3),
]

COLUMNS = [
    "data", "pixels", "arm", "seed", "iteration", "space", "n", "entropy", "entropy_training",
    "gs", "gs_mse", "variance", "variance_training", "mnnd", "fd", "kid", "precision", "recall",
    "density", "coverage", "vendi", "memorised", "duplicates", "real", "synthetic", "fresh",
    "training_n", "settings", *PROVENANCE,
]  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One run: an arm on a data set with a seed. `settings` make its configuration."""

    data: str
    arm: str
    seed: int
    settings: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.data}-{self.arm}-{self.seed}".replace(" ", "-")


def tasks(
    scale: str, data_sets: Sequence[str], seeds: Sequence[int], extra: Sequence[str] = ()
) -> list[Task]:
    """All runs of the study in their order; an arm's own settings come after `extra`."""
    made = []
    for data_set, arms, iterations in PLAN:
        if data_set in data_sets:
            few = [f"iterations={iterations}"] if scale == "small" else []
            base = [*COMMON, *few, *SCALES[scale][data_set], *extra]
            config = options.resolve(data_set, settings=base)
            for seed in seeds:
                for arm in arms:
                    own = (*base, *ARMS[arm], *sized(arm, config), f"seed={seed}")
                    made.append(Task(data_set, arm, seed, own))
    return made


def sized(arm: str, config: Config) -> list[str]:
    """Settings of an arm that depend on those of the whole scale.

    The arms with fresh images are the paper's in small: of 32,768 real images, 10,000 made from
    them and 10,000 new ones, 40,000 are kept.
    """
    n = config.data.images or 0
    if arm.split()[0] in SHARES:
        return [f"data.images={n // SHARES[arm.split()[0]]}"]
    if arm.startswith("long"):
        return [f"train.steps={3 * config.train.steps}"]
    if arm.startswith("fresh"):
        new = round(n * 10_000 / 32_768)
        return [f"fresh={new}", f"generate={new}", f"keep={40_000 / 52_768:.4f}"]
    return []


def study(
    out: Path,
    results: Path,
    scale: str,
    sources: dict[str, str],
    seeds: Sequence[int] = SEEDS,
    extra: Sequence[str] = (),
) -> None:
    """Runs what is missing in `out` and writes the measures of each run to `results`.

    Args:
        out: a folder for the run folders.
        results: the CSV; rows of runs that are in it stay.
        scale: a name in SCALES.
        sources: "digits" and perhaps "mnist", and where the images are.
        seeds: one run of every arm for each.
        extra: further options of every run.
    """
    stamp = provenance()
    todo = tasks(scale, list(sources), seeds, extra)
    written = {(row["data"], row["arm"], row["settings"]) for row in read(results)}
    for number, task in enumerate(todo, 1):
        folder = out / task.name
        settings = " ".join(task.settings)
        if (folder / "DONE").exists() and (task.data, task.arm, settings) in written:
            continue
        say(f"run {number} of {len(todo)}: {task.data}, {task.arm}, seed {task.seed}")
        config = options.resolve(task.data, settings=task.settings, data__source=sources[task.data])
        with Progress() as progress:
            loop.run(config, folder, progress=progress, begin_from=sorted(out.glob("*")))
        found = measured(folder, task, config)
        add(results, [{**row, "settings": settings, **stamp} for row in found])
    say(f"{len(todo)} runs are in {results}")


def measured(folder: Path, task: Task, config: Config) -> list[Row]:
    """The rows of a run, one per iteration and space."""
    rows = []
    for path in sorted(folder.glob("iteration-*/metrics.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for space, values in found["spaces"].items():
            row = {"iteration": found["iteration"], "space": space, **found["origins"]}
            rows.append({**row, "training_n": found["training_size"], **columns(values)})
    if task.arm in ("none", "small none"):
        rows += other_real(folder, config)
    pixels = "x".join(map(str, files.read_array(folder / "iteration-01/training.npy").shape[1:3]))
    return [
        {"data": task.data, "pixels": pixels, "arm": task.arm, "seed": task.seed, **row}
        for row in rows
    ]


def other_real(folder: Path, config: Config) -> list[Row]:
    """Iteration 0: N other real images, which no model was trained on, in the place of G_1."""
    real, _, rest = plan.split(config)
    if len(rest) < len(real):
        return []
    spaces = features.spaces(config.measure.spaces, real, folder=folder, key=(config.seed,))
    others = rest.take(np.arange(len(real)))
    return [
        {
            "iteration": 0,
            "space": space,
            "training_n": len(real),
            "real": 1.0,
            **columns(metrics.measure(extract(real), extract(others), extract(real))),
        }
        for space, extract in spaces.items()
    ]


def columns(values: dict[str, Any]) -> Row:
    """The measures of one set in one space (metrics.measure) by their short names."""
    training, generated = values["training"], values["generated"]
    return {
        "n": generated["n"],
        "entropy": generated["entropy"],
        "entropy_training": training["entropy"],
        "variance": generated["variance"],
        "variance_training": training["variance"],
        "duplicates": training["duplicates"],
        "gs": values["generalization_score"],
        "gs_mse": values["generalization_score_mse"],
        "mnnd": values["mean_nearest_distance"],
        "memorised": values["memorised_fraction"],
        "fd": values["frechet_distance"],
        "vendi": values["vendi_score"],
        **{name: values[name] for name in ("kid", "precision", "recall", "density", "coverage")},
    }


def add(results: Path, rows: list[Row]) -> None:
    """Puts the rows of a run in the place of its older ones, or at the end; atomic."""
    run = {(row["data"], row["arm"], str(row["seed"])) for row in rows}
    kept = [row for row in read(results) if (row["data"], row["arm"], row["seed"]) not in run]
    write_csv(results, COLUMNS, [*kept, *(rounded(row, 6) for row in rows)])


def shrunk(source: Path, target: Path) -> str:
    """Writes MNIST at 8 x 8, means of 3 x 3 of its central 24 x 24 pixels; the new file's path."""
    if not target.exists():
        images = data.load(str(source))
        if images.pixels.shape[1:] != (28, 28, 1):
            raise ValueError(f"--mnist: {source}: expected grey images of 28 x 28")
        blocks = images.pixels[:, 2:26, 2:26, 0].reshape(-1, 8, 3, 8, 3)
        small = np.round(blocks.mean(axis=(2, 4))).astype(np.uint8)
        target.parent.mkdir(parents=True, exist_ok=True)
        work = target.with_name("partial-" + target.name)
        np.savez(work, x=small, y=images.labels)
        work.replace(target)
    return str(target)
