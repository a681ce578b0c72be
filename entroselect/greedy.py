"""Greedy max-min selection (farthest-first, k-center)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from entroselect import _checks, _dispatch, engine, reference
from entroselect._progress import reporter
from entroselect._rows import Rows
from entroselect.results import Int64, Selection

STARTS = ("random", "center")


def greedy_select(
    features: Any,
    k: int,
    *,
    start: int | str = 0,
    seed: int | None = None,
    selected: Any = None,
    metric: str = "euclidean",
    min_distance: float | None = None,
    backend: str = "auto",
    progress: Any = None,
) -> Selection:
    """Chooses k rows one by one, each the farthest from everything chosen before it.

    Gonzalez 1985; Algorithm 1 of Shi et al. 2025. Among equally far rows the lowest index is
    taken. The indices equal those of the textbook loop in float64 (`entroselect.reference`) on
    every backend, for every block size and thread count.

    Args:
        features: (n, d) pool; float16/32/64, bfloat16 or integers; NumPy array, `.npy` memmap,
            anything with DLPack on the CPU or `__array__`, or a tensor on a CUDA device. Not
            modified.
        k: how many rows, 1 <= k <= n less those in `selected`.
        start: first pick: a pool index, "random" (drawn with `seed`), or "center" (the row
            nearest to the mean row).
        seed: for start="random".
        selected: what counts as chosen already: a list of pool indices, or an (M, d) array of
            vectors that are not in the pool. Picks continue from there; `start` is not used.
        metric: "euclidean", or "cosine": rows are divided by their length, the rest is the same.
        min_distance: stop early, when the next pick would be closer than this.
        backend: "auto", "cpu", "cpu:<instruction set>", "cuda" or "reference"; see
            `entroselect info`. "auto" is "cuda" for a tensor on a CUDA device, otherwise "cpu".
        progress: None, True (a bar on a terminal, lines elsewhere) or a function of (done, total).

    Returns:
        `Selection` with indices int64 (k,) in pick order, distances float64 (k,) from each pick
        to everything chosen before it (never increasing; inf for the very first) and radius, the
        largest distance of any pool row to the selection. Arrays are where the pool is.

    Raises:
        ValueError, TypeError: naming the argument, before any work.

    Complexity: at most n k d products in the filter's precision, typically a twentieth (clusters)
    to a fifth of them (half where k is n / 2), and a few exact distances a row. Extra memory:
    n d + k d bytes (twice that where the filter needs bfloat16) + 60 bytes a row, and a copy of 4
    or 8 bytes a value for integer types other than uint8 and bool (2 for int8). On a GPU: 2 (n + k)
    d bytes of fp16 and 24 bytes a row, or tiles of that within ENTROSELECT_MEMORY_LIMIT bytes.

    Example:
        >>> import numpy as np
        >>> from entroselect import greedy_select
        >>> line = np.array([[0.0], [1.0], [2.0], [10.0]])
        >>> picked = greedy_select(line, 3)
        >>> picked.indices.tolist(), picked.distances.tolist(), picked.radius
        ([0, 3, 2], [inf, 10.0, 2.0], 1.0)
        >>> greedy_select(line, 1, selected=[0, 3]).indices.tolist()
        [2]
    """
    began = time.perf_counter()
    chosen = _dispatch.choose_exact(backend, features, selected)
    rows = _checks.usable_rows("features", features, metric)
    before, vectors = _checks.chosen_before(selected, rows, metric)
    has_before = len(before) > 0 or vectors is not None
    _check_start(start, seed, has_before, rows.n)
    k = check_count(k, rows, before)
    if min_distance is not None:
        min_distance = _checks.non_negative("min_distance", min_distance)

    with reporter(progress, "greedy") as report:
        if chosen is None:
            return reference.greedy_select(
                features,
                k,
                start=start,
                seed=seed,
                selected=selected,
                metric=metric,
                min_distance=min_distance,
                progress=report,
            )
        pool = open_with(chosen, rows, metric, before, vectors)
        opened = time.perf_counter()
        first = 0
        if not has_before:  # otherwise unused
            first = _first_pick(chosen, rows, start, seed, metric)
        indices, distances, radius, rounds = engine.farthest_first(
            pool, k, min_distance, report, first
        )
    profile = engine.profile(pool, len(indices), rounds, began, opened)
    return Selection(rows.like(indices), rows.like(distances), radius, chosen.name, profile=profile)


def _first_pick(chosen: Any, rows: Rows, start: int | str, seed: int | None, metric: str) -> int:
    if start == "random":
        return int(np.random.default_rng(seed).integers(rows.n))
    return int(chosen.center(rows, metric) if start == "center" else start)


def open_with(
    chosen: Any, rows: Rows, metric: str, before: Int64, vectors: Rows | None
) -> engine.Pool:
    """A pool in which `before` (pool rows) or `vectors` count as chosen."""
    pool: engine.Pool = chosen.open_pool(rows, metric)
    if len(before):
        pool.pick(before)
    if vectors is not None:
        pool.extend(vectors.values, vectors.dtype)
    return pool


def check_count(k: Any, rows: Rows, before: Int64) -> int:
    """k as an int the pool can serve."""
    left = rows.n - len(before)
    why = f" (the pool has {rows.n} rows" + (f", {len(before)} selected)" if len(before) else ")")
    if left < 1:
        raise ValueError(f"selected: names every row of the pool ({rows.n}); none is left to pick")
    return _checks.integer("k", k, 1, left, why)


def _check_start(start: Any, seed: Any, has_before: bool, n: int) -> None:
    if isinstance(start, str):
        _checks.choice("start", start, STARTS)
    else:
        try:
            _checks.integer("start", start, 0, n - 1, " (a pool row)")
        except TypeError:
            raise TypeError(
                f"start: expected a pool index, 'random' or 'center', got {start!r}"
            ) from None
    if has_before and start != 0:
        raise ValueError("start: has no meaning together with selected; picks continue from there")
    if _checks.seed_value(seed) is not None and start != "random":
        raise ValueError("seed: only start='random' draws anything; drop seed or pass that")
