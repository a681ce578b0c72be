"""Regimes side by side on one page: the same selections where they help and where they hurt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from entroselect.loop import plots, report
from entroselect.loop.compared import Arm, arms, findings, last_iteration
from entroselect.loop.runs import read
from entroselect.report import figures
from entroselect.report.page import Column, Section, Table, render_columns

NAMES = {"none": "no selection", "greedy": "greedy", "anchored": "anchored"}
FRECHET, ENTROPY = "Frechet distance to real", "entropy of G_n (nats)"
SHOWN = 12  # images of an arm
WIDTH = 5.6  # inches


@dataclass(frozen=True)
class Regime:
    """A setting of the loop: a few words, a text, and its runs, which differ in their selection
    and seed alone."""

    title: str
    text: str
    folders: Sequence[Path]


@dataclass(frozen=True)
class Outcome:
    """What came out of an arm at the last iteration, beside the arm without a selection.

    Attributes:
        arm: the arm.
        distances: Frechet distance, one per seed.
        beside: that of the arm without a selection, for the same seeds.
        entropy: mean over seeds, in nats.
    """

    arm: Arm
    distances: list[float]
    beside: list[float]
    entropy: float

    @property
    def mean(self) -> float:
        """Mean Frechet distance over the seeds."""
        return float(np.mean(self.distances))

    @property
    def nearer(self) -> int:
        """The number of seeds in which the arm is nearer to the real images."""
        return sum(d < b for d, b in zip(self.distances, self.beside, strict=True))


def page(regimes: Sequence[Regime], title: str, lead: Sequence[str], footer: str = "") -> str:
    """The page about these regimes.

    Args:
        regimes: each with an arm whose select.method is none, and the same seeds in all arms.
        title, lead: what stands above.
        footer: words below.

    Raises:
        ValueError: as `runs.read`; or a regime has no arm without a selection.
    """
    columns, body, methods = [], [], dict[str, None]()
    for regime in regimes:
        compared, space = _compared(regime)
        found = outcomes(compared, space)
        methods |= dict.fromkeys(found)
        columns.append(_column(regime, compared, found, space))
        last = last_iteration(compared)
        values = list(found.values())
        body += [
            [f"{regime.title}: Frechet distance of G_{last}", *(f"{o.mean:.4g}" for o in values)],
            ["in how many seeds it is lower than without", *map(_count, values)],
            [f"entropy of G_{last} (nats)", *(f"{o.entropy:.4g}" for o in values)],
        ]
    table = Table(["", *methods], body)
    made = f"entroselect {version('entroselect')}. {footer}".strip()
    return render_columns(title, list(lead), table, columns, made)


def findings_of(regime: Regime) -> list[str]:
    """The diagnosis of a regime, what came out, and what to use, in sentences."""
    compared, space = _compared(regime)
    return [*diagnosis(compared, space), *told(outcomes(compared, space))]


def _compared(regime: Regime) -> tuple[list[Arm], str]:
    """Its arms, named after their selection, and the space in which they are judged."""
    runs = read(regime.folders)
    return [replace(arm, label=named(arm)) for arm in arms(runs)], report.common_spaces(runs)[0]


def named(arm: Arm) -> str:
    """The selection of an arm in words."""
    method = arm.runs[0].config.select.method
    return NAMES.get(method, method)


def outcomes(compared: Sequence[Arm], space: str) -> dict[str, Outcome]:
    """By the names of the arms."""
    last = last_iteration(compared)

    def distances(arm: Arm) -> dict[int, float]:
        found = arm.courses(space, FRECHET)[:, last - 1]
        return {run.config.seed: float(d) for run, d in zip(arm.runs, found, strict=True)}

    plain = [arm for arm in compared if arm.runs[0].config.select.method == "none"]
    if len(plain) != 1:
        raise ValueError("a regime needs one arm without a selection to compare with")
    beside = distances(plain[0])
    made = {}
    for arm in compared:
        own = distances(arm)
        seeds = sorted(own.keys() & beside.keys())
        entropy = arm.mean(space, ENTROPY, last)
        made[arm.label] = Outcome(
            arm, [own[seed] for seed in seeds], [beside[seed] for seed in seeds], entropy
        )
    return made


def told(found: dict[str, Outcome]) -> list[str]:
    """What came out, in sentences, and what to use."""
    selections = [o for o in found.values() if o.arm.runs[0].config.select.method != "none"]
    plain = next(o for o in found.values() if o not in selections)
    sentences = []
    for o in selections:
        without = float(np.mean(o.beside))
        change = o.mean / without - 1 if without else math.nan
        how = f"{abs(change):.0%} {'farther from' if change > 0 else 'nearer to'} the real images"
        sentences.append(
            f"{o.arm.label}: {how} than without a selection (Frechet distance {o.mean:.4g} against "
            f"{without:.4g}); nearer in {_count(o)} seeds."
        )
    best = min(found.values(), key=lambda o: o.mean)
    agree = best is plain or best.nearer == len(best.distances)
    advice = "keep images at random, which is no selection" if best is plain else best.arm.label
    unsure = "" if agree else ", though the seeds do not agree"
    return [*sentences, f"What to use here: {advice}{unsure}."]


def _count(outcome: Outcome) -> str:
    if outcome.arm.runs[0].config.select.method == "none":
        return "-"
    return f"{outcome.nearer} of {len(outcome.distances)}"


def _column(
    regime: Regime, compared: Sequence[Arm], found: dict[str, Outcome], space: str
) -> Column:
    return Column(
        regime.title,
        regime.text,
        [
            Section(
                "Before anything was selected",
                "The diagnosis of what the first model makes.",
                notes=diagnosis(compared, space),
            ),
            Section(
                "Distance to the real images",
                f"Frechet distance by iteration in the space {space}: lower is better."
                + plots.bands(compared),
                [_course(compared, space, FRECHET)],
            ),
            Section(
                "Variety",
                "Entropy of the generated images by iteration. More is not better by itself.",
                [_course(compared, space, ENTROPY)],
            ),
            Section("What came out", "At the last iteration.", notes=told(found)),
            _strips(compared),
        ],
    )


def diagnosis(compared: Sequence[Arm], space: str) -> list[str]:
    """That of the first run, or without one what the entropies say."""
    text = compared[0].runs[0].diagnosis
    return [text] if text else findings(compared, space)[:1]


def _course(compared: Sequence[Arm], space: str, measure: str) -> str:
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    axes = figures.style(figure.add_subplot())
    for arm in compared:
        plots.course(axes, arm, arm.courses(space, measure))
    if measure == FRECHET:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("iteration", fontsize=9)
    plots.legend(figure, compared)
    return figures.data_uri(figure)


def _strips(compared: Sequence[Arm]) -> Section:
    """Some real images, and below them some of the last iteration of every arm."""
    runs = [arm.runs[0] for arm in compared]
    last = last_iteration(compared)
    real = runs[0].images(1, "training")
    sets = [real.take(report.spread_out(real, min(SHOWN, len(real))))]
    for run in runs:
        made = run.images(last, "generated")
        sets.append(made.take(np.arange(min(SHOWN, len(made)))))
    return Section(
        "Samples",
        f"Real images, and the first ones of iteration {last}, of the first seed.",
        [figures.image_grid(report.shown(images), SHOWN) for images in sets],
        ["real", *(arm.label for arm in compared)],
    )
