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
    k: int,
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

    The result has a mean and a covariance like the reference's. It says nothing of other
    properties of the distribution, and a reference that is biased, or too small, makes it so too:
    see `diagnose`.

    Args:
        features: (n, d) pool; what `greedy_select` takes, held in memory as it is.
        k: how many rows, 2 <= k <= n.
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

    Complexity: n d**2 + d**3 products per pass, typically 10 to 60 passes; extra memory: 25 bytes
    per row, 24 MB, and a few d by d matrices. With `min_entropy`, one `greedy_select`, and one
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
    k = _checks.integer("k", k, 2, rows.n, f" (the pool has {rows.n} rows)")
    max_passes = _checks.integer("max_passes", max_passes, 0)
    if min_entropy is not None:
        min_entropy = _checks.real("min_entropy", min_entropy, "(finite)", math.isfinite)
    picks = _first_picks(rows, k, start, seed, min_entropy)
    exchange = Exchange(rows, target, picks)
    entropy = None if min_entropy is None else _entropy(rows, picks)
    if min_entropy is not None and entropy is not None and entropy < min_entropy:
        raise ValueError(
            f"min_entropy: the start has {entropy:.6g} nats, below {min_entropy:.6g}; "
            "start='greedy' has nearly the most that is possible"
        )
    with reporter(progress, "passes") as report:
        while exchange.passes < max_passes and exchange.improve(min_entropy):
            if report is not None:
                report(exchange.passes, max_passes)
    return exchange.result(min_entropy)
