"""The tables of docs/reproduction.md, a function per part of the study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.study import resample
from benchmarks.study.checks import Found, spread
from benchmarks.study.claims import claims
from benchmarks.support.record import Row
from benchmarks.support.tables import table

# Names of arms and methods on the page, where they are not their own.
NAMES = {
    "anchored": "anchored (0.003)",
    "energy": "anchored (0)",
    "anchored 0.01": "anchored (0.01)",
    "anchored 0.03": "anchored (0.03)",
    "anchored 0.1": "anchored (0.1)",
    "anchored 1": "anchored (1)",
    "anchored 0.003": "anchored (0.003)",
}
CURVE = ("energy", "anchored", "anchored 0.01", "anchored 0.1", "anchored 1")
FIRST = ("none", "greedy", "threshold", "variance", "moments", *CURVE)
REGIMES = ("digits repeats", "mnist repeats", "digits scatters", "mnist scatters")
# The arms of one question, beside the first of them.
GROUPS: dict[str, tuple[str, ...]] = {
    "Real images accumulated": ("accumulate none", "accumulate greedy", "accumulate anchored"),
    "Fresh real images": ("fresh random", "fresh greedy", "fresh anchored"),
    "Guidance 2, accumulated": ("guided none", "guided greedy", "guided anchored"),
    "DDPM and EDM, accumulated": (
        "two models none",
        "two models greedy",
        "two models anchored",
    ),
}


def named(arm: str) -> str:
    """The name of an arm or method on the page."""
    return NAMES.get(arm, arm)


def settings(rows: Sequence[Row]) -> dict[str, Found]:
    """The measures of each setting."""
    return {name: Found(rows, name) for name in dict.fromkeys(row["setting"] for row in rows)}


def wins(found: Found, arm: str, other: str, space: str = "judge") -> tuple[int, int]:
    """In how many seeds the arm's fd is lower than the other's at the last iteration of both, and
    how many seeds there are."""
    end, seeds = found.common(arm, other)
    ours, theirs = (found.at(name, "fd", end, space, seeds) for name in (arm, other))
    return sum(a < b for a, b in zip(ours, theirs, strict=True)), len(seeds)


def verdict(found: Found) -> str:
    """What the diagnosis says of the first model, and the entropy gap to as many real images."""
    first = [r for r in found.rows if r["arm"] == "none" and r["iteration"] == "1"]
    first = [row for row in first if row["space"] == "judge"]
    gaps = [float(row["gap"]) for row in first if row["gap"]]
    told = ", ".join(dict.fromkeys(row["verdict"] for row in first))
    return f"{told} ({spread(gaps)} nats)" if gaps else told


def regimes(found: dict[str, Found]) -> list[str]:
    """Regime by selection: entropy of the chosen set, fd of what was learned from it."""
    lines = []
    for name in REGIMES:
        if name not in found:
            continue
        here = found[name]
        for arm in FIRST:
            end, seeds = here.common("none", arm)
            if not end:
                continue
            cells = _measured(here, arm, end, seeds, "recall")
            better = "" if arm == "none" else "{} of {}".format(*wins(here, arm, "none"))
            regime = (
                f"{name}, iteration {end}: first model {verdict(here)}" if arm == "none" else ""
            )
            lines.append([regime, named(arm), *cells, better])
    header = ["regime", "selection", "entropy of the chosen set", "fd", "fd in pixels"]
    header += ["precision", "recall", "fd lower than without, seeds"]
    return table(header, lines)


def _measured(found: Found, arm: str, end: int, seeds: list[str], last: str) -> list[str]:
    """The cells that all tables of arms have, and a `last` one, of an arm at an iteration."""
    measures = (
        ("entropy_training", "judge"),
        ("fd", "judge"),
        ("fd", "pixels"),
        ("precision", "judge"),
        (last, "judge"),
    )
    return [spread(found.at(arm, measure, end, space, seeds)) for measure, space in measures]


def advice(found: dict[str, Found]) -> list[str]:
    """What to use, as far as the seeds agree."""
    said = []
    for kind, words in (("repeats", "repeats its training images"), ("scatters", "scatters")):
        here = {name: found[name] for name in REGIMES if name.endswith(kind) and name in found}
        parts = []
        for arm in ("greedy", "threshold", "anchored", "energy"):
            counts = np.array([wins(one, arm, "none") for one in here.values()]).reshape(-1, 2)
            better, of = counts.sum(axis=0)
            if of:
                parts.append(f"{named(arm)} in {better} of {of}")
        if parts:
            said.append(
                f"* Where the model {words}, fd is lower than without a selection with "
                f"{', '.join(parts)} runs."
            )
    control = [
        wins(one, "anchored", "accumulate none")
        for one in found.values()
        if one.common("anchored", "accumulate none")[0]
    ]
    if control:
        better, of = np.sum(control, axis=0)
        said.append(
            "* What a reference brings may also be had by training on it: anchored selection "
            f"without real images in training has lower fd than the same number of images with "
            f"the real ones among them, unselected, in {better} of {of} runs."
        )
    return said


def claimed(found: dict[str, Found]) -> list[str]:
    """A line per claim and setting that has the runs for it."""
    lines = []
    for claim in claims():
        for name, here in found.items():
            answer = claim.check(here)
            if answer is not None:
                lines.append([claim.number, claim.claimed, name, answer.found, answer.agrees])
    return table(["", "claimed", "in", "found", "agrees"], lines)


def groups(found: dict[str, Found]) -> list[str]:
    """The arms of part "claims", each group beside replacing at equal N."""
    lines = []
    for title, arms in GROUPS.items():
        for name, here in found.items():
            if not here.common(arms[0])[0]:
                continue
            for arm in ("none", "anchored", *arms):
                end, seeds = here.common(arms[0], arm)
                if not end:
                    continue
                cells = _measured(here, arm, end, seeds, "real")
                better = "" if arm == arms[0] else "{} of {}".format(*wins(here, arm, arms[0]))
                place = f"{title}: {name}, iteration {end}" if arm == "none" else ""
                lines.append([place, f"replace {arm}" if arm in NAMES or arm == "none" else arm,
                              *cells, better])  # fmt: skip
    header = ["", "arm", "entropy of the chosen set", "fd", "fd in pixels", "precision"]
    return table([*header, "real share of it", "fd lower than the group's first, seeds"], lines)


def resampled(rows: Sequence[Row]) -> list[str]:
    """fd at the last iteration: a line per data set and way to move, a column per selection."""
    lines = []
    last = [row for row in rows if row["iteration"] == str(resample.ITERATIONS)]
    for (data, move, h, space), some in grouped(last, "data", "move", "h", "space").items():
        by_method = {
            method: {row["seed"]: float(row["fd"]) for row in found}
            for (method,), found in grouped(some, "method").items()
        }
        none, cells = by_method["none"], []
        for method in resample.METHODS:
            values = by_method[method]
            better = sum(values[seed] < none[seed] for seed in none)
            count = "" if method == "none" else f" ({better}/{len(none)})"
            cells.append(spread(list(values.values())) + count)
        words = f"noise, h = {h}" if move == "noise" else f"towards a neighbour, h = {h}"
        lines.append([data, words, space.replace("judge", "encoder"), *cells])
    return table(["data", "a copy moves by", "fd in", *map(named, resample.METHODS)], lines)


def references(rows: Sequence[Row]) -> list[str]:
    """Chosen sets and one round of training, a line per way."""
    lines = []
    random = {(r["seed"], r["stage"]): float(r["fd"]) for r in rows if _is(r, "random", "judge")}
    for (way,), some in grouped(rows, "way").items():

        def of(stage: str, space: str, measure: str, some: Sequence[Row] = some) -> list[float]:
            return [
                float(row[measure] or "nan")
                for row in some
                if (row["stage"], row["space"]) == (stage, space)
            ]

        after = {row["seed"]: float(row["fd"]) for row in some if _is(row, way, "judge", "next")}
        better = sum(fd < random[seed, "next"] for seed, fd in after.items())
        warned = sum(row["warned"] == "True" for row in some) * len(after) // len(some)
        lines.append(
            [
                named(way),
                spread(of("chosen", "encoder", "entropy")),
                spread(of("chosen", "judge", "entropy")),
                spread(of("chosen", "judge", "fd")),
                spread(of("chosen", "pixels", "fd")),
                spread(of("next", "judge", "fd")),
                spread(of("next", "pixels", "fd")),
                "" if way == "random" else f"{better} of {len(after)}",
                f"{warned} of {len(after)}" if warned else "",
            ]
        )  # fmt: skip
    header = ["chosen by", "entropy, selecting space", "entropy", "fd", "fd in pixels"]
    header += ["next model: fd", "fd in pixels", "fd lower than random, seeds", "warned"]
    return table(header, lines)


def _is(row: Row, way: str, space: str, stage: str = "") -> bool:
    return (row["way"], row["space"]) == (way, space) and stage in ("", row["stage"])


def cifar(rows: Sequence[Row]) -> list[str]:
    """A line per space of selection and method."""
    lines = []
    names = ("fd", "entropy", "entropy_selecting", "clean", "copies", "corrupted", "originals")
    random = {(r["space"], r["seed"]): float(r["fd"]) for r in rows if r["method"] == "random"}
    for (space, judge, method), some in grouped(rows, "space", "judge", "method").items():
        cells = [spread([float(row[name] or "nan") for row in some]) for name in names]
        better = sum(float(row["fd"]) < random[space, row["seed"]] for row in some)
        count = "" if method == "random" else f"{better} of {len(some)}"
        lines.append([f"{space} → {judge}", named(method), *cells, count])
    header = ["selected in → judged in", "selection", "fd", "entropy", "entropy, selecting space"]
    header += ["clean", "near-copies", "corrupted", "different images"]
    return table([*header, "fd lower than random, seeds"], lines)


def grouped(rows: Sequence[Row], *columns: str) -> dict[tuple[str, ...], list[Row]]:
    """Rows by their values of these columns, in their order."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in columns), []).append(row)
    return found
