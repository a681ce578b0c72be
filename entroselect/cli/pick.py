"""The rows that the options of `select` pick."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from entroselect import _checks, anchored_select, greedy_select, threshold_select
from entroselect.cli import inputs
from entroselect.cli.errors import reading
from entroselect.cli.opened import Opened
from entroselect.cli.options import Options
from entroselect.cli.output import wants_progress, warn
from entroselect.cli.quotas import among
from entroselect.cli.selection_files import PickedRows


def pick(options: Options, opened: Opened, k: int, group: bool = False) -> PickedRows:
    """Selects as the options say. `group`: the rows are this process's part of the pool."""
    rows = opened.rows
    where: dict[str, Any] = {
        "memory_limit": options.memory_limit,
        "group": group or None,
        "checkpoint": options.checkpoint,
        **among(options),
    }
    common: dict[str, Any] = {
        "metric": options.metric,
        "backend": options.backend,
        "progress": wants_progress(),
        "seed": options.seed,
    }
    if options.method == "random":
        checked = _checks.usable_rows("features", rows, options.metric)
        _checks.integer("k", k, 1, checked.n, f" (the pool has {checked.n} rows)")
        drawn = np.random.default_rng(options.seed).choice(checked.n, k, replace=False)
        return PickedRows(drawn.astype(np.int64), None, None, None, "numpy")
    if options.method == "anchored":
        return _anchored(options, rows, k, common)
    if options.method == "threshold":
        decay: dict[str, Any] = {} if options.decay is None else {"decay": options.decay}
        done = threshold_select(
            rows, k, selected=opened.before, threshold=options.threshold, scores=opened.scores,
            **decay, **common, **where,
        )  # fmt: skip
    else:
        start = 0 if options.start is None else options.start
        named = options.weights
        weights = None if named is None else inputs.read_column(named, "--weights")
        done = greedy_select(
            rows,
            k,
            start=start,
            selected=opened.before,
            min_distance=options.min_distance,
            weights=weights,
            **common,
            **where,
        )
    return PickedRows(
        done.indices, done.distances, done.thresholds, done.radius, done.backend, done.profile,
        counts=done.counts,
    )  # fmt: skip


# Of AnchoredSelection, what report.json holds.
REACHED = ("objective", "energy_distance", "pool_distance", "reference_noise", "scale", "exchanges")


def _anchored(options: Options, rows: Any, k: int, common: dict[str, Any]) -> PickedRows:
    reference = None
    if options.anchor is not None:
        with reading(options.anchor, "--anchor"):
            reference = inputs.read(options.anchor, stores=options.stores).rows
    given: dict[str, Any] = {} if options.diversity is None else {"diversity": options.diversity}
    if options.start is not None:
        given["start"] = options.start
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        done = anchored_select(rows, k, reference, **given, **common)
    for warning in caught:
        warn(str(warning.message))
    reached = {name: getattr(done, name) for name in REACHED}
    return PickedRows(
        done.indices, None, None, done.radius, done.backend, done.profile, anchored=reached
    )


def anchored_lines(reached: dict[str, Any], has_anchor: bool) -> str:
    """What an anchored selection reached, for people; without an anchor it is like the pool."""
    lines = f"{reached['exchanges']:,} exchanges; energy distance in mean distances: "
    lines += f"{reached['energy_distance']:.3g} to the "
    if not has_anchor:
        return lines + "pool"
    return (
        f"{lines}anchor, of the whole pool {reached['pool_distance']:.3g},\n"
        f"of the anchor to what it is a sample of about {reached['reference_noise']:.2g}"
    )
