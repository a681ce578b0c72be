"""What is wrong with generated rows, and which selection helps."""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from entroselect import _checks, _dispatch
from entroselect._float_environment import in_default_float_environment
from entroselect._progress import reporter
from entroselect.entropy import kl_entropy
from entroselect.io.rows import Rows
from entroselect.measures.energy import EnergyTerms
from entroselect.measures.manifold import manifold
from entroselect.measures.noise import ReferenceSize, deviation, reference_size
from entroselect.nearest import nearest_distances
from entroselect.results import Float64, on_host

# Rows of each set that are measured; more are drawn from.
MOST_ROWS = 5000

# The entropy gap is measured on this many random halves; it counts if it is beyond so many
# standard deviations of theirs.
HALVES = 8
CLEAR = 2.0

# This much more of the generated rows than of the real ones are copies of others: they repeat.
MANY_COPIES = 0.05

# A row is memorised if its nearest training row is closer than this share of the median distance
# from a reference row to the nearest other one.
MEMORISED = 0.33

WORDS = {
    "repeats": "It repeats itself: less entropy, or more copies, than as many real rows.",
    "scatters": "It scatters: more entropy than as many real rows, so what lies far out is failure "
    "rather than variety.",
    "unclear": "Neither repeats itself nor scatters, as far as this many rows can tell.",
}
ADVICE = {
    ("repeats", True): "Use anchored_select(features, k, reference, diversity=0.01), which spreads "
    "out and stays near the reference; without a reference greedy_select may help.",
    ("repeats", False): "Use greedy_select(features, k), which spreads out and needs no reference.",
    ("scatters", True): "Match the reference: anchored_select(features, k, reference) or "
    "frechet_select. greedy_select and threshold_select would collect the failures.",
    ("scatters", False): "Pick rows at random: greedy_select and threshold_select would collect "
    "the failures, and this reference would add its noise.",
    ("unclear", True): "Use anchored_select(features, k, reference), which keeps both the entropy "
    "and the distribution.",
    ("unclear", False): "Pick rows at random: nothing here says that a selection would help.",
}
CAUTION = (
    "A reference that lacks a part of the real data ruins every selection that is matched to it, "
    "and none of these numbers can show that."
)


@dataclass(frozen=True)
class Diagnosis:
    """Features against a reference; `print` shows it in words.

    Attributes:
        rows, columns: how many distinct rows of each the entropies are of, and their width.
        entropy, reference_entropy: nats, at equal numbers of rows; None with fewer than 2 distinct.
        entropy_spread: standard deviation of their difference, in nats, from random halves; None
            with fewer than 4 distinct rows.
        copies, reference_copies: share of rows that are equal to an earlier one.
        precision, recall: see `manifold` in measures/manifold.py; None with too few rows.
        size: whether the reference is large enough; `size.distance` is the energy distance.
        reference_rows: how many rows it has.
        picks: for how many picks that was asked.
        generalization_score, real_generalization_score: mean distance to the nearest training row,
            of the features; and of the reference, to the nearest that is not equal. In the unit of
            the rows; None without `training`.
        memorised: share of features that are nearly a training row; None without `training`, or
            where half of the reference has a copy.
    """

    rows: int
    columns: int
    entropy: float | None
    reference_entropy: float | None
    entropy_spread: float | None
    copies: float
    reference_copies: float
    precision: float | None
    recall: float | None
    size: ReferenceSize
    reference_rows: int
    picks: int
    generalization_score: float | None = None
    real_generalization_score: float | None = None
    memorised: float | None = None

    @property
    def entropy_gap(self) -> float | None:
        """entropy - reference_entropy: below 0 variety is missing, above 0 fidelity is."""
        if self.entropy is None or self.reference_entropy is None:
            return None
        return self.entropy - self.reference_entropy

    @property
    def verdict(self) -> str:
        """ "repeats", "scatters" or "unclear": the sign of the entropy gap, if it is beyond two of
        its standard deviations; "repeats" also with 5 % more copies than the reference."""
        if self.copies - self.reference_copies > MANY_COPIES:
            return "repeats"
        gap, spread = self.entropy_gap, self.entropy_spread
        if gap is None or spread is None or abs(gap) <= CLEAR * spread:
            return "unclear"
        return "repeats" if gap < 0 else "scatters"

    @property
    def advice(self) -> str:
        """Which selection to use, in one or two sentences."""
        said = ADVICE[self.verdict, self.size.enough]
        if self.size.enough:
            return said
        return (
            f"The reference is too small to match {self.picks:,} picks to: it has "
            f"{self.reference_rows:,} rows, and about {self.size.needed:,} are needed. {said}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        derived = {"entropy_gap": self.entropy_gap, "verdict": self.verdict, "advice": self.advice}
        return {**asdict(self), **derived, "caution": CAUTION}

    def __str__(self) -> str:
        size = self.size
        lines = [
            f"{self.rows:,} distinct rows of features and as many of the reference, "
            f"{self.columns:,} columns",
            f"entropy          {_number(self.entropy)} nats, reference "
            f"{_number(self.reference_entropy)}: {_number(self.entropy_gap, '+')} "
            f"(+- {_number(self.entropy_spread)})",
            f"copies           {self.copies:.1%}, reference {self.reference_copies:.1%}",
            f"precision        {_number(self.precision)}, recall {_number(self.recall)}",
            f"energy distance  {size.distance:.2g} of the mean distance",
            f"reference        {self.reference_rows:,} rows, noise {size.noise:.2g}; about "
            f"{size.needed:,} needed: {'enough' if size.enough else 'too small'}",
        ]
        if self.generalization_score is not None:
            lines += [
                f"generalization   {_number(self.generalization_score)}, real rows "
                f"{_number(self.real_generalization_score)}",
                "memorised        " + ("-" if self.memorised is None else f"{self.memorised:.1%}"),
            ]
        words = (WORDS[self.verdict], self.advice, CAUTION)
        return "\n".join([*lines, *("\n" + textwrap.fill(text, 79) for text in words)])


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.4g}"


@in_default_float_environment
def diagnose(
    features: Any,
    reference: Any,
    *,
    training: Any = None,
    k: int | None = None,
    neighbours: int = 5,
    seed: int = 0,
    backend: str = "auto",
    progress: Any = None,
) -> Diagnosis:
    """Says what generated rows lack, variety or fidelity, and which selection to use.

    Decisive is the entropy of the features less that of as many real rows. Where it is below 0, a
    model repeats itself, and spreading out helps; where it is above 0, a model scatters, and what
    is far from everything is failure. Then, whether the reference is large enough to be matched:
    see measures/noise.py for the rule. Both are findings on small images (docs/reproduction.md),
    not laws. In the features of a network that was taught on the reference itself everything else
    scatters, real rows that it has not met too: take another network, or such rows as reference.

    Args:
        features: (n, d) generated rows, n >= 2; what `nearest_distances` takes, in memory.
        reference: (m, d) real rows, m >= 2. They should be a fair sample of the real data: a biased
            one cannot be told from these numbers.
        training: (t, d) rows that the model was trained on; None: no scores against them.
        k: how many rows would be picked, for whether the reference is large enough; None: half of
            the features.
        neighbours: k of precision and recall.
        seed: of what is drawn. Of more than 5,000 rows of a set, 5,000 are measured.
        backend: of the searches for neighbours: an exact one, see `nearest_distances`.
        progress: None, True (a bar on a terminal, lines elsewhere) or a function of (done, total).

    Returns:
        `Diagnosis`: `print` it, or `.to_dict()`; `.verdict`, `.advice` and the numbers. The same
        for every thread count; the last digits of some means may differ from machine to machine.

    Raises:
        ValueError, TypeError: naming the argument, before any work.

    Complexity: at most 75 million distances, some 20 searches among 5,000 rows, and one of 10,000
    queries in `training`. Extra memory: some copies of 5,000 rows, besides `training`'s search.

    Example:
        >>> import numpy as np
        >>> from entroselect import diagnose
        >>> draw = np.random.default_rng(0)
        >>> real, model = draw.normal(size=(400, 4)), 1.5 * draw.normal(size=(500, 4))
        >>> found = diagnose(model, real)
        >>> found.verdict, found.size.enough
        ('scatters', True)
        >>> diagnose(real[:40].repeat(10, axis=0), real).verdict
        'repeats'
    """
    _dispatch.choose(backend, "selection", features, reference, training)  # an exact one
    sets = {"features": features, "reference": reference, "training": training}
    rows = {name: _checks.usable_rows(name, x) for name, x in sets.items() if x is not None}
    for name, found in rows.items():
        _checks.same_width(name, found, "features", rows["features"])
        if found.n < 2:
            raise ValueError(f"{name}: at least 2 rows needed, got {found.n}")
    neighbours = _checks.integer("neighbours", neighbours, 1)
    seed = _checks.integer("seed", seed, 0)
    n, m = rows["features"].n, rows["reference"].n
    k = max(1, n // 2) if k is None else _checks.integer("k", k, 1, n, f" (there are {n} features)")
    draw = np.random.default_rng(seed)
    made, real = (_drawn(rows[name], MOST_ROWS, draw) for name in ("features", "reference"))
    steps = 4 if training is not None else 3
    with reporter(progress, "diagnosis") as report:

        def step(done: int) -> None:
            if report is not None:
                report(done, steps)

        measured = _entropies(made, real, draw, backend)
        step(1)
        equal = min(made.n, real.n)
        balls = manifold(_drawn(real, equal, draw), _drawn(made, equal, draw), neighbours)
        step(2)
        size = _size(made, real, m, k)
        step(3)
        scores: dict[str, Any] = {}
        if training is not None:
            scores = _scores(made, real, rows["training"], backend)
            step(4)
    return Diagnosis(
        columns=made.d,
        **measured,
        precision=balls["precision"],
        recall=balls["recall"],
        size=size,
        reference_rows=m,
        picks=k,
        **scores,
    )


def _drawn(rows: Rows, most: int, draw: np.random.Generator) -> Rows:
    """At most so many of the rows, in their order, in host memory."""
    which = np.sort(draw.permutation(rows.n)[:most])
    return Rows(rows.take(which), rows.dtype)


def _entropies(made: Rows, real: Rows, draw: np.random.Generator, backend: str) -> dict[str, Any]:
    """Entropies of as many distinct rows of both, and how much their difference varies."""
    distinct = [_distinct(rows, backend) for rows in (made, real)]
    n = min(rows.n for rows in distinct)
    equal = [_drawn(rows, n, draw) for rows in distinct]
    entropies = [float(kl_entropy(rows, backend=backend)) if n > 1 else None for rows in equal]
    spread = None
    if n > 3:
        gaps = []
        for _ in range(HALVES):
            one, other = (kl_entropy(_drawn(rows, n // 2, draw), backend=backend) for rows in equal)
            gaps.append(one - other)
        spread = float(np.std(gaps, ddof=1))
    copies = [1 - few.n / rows.n for few, rows in zip(distinct, (made, real), strict=True)]
    return {
        "rows": n,
        "entropy": entropies[0],
        "reference_entropy": entropies[1],
        "entropy_spread": spread,
        "copies": copies[0],
        "reference_copies": copies[1],
    }


def _distinct(rows: Rows, backend: str) -> Rows:
    """The first of every set of equal rows."""
    found = nearest_distances(rows, backend=backend)
    distances, indices = on_host(found.distances)[:, 0], on_host(found.indices)[:, 0]
    # Ties go to the lowest index, so the nearest row of a copy of an earlier row is an earlier one.
    copy = (distances == 0) & (indices < np.arange(rows.n))
    return Rows(rows.values[~copy], rows.dtype)


def _size(made: Rows, real: Rows, m: int, k: int) -> ReferenceSize:
    """Whether the m rows, of which `real` were drawn, are enough for k picks."""
    terms = EnergyTerms(made, real, backend="cpu")
    pool, reference = terms.one * made.n / (made.n - 1), terms.other * real.n / (real.n - 1)
    return reference_size(terms.cross, pool, reference, deviation(real), m=m, k=k)


def _scores(made: Rows, real: Rows, training: Rows, backend: str) -> dict[str, float | None]:
    """Scores of both against the training rows."""
    to_training = on_host(nearest_distances(made, training, backend=backend).distances)[:, 0]
    two = on_host(nearest_distances(real, training, 2, backend=backend).distances)
    among: Float64 = on_host(nearest_distances(real, backend=backend).distances)[:, 0]
    close = MEMORISED * float(np.median(among))
    return {
        "generalization_score": math.fsum(to_training) / made.n,
        "real_generalization_score": math.fsum(np.where(two[:, 0] > 0, two[:, 0], two[:, 1]))
        / real.n,
        "memorised": float(np.mean(to_training < close)) if close > 0 else None,
    }
