"""The paper's figures of runs: each a picture, and the numbers that are drawn in it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from entroselect.loop import paradigms
from entroselect.loop.compared import Arm, last_iteration
from entroselect.loop.runs import Run
from entroselect.report import figures
from entroselect.report.figures import WIDTH, plain, style
from entroselect.results import Float64

GREY = "#9aa3ad"
PALE = "#ccd2d9"  # real images, behind those of an arm without a selection, which are grey
POINTS = 300  # of a set in a projection
FITTED = 1000  # real rows that its directions are taken from
SHOWN = 4  # iterations in a projection
FEWEST = 10  # points of which a correlation is worth printing

FRECHET = "Frechet distance to real"
CHOSEN = "entropy of D_n (nats)"


@dataclass(frozen=True)
class Plot:
    """A picture with what it shows.

    Attributes:
        name: stem of its files.
        heading, text: what it shows, for a page.
        figure: matplotlib's.
        rows: every point that is drawn, one dictionary each, all with the same keys.
    """

    name: str
    heading: str
    text: str
    figure: Figure
    rows: list[dict[str, Any]]


def plots(compared: Sequence[Arm], space: str) -> list[Plot]:
    """Those that the runs have something for; distances and entropies are of that space."""
    found = [
        projection(compared),
        scores(compared, space),
        nearest_and_variance(compared, space),
        real_share(compared),
        kept(compared, space),
        tradeoff(compared, space),
    ]
    return [plot for plot in found if plot is not None]


def projection(compared: Sequence[Arm]) -> Plot:
    """D_1 and G_n on two axes, for the first run of every arm."""
    shortest = last_iteration(compared)
    shown = [int(n) for n in np.unique(np.linspace(1, shortest, SHOWN).round())]
    figure = Figure(figsize=(WIDTH, 0.6 + 2.1 * len(compared)), layout="constrained")
    grid = figure.subplots(len(compared), len(shown), squeeze=False, sharex="row", sharey="row")
    rows: list[dict[str, Any]] = []
    for arm, line in zip(compared, grid, strict=True):
        run = arm.runs[0]
        real = _values(run, 1, "training")
        mean, directions = figures.principal(figures.sample(real, FITTED))
        for axes, iteration in zip(line, shown, strict=True):
            made = _values(run, iteration, "generated")
            for values, colour, name in ((real, PALE, "real"), (made, arm.colour, "generated")):
                x, y = directions @ (figures.sample(values, POINTS) - mean).T
                axes.scatter(x, y, s=5, color=colour, alpha=0.6, linewidths=0)
                where = {"arm": arm.label, "seed": run.config.seed, "iteration": iteration}
                rows += [where | {"set": name, "x": a, "y": b} for a, b in zip(x, y, strict=True)]
            style(axes).tick_params(labelbottom=False, labelleft=False, length=0)
            if line is grid[0]:
                axes.set_title(f"iteration {iteration}", fontsize=10)
        line[0].set_ylabel(plain(arm.label), fontsize=9)
    return Plot(
        "projection",
        "Where generated images lie among the real ones",
        f"Real images (grey) and generated ones (in colour), at most {POINTS} of each, on the "
        "first two singular directions of the real images' values, centred. Rows are arms, by the "
        "first seed of each; columns are iterations.",
        figure,
        rows,
    )


def _values(run: Run, iteration: int, name: str) -> Any:
    pixels = run.images(iteration, name).pixels
    return pixels.reshape(len(pixels), -1)


def scores(compared: Sequence[Arm], space: str) -> Plot:
    """The generalisation score by iteration, a panel for every paradigm."""
    kinds = list(dict.fromkeys(arm.runs[0].config.paradigm for arm in compared))
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    rows: list[dict[str, Any]] = []
    panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        style(axes).set_title(kind, fontsize=10)
        for arm in compared:
            if arm.runs[0].config.paradigm == kind:
                values = arm.courses(space, "generalisation score")
                course(axes, arm, values)
                rows += [
                    {**where, "paradigm": kind, "space": space, "generalization_score": value}
                    for where, value in points(arm, values)
                ]
        axes.set_ylim(bottom=0)
        axes.set_xlabel("iteration", fontsize=9)
    panels[0].set_ylabel("generalisation score", fontsize=9)
    legend(figure, compared)
    return Plot(
        "generalisation",
        f"Generalisation score ({space})",
        "The mean distance of generated images to the nearest one of their own training set, by "
        f"iteration, in the space {space}. 0 is a model that only copies." + bands(compared),
        figure,
        rows,
    )


def nearest_and_variance(compared: Sequence[Arm], space: str) -> Plot:
    """The mean nearest distance of the training sets against their variance."""
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    axes = style(figure.add_subplot())
    rows = []
    for arm in compared:
        near = arm.courses(space, "mean nearest distance of D_n")
        spread = arm.courses(space, "variance of D_n")
        axes.plot(spread.T, near.T, "o-", color=arm.colour, markersize=4, linewidth=0.6, alpha=0.8)
        rows += [
            {**where, "space": space, "variance": x, "mean_nearest_distance": y}
            for (where, y), x in zip(points(arm, near), spread.ravel(), strict=True)
        ]
    axes.set_xlabel("variance of D_n (trace of the covariance)", fontsize=9)
    axes.set_ylabel("mean nearest distance of D_n", fontsize=9)
    x, y = ([row[name] for row in rows] for name in ("variance", "mean_nearest_distance"))
    axes.set_title(correlation(np.array(x), np.array(y)), fontsize=10)
    legend(figure, compared)
    return Plot(
        "mnnd_variance",
        f"Mean nearest distance and variance ({space})",
        "One point per training set, lines from iteration to iteration. Variance says how wide a "
        "set is, the mean nearest distance how far apart its images are; a set can lose the second "
        "and keep the first.",
        figure,
        rows,
    )


def correlation(x: Float64, y: Float64) -> str:
    """Pearson's r in words; none of a handful of points, nor where one side does not vary."""
    usable = np.isfinite(x) & np.isfinite(y)
    x, y = x[usable], y[usable]
    if len(x) < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return f"too few points for a correlation ({len(x)})"
    return f"Pearson r = {np.corrcoef(x, y)[0, 1]:.2f} ({len(x)} points)"


def real_share(compared: Sequence[Arm]) -> Plot | None:
    """The share of real images in the training sets, where later ones have any."""
    rows: list[dict[str, Any]] = []
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = style(figure.add_subplot())
    drawn, offered = [], dict[tuple[float, ...], None]()
    for arm in compared:
        length = min(len(run.measured) for run in arm.runs)
        kinds = [[m["origins"] for m in run.measured[:length]] for run in arm.runs]
        shares = np.array([[kind["real"] + kind["fresh"] for kind in part] for part in kinds])
        if not shares[:, 1:].any():
            continue
        drawn.append(arm)
        pool = _pool_share(arm.runs[0])[:length]
        course(axes, arm, shares)
        offered[tuple(pool)] = None
        rows += [
            {**where, "real_share": value, "pool_share": pool[where["iteration"] - 1]}
            for where, value in points(arm, shares)
        ]
    for line in offered:
        axes.plot(range(1, len(line) + 1), line, "--", color=GREY, linewidth=1.2)
    if not drawn:
        return None
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("iteration", fontsize=9)
    axes.set_ylabel("share of real images in D_n", fontsize=9)
    legend(figure, drawn)
    return Plot(
        "real_share",
        "Share of real images in the training sets",
        "By iteration, fresh real images included. Dashed: their share in the pool, which is what "
        "a selection at random takes. Arms that replace all images are left out: they have none."
        + bands(drawn),
        figure,
        rows,
    )


def _pool_share(run: Run) -> list[float]:
    """Of real images in the pools of a run that accumulates, by iteration; NaN for others."""
    size = run.measured[0]["training_size"]
    if not run.config.paradigm.startswith("accumulate"):
        return [1.0] + [math.nan] * (len(run.measured) - 1)
    return [1.0, *(size / held for held, _ in paradigms.sizes(run.config, size))]


def kept(compared: Sequence[Arm], space: str) -> Plot | None:
    """The Frechet distance against `keep`, for arms that differ in it alone."""
    last = last_iteration(compared)
    groups = [group for group in _alike(compared, "keep") if len(group) > 1]
    if not groups or last < 2:
        return None
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = style(figure.add_subplot())
    rows = []
    for group in groups:
        shares = [arm.runs[0].config.keep for arm in group]
        found = [arm.courses(space, FRECHET)[:, last - 1] for arm in group]
        method = group[0].runs[0].config.select.method
        _errors(axes, shares, found, "o-", group[0].colour, method)
        rows += [
            {"arm": arm.label, "seed": run.config.seed, "iteration": last, "space": space,
             "method": method, "keep": share, "frechet_distance": value}
            for arm, share, values in zip(group, shares, found, strict=True)
            for run, value in zip(arm.runs, values, strict=True)
        ]  # fmt: skip
    axes.set_xlabel("keep: share of the pool that is selected", fontsize=9)
    axes.set_ylabel(f"Frechet distance of G_{last}", fontsize=9)
    axes.legend(frameon=False, fontsize=9)
    return Plot(
        "kept_share",
        f"How much of the pool to keep ({space})",
        f"Frechet distance of the images of iteration {last} to the real ones in the space "
        f"{space}, by the share of the pool that was selected; lower is better."
        + bands(compared, "bars"),
        figure,
        rows,
    )


def tradeoff(compared: Sequence[Arm], space: str) -> Plot | None:
    """The Frechet distance of the second model against the entropy of what it was trained on."""
    arms = [arm for arm in compared if min(len(run.measured) for run in arm.runs) > 1]
    if len(arms) < 2:
        return None
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = style(figure.add_subplot())
    rows = []
    for arm in arms:
        x, y = (arm.courses(space, name)[:, 1] for name in (CHOSEN, FRECHET))
        diversity = getattr(arm.runs[0].config.select, "diversity", math.nan)
        _errors(axes, [float(np.mean(x))], [y], "o", arm.colour, arm.label, [x])
        rows += [
            {"arm": arm.label, "seed": run.config.seed, "space": space, "diversity": diversity,
             "training_size": run.measured[1]["training_size"], "entropy_of_chosen": a,
             "frechet_distance": b}
            for run, a, b in zip(arm.runs, x, y, strict=True)
        ]  # fmt: skip
    for group in _alike(arms, "diversity"):
        if len(group) > 1:
            line = [[a.mean(space, name, 2) for a in group] for name in (CHOSEN, FRECHET)]
            axes.plot(*line, "-", color=GREY, linewidth=1.2, zorder=1)
    axes.set_xlabel("entropy of the chosen set D_2 (nats)", fontsize=9)
    axes.set_ylabel("Frechet distance of the next model's images G_2", fontsize=9)
    legend(figure, arms)
    return Plot(
        "entropy_distance",
        f"What a selection buys ({space})",
        "Each arm by the entropy of the first set that it chose and by the Frechet distance to the "
        f"real images of what the model trained on that set makes, both in the space {space}: "
        "right is more varied, down is nearer to the real ones. A line joins arms that differ in "
        "their diversity alone. Entropies compare only between sets of one size."
        + bands(arms, "bars"),
        figure,
        rows,
    )


def _alike(compared: Sequence[Arm], name: str) -> list[list[Arm]]:
    """Arms that select and are alike but for one option, in the order of that option."""
    groups: dict[str, list[Arm]] = {}
    for arm in compared:
        config = arm.runs[0].config
        if config.select.method == "none" or (name == "diversity" and not _weighs(config)):
            continue
        options = asdict(config) | {"seed": 0, "iterations": 0, "device": ""}
        (options if name in options else options["select"])[name] = 0
        groups.setdefault(json.dumps(options, sort_keys=True), []).append(arm)

    def order(arm: Arm) -> float:
        config = arm.runs[0].config
        return float(getattr(config if name == "keep" else config.select, name))

    return [sorted(group, key=order) for group in groups.values()]


def _weighs(config: Any) -> bool:
    return bool(config.select.method == "anchored")


def _errors(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[Float64],
    marker: str,
    colour: str,
    label: str,
    across: Sequence[Float64] | None = None,
) -> None:
    """Means over seeds, with bars from lowest to highest."""
    middle = [float(np.mean(values)) for values in y]

    def reach(groups: Sequence[Float64], centres: Sequence[float]) -> Any:
        return [
            [c - g.min() for g, c in zip(groups, centres, strict=True)],
            [g.max() - c for g, c in zip(groups, centres, strict=True)],
        ]

    axes.errorbar(
        x, middle, reach(y, middle), None if across is None else reach(across, x),
        fmt=marker, color=colour, label=plain(label), capsize=2, elinewidth=1, markersize=5,
    )  # fmt: skip


def course(axes: Axes, arm: Arm, values: Float64) -> None:
    """A line through the iterations: the mean over seeds, in a band from lowest to highest."""
    iterations = np.arange(1, values.shape[1] + 1)
    axes.plot(
        iterations, values.mean(axis=0), "o-", color=arm.colour, label=plain(arm.label),
        markersize=3.5, linewidth=1.7,
    )  # fmt: skip
    if len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(iterations, low, high, color=arm.colour, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def legend(figure: Figure, compared: Sequence[Arm]) -> None:
    """Names and colours of the arms, below the figure."""
    marks = [
        figure.axes[0].plot([], [], "o-", color=arm.colour, markersize=4)[0] for arm in compared
    ]
    most = max(1, min(4, 110 // (6 + max(len(arm.label) for arm in compared))))  # side by side
    lines = math.ceil(len(marks) / most)
    figure.legend(
        marks, [plain(arm.label) for arm in compared], loc="outside lower center", frameon=False,
        ncols=math.ceil(len(marks) / lines), fontsize=9,
    )  # fmt: skip


def bands(compared: Sequence[Arm], what: str = "bands") -> str:
    """What lines and bands are, where there are several seeds."""
    if all(len(arm.runs) == 1 for arm in compared):
        return ""
    drawn = "Lines" if what == "bands" else "Points"
    return f" {drawn} are means over seeds; {what} reach from lowest to highest."


def points(arm: Arm, values: Float64) -> list[tuple[dict[str, Any], float]]:
    """Each value with its arm, seed and iteration."""
    return [
        ({"arm": arm.label, "seed": run.config.seed, "iteration": n}, float(value))
        for run, line in zip(arm.runs, values, strict=True)
        for n, value in enumerate(line, 1)
    ]
