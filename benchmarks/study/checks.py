"""Checks of claims against the study's measures.

A check answers for one setting: what was found, and in which seeds it is as claimed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.study.loops import SIZES
from benchmarks.support.record import Row

KEPT = {"keep 0.2": 0.2, "keep 0.4": 0.4, "greedy": 0.5, "keep 0.6": 0.6, "keep 0.8": 0.8}
KEPT |= {"none": 1.0}  # all that was made
REPLACE = ("none", "greedy", "threshold")
SPACES = ("pixels", "judge")

Series = dict[int, float]  # by iteration


class Found:
    """The measures of one setting, of parts "regimes" and "claims"."""

    def __init__(self, rows: Sequence[Row], setting: str) -> None:
        self.setting = setting
        self.rows = [row for row in rows if row["setting"] == setting]

    def series(self, arm: str, measure: str, space: str = "judge") -> dict[str, Series]:
        """Seed -> iteration, from 1 -> value; what was not measured is NaN."""
        made: dict[str, Series] = {}
        for row in self.rows:
            if row["arm"] == arm and row["space"] == space and int(row["iteration"]):
                value = float(row[measure] or "nan")
                made.setdefault(row["seed"], {})[int(row["iteration"])] = value
        return dict(sorted(made.items()))

    def common(self, *arms: str) -> tuple[int, list[str]]:
        """The last iteration that all these arms have, and the seeds; 0 and none without any."""
        found = [self.series(arm, "fd") for arm in arms]
        seeds = sorted(set.intersection(*map(set, found))) if found else []
        return min((max(f[s]) for f in found for s in seeds), default=0), seeds

    def at(
        self, arm: str, measure: str, iteration: int, space: str, seeds: Sequence[str]
    ) -> list[float]:
        """A value for each seed."""
        found = self.series(arm, measure, space)
        return [found[seed][iteration] for seed in seeds]

    def arms(self) -> list[str]:
        """Those that were run."""
        return list(dict.fromkeys(row["arm"] for row in self.rows))


@dataclass(frozen=True)
class Answer:
    """What became of a claim in one setting; `holds` has an entry for each seed."""

    found: str
    holds: list[bool]

    @property
    def agrees(self) -> str:
        """In words."""
        yes, of = sum(self.holds), len(self.holds)
        return {0: "**no**", of: "yes"}.get(yes, f"in {yes} of {of} seeds")


Check = Callable[[Found], "Answer | None"]  # None: not run


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds, to the digits that the latter leaves."""
    mean = float(np.mean(values))
    if len(values) < 2 or not math.isfinite(mean):
        return f"{mean:.3g}" if math.isfinite(mean) else "-"
    deviation = float(np.std(values, ddof=1))
    if deviation == 0:
        return f"{mean:.3g}"
    size = max(deviation, abs(mean) / 1000, 1e-9)
    decimals = min(3, max(0, 1 - math.floor(math.log10(size))))
    return f"{mean:.{decimals}f} ± {deviation:.{decimals}f}"


def course(found: Found, arm: str, measure: str, space: str) -> str:
    """The spread at each iteration."""
    end, seeds = found.common(arm)
    every = range(1, end + 1)
    return " → ".join(spread(found.at(arm, measure, n, space, seeds)) for n in every)


def falls(arm: str, measure: str, space: str) -> Check:
    """The measure is smaller at every iteration than at the one before."""

    def check(found: Found) -> Answer | None:
        series = found.series(arm, measure, space)
        if not series:
            return None
        runs = [[value for _, value in sorted(run.items())] for run in series.values()]
        holds = [bool(np.all(np.diff(run) < 0)) for run in runs]
        return Answer(course(found, arm, measure, space), holds)

    return check


def keeps_up(arm: str, measure: str, space: str) -> Check:
    """The measure is at the end no smaller than at the start."""

    def check(found: Found) -> Answer | None:
        end, seeds = found.common(arm)
        if not end:
            return None
        first, last = (found.at(arm, measure, n, space, seeds) for n in (1, end))
        holds = [b >= a for a, b in zip(first, last, strict=True)]
        return Answer(course(found, arm, measure, space), holds)

    return check


def compares(one: str, other: str, measure: str, space: str, larger: bool) -> Check:
    """At the last iteration that both have, `one` is larger (or smaller) than `other`."""

    def check(found: Found) -> Answer | None:
        end, seeds = found.common(one, other)
        if not end:
            return None
        a, b = (found.at(arm, measure, end, space, seeds) for arm in (one, other))
        holds = [(x > y) if larger else (x < y) for x, y in zip(a, b, strict=True)]
        return Answer(f"{spread(a)} against {spread(b)}, iteration {end}", holds)

    return check


def correlates(space: str) -> Check:
    """log GS goes with entropy, and more closely than with variance."""

    def check(found: Found) -> Answer | None:
        arms = [arm for arm in REPLACE if found.series(arm, "gs", space)]
        _, seeds = found.common(*arms)
        if not seeds:
            return None
        r, v = (
            [pearson(found, arms, measure, space, seed) for seed in seeds]
            for measure in ("entropy", "variance")
        )
        text = f"r = {spread(r)} with entropy, {spread(v)} with variance"
        return Answer(text, [a > 0 and a > abs(b) for a, b in zip(r, v, strict=True)])

    return check


def pearson(found: Found, arms: Sequence[str], measure: str, space: str, seed: str) -> float:
    """Of log GS with the measure, over the iterations of those arms with that seed."""
    x, y = points(found, arms, measure, space, seed)
    return float(np.corrcoef(x, y)[0, 1])


def points(
    found: Found, arms: Sequence[str], measure: str, space: str, seed: str
) -> tuple[list[float], list[float]]:
    """The measure and log GS at all iterations of those arms, where both were measured."""
    x, y = [], []
    for arm in arms:
        score, other = (found.series(arm, name, space)[seed] for name in ("gs", measure))
        for n in score:
            if score[n] > 0 and math.isfinite(other[n]):
                x.append(other[n])
                y.append(math.log(score[n]))
    return x, y


def smaller_is_faster(measure: str, space: str) -> Check:
    """The fewer images, the less of the first GS is left at the last iteration."""

    def check(found: Found) -> Answer | None:
        arms = [arm for arm in SIZES if found.series(arm, measure, space)]
        end, seeds = found.common(*arms) if len(arms) > 1 else (0, [])
        if not end:
            return None
        first, last = (
            np.array([found.at(arm, measure, n, space, seeds) for arm in arms]) for n in (1, end)
        )
        left = last / first
        sizes = [found.at(arm, "training_n", 1, space, seeds)[0] for arm in arms]
        text = ", ".join(
            f"N = {n:.0f}: {spread(a)} → {spread(b)}"
            for n, a, b in zip(sizes, first, last, strict=True)
        )
        return Answer(text, [bool(np.all(np.diff(share) > 0)) for share in left.T])

    return check


def kept_share(space: str) -> Check:
    """fd after one selection is best at a kept share between the ends."""

    def check(found: Found) -> Answer | None:
        arms = [arm for arm in KEPT if found.series(arm, "fd", space)]
        _, seeds = found.common(*arms) if len(arms) > 2 else (0, [])
        if not seeds:
            return None
        values = {KEPT[arm]: found.at(arm, "fd", 2, space, seeds) for arm in arms}
        shares = sorted(values)
        best = [min(shares, key=lambda s: values[s][i]) for i in range(len(seeds))]
        text = ", ".join(f"{share:g}: {spread(values[share])}" for share in shares)
        text += f"; best at {', '.join(f'{b:g}' for b in best)}"
        return Answer(text, [shares[0] < b < shares[-1] for b in best])

    return check


def better_than_first(arm: str, space: str) -> Check:
    """fd at the end is below that of the model trained on the original images."""

    def check(found: Found) -> Answer | None:
        end, seeds = found.common(arm)
        if not end:
            return None
        before, after = (found.at(arm, "fd", n, space, seeds) for n in (1, end))
        holds = [b < a for a, b in zip(before, after, strict=True)]
        return Answer(f"{spread(after)} against {spread(before)}", holds)

    return check
