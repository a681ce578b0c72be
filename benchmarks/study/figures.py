"""The figures of docs/reproduction.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.study import reference, resample
from benchmarks.study.checks import KEPT, Found
from benchmarks.study.tables import CURVE, REGIMES, grouped, named
from benchmarks.support.record import Row

matplotlib.use("Agg")
from matplotlib import pyplot

GREY, VIOLET, TEAL, RED, OLIVE, BLUE = (
    "#57606a", "#8250df", "#0a7d8c", "#b3446c", "#7a6a00", "#1f6fb2",
)  # fmt: skip
COLOURS = {
    "none": GREY, "random": "#b58900", "greedy": VIOLET, "threshold": TEAL, "anchored": RED,
    "energy": BLUE, "moments": OLIVE,
}  # fmt: skip
MARKERS = {"none": "o", "random": "o", "greedy": "s", "threshold": "^", "moments": "D"}


def curve(found: dict[str, Found], target: Path) -> None:
    """fd of the last model against entropy of the set it was trained on; `diversity` is a curve."""
    shown = [found[name] for name in REGIMES if name in found and found[name].common("none")[0]]
    figure, axes = _panels(len(shown), 4.2)
    for axis, here in zip(axes, shown, strict=True):
        end, _ = here.common("none")
        line = [_place(here, arm, end) for arm in CURVE]
        line = [place for place in line if place]
        if line:
            axis.plot(*zip(*((x, y) for x, y, _, _ in line), strict=True), color=RED, zorder=1)
        for arm in (*MARKERS, *CURVE):
            place = _place(here, arm, end)
            if place is None:
                continue
            x, y, low, high = place
            colour = RED if arm in CURVE else COLOURS[arm]
            axis.errorbar(x, y, [[y - low], [high - y]], color=colour, alpha=0.5, zorder=1)
            axis.scatter(x, y, color=colour, marker=MARKERS.get(arm, "o"), s=28, zorder=2)
            _label(axis, arm, x, y, colour)
        axis.set(xlabel="entropy of the chosen set (nats)", title=f"{here.setting}, model {end}")
        axis.margins(x=0.15)
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("fd of the model trained on it")
    figure.suptitle(
        "In an encoder that nothing was selected in; mean and range over seeds; "
        "red: anchored, by its diversity",
        fontsize=10,
    )
    save(figure, target)


def _place(here: Found, arm: str, end: int) -> tuple[float, float, float, float] | None:
    """Mean entropy of the chosen set, mean fd, and the least and the largest fd."""
    last, seeds = here.common(arm, "none")
    if last != end:
        return None
    x = here.at(arm, "entropy_training", end, "judge", seeds)
    y = here.at(arm, "fd", end, "judge", seeds)
    return float(np.mean(x)), float(np.mean(y)), min(y), max(y)


def courses(found: dict[str, Found], target: Path) -> None:
    """fd, entropy and precision by iteration, a column per regime."""
    shown = [found[name] for name in REGIMES if name in found and found[name].common("none")[0]]
    measures = (("fd", "fd, encoder"), ("entropy", "entropy of G, encoder"), ("gs", "GS, pixels"))
    shape = {"figsize": (3.6 * len(shown), 8), "squeeze": False, "layout": "constrained"}
    figure, axes = pyplot.subplots(len(measures), len(shown), **shape)
    for line, (measure, label) in zip(axes, measures, strict=True):
        line[0].set_ylabel(label)
        space = "pixels" if measure == "gs" else "judge"
        for axis, here in zip(line, shown, strict=True):
            for arm, colour in COLOURS.items():
                end, seeds = here.common(arm)
                steps = range(1, end + 1)
                if not seeds:
                    continue
                values = np.array([here.at(arm, measure, n, space, seeds) for n in steps])
                band = {"color": colour, "alpha": 0.15, "linewidth": 0}
                axis.fill_between(steps, values.min(1), values.max(1), **band)
                axis.plot(steps, values.mean(1), "o-", markersize=3, color=colour, label=named(arm))
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(visible=True, alpha=0.3)
    for axis, here in zip(axes[0], shown, strict=True):
        axis.set_title(here.setting, fontsize=10)
    shown = {}  # an arm need not be in every column
    for axis in axes[0]:
        for line, name in zip(*axis.get_legend_handles_labels(), strict=True):
            shown.setdefault(name, line)
    figure.legend(
        list(shown.values()), list(shown), loc="outside lower center", ncols=4, fontsize=9
    )
    save(figure, target)


def resampled(rows: Sequence[Row], target: Path) -> None:
    """fd at the last iteration against h, over that without a selection."""
    last = [row for row in rows if row["iteration"] == str(resample.ITERATIONS)]
    last = [row for row in last if row["move"] == "noise"]
    sets = grouped(last, "data", "space")
    figure, axes = _panels(len(sets), 3.6)
    for axis, ((data, space), some) in zip(axes, sets.items(), strict=True):
        none = {(r["h"], r["seed"]): float(r["fd"]) for r in some if r["method"] == "none"}
        for (method,), found in grouped(some, "method").items():
            shares: dict[float, list[float]] = {}
            for row in found:
                share = float(row["fd"]) / none[row["h"], row["seed"]]
                shares.setdefault(float(row["h"]), []).append(share)
            h = sorted(shares)
            means = [np.mean(shares[x]) for x in h]
            axis.plot(h, means, "o-", markersize=3, color=COLOURS[method], label=named(method))
        title = f"{data}, {space.replace('judge', 'encoder')}"
        axis.set(xlabel="h: noise of a copy / nearest distance", title=title)
    axes[0].set_ylabel("fd at iteration 8 / without a selection")
    axes[0].legend(fontsize=7)
    save(figure, target)


def references(rows: Sequence[Row], target: Path) -> None:
    """fd against the number of real images matched: chosen sets, and the next model."""
    figure, axes = _panels(2, 4.2)
    stages = (("chosen", "the chosen set"), ("next", "the next model"))
    for axis, (stage, title) in zip(axes, stages, strict=True):
        here = [row for row in rows if (row["stage"], row["space"]) == (stage, "judge")]
        for method, colour in (("energy", BLUE), ("anchored", RED)):
            sizes = [*reference.REFERENCES, ""]
            ways = [f"{method}, {size} real" if size else method for size in sizes]
            values = [[float(row["fd"]) for row in here if row["way"] == way] for way in ways]
            full = max((int(row["n"]) for row in rows if row["stage"] == "chosen"), default=0)
            x = [int(size) if size else full for size in sizes]
            axis.plot(x, [np.mean(v) for v in values], "o-", color=colour, label=named(method))
        for way in ("random", "greedy"):
            level = np.mean([float(row["fd"]) for row in here if row["way"] == way])
            axis.axhline(level, color=COLOURS[way], linestyle="--", label=way)
        axis.set(xscale="log", xlabel="real images in the reference", title=f"fd of {title}")
        axis.set_xticks(x, list(map(str, x)), fontsize=8)
        axis.minorticks_off()
    axes[0].legend(fontsize=8)
    save(figure, target)


def cifar(rows: Sequence[Row], target: Path) -> None:
    """fd against entropy in the judging space; and what was taken. A line per selecting space."""
    figure, axes = pyplot.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for line, ((space, judge), some) in zip(
        axes, grouped(rows, "space", "judge").items(), strict=True
    ):
        curve = []
        for (method,), found in grouped(some, "method").items():
            x, y = (np.mean([float(r[m] or "nan") for r in found]) for m in ("entropy", "fd"))
            ours = method == "energy" or method.startswith("anchored")
            curve += [(x, y)] if ours else []
            colour = RED if ours else COLOURS[method]
            line[0].scatter(x, y, color=colour)
            _label(line[0], method, x, y, colour)
        line[0].plot(*zip(*curve, strict=True), color=RED, zorder=0)
        line[0].margins(0.15)
        line[0].grid(visible=True, alpha=0.3)
        place = f"selected in {space}, judged in {judge}"
        line[0].set(xlabel="entropy (nats)", ylabel="fd", title=place)
        _taken(line[1], some, f"selected in {space}")
    save(figure, target)


def _label(axis: Any, arm: str, x: float, y: float, colour: str) -> None:
    """The name of an arm beside its point; of an anchored one its diversity."""
    text = named(arm).removeprefix("anchored (").removesuffix(")")
    near = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 7.5}
    axis.annotate(text, (x, y), color=colour, **near)


def _taken(axis: Any, rows: Sequence[Row], title: str) -> None:
    """Bars of what each method took."""
    methods = grouped(rows, "method")
    left = np.zeros(len(methods))
    for kind, colour in (("clean", TEAL), ("copies", OLIVE), ("corrupted", RED)):
        share = [np.mean([float(row[kind]) for row in found]) for found in methods.values()]
        names = [named(method) for (method,) in methods]
        axis.barh(names, share, left=left, color=colour, label=kind)
        left += share
    axis.invert_yaxis()
    axis.set(title=title, xlabel="share of the images taken")
    axis.legend(fontsize=7, loc="lower left")


def kept(found: dict[str, Found], target: Path) -> None:
    """fd after one greedy selection against the kept share."""
    shown = [here for here in found.values() if here.common("keep 0.2")[0]]
    figure, axes = _panels(len(shown), 3.6)
    for axis, here in zip(axes, shown, strict=True):
        arms = sorted((arm for arm in KEPT if here.common(arm)[0]), key=KEPT.__getitem__)
        _, seeds = here.common(*arms)
        values = np.array([here.at(arm, "fd", 2, "judge", seeds) for arm in arms])
        shares = [KEPT[arm] for arm in arms]
        axis.plot(shares, values, color=VIOLET, alpha=0.3)
        axis.plot(shares, values.mean(1), "o-", color=VIOLET)
        axis.set(xlabel="kept share of what was made", ylabel="fd, model 2", title=here.setting)
    save(figure, target)


def _panels(count: int, height: float) -> tuple[Any, Any]:
    shape = {"figsize": (4.2 * count, height), "squeeze": False, "layout": "constrained"}
    figure, axes = pyplot.subplots(1, max(1, count), **shape)
    for axis in axes[0]:
        axis.grid(visible=True, alpha=0.3)
    return figure, axes[0]


def save(figure: Any, target: Path) -> None:
    """Atomic, and without the version of matplotlib in the file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    temporary.replace(target)
    pyplot.close(figure)
