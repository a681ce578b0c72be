"""Threshold decay filter."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from entroselect import _checks, _dispatch, _quotas, engine
from entroselect._float_environment import in_default_float_environment
from entroselect._progress import reporter
from entroselect._selection import OpenedPool, SelectionRun
from entroselect.results import AnyMetric, Int64, Selection


@in_default_float_environment
def threshold_select(
    features: Any,
    k: int | float | None = None,
    *,
    threshold: float | None = None,
    decay: float | None = 0.95,
    order: Any = None,
    scores: Any = None,
    seed: int | None = None,
    selected: Any = None,
    metric: AnyMetric = "euclidean",
    backend: str = "auto",
    progress: Any = None,
    memory_limit: int | str | None = None,
    group: Any = None,
    checkpoint: Any = None,
    candidates: Any = None,
    groups: Any = None,
    quotas: Any = None,
) -> Selection:
    """Goes through the pool and accepts rows farther than a threshold from all accepted ones;
    after each pass the threshold decays, until k rows are accepted.

    Algorithm 2 of Shi et al. 2025. The first row of the traversal is accepted unless `selected`
    says where to continue from. Afterwards every two accepted rows are farther apart than the
    last threshold, and the pool is covered within the last threshold / decay if a pass was
    completed, as it is with `threshold=None`. When nothing but exact copies of accepted rows is
    left, they are accepted in order, at threshold 0, so that exactly k rows come back.

    With ``decay=None`` there is one pass, at the threshold given: the leader algorithm (sphere
    exclusion), whose rows are an r-net of the pool. Every two of them are farther apart than the
    threshold, and with ``k=None`` every other row is within it of one.

    With ``decay = 1 - eps`` this is the (1 + eps) greedy: without `selected`, and with a pass
    completed, the radius is at most 2 / decay times the smallest that any k centers reach, and the
    least distance between accepted rows at least decay / 2 times the largest that any k rows
    reach; `greedy_select` has 2 and 1 / 2. docs/scale.md has the proof and the price.

    Args:
        features: (n, d) pool, as in `greedy_select`.
        k: how many rows, 1 <= k <= n less those in `selected`, or a share of the n rows,
            0 < k < 1. With ``decay=None`` at most k, and without k as many as the pass accepts.
        threshold: starting value, >= 0. None: the largest distance of any pool row to the first
            row (or to `selected`), so that decay does all the work; the value used is
            ``thresholds[0]``. As a share of the pool's width, whatever its units:
            ``0.1 * greedy_select(features, 2).distances[1]``. The paper uses 60 for
            DINOv2-small features, 2000 for 32x32x3 pixels on 0 to 255.
        decay: factor after each pass, above 0 and at most 0.999999. None: one pass at `threshold`.
        order: traversal order, a permutation of the pool rows. Default: pool order.
        scores: (n,) numbers, one per row of the whole pool: the traversal goes from the largest to
            the smallest; equal scores: lowest index first.
        seed: shuffles the traversal instead; at most one of `order`, `scores` and `seed`.
        selected, metric, backend, progress, memory_limit, group, checkpoint: as in `greedy_select`.
        candidates, groups, quotas: as in `greedy_select`: only candidates whose group is not full
            are accepted, and the starting value and the end of the decay are about these alone.
            Without k, only a mapping gives quotas.

    Returns:
        `Selection` with indices in acceptance order, distances from each accepted row to
        everything accepted before, radius, and thresholds float64 (k,), the threshold in force at
        each acceptance. Identical on every backend. With ``decay=None`` the selection may be empty
        (shape (0,)): nothing is farther than the threshold from `selected`.

    Raises:
        ValueError, TypeError: naming the argument, before any work.

    Complexity: at most n k d products in the filter's precision plus n per pass; about
    log(threshold / last threshold) / -log(decay) passes. Memory: as `greedy_select`.

    Example:
        >>> import numpy as np
        >>> from entroselect import threshold_select
        >>> line = np.array([[0.0], [1.0], [2.0], [10.0]])
        >>> picked = threshold_select(line, 3, threshold=4.0, decay=0.5)
        >>> picked.indices.tolist(), picked.thresholds.tolist()
        ([0, 3, 2], [4.0, 4.0, 1.0])
        >>> threshold_select(line, threshold=1.0, decay=None).indices.tolist()
        [0, 2, 3]
    """
    began = time.perf_counter()
    where = {"memory_limit": memory_limit, "group": group}
    served_by = _dispatch.choose(
        backend, "selection", features, selected, metric=metric, **where, checkpoint=checkpoint,
        candidates=candidates, groups=groups,
    )  # fmt: skip
    among = {"candidates": candidates, "groups": groups, "quotas": quotas}
    threshold, decay = _checked_rule(k, threshold, decay)
    rule = {"threshold": threshold, "decay": decay}
    seed = _check_one_order(order, scores, seed)
    if served_by.loops is not None:
        rows = _checks.usable_rows("features", features, metric)
        before = _checks.picked_before(selected, rows, metric)[0]
        most = _quotas.constraint(**among, k=k, n=rows.n, before=before)[1]
        k = None if k is None else most
        order = None if order is None else _checks.traversal_order(order, rows.n)
        scores = None if scores is None else _checks.row_scores(scores, rows.n)
        with reporter(progress, "threshold") as report:
            return served_by.loops.threshold_select(
                features, k, **rule, **among, order=order, scores=scores, seed=seed,
                selected=selected, metric=metric, progress=report,
            )  # fmt: skip
    opened = OpenedPool(
        features, metric, served_by, **where, whole=checkpoint is None, picks=k, selected=selected,
        extra=_quotas.bytes_per_row(candidates, groups),
    )  # fmt: skip
    with opened.shared_errors():
        before, vectors = _checks.picked_before(selected, opened, metric)
        constraint, most = _quotas.constraint(**among, k=k, n=opened.n, before=before)
        traversal = _traversal(order, scores, seed, opened.n)
    about = {"operation": "threshold", **rule, "order": traversal, "selected": vectors or before}
    about |= _quotas.about(constraint)
    opened.check_agreement(**about, k=k, checkpoint=str(checkpoint))
    ready = time.perf_counter()
    with (
        opened.reporter(progress, "threshold") as report,
        SelectionRun(
            opened, most, before, vectors, checkpoint, about, report, k is None, constraint
        ) as run,
    ):
        if constraint is not None:
            traversal = traversal[constraint.open[traversal]]
        elif len(before):
            traversal = traversal[~np.isin(traversal, before)]
        radius = engine.threshold_decay(
            run.pool, most, traversal, threshold, decay, run.state, run.after_round
        )
        radius = run.end(radius)
    return run.result(radius, began, ready, passes=True)


def _checked_rule(k: Any, threshold: Any, decay: Any) -> tuple[float | None, float | None]:
    """Threshold and decay, checked."""
    if threshold is not None:
        threshold = _checks.non_negative("threshold", threshold)
    if decay is None:
        if threshold is None:
            raise ValueError("threshold: with decay=None it stays as it is; pass a number")
        return threshold, None
    if k is None:
        raise ValueError("k: only with decay=None, one pass at a threshold, may it be None")
    # Closer to 1, getting past one gap between distances would take millions of passes.
    accepted = "above 0 and at most 0.999999"
    return threshold, _checks.real("decay", decay, accepted, lambda x: 0 < x <= 0.999999)


def _check_one_order(order: Any, scores: Any, seed: Any) -> int | None:
    """The seed; at most one of the three says in which order the pool is traversed."""
    checked = _checks.seed_value(seed)
    if order is not None and seed is not None:
        raise ValueError("seed: shuffles the traversal that order already gives; pass one of them")
    if scores is not None and (order is not None or seed is not None):
        other = "seed" if order is None else "order"
        raise ValueError(f"scores: give the traversal that {other} gives too; pass one of them")
    return checked


def _traversal(order: Any, scores: Any, seed: int | None, n: int) -> Int64:
    if order is not None:
        return _checks.traversal_order(order, n)
    if scores is not None:  # backwards twice: descending, and lowest index first
        ascending = np.argsort(_checks.row_scores(scores, n)[::-1], kind="stable")
        return (n - 1 - ascending[::-1]).astype(np.int64)
    if seed is not None:
        return np.random.default_rng(seed).permutation(n).astype(np.int64)
    return np.arange(n, dtype=np.int64)
