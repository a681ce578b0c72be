"""Runs of the loop grouped into arms, and described in sentences."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from entroselect.io.errors import printable
from entroselect.loop import config as options
from entroselect.loop.config import Config
from entroselect.loop.runs import MEASURES, Run
from entroselect.report import figures
from entroselect.results import Float64

CYCLE = ("#8250df", "#0a7d8c", "#b3446c", "#7a6a00", "#4c566a", "#e0a100", "#55a0e0", "#7a3b10")
METHODS = {**figures.COLOURS, "none": "#57606a", "variance": "#b3446c", "anchored": "#8250df"}

UNUSED = ("keep", "select.space", "select.diversity", "select.reference")  # without a selection

# Precision and coverage of a first model below which it makes no images like the real ones.
NEAR = 0.02


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seed alone."""

    label: str
    colour: str
    runs: list[Run]

    def mean(self, space: str, measure: str, iteration: int) -> float:
        """The mean over its runs that have the measure; NaN if none has."""
        values = [run.series(space, *MEASURES[measure])[iteration - 1] for run in self.runs]
        values = [value for value in values if not math.isnan(value)]
        return sum(values) / len(values) if values else math.nan

    def courses(self, space: str, measure: str) -> Float64:
        """(runs, iterations) of a measure, as far as all of its runs have iterations."""
        found = [run.series(space, *MEASURES[measure]) for run in self.runs]
        return np.array([values[: min(map(len, found))] for values in found])


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
        wanted = METHODS.get(group[0].config.select.method, CYCLE[0])
        free = [colour for colour in (wanted, *CYCLE) if colour not in used]
        colour = free[0] if free else CYCLE[number % len(CYCLE)]
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
        if name in UNUSED and config.select.method == "none":
            continue
        bare = name in ("paradigm", "select.method")
        shown = printable(value)  # a path may hold bytes that are no text
        parts.append(shown if bare else f"{name.split('.')[-1]} {shown}")
    return ", ".join(parts)


def last_iteration(compared: Sequence[Arm]) -> int:
    """The last iteration that every run has."""
    return min(len(run.measured) for arm in compared for run in arm.runs)


def findings(compared: Sequence[Arm], space: str) -> list[str]:
    """Sentences about these runs, from their measures in that space.

    Arms that select are compared with the one that does not, if their paradigm has exactly one;
    of this one they say whether its first model repeats itself or scatters.
    """
    last = last_iteration(compared)
    plain = [arm for arm in compared if arm.runs[0].config.select.method == "none"]
    told: list[str] = []
    regimes: dict[tuple[float, float], list[str]] = {}  # arms that begin alike share a sentence
    for arm in compared:
        beside = [other for other in plain if _family(other) == _family(arm)]
        if _learned_nothing(arm, space):
            told.append(
                f"{arm.label}: hardly any of the generated images is near a real one (precision "
                f"and coverage below {NEAR}), already at the first iteration. These models have "
                "not learned enough for differences between them to mean anything: train longer."
            )
        elif arm in plain:
            made = arm.mean(space, "entropy of G_n (nats)", 1)
            real = arm.mean(space, "entropy of D_n (nats)", 1)
            if math.isfinite(made - real):
                regimes.setdefault((made, real), []).append(arm.label)
        elif len(beside) == 1 and last > 1 and not _learned_nothing(beside[0], space):
            told.append(_against(arm, beside[0], space, last))
    first = [_regime("; ".join(labels), *values) for values, labels in regimes.items()]
    return [sentence for sentence in first + told if sentence]


def _family(arm: Arm) -> str:
    """What the paradigm does with older images, whether it draws from them or selects."""
    return arm.runs[0].config.paradigm.removesuffix("-subsample")


def _learned_nothing(arm: Arm, space: str) -> bool:
    near = [arm.mean(space, measure, 1) for measure in ("precision", "coverage")]
    return all(value < NEAR for value in near)  # NaN, not measured, is not below


def _regime(label: str, made: float, real: float) -> str:
    if made > real:
        is_it = "more scattered"
        so = (
            "where images are more scattered than real ones, many are failures, and a selection "
            "for diversity takes those first"
        )
    else:
        is_it = "less varied"
        so = "the model repeats itself, which is where a selection for diversity may help"
    return (
        f"{label}: what the first model makes is {is_it} than the real images it was trained on "
        f"(entropy {made:.4g} against {real:.4g}): {so}."
    )


def _against(arm: Arm, plain: Arm, space: str, last: int) -> str:
    entropy = [a.mean(space, "entropy of G_n (nats)", last) for a in (arm, plain)]
    away = [a.mean(space, "Frechet distance to real", last) for a in (arm, plain)]
    if not all(map(math.isfinite, (*entropy, *away))):
        return ""
    varied = "more" if entropy[0] > entropy[1] else "less"
    farther = away[0] > away[1]
    seeds = min(len(arm.runs), len(plain.runs))
    return (
        f"{arm.label} against {plain.label}, iteration {last}: the generated images are {varied} "
        f"varied (entropy {entropy[0]:.4g} against {entropy[1]:.4g}) and "
        f"{'farther from' if farther else 'nearer to'} the real ones (Frechet distance "
        f"{away[0]:.4g} against {away[1]:.4g}): by that measure the selection made the next models "
        f"{'worse' if farther else 'better'} here ({seeds} seed{'s' * (seeds != 1)})."
    )
