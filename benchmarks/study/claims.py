"""The paper's claims, as checks of the study's measures.

Each check answers for one data set: what was found, and in which seeds it is as claimed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.support.record import Row

KEPT = {"keep 0.2": 0.2, "keep 0.4": 0.4, "greedy": 0.5, "keep 0.6": 0.6, "keep 0.8": 0.8}
KEPT |= {"none": 1.0}  # all that was made
REPLACE = ("none", "greedy", "threshold", "greedy floor")
SIZES = ("small none", "quarter", "half", "none")
SPACES = ("pixels", "encoder")

Series = dict[int, float]  # by iteration


class Found:
    """The measures of one data set."""

    def __init__(self, rows: Sequence[Row], data: str) -> None:
        self.data = data
        self.rows = [row for row in rows if row["data"] == data]

    def series(self, arm: str, measure: str, space: str = "encoder") -> dict[str, Series]:
        """Seed -> iteration, from 1 -> value."""
        made: dict[str, Series] = {}
        for row in self.rows:
            if row["arm"] == arm and row["space"] == space and int(row["iteration"]):
                made.setdefault(row["seed"], {})[int(row["iteration"])] = float(row[measure])
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


@dataclass(frozen=True)
class Answer:
    """What became of a claim on one data set; `holds` has an entry for each seed."""

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
    if len(values) < 2:
        return f"{mean:.3g}"
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
        holds = [all(np.diff(run) < 0) for run in runs]
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


def correlates(prefix: str, space: str) -> Check:
    """log GS goes with entropy, and more closely than with variance."""

    def check(found: Found) -> Answer | None:
        arms = [prefix + arm for arm in REPLACE if found.series(prefix + arm, "gs", space)]
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
    """The measure and log GS at all iterations of those arms."""
    x, y = [], []
    for arm in arms:
        score, other = (found.series(arm, name, space)[seed] for name in ("gs", measure))
        x += [other[n] for n in score]
        y += [math.log(value) for value in score.values()]
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
    """fd after the selection is below that of the model trained on the original images."""

    def check(found: Found) -> Answer | None:
        end, seeds = found.common(arm)
        if not end:
            return None
        before, after = (found.at(arm, "fd", n, space, seeds) for n in (1, end))
        holds = [b < a for a, b in zip(before, after, strict=True)]
        return Answer(f"{spread(after)} against {spread(before)}", holds)

    return check


def claims() -> list[tuple[str, str, Check]]:
    """Number, what is claimed, and the check; in the order of the page."""
    return [
        *_collapse("", ""),
        *_collapse("small ", ", N / 8"),
        *(("2", f"smaller N, faster fall of GS ({s})", smaller_is_faster("gs", s)) for s in SPACES),
        *_selection("", "replace"),
        *_selection("small ", "replace, N / 8"),
        *_selection("accumulate ", "accumulate"),
        *_selection("small accumulate ", "accumulate, N / 8"),
        ("6", "fd is best at a kept share inside 0.2 to 1", kept_share("encoder")),
        *_fresh(),
        *_real_images("accumulate ", ""),
        *_real_images("small accumulate ", ", N / 8"),
        *_guidance("", ""),
        *_guidance("small ", ", N / 8"),
    ]


def _collapse(prefix: str, where: str) -> list[tuple[str, str, Check]]:
    none, made = f"{prefix}none", []
    for space in SPACES:
        made += [
            (f"replace{where}: entropy falls ({space})", falls(none, "entropy", space)),
            (f"replace{where}: GS falls ({space})", falls(none, "gs", space)),
            (
                f"replace{where}: log GS goes with entropy, less with variance ({space})",
                correlates(prefix, space),
            ),
        ]
    return [("1", claimed, check) for claimed, check in made]


def _selection(prefix: str, where: str) -> list[tuple[str, str, Check]]:
    made = []
    for method in ("greedy", "threshold"):
        arms = f"{prefix}{method}", f"{prefix}none"
        for measure in ("entropy", "gs", "fd"):
            for space in SPACES:
                lower = measure == "fd"
                word = "lower" if lower else "higher"
                claimed = f"{where}: {method} has {word} {measure.replace('gs', 'GS')} ({space})"
                made.append(("3", claimed, compares(*arms, measure, space, larger=not lower)))
    return made


def _fresh() -> list[tuple[str, str, Check]]:
    made = []
    for arm in ("greedy", "greedy floor"):
        better = compares(f"fresh {arm}", "fresh random", "fd", "encoder", larger=False)
        first = better_than_first(f"fresh {arm}", "encoder")
        made += [
            ("7", f"fresh data: {arm} has lower fd than the model of the original data", first),
            ("7", f"fresh data: {arm} has lower fd than a random choice", better),
        ]
    return made


def _real_images(prefix: str, where: str) -> list[tuple[str, str, Check]]:
    made = []
    for method in ("greedy", "threshold"):
        check = compares(f"{prefix}{method}", f"{prefix}none", "real", "encoder", larger=True)
        made.append(("8", f"{method} takes more real images than their quota{where}", check))
    return made


def _guidance(prefix: str, where: str) -> list[tuple[str, str, Check]]:
    free, alone, selected = (
        f"{prefix}{arm}" for arm in ("accumulate none", "guided none", "guided greedy")
    )
    more_real = compares(selected, alone, "real", "encoder", larger=True)
    made = [
        ("entropy falls with guidance", falls(alone, "entropy", "encoder")),
        ("with greedy it does not", keeps_up(selected, "entropy", "encoder")),
        ("guided has lower fd than free", compares(alone, free, "fd", "encoder", larger=False)),
        (
            "guided and greedy has lower fd than guided",
            compares(selected, alone, "fd", "encoder", larger=False),
        ),
    ]
    numbered = [("9", f"{claimed}{where}", check) for claimed, check in made]
    return [
        ("8", f"guided, greedy takes more real images than a quota{where}", more_real),
        *numbered,
    ]
