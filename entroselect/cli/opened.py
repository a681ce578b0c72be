"""What `select` opens before it picks: the pool, the rows that are kept already, and its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.cli import inputs, torchrun
from entroselect.cli.errors import reading
from entroselect.cli.options import Options
from entroselect.cli.selection_files import tables_to_join
from entroselect.io import Source
from entroselect.io.columns import Tables
from entroselect.results import Int64
from entroselect.scale.process_group import ProcessGroup, shared_errors

# Ids of the pool that are held at a time.
_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Opened:
    """The inputs of one selection.

    Attributes:
        source: the pool.
        rows: its rows, or this process's part of them.
        before: pool rows, (m,), or vectors, (m, d), that are picked already; or None.
        scores: of --scores, (n,), or None.
        tables: with --join, what holds all columns of the rows.
    """

    source: inputs.Input
    rows: Any
    before: NDArray[Any] | None
    scores: NDArray[Any] | None
    tables: Tables | None


# Columns that --join adds.
JOINED = ("rank", "distance")


def opened(options: Options, ranks: ProcessGroup | None) -> Opened:
    """Opens them.

    Raises:
        ValueError, TypeError: naming the file, on all processes.
    """
    before = scores = tables = None
    if options.selected is not None:
        with shared_errors(ranks), reading(options.selected, "--selected"):
            before = inputs.read_selected(options.selected)
    named = options.key, options.column, options.id_column, options.stores
    alone = options.memory_limit is None and ranks is None
    with shared_errors(ranks):
        with reading(options.pool):
            source = inputs.outside(options.pool, *named)
            if options.join:
                tables = tables_to_join(source.source, JOINED)
        if options.keep is not None:
            before = rows_named(inputs.read_ids(options.keep), source.source)
        if options.scores is not None:
            scores = inputs.read_scores(options.scores, source.source.n)
        if alone:
            with reading(options.pool):
                source = inputs.in_memory(source)
    rows = source.rows if alone else torchrun.own_part(source.source, ranks)
    return Opened(source, rows, before, scores, tables)


def rows_named(ids: NDArray[Any], source: Source) -> Int64:
    """The pool rows, ascending, that have these ids, or these numbers where rows have no ids.

    Raises:
        ValueError, TypeError: naming --keep.
    """
    first = source.ids(np.zeros(1, np.int64))
    numbers = first is None or first.dtype.kind in "iu"
    wanted = _integers(ids, source.name) if numbers else _strings(ids, source.name)
    if first is None:
        wrong = (wanted < 0) | (wanted >= source.n)
        if wrong.any():
            raise ValueError(
                f"--keep: {wanted[wrong][0]} is no row of {source.name}, which has {source.n} and "
                "no ids; pass row numbers, or --id-column"
            )
        return np.unique(wanted).astype(np.int64)
    places: dict[Any, int] = dict.fromkeys(wanted.tolist(), -1)
    for start in range(0, source.n, _AT_ONCE):
        part = source.ids(np.arange(start, min(start + _AT_ONCE, source.n)))
        if part is None:
            raise ValueError(f"--keep: some rows of {source.name} have no id; pass --id-column")
        for row, called in enumerate(part.tolist(), start):
            if called in places:
                if places[called] >= 0:
                    raise ValueError(
                        f"--keep: {called!r} is the id of two rows of {source.name}, "
                        f"{places[called]} and {row}; pass another --id-column"
                    )
                places[called] = row
    unknown = [called for called, row in places.items() if row < 0]
    if unknown:
        raise ValueError(
            f"--keep: no row of {source.name} has the id {unknown[0]!r} ({len(unknown)} of "
            f"{len(places)} ids are unknown)"
        )
    return np.array(sorted(places.values()), np.int64)


def _integers(ids: NDArray[Any], name: str) -> NDArray[Any]:
    if ids.dtype.kind in "iu":
        return ids
    if not len(ids):
        return ids.astype(np.int64)
    for called in ids.tolist():
        if not (isinstance(called, str) and called.removeprefix("-").isdecimal()):
            raise ValueError(
                f"--keep: expected integers, the ids or row numbers of {name}, got {called!r:.60}"
            )
    return np.array([int(called) for called in ids.tolist()], dtype=object)  # of any size


def _strings(ids: NDArray[Any], name: str) -> NDArray[Any]:
    for called in ids.tolist():
        if not isinstance(called, str):
            raise TypeError(
                f"--keep: rows of {name} have strings as ids, got {called!r:.60}; row numbers are "
                "for --selected"
            )
    return ids
