"""Anchored selection: rows that are distributed like a reference and spread out."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any

import numpy as np

from entroselect import _checks, _core, _dispatch
from entroselect._float_environment import in_default_float_environment
from entroselect._memory import memory_limit as bytes_of
from entroselect._progress import reporter
from entroselect.backends.base import Backend
from entroselect.backends.cpu import LISTED, distances_to
from entroselect.entropy import from_neighbours
from entroselect.exchange import Exchanged, Objective
from entroselect.io.rows import Rows
from entroselect.measures.noise import ReferenceSize, deviation, deviation_bytes, reference_size
from entroselect.results import AnchoredSelection, Int64, Metric, Neighbours
from entroselect.scale.budget import check_least, point_bytes

STARTS = ("herding", "random")

# Distances below this share of the mean distance count as that much in the objective, so that
# equal rows have a finite logarithm.
SMALLEST = 1e-6
MOST_DIVERSITY = 1000.0

# Rows of a pool that its distance to the reference is taken from, unless the reference is larger.
SAMPLE = 10_000


@in_default_float_environment
def anchored_select(
    features: Any,
    k: int | float,
    reference: Any = None,
    *,
    diversity: float = 0.003,
    metric: Metric = "euclidean",
    start: str | Any = "herding",
    seed: int | None = None,
    max_exchanges: int | None = None,
    backend: str = "auto",
    progress: Any = None,
    memory_limit: int | str | None = None,
) -> AnchoredSelection:
    """Picks k rows that are distributed like a reference and, as far as asked for, spread out.

    Minimises E(S, R) - diversity * mean over x in S of log(distance to the nearest other row of S)

    over sets S of k rows. E is the energy distance to the reference R (Szekely and Rizzo 2013:
    2 mean d(s, r) - mean d(s, s') - mean d(r, r'), over all pairs), distances in units of the mean
    distance from pool to reference, so `diversity` has no unit. With 0, S copies the distribution
    of R. Greedy selection picks what is far from everything, failures of a model among it;
    this does not, because these are not where R is.

    The search starts with herding (Welling 2009: one row after the other, each the one that
    lowers the objective most) and exchanges picked rows in turn, each for the row that
    lowers the objective most, until no exchange of one row does. That is a local minimum. Sums are
    exact (docs/exactness.md), so the rows picked are the same for every backend, instruction set
    and number of threads.

    The reference decides what is good. If it lacks a part of the data, so will the selection, which
    then is worse than a random one; nothing here can tell. If it is small, its own noise is copied;
    a warning is given then.

    Args:
        features: (n, d) pool, as in `greedy_select`; a Source is read into memory, which
            `memory_limit` does not count.
        k: how many rows, 1 <= k <= n, or a share of them, 0 < k < 1.
        reference: (m, d) rows, m >= 2, such as real images; None: the pool itself, which gives
            a small set that is distributed like the pool.
        diversity: weight of the logarithm, 0 to 1000. Between 0.003 and 0.03, depending on the
            features, the rows have the entropy of random ones at a smaller distance to R; 1 has
            nearly the largest entropy.
        metric: "euclidean", or "cosine": rows are divided by their length first.
        start: "herding"; "random", drawn with `seed`; or k pool rows.
        seed: for start="random".
        max_exchanges: stop after so many.
        backend: "auto", "cpu", "cpu:<instruction set>" or "reference".
        progress: None, True (a bar on a terminal, lines elsewhere) or a function of (done, total).
        memory_limit: bytes, or text such as "8GiB": refuse at once if more would be allocated.

    Returns:
        `AnchoredSelection`: indices int64 (k,), their distances to each other, objective, energy
        distance, entropy, noise of the reference.

    Raises:
        ValueError, TypeError: naming the argument, before any work.
        RuntimeError: an array was written to meanwhile.

    Warns:
        UserWarning: the reference is too small to steer by.

    Complexity: n m + m^2 exact distances once; n of them per row of the start, 2 n per exchange;
    usually fewer exchanges than rows picked. Memory: at most 240 bytes per pool row, with diversity
    1,400 + 2 d more; with a reference at least 24 MB and, of a larger pool, a copy of 10,000 rows.

    Example:
        >>> import numpy as np
        >>> from entroselect import anchored_select
        >>> pool = np.array([[0.0], [0.1], [1.0], [1.1], [50.0]])
        >>> real = np.array([[0.0], [1.0]])
        >>> sorted(anchored_select(pool, 2, real, diversity=0).indices.tolist())
        [0, 2]
    """
    began = time.perf_counter()
    served_by = _dispatch.choose(backend, "exchange", features, reference)
    limit = bytes_of(memory_limit)
    _checks.choice("metric", metric, _checks.METRICS)
    rows = _checks.usable_rows("features", features, metric)
    targets = rows
    if reference is not None:
        targets = _checks.usable_rows("reference", reference, metric)
        _checks.same_width("reference", targets, "features", rows)
        if targets.n < 2:
            raise ValueError(f"reference: at least 2 rows needed, got {targets.n}")
    k = _checks.pick_count(k, rows.n, 1, rows.n, " (the pool's rows)")
    diversity = _checks.real(
        "diversity", diversity, f"from 0 to {MOST_DIVERSITY:g}", lambda x: 0 <= x <= MOST_DIVERSITY
    )
    most = np.iinfo(np.int64).max
    if max_exchanges is not None:
        most = _checks.integer("max_exchanges", max_exchanges, 0)
    first = _first_rows(start, seed, k, rows.n)
    check_least(limit, _bytes(rows, targets, diversity), f"{rows.n} rows of {rows.d} columns", None)
    with reporter(progress, "anchored") as report:
        anchor = _Anchor(rows, targets, k, metric, served_by)
        objective = anchor.objective(k, diversity)
        told = None if report is None else lambda done: report(done, 2 * k)
        ready = time.perf_counter()
        found = served_by.exchange(rows, metric, objective, first, most, told)
    ended = time.perf_counter()
    anchor.warn()
    seconds = {"before_seconds": ready - began, "exchange_seconds": ended - ready}
    return anchor.result(objective, found, diversity, seconds)


def _first_rows(start: Any, seed: int | None, k: int, n: int) -> Int64 | None:
    """The rows that the search starts with; None: herding."""
    if _checks.seed_value(seed) is not None and not (isinstance(start, str) and start == "random"):
        raise ValueError("seed: only start='random' draws anything; drop seed or pass that")
    if isinstance(start, str):
        _checks.choice("start", start, STARTS)
        if start == "herding":
            return None
        return np.random.default_rng(seed).choice(n, k, replace=False)
    return _checks.start_rows(start, k, n)


def _bytes(rows: Rows, targets: Rows, diversity: float) -> int:
    """The most bytes that a selection allocates besides its inputs: in the search, or before it."""
    per_row = _core.exchange_bytes_per_row() + 64
    if diversity > 0:
        per_row += LISTED * 20 + point_bytes(rows.d)
    before = rows.n * 64 + deviation_bytes(targets)
    sample = len(_sample(rows, targets))
    if sample < rows.n:
        before += sample * rows.d * rows.values.itemsize
    return max(rows.n * per_row, 0 if targets is rows else before)


def _sample(rows: Rows, targets: Rows) -> Int64:
    """The pool rows that its distance to the reference is taken from: all of them, or, of many,
    some that are evenly spaced."""
    return np.arange(rows.n)[:: -(-rows.n // max(targets.n, SAMPLE))]


class _Anchor:
    """What a selection needs to know of pool and reference: mean distances, before any search."""

    size: ReferenceSize | None  # whether the reference is large enough; None without one

    def __init__(self, rows: Rows, targets: Rows, k: int, metric: str, backend: Backend) -> None:
        self.rows, self.targets, self.metric, self.backend = rows, targets, metric, backend
        self.sums = np.zeros(rows.n)  # of every pool row's distances to the reference
        backend.add_distances(rows, targets, metric, self.sums)
        self.scale = math.fsum(self.sums) / (rows.n * targets.n) or 1.0
        if targets is rows:
            self.within, self.pool_distance, self.size = self.scale, 0.0, None
            return
        self.within = self._mean(targets, targets)
        sample = _sample(rows, targets)
        n, m = len(sample), targets.n
        pool = rows if n == rows.n else _part(rows, sample)
        across, own = math.fsum(self.sums[sample]) / (n * m), self._mean(pool, pool)
        self.pool_distance = (2 * across - own - self.within) / self.scale
        self.size = reference_size(
            across,
            own * n / max(1, n - 1),
            self.within * m / (m - 1),
            deviation(targets, metric),
            m=m,
            k=k,
        )

    def _mean(self, some: Rows, others: Rows) -> float:
        """Mean distance over all pairs."""
        totals = np.zeros(some.n)
        self.backend.add_distances(some, others, self.metric, totals)
        return math.fsum(totals) / (some.n * others.n)

    def objective(self, k: int, diversity: float) -> Objective:
        """The objective in whole numbers, of as many bits as no sum overflows."""
        largest = 2.0
        if self.metric == "euclidean":
            origin = self.targets.float64(0)
            squared = (
                distances_to(rows, "euclidean", origin) for rows in (self.rows, self.targets)
            )
            largest = 2 * math.sqrt(max(found.max() for found in squared)) or 1.0
        most = 2.0**59 / (k * largest)  # the sums of k distances, times k
        if diversity > 0:  # k logarithms, times k; none is beyond 32
            most = min(most, 2.0**56 / (float(k) * k * diversity * self.scale))
        per = 2.0 ** (math.frexp(min(most, 2.0**1000))[1] - 1)
        return Objective(
            k=k,
            attraction=np.rint(self.sums * per / self.targets.n).astype(np.int64),
            per=per,
            weight=diversity * self.scale * per / 2 if k > 1 else 0.0,
            scale_squared=max(self.scale**2, 2.0**-1000),  # tinier squares lose digits
            floor=SMALLEST**2,
        )

    def warn(self) -> None:
        """Warns where the reference is too small to be better than random rows."""
        if self.size is not None and not self.size.enough:
            warnings.warn(
                f"reference: too small to steer by: it has {self.targets.n} rows, and about "
                f"{self.size.needed} are needed for this pool; the selection may be worse than "
                "random rows. Give more rows, or none",
                stacklevel=4,
            )

    def result(
        self, objective: Objective, found: Exchanged, diversity: float, profile: dict[str, Any]
    ) -> AnchoredSelection:
        """The selection, with what it reached."""
        k, members = objective.k, found.members
        pairs = 2 * k * int(objective.attraction[members].sum()) - sum(found.sums.tolist())
        energy = pairs / (k * k * objective.per * self.scale) - self.within / self.scale
        nearest = np.sqrt(found.nearest[members])
        spread, entropy = 0.0, None
        if k > 1:
            spread = math.fsum(np.log(np.maximum(nearest / self.scale, SMALLEST))) / k
        if k > 1 and nearest.min() > 0:
            among = Neighbours(nearest[:, None], members[:, None], self.backend.name)
            entropy = from_neighbours(_part(self.rows, members), among, duplicates="error")
        left = np.delete(found.nearest, members)
        return AnchoredSelection(
            indices=members,
            distances=nearest,
            radius=math.sqrt(left.max()) if len(left) else 0.0,
            backend=self.backend.name,
            profile=profile,
            objective=energy - diversity * spread,
            energy_distance=energy,
            entropy=entropy,
            pool_distance=self.pool_distance,
            reference_noise=0.0 if self.size is None else self.size.noise,
            scale=self.scale,
            exchanges=found.exchanges,
        )


def _part(rows: Rows, which: Int64) -> Rows:
    return Rows(rows.take(which), rows.dtype)
