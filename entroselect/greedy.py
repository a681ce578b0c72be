"""Greedy max-min selection (farthest-first, k-center)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from entroselect import _checks, _dispatch, engine, reference
from entroselect._float_environment import in_default_float_environment
from entroselect._progress import reporter
from entroselect._selection import OpenedPool, SelectionRun, check_count
from entroselect.results import Metric, Selection

STARTS = ("random", "center")


@in_default_float_environment
def greedy_select(
    features: Any,
    k: int,
    *,
    start: int | str = 0,
    seed: int | None = None,
    selected: Any = None,
    metric: Metric = "euclidean",
    min_distance: float | None = None,
    backend: str = "auto",
    progress: Any = None,
    memory_limit: int | str | None = None,
    group: Any = None,
    checkpoint: Any = None,
) -> Selection:
    """Chooses k rows one by one, each the farthest from everything chosen before it.

    Gonzalez 1985; Algorithm 1 of Shi et al. 2025. Among equally far rows the lowest index is
    taken. The indices equal those of the textbook loop in float64 (`entroselect.reference`) on
    every backend, for every block size and thread count. Equally far means: as float64 sums in that
    loop's order (docs/exactness.md); adding in another one may decide a tie otherwise.

    Args:
        features: (n, d) pool; float16/32/64, bfloat16 or integers; NumPy array, `.npy` memmap,
            anything with DLPack on the CPU or `__array__`, a tensor on a CUDA device, or what
            `open_pool` returns. Not modified. With `group`, this process's rows.
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
        progress: None, True (a bar on a terminal, lines elsewhere) or a function of (done, total);
            with `group`, on rank 0.
        memory_limit: bytes, or text such as "8GiB", that what is allocated here may take, beside
            what the interpreter and its libraries take. Rows that do not fit are read piece by
            piece, each a few times in all; profile["bytes_read"] says how much.
        group: a torch.distributed process group, or True for all processes: each passes its own
            rows, (0, d) if it has none, and the same other arguments. Rows are numbered from rank
            0 on. Every process gets the whole selection.
        checkpoint: a file to save the state in every few minutes and at the end. If it is there
            already, the selection goes on from it, with any number of processes, memory limit and
            larger k, if every row is what it was. All processes need to see it, and no other
            selection may use it at the same time.

    Returns:
        `Selection` with indices int64 (k,) in pick order, distances float64 (k,) from each pick
        to everything chosen before it (never increasing; inf for the very first) and radius, the
        largest distance of any pool row to the selection. Arrays are where the pool is.

    Raises:
        ValueError, TypeError: naming the argument, before any work; values of rows that are read
            piece by piece are looked at in the first pass over them, and a row that is another
            when it is read again is named then. With `group`, on every process if on one.
        RuntimeError: another process of the group died; an array was written to meanwhile.

    Complexity: at most n k d products in the filter's precision, typically a twentieth (clusters)
    to a fifth of them (half where k is n / 2), and a few exact distances per row. Extra memory: at
    most 2 d + 80 bytes per row and per pick (d less where codes are bytes), 17 d + 26 bytes per row
    for a k-d tree, and a copy of 4 or 8 bytes per value for integer types other than uint8 and bool
    (2 for int8). On a GPU: 2 (n + k) d bytes of fp16 and 24 bytes per row, or tiles of that within
    `memory_limit`. Read piece by piece: 36 bytes per row and at least some 200 rows; docs/scale.md
    says what is read and exchanged.

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
    if min_distance is not None:
        min_distance = _checks.non_negative("min_distance", min_distance)
    if chosen is None:
        _dispatch.only_in_memory(memory_limit=memory_limit, group=group, checkpoint=checkpoint)
        rows = _checks.usable_rows("features", features, metric)
        before, vectors = _checks.chosen_before(selected, rows, metric)
        _check_start(start, seed, len(before) > 0 or vectors is not None, rows.n)
        k = check_count(k, rows, before)
        with reporter(progress, "greedy") as report:
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
    pool = OpenedPool(
        features,
        metric,
        chosen,
        memory_limit=memory_limit,
        group=group,
        whole=checkpoint is None,
        picks=k,
        selected=selected,
    )
    with pool.shared_errors():
        before, vectors = _checks.chosen_before(selected, pool, metric)
        has_before = len(before) > 0 or vectors is not None
        _check_start(start, seed, has_before, pool.n)
        k = check_count(k, pool, before)
    about = {"operation": "greedy", "start": start, "seed": seed, "selected": vectors or before}
    pool.check_agreement(**about, k=k, min_distance=min_distance, checkpoint=str(checkpoint))
    opened = time.perf_counter()
    with (
        pool.reporter(progress, "greedy") as report,
        SelectionRun(pool, k, before, vectors, checkpoint, about, report) as run,
    ):
        first = 0  # unused unless nothing is chosen yet
        if pool.pool.count == 0:
            first = _first_pick(pool, start, seed)
        radius = engine.farthest_first(
            pool.pool, k, min_distance, first, run.state, run.after_round
        )
        run.end()
    indices, squared, _ = run.state.joined()
    profile = engine.profile(pool.pool, len(indices), run.state.rounds, began, opened)
    return Selection(
        pool.like(indices), pool.like(np.sqrt(squared)), radius, chosen.name, profile=profile
    )


def _first_pick(pool: OpenedPool, start: int | str, seed: int | None) -> int:
    if start == "random":
        drawn = pool.broadcast_draw(lambda: np.random.default_rng(seed).integers(pool.n, size=1))
        return int(drawn[0])
    return pool.center() if start == "center" else int(start)


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
