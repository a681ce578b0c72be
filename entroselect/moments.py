"""Selection by moments: rows whose mean and covariance are those of a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from entroselect import _checks
from entroselect._float_environment import in_default_float_environment
from entroselect._progress import reporter
from entroselect.entropy import kl_entropy
from entroselect.greedy import greedy_select
from entroselect.io.rows import Rows
from entroselect.results import Float64, Int64, Selection, on_host

# Values in a chunk of rows that are in memory as float64.
CHUNK_VALUES = 1 << 20

# A fall of the distance by less than this share of the two sets' variance is rounding.
LEAST_FALL = 1e-13

# Variances below this share of the largest one count as that when they are divided by.
LEAST_VARIANCE = 1e-10


@dataclass(frozen=True, eq=False, kw_only=True)
class FrechetSelection(Selection):
    """k rows of a pool, in ascending order; `distances` and `radius` are not measured (NaN).

    Attributes:
        frechet_distance: of the picks to the reference, in the square of the rows' unit.
        entropy: of the picks, in nats, as `kl_entropy` has it; None without `min_entropy`.
        passes: over the pool, each with one exchange.
        exchanged: picks that were exchanged, in all passes.
    """

    frechet_distance: float
    entropy: float | None
    passes: int
    exchanged: int


@in_default_float_environment
def frechet_select(
    features: Any,
    k: int | float,
    reference: Any,
    *,
    min_entropy: float | None = None,
    start: Any = None,
    seed: int | None = None,
    max_passes: int = 100,
    progress: Any = None,
) -> FrechetSelection:
    """Picks k rows whose Frechet distance to a reference is small, by exchanges.

    The distance F(S) (see `frechet_distance`) of the picks S changes, when a row x gets a little
    more weight, by phi(x) = 2 (m - a).x + (x - m)' (I - T) (x - m), where m and C are mean and
    covariance of S, a and A those of the reference, and T = A^1/2 (A^1/2 C A^1/2)^-1/2 A^1/2 the
    optimal transport map between the two normal distributions. A pass computes phi of every row
    and exchanges the q picks of the largest phi for the q other rows of the smallest. q is halved
    until F falls; no exchange raises it. It ends when not even q = 1 helps.

    It is meant for k well above d: exchanges are judged by a slope, which says little where a
    single row matters much.

    The result has a mean and a covariance like the reference's. It says nothing of other
    properties of the distribution, and a reference that is biased, or too small, makes it so too:
    see `diagnose`.

    Args:
        features: (n, d) pool; what `greedy_select` takes, held in memory as it is.
        k: how many rows, 2 <= k <= n, or a share of them, 0 < k < 1.
        reference: (m, d) rows, m >= 2.
        min_entropy: nats. The exchanges end with the last picks whose entropy (`kl_entropy`) is at
            least this; with equal rows among the picks there is none, and it counts as lower.
        start: "random", drawn with `seed`; "greedy", the picks of `greedy_select`, which have
            nearly the most entropy; or k distinct pool rows. None: "greedy" with `min_entropy`,
            otherwise "random".
        seed: for start="random".
        max_passes: the most passes.
        progress: None, True (a bar on a terminal, lines elsewhere) or a function of (passes,
            max_passes), which may end early.

    Returns:
        `FrechetSelection` with indices int64 (k,), ascending. Ties in phi go to the lowest index.
        Given its arguments the result is always the same with one build of NumPy on one kind of
        machine, with as many threads. It is not certified to the last bit, as `greedy_select` is:
        phi and F come from BLAS and LAPACK, whose rounding differs from machine to machine, so that
        an exchange between rows of nearly equal phi may go the other way there. What holds
        everywhere: F of the result is at most F of the start, and its entropy at least
        `min_entropy`.

    Raises:
        ValueError, TypeError: naming the argument, before any work; if the start's entropy is below
            `min_entropy`, with that entropy.

    Complexity: n d**2 + d**3 products per pass, typically 10 to 100 passes; extra memory: 40 bytes
    per row, 32 MB, and a few d by d matrices. With `min_entropy`, one `greedy_select`, and one
    `kl_entropy` of the picks per pass and about log2(k) more at the end.

    Example:
        >>> import numpy as np
        >>> from entroselect import frechet_select
        >>> line = np.arange(10.0)[:, None]
        >>> found = frechet_select(line, 3, [[3.0], [4.0], [5.0]], seed=0)
        >>> found.indices.tolist(), round(found.frechet_distance, 6)
        ([3, 4, 5], 0.0)
    """
    rows = _checks.usable_rows("features", features)
    target = _checks.usable_rows("reference", reference)
    _checks.same_width("reference", target, "features", rows)
    if target.n < 2:
        raise ValueError(f"reference: at least 2 rows needed, got {target.n}")
    k = _checks.pick_count(k, rows.n, 2, rows.n, f" (the pool has {rows.n} rows)")
    max_passes = _checks.integer("max_passes", max_passes, 0)
    if min_entropy is not None:
        min_entropy = _checks.real("min_entropy", min_entropy, "(finite)", math.isfinite)
    picks = _first_picks(rows, k, start, seed, min_entropy)
    if min_entropy is not None and (entropy := _entropy(rows, picks)) < min_entropy:
        more = "start='greedy' has" if start is not None and not _is(start, "greedy") else "that is"
        raise ValueError(
            f"min_entropy: the start has {entropy:.6g} nats, below {min_entropy:.6g}; "
            f"{more} nearly the most that is possible"
        )
    exchange = Exchange(rows, target, picks)
    with reporter(progress, "passes") as report:
        while exchange.passes < max_passes and exchange.improve(min_entropy):
            if report is not None:
                report(exchange.passes, max_passes)
    picks = exchange.picks
    unmeasured = np.full(k, np.nan)
    return FrechetSelection(
        rows.like(picks),
        rows.like(unmeasured),
        math.nan,
        "numpy",
        frechet_distance=exchange.distance * exchange.unit**2,
        entropy=None if min_entropy is None else _entropy(rows, picks),
        passes=exchange.passes,
        exchanged=exchange.exchanged,
    )


def _first_picks(rows: Rows, k: int, start: Any, seed: Any, min_entropy: float | None) -> Int64:
    """The picks that exchanges start from."""
    if start is None:
        start = "random" if min_entropy is None else "greedy"
    if _checks.seed_value(seed) is not None and not _is(start, "random"):
        raise ValueError("seed: only start='random' draws anything; drop seed or pass that")
    if not isinstance(start, str):
        return _checks.start_rows(start, k, rows.n)
    if _checks.choice("start", start, ("random", "greedy")) == "greedy":
        return on_host(greedy_select(rows, k).indices)
    return np.random.default_rng(seed).permutation(rows.n)[:k]


def _is(start: Any, word: str) -> bool:
    return isinstance(start, str) and start == word


def _entropy(rows: Rows, picks: Int64) -> float:
    """Of those rows, in nats; -inf where two of them are equal."""
    try:
        return float(kl_entropy(Rows(rows.values[picks], rows.dtype)))
    except ValueError:
        return -math.inf


def _largest(most: int, allowed: Callable[[int], bool]) -> int:
    """The largest q up to `most` that is allowed, where smaller ones are too; found by halving."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = most if high > most else (low + high) // 2
        low, high = (middle, high) if allowed(middle) else (low, middle)
    return low


class Values:
    """Rows as float64, less an origin and over a unit, a power of two that keeps squares of squares
    within float64."""

    def __init__(self, rows: Rows, origin: Float64, unit: float) -> None:
        self.rows, self.origin, self.unit = rows, origin, unit
        self.n, self.d = rows.n, rows.d

    def at(self, which: Int64 | slice) -> Float64:
        """The values of those rows."""
        return np.asarray((self.rows.float64(which) - self.origin) / self.unit)


def unit_of(rows: Rows, reference: Rows) -> float:
    """A power of two at which no row of both is far from the first of the reference."""
    origin, largest = reference.float64(0), 0.0
    for each in (rows, reference):
        values = Values(each, origin, 1.0)
        largest = max(largest, *(np.abs(values.at(part)).max() for part in chunks(each.n, each.d)))
    return 2.0 ** math.frexp(largest)[1]


class Sums:
    """Sum and sum of outer products of some values: what mean and covariance need."""

    def __init__(self, n: int, total: Float64, outer: Float64) -> None:
        self.n, self.total, self.outer = n, total, outer

    @classmethod
    def of(cls, values: Values, which: Int64 | None = None) -> Sums:
        """Of the given rows, or of all."""
        found = cls(0, np.zeros(values.d), np.zeros((values.d, values.d)))
        for part in chunks(values.n if which is None else len(which), values.d):
            x = values.at(part if which is None else which[part])
            found = found.plus(cls(len(x), x.sum(axis=0), x.T @ x))
        return found

    def plus(self, other: Sums, sign: int = 1) -> Sums:
        """With the other's rows, or without them."""
        return Sums(
            self.n + sign * other.n,
            self.total + sign * other.total,
            self.outer + sign * other.outer,
        )

    def moments(self) -> tuple[Float64, Float64]:
        """Mean and covariance, ddof 1."""
        mean = self.total / self.n
        return mean, (self.outer - self.n * np.outer(mean, mean)) / (self.n - 1)


def chunks(n: int, d: int) -> Iterator[slice]:
    """Slices of n rows of d columns, each small enough to be in memory as float64."""
    step = max(1, CHUNK_VALUES // d)
    return (slice(first, min(first + step, n)) for first in range(0, n, step))


class Target:
    """The moments of the reference, and the Frechet distance to them and its slope.

    Attributes:
        origin, unit: the mean, and a unit; moments passed in are of `Values` with both.
        trace: of the covariance.
    """

    def __init__(self, rows: Rows, unit: float = 1.0) -> None:
        first = rows.float64(0)
        self.unit = unit
        self.origin = first + unit * (Sums.of(Values(rows, first, unit)).total / rows.n)
        _, covariance = Sums.of(Values(rows, self.origin, unit)).moments()
        values, vectors = np.linalg.eigh(covariance)
        self._root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
        self.trace = float(np.trace(covariance))

    def distance(self, mean: Float64, covariance: Float64) -> float:
        """The Frechet distance of those moments to the reference's."""
        shared = np.sqrt(np.linalg.eigvalsh(self._between(covariance)).clip(0)).sum()
        return max(0.0, float(mean @ mean + np.trace(covariance) + self.trace - 2 * shared))

    def slope(self, covariance: Float64) -> Float64:
        """Its derivative by the covariance: I - T. Where the picks hardly vary, T is that of picks
        that vary a little more."""
        values, vectors = np.linalg.eigh(self._between(covariance))
        typical = max(float(values[-1]), (self.trace / len(values)) ** 2)
        if typical == 0.0:  # the reference does not vary at all
            return np.eye(len(values))
        half = self._root @ (vectors * values.clip(LEAST_VARIANCE * typical) ** -0.25)
        return np.asarray(np.eye(len(values)) - half @ half.T)

    def _between(self, covariance: Float64) -> Float64:
        return np.asarray(self._root @ covariance @ self._root)


class Exchange:
    """Picks that are exchanged for other rows, pass after pass.

    Attributes:
        distance: the Frechet distance of the picks to the reference, over the unit's square.
        unit: of lengths.
        passes, exchanged: passes that changed the picks, and how many picks they changed.
    """

    def __init__(self, rows: Rows, reference: Rows, picks: Int64) -> None:
        self.unit = unit_of(rows, reference)
        self._target = Target(reference, self.unit)
        self._values = Values(rows, self._target.origin, self.unit)
        self._picked = np.zeros(rows.n, bool)
        self._picked[picks] = True
        self._sums = Sums.of(self._values, self.picks)
        self.distance = self._target.distance(*self._sums.moments())
        self.passes = self.exchanged = 0
        self._last = rows.n  # picks that the last pass exchanged

    @property
    def picks(self) -> Int64:
        """Ascending."""
        return np.flatnonzero(self._picked)

    def improve(self, min_entropy: float | None) -> bool:
        """One pass. False: it is the last."""
        leave, enter = self._candidates()
        q = min(len(leave), 2 * self._last)
        while q and not self._falls(leave[:q], enter[:q]):
            q //= 2
        more = q > 0
        if min_entropy is not None and q:
            allowed = _largest(q, lambda q: self._allowed(leave[:q], enter[:q], min_entropy))
            q, more = allowed, allowed == q
        if q:
            self._exchange(leave[:q], enter[:q])
        return more

    def _candidates(self) -> tuple[Int64, Int64]:
        """Picks to leave, worst first, and as many rows to enter, best first: all pairs of which
        the second has the smaller phi. Ties: lowest index first."""
        phi, picks, others = self._variation(), self.picks, np.flatnonzero(~self._picked)
        most = min(len(picks), len(others))
        leave = picks[np.argsort(-phi[picks], kind="stable")][:most]
        enter = others[np.argsort(phi[others], kind="stable")][:most]
        better = int(np.count_nonzero(phi[enter] < phi[leave]))
        return leave[:better], enter[:better]

    def _variation(self) -> Float64:
        """phi of every row, up to a constant."""
        mean, covariance = self._sums.moments()
        slope = self._target.slope(covariance)
        phi = np.empty(self._values.n)
        for part in chunks(self._values.n, self._values.d):
            x = self._values.at(part) - mean
            phi[part] = np.einsum("ij,ij->i", x @ slope + 2 * mean, x)
        return phi

    def _after(self, leave: Int64, enter: Int64) -> Sums:
        entering, leaving = Sums.of(self._values, enter), Sums.of(self._values, leave)
        return self._sums.plus(entering).plus(leaving, -1)

    def _falls(self, leave: Int64, enter: Int64) -> bool:
        """Whether that exchange lowers the distance."""
        mean, covariance = self._after(leave, enter).moments()
        least = LEAST_FALL * (self._target.trace + float(np.trace(covariance)))
        return self._target.distance(mean, covariance) < self.distance - least

    def _allowed(self, leave: Int64, enter: Int64, min_entropy: float) -> bool:
        """Whether that exchange lowers the distance and keeps the entropy."""
        if not self._falls(leave, enter):
            return False
        left = np.setdiff1d(self.picks, leave, assume_unique=True)
        return _entropy(self._values.rows, np.sort(np.concatenate([left, enter]))) >= min_entropy

    def _exchange(self, leave: Int64, enter: Int64) -> None:
        self._sums = self._after(leave, enter)
        self.distance = self._target.distance(*self._sums.moments())
        self._picked[leave], self._picked[enter] = False, True
        self._last = len(leave)
        self.passes += 1
        self.exchanged += len(leave)
