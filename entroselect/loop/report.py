"""Runs compared on one self-contained page."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entroselect import nearest_distances
from entroselect.cli import pictures
from entroselect.cli.measure import cover, rising_ranks
from entroselect.cli.page import Section, Table, render
from entroselect.loop import config as options
from entroselect.loop import data, features, files, paradigms
from entroselect.loop.config import Config
from entroselect.loop.data import Images

CYCLE = ("#8250df", "#0a7d8c", "#b3446c", "#7a6a00", "#4c566a")
METHODS = {**pictures.COLOURS, "none": "#57606a", "variance": "#b3446c"}
ORIGIN_COLOURS = {"real": "#1f6fb2", "fresh": "#4c9a62", "synthetic": "#c9ced6"}
SHOWN = 15  # images in a line


@dataclass(frozen=True)
class Run:
    """One folder: its options and what was measured, by iteration."""

    folder: Path
    config: Config
    measured: list[dict[str, Any]]

    def series(self, space: str, *names: str) -> list[float]:
        """One measure over the iterations, NaN where there is none."""
        found = []
        for iteration in self.measured:
            value: Any = iteration["spaces"][space]
            for name in names:
                value = value[name]
            found.append(math.nan if value is None else float(value))
        return found

    def images(self, iteration: int, name: str) -> Images:
        """ "training" or "generated" of that iteration, from 1."""
        return data.read(self.folder / f"iteration-{iteration:02d}", name)


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seed alone."""

    label: str
    colour: str
    runs: list[Run]


def read(folder: Path) -> Run:
    """A run folder, complete or not.

    Raises:
        ValueError: not a run, or nothing measured yet.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder}: not a run folder (no config.json)")
    found = sorted(folder.glob("iteration-*/metrics.json"))
    if not found:
        raise ValueError(f"{folder}: nothing is measured yet; let the run finish an iteration")
    measured = [files.read_json(file) for file in found]
    return Run(folder, options.from_json(path), measured)


def arms(runs: Sequence[Run]) -> list[Arm]:
    """Runs grouped by their options, labelled by those that differ between groups."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        plain = asdict(run.config) | {"seed": 0, "iterations": 0, "device": ""}
        groups.setdefault(json.dumps(plain, sort_keys=True), []).append(run)
    first = next(iter(groups.values()))[0].config
    differing: dict[str, None] = {}
    for group in groups.values():
        for name in options.differences(first, group[0].config):
            if name not in ("seed", "iterations", "device"):
                differing[name] = None
    made, used = [], set()
    for number, group in enumerate(groups.values()):
        label = _label(group[0].config, list(differing))
        colour = METHODS.get(group[0].config.select.method, CYCLE[0])
        if colour in used:
            colour = CYCLE[number % len(CYCLE)]
        used.add(colour)
        made.append(Arm(label, colour, group))
    return made


def _label(config: Config, differing: list[str]) -> str:
    if not differing:
        return f"{config.paradigm}, {config.select.method}"
    parts = []
    for name in differing:
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        bare = name in ("paradigm", "select.method")
        parts.append(str(value) if bare else f"{name.split('.')[-1]} {value}")
    return ", ".join(parts)


def page(folders: Sequence[Path]) -> str:
    """The page about those run folders."""
    runs = [read(folder) for folder in folders]
    spaces = [
        s for s in runs[0].measured[0]["spaces"] if all(s in r.measured[0]["spaces"] for r in runs)
    ]
    if not spaces:
        raise ValueError("the runs have no feature space in common that was measured in all")
    compared = arms(runs)
    main = spaces[-1]
    sections = [_curves(compared, space) for space in spaces]
    sections += [_correlation(runs, space) for space in spaces]
    sections += [_samples(arm) for arm in compared]
    sections += [_copies(arm) for arm in compared]
    sections.append(_provenance(compared))
    sections.append(_radius(compared))
    first = runs[0].config
    last = max(run.measured[-1]["iteration"] for run in runs)
    return render(
        "The loop: train, generate, select, train again",
        [
            f"{first.data.source}, {runs[0].measured[0]['training_size']:,} real images at the "
            f"start, {last} iterations, {len(runs)} runs. At each iteration n a new model is "
            "trained on D_n and makes G_n, from which D_n+1 is taken.",
            "Falling entropy from iteration to iteration is the collapse; a falling generalisation "
            "score (the mean distance of generated images to the nearest training image) says that "
            "the model copies. More entropy is not more quality: read it beside precision and the "
            "Frechet distance to the real images, of which lower is better.",
            "The table shows the last iteration that every run has, means over seeds.",
        ],
        _table(compared, main),
        [section for section in sections if section.pictures],
        f"entroselect {version('entroselect')}. Runs: " + ", ".join(str(f) for f in folders) + ".",
    )


def _table(compared: list[Arm], space: str) -> Table:
    rows: dict[str, tuple[str, ...]] = {
        f"entropy of G_n, {space} (nats)": ("generated", "entropy"),
        f"entropy of D_n, {space} (nats)": ("training", "entropy"),
        f"generalisation score, {space}": ("generalization_score",),
        f"Frechet distance, {space}": ("frechet_distance",),
        f"variance of G_n, {space}": ("generated", "variance"),
        "precision": ("precision",),
        "recall": ("recall",),
        "density": ("density",),
        "coverage": ("coverage",),
        "Vendi score": ("vendi_score",),
        "FLD": ("fld",),
        "memorised fraction": ("memorised_fraction",),
    }
    last = min(len(run.measured) for arm in compared for run in arm.runs)
    body = []
    for label, names in rows.items():
        cells = []
        for arm in compared:
            values = np.array([run.series(space, *names)[last - 1] for run in arm.runs])
            cells.append("-" if np.isnan(values).all() else f"{np.nanmean(values):.4g}")
        body.append([label, *cells])
    return Table([f"iteration {last}", *(arm.label for arm in compared)], body)


def _curves(compared: list[Arm], space: str) -> Section:
    panels: list[tuple[str, tuple[str, ...]]] = [
        ("entropy of G_n (nats)", ("generated", "entropy")),
        ("entropy of D_n (nats)", ("training", "entropy")),
        ("generalisation score", ("generalization_score",)),
        ("Frechet distance to real", ("frechet_distance",)),
        ("variance of G_n", ("generated", "variance")),
        ("coverage", ("coverage",)),
    ]
    figure = Figure(figsize=(pictures.WIDTH, 5.2), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        _style(axes)
        for arm in compared:
            length = min(len(run.measured) for run in arm.runs)
            values = np.array([run.series(space, *names)[:length] for run in arm.runs])
            iterations = np.arange(1, length + 1)
            axes.plot(
                iterations, values.mean(axis=0), "o-", color=arm.colour,
                label=pictures.plain(arm.label), markersize=3.5, linewidth=1.7,
            )  # fmt: skip
            if len(values) > 1:
                axes.fill_between(
                    iterations, values.min(axis=0), values.max(axis=0),
                    color=arm.colour, alpha=0.15, linewidth=0,
                )  # fmt: skip
        axes.set_title(title, fontsize=10)
        axes.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False
    )
    several = any(len(arm.runs) > 1 for arm in compared)
    text = f"Measured in the space {space}, by iteration." + (
        " Lines are means over seeds; bands reach from lowest to highest." if several else ""
    )
    return Section(f"Through the iterations ({space})", text, [pictures.data_uri(figure)])


def _correlation(runs: Sequence[Run], space: str) -> Section:
    scores = np.log([v for r in runs for v in r.series(space, "generalization_score")])
    entropy = np.array(
        [v for r in runs for v in r.series(space, "training", "geometric_mean_distance")]
    )
    variance = np.array([v for r in runs for v in r.series(space, "training", "variance")])
    figure = Figure(figsize=(pictures.WIDTH, 3.4), layout="constrained")
    for axes, x, name in zip(
        figure.subplots(1, 2),
        (np.log(entropy), np.log(variance)),
        ("log of the mean spacing of D_n (entropy per dimension)", "log of the variance of D_n"),
        strict=True,
    ):
        _style(axes)
        usable = np.isfinite(x) & np.isfinite(scores)
        axes.scatter(x[usable], scores[usable], s=14, color="#1f6fb2", alpha=0.8)
        r = pearson(x[usable], scores[usable])
        axes.set_title("too few points" if math.isnan(r) else f"Pearson r = {r:.2f}", fontsize=10)
        axes.set_xlabel(name, fontsize=9)
        axes.set_ylabel("log generalisation score", fontsize=9)
    return Section(
        f"What explains generalisation ({space})",
        "One point for every iteration of every run. Entropy is shown as the logarithm of its mean "
        "nearest-neighbour spacing, which compares between training sets of different sizes; at "
        "one size it is the entropy up to scale and shift.",
        [pictures.data_uri(figure)],
    )


def pearson(x: Any, y: Any) -> float:
    """Correlation; NaN when there are fewer than three points or one side does not vary."""
    if len(x) < 3 or np.std(x) == 0 or np.std(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def _samples(arm: Arm) -> Section:
    run = arm.runs[0]
    first = [run.images(1, "training").take(np.arange(SHOWN))]
    first += [run.images(m["iteration"], "generated").take(np.arange(SHOWN)) for m in run.measured]
    return Section(
        f"Samples ({arm.label})",
        "First line: real images. Below: the first images generated at each iteration.",
        [pictures.image_grid(np.concatenate([_shown(images) for images in first]), SHOWN)],
    )


def _copies(arm: Arm) -> Section:
    run = arm.runs[0]
    last = run.measured[-1]["iteration"]
    training, generated = run.images(last, "training"), run.images(last, "generated")
    few = generated.take(np.arange(min(12, len(generated))))
    found = nearest_distances(features.pixels(few), features.pixels(training))
    return Section(
        f"Generated, and the nearest training image ({arm.label})",
        f"Upper line: images generated at iteration {last}. Lower line: the training image nearest "
        "to each in pixels, with the distance. Copies are at 0.",
        [
            pictures.image_pairs(
                _shown(few), _shown(training.take(found.indices[:, 0])), found.distances[:, 0]
            )
        ],
    )


def _provenance(compared: list[Arm]) -> Section:
    figure = Figure(figsize=(pictures.WIDTH, 0.9 + 1.1 * len(compared)), layout="constrained")
    for axes, arm in zip(
        figure.subplots(len(compared), 1, sharex=True, squeeze=False).flat, compared, strict=True
    ):
        _style(axes)
        run = arm.runs[0]
        iterations = [m["iteration"] for m in run.measured]
        left = np.zeros(len(iterations))
        for kind, colour in ORIGIN_COLOURS.items():
            share = np.array([m["origins"][kind] for m in run.measured])
            axes.bar(iterations, share, bottom=left, color=colour, label=kind, width=0.7)
            left += share
        axes.set_title(pictures.plain(arm.label), fontsize=9, loc="left")
        axes.set_ylim(0, 1)
        axes.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return Section(
        "Where the training images come from",
        "Shares of real, fresh and synthetic images in D_n, by iteration.",
        [pictures.data_uri(figure)],
    )


def _radius(compared: list[Arm]) -> Section:
    figure = Figure(figsize=(pictures.WIDTH, 3.4), layout="constrained")
    axes = figure.add_subplot()
    _style(axes)
    for arm in compared:
        run = arm.runs[0]
        if len(run.measured) < 2:
            continue
        last = run.measured[-1]["iteration"]
        made = [run.images(n, "generated") for n in range(1, last)]
        pool = paradigms.pool(
            run.config, run.images(1, "training"), run.images(last - 1, "training"), made, None
        )
        chosen = features.pixels(run.images(last, "training"))
        covered = cover(
            features.pixels(pool), chosen, rising_ranks(1, len(chosen), 40), "euclidean", "auto"
        )
        axes.plot(
            covered.ranks,
            covered.radii,
            color=arm.colour,
            label=pictures.plain(arm.label),
            linewidth=1.8,
        )
    if not axes.lines:
        return Section("Radius", "", [])
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images chosen")
    axes.set_ylabel("radius (pixels)")
    axes.legend(frameon=False)
    return Section(
        "Radius of the last selection",
        "The largest distance, in pixels, of any image in the pool to the nearest one chosen for "
        "the last training set, in the order of choice. Arms have pools of their own.",
        [pictures.data_uri(figure)],
    )


def _shown(images: Images) -> Any:
    shape = images.pixels.shape[1:]
    rows = images.pixels.reshape(len(images), -1)
    draw: Callable[..., Any] = pictures.Images(rows, shape)
    return draw(np.arange(len(images)))


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
