"""Runs compared on one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from entroselect import nearest_distances
from entroselect.io.errors import printable
from entroselect.loop import features, paradigms, plots
from entroselect.loop.compared import Arm, arms, findings, last_iteration
from entroselect.loop.data import Images
from entroselect.loop.plots import Plot
from entroselect.loop.runs import MEASURES, Run, Runs, read
from entroselect.report import figures
from entroselect.report.page import Section, Table, render
from entroselect.report.spread import cover, rising_ranks

SHOWN = 15  # images in a line


def page(folders: Sequence[Path]) -> str:
    """The page about those run folders; ValueError as `runs.read`, or without a common space."""
    runs = read(folders)
    spaces = common_spaces(runs)
    compared = arms(runs)
    pictured = [arm for arm in compared if arm.runs[0].images(1, "training").are_images]
    main = spaces[0]
    sections = [
        _diagnoses(compared),
        *(_curves(compared, space) for space in spaces),
        _section(plots.tradeoff(compared, main)),
        _section(plots.real_share(compared)),
        _section(plots.projection(compared)),
        *(_correlation(runs, space) for space in spaces),
        _samples(pictured) if pictured else None,
        _copies(pictured) if pictured else None,
        _radius(compared),
    ]
    first = runs[0].config
    last = max(run.measured[-1]["iteration"] for run in runs)
    return render(
        "The loop: train, generate, select, train again",
        [
            f"{printable(first.data.source)}, {runs[0].measured[0]['training_size']:,} real images "
            f"at the start, {last} iterations, {len(runs)} runs. At each iteration n a new model "
            "is trained on D_n and makes G_n, from which D_n+1 is taken.",
            "Falling entropy from iteration to iteration is the collapse; a falling generalisation "
            "score (the mean distance of generated images to the nearest training image) says that "
            "the model copies. More entropy is not more quality: read it beside precision and the "
            "Frechet distance to the real images, of which lower is better.",
            *findings(compared, main),
            *_same_space(compared, main),
            f"The table shows the last iteration that every run has, means over seeds, in the "
            f"space {main}. All distances are Euclidean ones between features of that space.",
        ],
        _table(compared, main),
        [section for section in sections if section],
        f"entroselect {version('entroselect')}. Runs: " + ", ".join(map(printable, folders)) + ".",
    )


def common_spaces(runs: Runs) -> list[str]:
    """Spaces that were measured in every run; first the one in which the first run is judged.

    Raises:
        ValueError: there are none.
    """
    shared = [space for space in runs[0].spaces if all(space in run.spaces for run in runs)]
    if not shared:
        raise ValueError("the runs have no feature space in common that was measured in all")
    judge = runs[0].judge if runs[0].judge in shared else shared[-1]
    return [judge, *(space for space in shared if space != judge)]


def _same_space(compared: Sequence[Arm], space: str) -> list[str]:
    """A warning where a selection is judged in the space that it looked at."""
    blind = ("none", "random")
    chosen = [arm.runs[0].config.select for arm in compared]
    if not any(s.space == space and s.method not in blind for s in chosen):
        return []
    return [
        f"Warning: images were selected by their distances in the space {space}, and this page "
        "judges them in the same space. A selection can look better there than it is; set "
        "measure.judge to a space that differs from select.space."
    ]


def _section(plot: Plot | None) -> Section | None:
    if plot is None:
        return None
    return Section(plot.heading, plot.text, [figures.data_uri(plot.figure)])


def _diagnoses(compared: Sequence[Arm]) -> Section | None:
    """What each first model lacks; arms of a seed share their first model, and so the text."""
    told: dict[str, list[str]] = {}
    for arm in compared:
        for run in arm.runs:
            if run.diagnosis:
                told.setdefault(run.diagnosis, []).append(f"{arm.label}, seed {run.config.seed}")
    if not told:
        return None
    return Section(
        "What the first models lack",
        "Diagnosis of the images of the first iteration, before anything was selected.",
        notes=[f"{'; '.join(whose)}\n{text}" for text, whose in told.items()],
    )


def _table(compared: list[Arm], space: str) -> Table:
    last = last_iteration(compared)
    body = []
    for measure in MEASURES:
        values = [arm.mean(space, measure, last) for arm in compared]
        body.append([measure, *("-" if math.isnan(v) else f"{v:.4g}" for v in values)])
    return Table([f"{space}, iteration {last}", *(arm.label for arm in compared)], body)


PANELS = (
    "entropy of G_n (nats)",
    "entropy of D_n (nats)",
    "generalisation score",
    "Frechet distance to real",
    "variance of G_n",
    "coverage",
)


def _curves(compared: list[Arm], space: str) -> Section:
    figure = Figure(figsize=(figures.WIDTH, 5.2), layout="constrained")
    for axes, title in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        figures.style(axes).set_title(title, fontsize=10)
        for arm in compared:
            plots.course(axes, arm, arm.courses(space, title))
    plots.legend(figure, compared)
    return Section(
        f"Through the iterations ({space})",
        f"Measured in the space {space}, by iteration; distances are Euclidean."
        + plots.bands(compared),
        [figures.data_uri(figure)],
    )


def _correlation(runs: Sequence[Run], space: str) -> Section:
    scores = _logs([v for r in runs for v in r.series(space, "generalization_score")])
    entropy = _logs(
        [v for r in runs for v in r.series(space, "training", "geometric_mean_distance")]
    )
    variance = _logs([v for r in runs for v in r.series(space, "training", "variance")])
    figure = Figure(figsize=(figures.WIDTH, 3.4), layout="constrained")
    for axes, x, name in zip(
        figure.subplots(1, 2),
        (entropy, variance),
        ("log of the geometric mean distance of D_n", "log of the variance of D_n"),
        strict=True,
    ):
        usable = np.isfinite(x) & np.isfinite(scores)
        figures.style(axes).scatter(x[usable], scores[usable], s=14, color="#1f6fb2", alpha=0.8)
        axes.set_title(plots.correlation(x, scores), fontsize=10)
        axes.set_xlabel(name, fontsize=9)
        axes.set_ylabel("log generalisation score", fontsize=9)
    return Section(
        f"What explains generalisation ({space})",
        "One point for every iteration of every run, and r where there are "
        f"{plots.FEWEST} or more. Points of one run follow from each other: a high r is weaker "
        "evidence than it looks. Entropy is shown as the logarithm of the geometric mean "
        "distance: at one size of the training set the entropy up to scale and shift. Between "
        "sizes neither compares.",
        [figures.data_uri(figure)],
    )


def _logs(values: Sequence[float]) -> Any:
    with np.errstate(divide="ignore"):  # minus infinity where all images are copies: left out
        return np.log(values)


def _samples(compared: Sequence[Arm]) -> Section:
    return Section(
        "Samples",
        "First line of each picture: real images, taken evenly from all classes. Below: the first "
        "images generated at each iteration, by the first run of the arm.",
        [samples(arm.runs[0]) for arm in compared],
        [arm.label for arm in compared],
    )


def samples(run: Run) -> str:
    """Real images in a line, and below them the first ones of every iteration, as a data URI."""
    lines = [run.images(m["iteration"], "generated") for m in run.measured]
    real = run.images(1, "training")
    columns = min(SHOWN, len(real), *map(len, lines))
    lines = [real.take(spread_out(real, columns)), *(x.take(np.arange(columns)) for x in lines)]
    return figures.image_grid(np.concatenate([shown(images) for images in lines]), columns)


def spread_out(images: Images, count: int) -> Any:
    """`count` rows, evenly spaced, class after class: files are often sorted."""
    order = np.arange(len(images))
    if images.labels is not None:
        order = np.argsort(images.labels, kind="stable")
    return order[np.arange(count) * len(images) // count]


def _copies(compared: Sequence[Arm]) -> Section:
    return Section(
        "Generated, and the nearest training image",
        "Upper lines: images of the last iteration. Lower lines: the training image nearest to "
        "each in pixels, with the Euclidean distance. Copies are at 0.",
        [_pairs(arm.runs[0]) for arm in compared],
        [arm.label for arm in compared],
    )


def _pairs(run: Run) -> str:
    last = run.measured[-1]["iteration"]
    training, generated = run.images(last, "training"), run.images(last, "generated")
    few = generated.take(np.arange(min(12, len(generated))))
    found = nearest_distances(features.pixels(few), features.pixels(training))
    nearest = training.take(found.indices[:, 0])
    return figures.image_pairs(shown(few), shown(nearest), found.distances[:, 0])


def _radius(compared: list[Arm]) -> Section | None:
    figure = Figure(figsize=(figures.WIDTH, 3.4), layout="constrained")
    axes = figures.style(figure.add_subplot())
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
            label=figures.plain(arm.label),
            linewidth=1.8,
        )
    if not axes.lines:
        return None
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images chosen")
    axes.set_ylabel("radius (pixels)")
    axes.legend(frameon=False)
    return Section(
        "Radius of the last selection",
        "The largest Euclidean distance, in pixels, of any image in the pool to the nearest one "
        "chosen for the last training set, in the order of choice. Arms have pools of their own.",
        [figures.data_uri(figure)],
    )


def shown(images: Images) -> Any:
    """The images as figures draw them, on 0 to 1."""
    shape = images.pixels.shape[1:]
    rows = images.pixels.reshape(len(images), -1)
    draw: Callable[..., Any] = figures.Images(rows, shape)
    return draw(np.arange(len(images)))
