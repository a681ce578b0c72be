"""Runs compared on one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entroselect import nearest_distances
from entroselect.io.errors import printable
from entroselect.loop import features, paradigms
from entroselect.loop.compared import (
    MEASURES,
    Arm,
    Run,
    arms,
    findings,
    last_iteration,
    read,
)
from entroselect.loop.data import Images
from entroselect.report import figures
from entroselect.report.page import Section, Table, render
from entroselect.report.spread import cover, rising_ranks

ORIGIN_COLOURS = {"real": "#1f6fb2", "fresh": "#4c9a62", "synthetic": "#c9ced6"}
SHOWN = 15  # images in a line
FEWEST = 10  # points of which a correlation is worth printing


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
    pictured = [arm for arm in compared if arm.runs[0].images(1, "training").are_images]
    sections += [_samples(arm) for arm in pictured]
    sections += [_copies(arm) for arm in pictured]
    sections.append(_provenance(compared))
    sections.append(_radius(compared))
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
            f"The table shows the last iteration that every run has, means over seeds, in the "
            f"space {main}. All distances are Euclidean ones between features of that space.",
        ],
        _table(compared, main),
        [section for section in sections if section.pictures],
        f"entroselect {version('entroselect')}. Runs: " + ", ".join(map(printable, folders)) + ".",
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
        _style(axes)
        for arm in compared:
            length = min(len(run.measured) for run in arm.runs)
            values = np.array([run.series(space, *MEASURES[title])[:length] for run in arm.runs])
            iterations = np.arange(1, length + 1)
            axes.plot(
                iterations, values.mean(axis=0), "o-", color=arm.colour,
                label=figures.plain(arm.label), markersize=3.5, linewidth=1.7,
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
    text = f"Measured in the space {space}, by iteration; distances are Euclidean." + (
        " Lines are means over seeds; bands reach from lowest to highest." if several else ""
    )
    return Section(f"Through the iterations ({space})", text, [figures.data_uri(figure)])


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
        _style(axes)
        usable = np.isfinite(x) & np.isfinite(scores)
        axes.scatter(x[usable], scores[usable], s=14, color="#1f6fb2", alpha=0.8)
        axes.set_title(correlation(x[usable], scores[usable]), fontsize=10)
        axes.set_xlabel(name, fontsize=9)
        axes.set_ylabel("log generalisation score", fontsize=9)
    return Section(
        f"What explains generalisation ({space})",
        f"One point for every iteration of every run, and r where there are {FEWEST} or more. "
        "Points of one run follow from each other: a high r is weaker evidence than it looks. "
        "Entropy is shown as the logarithm of the geometric mean distance: at one size of the "
        "training set the entropy up to scale and shift. Between sizes neither compares.",
        [figures.data_uri(figure)],
    )


def correlation(x: Any, y: Any) -> str:
    """Pearson's r in words; none of a handful of points, nor where one side does not vary."""
    if len(x) < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return f"too few points for a correlation ({len(x)})"
    return f"Pearson r = {np.corrcoef(x, y)[0, 1]:.2f} ({len(x)} points)"


def _logs(values: Sequence[float]) -> Any:
    with np.errstate(divide="ignore"):  # minus infinity where all images are copies: left out
        return np.log(values)


def _samples(arm: Arm) -> Section:
    run = arm.runs[0]
    lines = [run.images(m["iteration"], "generated") for m in run.measured]
    real = run.images(1, "training")
    columns = min(SHOWN, len(real), *map(len, lines))
    lines = [real.take(spread_out(real, columns)), *(x.take(np.arange(columns)) for x in lines)]
    return Section(
        f"Samples ({arm.label})",
        "First line: real images, taken evenly from all classes. Below: the first images generated "
        "at each iteration.",
        [figures.image_grid(np.concatenate([_shown(images) for images in lines]), columns)],
    )


def spread_out(images: Images, count: int) -> Any:
    """`count` rows, evenly spaced, class after class: files are often sorted."""
    order = np.arange(len(images))
    if images.labels is not None:
        order = np.argsort(images.labels, kind="stable")
    return order[np.arange(count) * len(images) // count]


def _copies(arm: Arm) -> Section:
    run = arm.runs[0]
    last = run.measured[-1]["iteration"]
    training, generated = run.images(last, "training"), run.images(last, "generated")
    few = generated.take(np.arange(min(12, len(generated))))
    found = nearest_distances(features.pixels(few), features.pixels(training))
    return Section(
        f"Generated, and the nearest training image ({arm.label})",
        f"Upper line: images generated at iteration {last}. Lower line: the training image nearest "
        "to each in pixels, with the Euclidean distance. Copies are at 0.",
        [
            figures.image_pairs(
                _shown(few), _shown(training.take(found.indices[:, 0])), found.distances[:, 0]
            )
        ],
    )


def _provenance(compared: list[Arm]) -> Section:
    figure = Figure(figsize=(figures.WIDTH, 0.9 + 1.1 * len(compared)), layout="constrained")
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
        axes.set_title(figures.plain(arm.label), fontsize=9, loc="left")
        axes.set_ylim(0, 1)
        axes.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return Section(
        "Where the training images come from",
        "Shares of real, fresh and synthetic images in D_n, by iteration.",
        [figures.data_uri(figure)],
    )


def _radius(compared: list[Arm]) -> Section:
    figure = Figure(figsize=(figures.WIDTH, 3.4), layout="constrained")
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
            label=figures.plain(arm.label),
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
        "The largest Euclidean distance, in pixels, of any image in the pool to the nearest one "
        "chosen for the last training set, in the order of choice. Arms have pools of their own.",
        [figures.data_uri(figure)],
    )


def _shown(images: Images) -> Any:
    shape = images.pixels.shape[1:]
    rows = images.pixels.reshape(len(images), -1)
    draw: Callable[..., Any] = figures.Images(rows, shape)
    return draw(np.arange(len(images)))


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
