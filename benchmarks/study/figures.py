"""The figures of docs/reproduction.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.study.claims import KEPT, REPLACE, SIZES, Found, pearson, points

matplotlib.use("Agg")
from matplotlib import pyplot

GREY, VIOLET, TEAL, RED, OLIVE = "#57606a", "#8250df", "#0a7d8c", "#b3446c", "#7a6a00"
# Label and colour of an arm, the same in all figures.
ARMS = {
    "none": ("no selection", GREY),
    "greedy": ("greedy", VIOLET),
    "threshold": ("threshold", TEAL),
    "greedy floor": ("greedy, floor", RED),
    "keep 0.8": ("greedy, keep 0.8", OLIVE),
    "accumulate none": ("no selection", GREY),
    "accumulate greedy": ("greedy", VIOLET),
    "accumulate threshold": ("threshold", TEAL),
    "accumulate greedy floor": ("greedy, floor", RED),
    "guided none": ("guided", OLIVE),
    "guided greedy": ("guided, greedy", "#1f6fb2"),
    "greedy near real": ("greedy, near real", "#4c9a62"),
    "half": ("N / 2", TEAL),
    "quarter": ("N / 4", RED),
    "small none": ("replace, no selection", "#b58900"),
    "small greedy": ("replace, greedy", VIOLET),
    "small greedy near real": ("greedy, near real", "#4c9a62"),
    "small accumulate none": ("accumulate, no selection", TEAL),
    "small accumulate greedy": ("accumulate, greedy", RED),
    "small guided none": ("accumulate, guided", OLIVE),
    "small guided greedy": ("accumulate, guided, greedy", "#1f6fb2"),
}
MEASURES = (
    ("entropy", "pixels", "entropy of G, pixels (nats)"),
    ("gs", "pixels", "GS, pixels"),
    ("entropy", "encoder", "entropy of G, encoder (nats)"),
    ("gs", "encoder", "GS, encoder"),
    ("fd", "encoder", "fd, encoder"),
)


def draw(sets: Sequence[Found], folder: Path) -> None:
    """All of them: study_*.png in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    replace = ("none", "greedy", "threshold", "greedy floor", "greedy near real")
    courses(sets, replace, "Replace", folder / "study_replace.png")
    accumulate = tuple(arm for arm in ARMS if arm.startswith(("accumulate", "guided")))
    courses(sets, accumulate, "Accumulate", folder / "study_accumulate.png")
    small = tuple(arm for arm in ARMS if arm.startswith("small"))
    courses(sets, small, "An eighth of the images", folder / "study_small.png")
    correlation(sets, folder / "study_entropy_gs.png")
    kept_and_sizes(sets, folder / "study_kept.png")


def courses(sets: Sequence[Found], arms: Sequence[str], title: str, target: Path) -> None:
    """A line of panels for each data set: measures by iteration, an arm a colour."""
    sets = [found for found in sets if any(found.series(arm, "fd") for arm in arms)]
    if not sets:
        return
    shape = {"figsize": (15, 0.5 + 3.1 * len(sets)), "squeeze": False, "layout": "constrained"}
    figure, axes = pyplot.subplots(len(sets), len(MEASURES), **shape)
    for line, found in zip(axes, sets, strict=True):
        for axis, (measure, space, label) in zip(line, MEASURES, strict=True):
            for arm in arms:
                course(axis, found, arm, measure, space)
            first = "small none" if arms[0].startswith("small") else "none"
            real_line(axis, found, first, measure, space)
            axis.set(xlabel="iteration", title=label)
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(visible=True, alpha=0.3)
        line[0].set_ylabel(found.data)
    # A figure's legend stands beside the lines, one entry for all panels of an arm.
    entries = [axis.get_legend_handles_labels() for axis in axes[:, 0]]
    named = {
        name: line for lines, names in entries for line, name in zip(lines, names, strict=True)
    }
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=8, fontsize=9)
    figure.suptitle(f"{title}: mean and range over seeds; dotted: other real images", fontsize=11)
    save(figure, target)


def course(
    axis: Any, found: Found, arm: str, measure: str, space: str, label: str | None = None
) -> None:
    """One arm: the mean over seeds and their range."""
    end, seeds = found.common(arm)
    if not end:
        return
    known, colour = ARMS[arm]
    steps = range(1, end + 1)
    values = np.array([found.at(arm, measure, n, space, seeds) for n in steps])
    axis.fill_between(steps, values.min(1), values.max(1), color=colour, alpha=0.15, linewidth=0)
    axis.plot(steps, values.mean(1), marker="o", markersize=3.5, color=colour, label=label or known)


def real_line(axis: Any, found: Found, arm: str, measure: str, space: str) -> None:
    """The level of as many other real images as that arm's training set has."""
    real = [row for row in found.rows if row["iteration"] == "0" and row["arm"] == arm]
    rows = [row for row in real if row["space"] == space]
    if rows:
        level = np.mean([float(row[measure]) for row in rows])
        axis.axhline(level, color="black", linestyle=":", linewidth=1)


def correlation(sets: Sequence[Found], target: Path) -> None:
    """log GS against entropy and against variance, in both spaces."""
    figure, axes = pyplot.subplots(
        len(sets), 4, figsize=(14, 3.2 * len(sets)), squeeze=False, layout="constrained"
    )
    for line, found in zip(axes, sets, strict=True):
        panels = [(s, m) for s in ("pixels", "encoder") for m in ("entropy", "variance")]
        for axis, (space, measure) in zip(line, panels, strict=True):
            scatter(axis, found, measure, space)
        line[0].set_ylabel(f"{found.data}: log GS")
        line[0].legend(fontsize=8)
    save(figure, target)


def scatter(axis: Any, found: Found, measure: str, space: str) -> None:
    """The iterations of all arms and seeds; r is the mean over seeds."""
    arms = [arm for arm in REPLACE if found.series(arm, "gs")]
    _, seeds = found.common(*arms)
    for arm in arms:
        label, colour = ARMS[arm]
        pairs = [points(found, [arm], measure, space, seed) for seed in seeds]
        x, y = (np.concatenate(part) for part in zip(*pairs, strict=True))
        axis.scatter(x, y, s=14, color=colour, label=label, alpha=0.8, linewidths=0)
    r = np.mean([pearson(found, arms, measure, space, seed) for seed in seeds])
    unit = " (nats)" if measure == "entropy" else ""
    axis.set(xlabel=f"{measure} of G{unit}", title=f"{space}: r = {r:.2f}")
    axis.grid(visible=True, alpha=0.3)


def kept_and_sizes(sets: Sequence[Found], target: Path) -> None:
    """Left: fd after one selection against the kept share. Right: GS by iteration for three N."""
    found = sets[0]
    arms = [arm for arm in KEPT if found.series(arm, "fd")]
    _, seeds = found.common(*arms)
    if not seeds:
        return
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    values = {KEPT[arm]: found.at(arm, "fd", 2, "encoder", seeds) for arm in arms}
    shares = sorted(values)
    for number, seed in enumerate(seeds):
        axes[0].plot(shares, [values[s][number] for s in shares], color=VIOLET, alpha=0.3)
        place = (shares[0], values[shares[0]][number])
        axes[0].annotate(
            f"seed {seed}", place, xytext=(4, 3), textcoords="offset points", fontsize=7
        )
    axes[0].plot(shares, [np.mean(values[s]) for s in shares], color=VIOLET, marker="o")
    axes[0].set(xlabel="kept share of what was made", ylabel="fd, encoder, iteration 2")
    for arm in SIZES:
        size = [row["training_n"] for row in found.rows if row["arm"] == arm][:1]
        course(axes[1], found, arm, "gs", "pixels", f"N = {''.join(size)}")
    axes[1].set(xlabel="iteration", ylabel="GS, pixels", title="no selection, by size of N")
    axes[0].set_title("greedy, one selection")
    axes[1].xaxis.get_major_locator().set_params(integer=True)
    axes[1].legend(fontsize=8)
    for axis in axes:
        axis.grid(visible=True, alpha=0.3)
    figure.suptitle(found.data, fontsize=11)
    save(figure, target)


def save(figure: Any, target: Path) -> None:
    """Atomic, and without the version of matplotlib in the file."""
    temporary = target.with_suffix(".tmp")
    figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    temporary.replace(target)
    pyplot.close(figure)
