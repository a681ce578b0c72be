"""Greedy max-min selection (farthest-first, k-center)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from entroselect import _checks, _dispatch, _quotas, engine, weighted
from entroselect._float_environment import in_default_float_environment
from entroselect._progress import reporter
from entroselect._quotas import Constraint
from entroselect._selection import OpenedPool, SelectionRun
from entroselect.results import AnyMetric, Selection

STARTS = ("random", "center", "farthest-from-center")


@in_default_float_environment
def greedy_select(
    features: Any,
    k: int | float,
    *,
    start: int | str = 0,
    seed: int | None = None,
    selected: Any = None,
    metric: AnyMetric = "euclidean",
    min_distance: float | None = None,
    backend: str = "auto",
    progress: Any = None,
    memory_limit: int | str | None = None,
    group: Any = None,
    checkpoint: Any = None,
    candidates: Any = None,
    groups: Any = None,
    quotas: Any = None,
    weights: Any = None,
) -> Selection:
    """Picks k rows one by one, each the farthest from all picks before it.

    Gonzalez 1985; Algorithm 1 of Shi et al. 2025. Among equally far rows the lowest index is
    taken. The indices equal those of the textbook loop in float64 (`entroselect.reference`) on
    every backend, for every block size and thread count. Two rows are equally far if their float64
    sums, added in that loop's order (docs/exactness.md), are equal; another order may decide a tie
    differently.

    With `candidates` or `groups`, each pick is the farthest row that may be picked: a candidate
    whose group is not full. With `weights`, each pick has the largest weight x distance (weighted
    k-center: Dyer and Frieze 1985; Hochbaum and Shmoys 1986).

    Args:
        features: (n, d) pool; float16/32/64, bfloat16 or integers; NumPy array, `.npy` memmap,
            anything with DLPack on the CPU or `__array__`, a tensor on a CUDA device, or what
            `open_pool` returns. Not modified. With `group`, this process's rows.
        k: how many rows, 1 <= k <= n less those in `selected`; or a share of the n rows,
            0 < k < 1, rounded to the nearest number.
        start: first pick: a pool index, "random" (drawn with `seed`), "center" (the row nearest
            to the mean row) or "farthest-from-center".
        seed: for start="random".
        selected: what counts as picked already: a list of pool indices, or an (M, d) array of
            vectors that are not in the pool. Picks continue from there; `start` is not used.
        metric: "euclidean"; "cosine": rows are divided by their length, the rest is the same; or,
            of rows of bits, "tanimoto" (Jaccard distance: the bits that one of two rows has alone,
            over those that any of them has; 0 of two rows without bits) or "hamming" (how many bits
            one of them has alone). Rows of bits are bool, one bit per element, or uint8, eight bits
            per byte as `numpy.packbits` makes them. Bytes of 0 and 1 give the same distances, in
            eight times the time. "cpu" and "reference" compare bits, in memory and in one process,
            without weights; no center is defined.
        min_distance: stop early, when the next pick would be closer than this; with `weights`, when
            its weight x distance would be less.
        backend: "auto", "cpu", "cpu:<instruction set>", "cuda" or "reference"; see
            `entroselect info`. "auto" is "cuda" for a tensor on a CUDA device, otherwise "cpu".
        progress: None, True (a bar on a terminal, lines elsewhere) or a function of (done, total);
            with `group`, on rank 0.
        memory_limit: bytes, or text such as "8GiB": the most that this call may allocate, besides
            the interpreter and its libraries. Rows that do not fit are read piece by piece, each a
            few times in all; profile["bytes_read"] says how much.
        group: a torch.distributed process group, or True for all processes: each passes its own
            rows, (0, d) if it has none, and the same other arguments. Rows are numbered from rank
            0 on. Every process gets the whole selection.
        checkpoint: a file in which the state is saved every few minutes and at the end. If it
            exists, the selection resumes from it, with any number of processes, any memory limit
            and a larger k, provided that no row has changed. Every process must see the file, and
            no other selection may use it at the same time.
        candidates: only these rows may be picked: a mask of n bools, or a list of pool indices.
            `radius` covers every row still. `start` 0 then is the first row that may be picked;
            "random" and the centres are among those that may.
        groups: (n,) one label per row of the whole pool, integers or strings.
        quotas: how many rows of each group may be picked. "equal": k in equal parts; what a group
            is too small for goes to the others, evenly, and a rest to the largest groups, one
            each. "proportional": k in proportion to the groups' sizes, by largest remainders; of
            equal ones the larger group's. A size is the number of rows that may be picked, and
            equal sizes count in the order of labels. A mapping: label -> at most that many; a
            group that it does not name has no limit. Rows in `selected` do not count.
        weights: (n,) one number per row, 1e-150 to 1e150; only their ratios matter. Each pick after
            the first has the largest float64(weight * distance), the lowest index among equals;
            products that round to the same number are equal. `start` says what the first pick is,
            whatever its weight; ``start=int(weights.argmax())`` is the heaviest row. Not with
            `group`, nor on a GPU.

    Returns:
        `Selection` with indices int64 (k,) in pick order, distances float64 (k,) from each pick
        to all picks before it (never increasing; inf for the very first) and radius, the
        largest distance of any pool row to the selection. Arrays are where the pool is. With
        `weights`, distances are without weights, and may increase; radius is the largest weight x
        distance of any pool row, at most 1 + max(weights) / min(weights) times the least that any k
        rows leave (without `selected` or a constraint). `counts` has the number of picks by label.
        A prefix is the selection for that smaller k, but not with "equal" or "proportional", where
        quotas depend on k.

    Raises:
        ValueError, TypeError: naming the argument, before any work; rows that are read piece
            by piece are checked in the first pass over them, and a row that has changed when it is
            read again is named then. With `group`, on every process if on one.
        RuntimeError: another process of the group died; an array was written to meanwhile.

    Complexity: at most n k d products in the filter's precision, typically a twentieth (clusters)
    to a fifth of them (half where k is n / 2), and a few exact distances per row. Extra memory: at
    most 2 d + 80 bytes per row and per pick (d less where codes are bytes), 17 d + 26 bytes per row
    for a k-d tree, and a copy of 4 or 8 bytes per value for integer types other than uint8 and bool
    (2 for int8). On a GPU: 2 (n + k) d bytes of fp16 and 24 bytes per row, or tiles of that within
    `memory_limit`. Read piece by piece: 36 bytes per row and about 200 rows
    at least; docs/scale.md says what is read and exchanged. `candidates` or `groups`: 45 bytes per
    row more; `weights`: 28, and narrow rows take the filter, not a k-d tree. Of bits, no pair needs
    a filter: the same share of n k d / 8 bytes, and 36 bytes per row and the bits of the picks; the
    packed bits, if rows are bool.

    Example:
        >>> import numpy as np
        >>> from entroselect import greedy_select
        >>> line = np.array([[0.0], [1.0], [2.0], [10.0]])
        >>> picked = greedy_select(line, 3)
        >>> picked.indices.tolist(), picked.distances.tolist(), picked.radius
        ([0, 3, 2], [inf, 10.0, 2.0], 1.0)
        >>> greedy_select(line, 1, selected=[0, 3]).indices.tolist()
        [2]
        >>> picked = greedy_select(line, 2, groups=["a", "b", "b", "a"], quotas="equal")
        >>> picked.indices.tolist(), picked.counts
        ([0, 2], {'a': 1, 'b': 1})
        >>> picked = greedy_select(line, 3, weights=[1.0, 9.0, 6.0, 1.0])
        >>> picked.indices.tolist(), picked.distances.tolist(), picked.radius
        ([0, 2, 1], [inf, 2.0, 1.0], 8.0)
        >>> bits = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1]], dtype=bool)
        >>> greedy_select(bits, 3, metric="tanimoto").distances.tolist()
        [inf, 1.0, 0.3333333333333333]
    """
    began = time.perf_counter()
    where = {"memory_limit": memory_limit, "group": group}
    served_by = _dispatch.choose(
        backend, "selection", features, selected, metric=metric, **where, checkpoint=checkpoint,
        candidates=candidates, groups=groups, weights=weights,
    )  # fmt: skip
    among = {"candidates": candidates, "groups": groups, "quotas": quotas}
    if k is None:
        raise TypeError("k: expected an integer, or a share of the rows between 0 and 1, got None")
    if min_distance is not None:
        min_distance = _checks.non_negative("min_distance", min_distance)
    if served_by.loops is not None:
        rows = _checks.usable_rows("features", features, metric)
        before, vectors = _checks.picked_before(selected, rows, metric)
        constraint, k = _quotas.constraint(**among, k=k, n=rows.n, before=before)
        among["weights"] = _checks.row_weights(weights, rows.n)
        has_before = len(before) > 0 or vectors is not None
        _check_start(start, seed, metric, has_before, rows.n, constraint)
        rule = {"start": start, "seed": seed, "min_distance": min_distance}
        with reporter(progress, "greedy") as report:
            return served_by.loops.greedy_select(
                features, k, **rule, **among, selected=selected, metric=metric, progress=report
            )
    _check_alone(weights, group)
    opened = OpenedPool(
        features, metric, served_by, **where, whole=checkpoint is None and weights is None, picks=k,
        selected=selected, extra=_extra_bytes(candidates, groups, weights),
    )  # fmt: skip
    with opened.shared_errors():
        before, vectors = _checks.picked_before(selected, opened, metric)
        constraint, k = _quotas.constraint(**among, k=k, n=opened.n, before=before)
        weights = _checks.row_weights(weights, opened.n)
        has_before = len(before) > 0 or vectors is not None
        _check_start(start, seed, metric, has_before, opened.n, constraint)
    about = {"operation": "greedy", "start": start, "seed": seed, "selected": vectors or before}
    about |= {"weights": weights, **_quotas.about(constraint)}
    opened.check_agreement(**about, k=k, min_distance=min_distance, checkpoint=str(checkpoint))
    ready = time.perf_counter()
    with (
        opened.reporter(progress, "greedy") as report,
        SelectionRun(
            opened, k, before, vectors, checkpoint, about, report, False, constraint, weights
        ) as run,
    ):
        first = _first_pick(opened, start, seed, constraint) if run.pool.count == 0 else 0
        radius = engine.farthest_first(
            run.pool, k, min_distance, first, run.state, run.after_round, weights is not None
        )
        radius = run.end(radius)
    return run.result(radius, began, ready)


def _check_alone(weights: Any, group: Any) -> None:
    if weights is not None and group is not None:
        raise ValueError(
            "weights: several processes compare rows by distances alone; leave group out"
        )


def _extra_bytes(candidates: Any, groups: Any, weights: Any) -> int:
    """Bytes per row of the pool that these arguments take."""
    weighing = 0 if weights is None else weighted.BYTES_PER_ROW
    return _quotas.bytes_per_row(candidates, groups) + weighing


def _first_pick(
    opened: OpenedPool, start: int | str, seed: int | None, constraint: Constraint | None
) -> int:
    may = None if constraint is None else constraint.open
    if start == "random":
        draw = np.random.default_rng(seed)
        rows = np.arange(opened.n) if may is None else np.flatnonzero(may)
        return int(rows[opened.broadcast_draw(lambda: draw.integers(len(rows), size=1))[0]])
    if isinstance(start, str):
        return opened.center(start == "farthest-from-center", may)
    return int(start) if constraint is None else constraint.first_pick(int(start))


def _check_start(
    start: Any, seed: Any, metric: str, has_before: bool, n: int, constraint: Constraint | None
) -> None:
    if isinstance(start, str):
        _checks.choice("start", start, STARTS)
        if start != "random" and _checks.is_of_bits(metric):
            raise ValueError(
                f"start: {start!r} is about the mean row, which rows of bits do not have; pass "
                "a row, or 'random'"
            )
    else:
        try:
            _checks.integer("start", start, 0, n - 1, " (a pool row)")
        except TypeError:
            raise TypeError(
                f"start: expected a pool index or one of {', '.join(STARTS)}, got {start!r}"
            ) from None
    if constraint is not None and not isinstance(start, str) and not has_before:
        constraint.first_pick(start)
    if has_before and start != 0:
        raise ValueError("start: has no meaning together with selected; picks continue from there")
    if _checks.seed_value(seed) is not None and start != "random":
        raise ValueError("seed: only start='random' draws anything; drop seed or pass that")
