"""The paper's claims, and the questions beyond it, as checks."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.study.checks import (
    SPACES,
    Check,
    better_than_first,
    compares,
    correlates,
    falls,
    keeps_up,
    kept_share,
    smaller_is_faster,
)

JUDGE = "judge"
WORDS = {"gs": "GS", "judge": "encoder"}


@dataclass(frozen=True)
class Claim:
    """number: of the paper's claims in docs/reproduction.md, or "" for a question of our own.
    claimed: in words. check: in numbers."""

    number: str
    claimed: str
    check: Check


def claims() -> list[Claim]:
    """In the order of the page."""
    return [
        *_collapse(),
        Claim("2", "smaller N, faster fall of GS (pixels)", smaller_is_faster("gs", "pixels")),
        *_selection("", "replace"),
        *_selection("accumulate ", "accumulate"),
        *_loses_quality(),
        Claim("6", "fd is best at a kept share inside 0.2 to 1", kept_share(JUDGE)),
        *_fresh(),
        *_real_images(),
        *_guidance(),
        *_models(),
        *_anchored(),
    ]


def _collapse() -> list[Claim]:
    made = []
    for space in SPACES:
        where = WORDS.get(space, space)
        made += [
            Claim("1", f"replace: entropy falls ({where})", falls("none", "entropy", space)),
            Claim("1", f"replace: GS falls ({where})", falls("none", "gs", space)),
        ]
    text = "replace: log GS goes with entropy, less with variance (pixels)"
    return [*made, Claim("1", text, correlates("pixels"))]


def _selection(prefix: str, where: str) -> list[Claim]:
    made = []
    for method in ("greedy", "threshold"):
        arms = f"{prefix}{method}", f"{prefix}none"
        for measure in ("entropy", "gs"):
            text = f"{where}: {method} has higher {WORDS.get(measure, measure)} (pixels)"
            made.append(Claim("3", text, compares(*arms, measure, "pixels", larger=True)))
        for space in SPACES:
            text = f"{where}: {method} has lower fd ({WORDS.get(space, space)})"
            made.append(Claim("3", text, compares(*arms, "fd", space, larger=False)))
    return made


def _loses_quality() -> list[Claim]:
    check = compares("greedy", "none", "precision", JUDGE, larger=False)
    return [Claim("3", "entropy is not quality: greedy has lower precision", check)]


def _fresh() -> list[Claim]:
    better = compares("fresh greedy", "fresh random", "fd", JUDGE, larger=False)
    first = better_than_first("fresh greedy", JUDGE)
    return [
        Claim("7", "fresh data: greedy has lower fd than the model of the original data", first),
        Claim("7", "fresh data: greedy has lower fd than a random choice", better),
    ]


def _real_images() -> list[Claim]:
    plain = compares("accumulate greedy", "accumulate none", "real", JUDGE, larger=True)
    guided = compares("guided greedy", "guided none", "real", JUDGE, larger=True)
    return [
        Claim("8", "greedy takes more real images than their quota", plain),
        Claim("8", "guided, greedy takes more real images than their quota", guided),
    ]


def _guidance() -> list[Claim]:
    alone, selected, free = "guided none", "guided greedy", "accumulate none"
    return [
        Claim("9", "entropy falls with guidance", falls(alone, "entropy", JUDGE)),
        Claim("9", "with greedy it does not", keeps_up(selected, "entropy", JUDGE)),
        Claim("9", "guided has lower fd than free", compares(alone, free, "fd", JUDGE, False)),
        Claim(
            "9",
            "guided and greedy has lower fd than guided",
            compares(selected, alone, "fd", JUDGE, False),
        ),
    ]


def _models() -> list[Claim]:
    check = compares("two models greedy", "two models none", "fd", JUDGE, larger=False)
    return [Claim("10", "two models: greedy has lower fd", check)]


def _anchored() -> list[Claim]:
    """What the paper does not ask."""
    made = []
    for prefix, where, plain in (
        ("", "replace", "none"),
        ("accumulate ", "accumulate", "accumulate none"),
        ("fresh ", "fresh data", "fresh random"),
        ("guided ", "guided", "guided none"),
        ("two models ", "two models", "two models none"),
    ):
        arm = f"{prefix}anchored"
        for other in (plain, f"{prefix}greedy"):
            words = "greedy" if other.endswith("greedy") else "no selection"
            check = compares(arm, other, "fd", JUDGE, larger=False)
            made.append(Claim("", f"{where}: anchored has lower fd than {words}", check))
    spread = compares("anchored", "none", "entropy_training", JUDGE, larger=True)
    control = compares("anchored", "accumulate none", "fd", JUDGE, larger=False)
    both = compares("accumulate anchored", "anchored", "fd", JUDGE, larger=False)
    return [
        *made,
        Claim("", "replace: anchored has a training set of higher entropy", spread),
        Claim("", "anchored, without a real image in training, has lower fd than keeping the "
              "real images unselected at equal N", control),
        Claim("", "keeping the real images and anchoring has lower fd than anchoring alone", both),
    ]  # fmt: skip
