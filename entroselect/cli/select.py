"""`entroselect select`: a spread-out subset of a pool file, with what it did to the spread."""

from __future__ import annotations

import csv
import importlib.util
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from entroselect import _checks, greedy_select, threshold_select
from entroselect._threads import threads
from entroselect.cli import pools, processes
from entroselect.cli.errors import bad_use, check_backend, check_memory_limit, naming, say
from entroselect.cli.measure import Cover, Spread, cover, rising_ranks, spread
from entroselect.cli.output import write_json
from entroselect.cli.parents import nearest_before
from entroselect.greedy import STARTS
from entroselect.ranks import Ranks, together
from entroselect.results import Float64, Int64


class Method(str, Enum):
    """How rows are chosen."""

    greedy = "greedy"
    threshold = "threshold"
    random = "random"


class Metric(str, Enum):
    """What distance means."""

    euclidean = "euclidean"
    cosine = "cosine"


# Options that mean something to these methods only.
APPLIES = {
    "start": ("greedy",),
    "min_distance": ("greedy",),
    "threshold": ("threshold",),
    "decay": ("threshold",),
    "selected": ("greedy", "threshold"),
}


@dataclass(frozen=True)
class Options:
    """The command line of `select`; None where nothing was given."""

    pool: Path
    key: str | None
    column: str | None
    id_column: str | None
    k: int | None
    fraction: float | None
    method: str
    start: int | str | None
    selected: Path | None
    min_distance: float | None
    threshold: float | None
    decay: float | None
    metric: str
    seed: int | None
    backend: str
    entropy: bool | None
    report: bool
    parquet: bool
    memory_limit: str | None = None
    checkpoint: Path | None = None

    def check(self, alone: bool) -> None:
        """Ends the command on combinations that mean nothing. `alone`: in a single process."""
        check_memory_limit(self.memory_limit)
        if self.memory_limit is not None or not alone:
            why = "with --memory-limit" if alone else "in several processes"
            if self.report:
                bad_use("--report", f"looks at all rows at once, which is not done {why}")
            if self.method == "random":
                bad_use("--method", f"random measures all rows at once, which is not done {why}")
        if self.entropy and not alone:
            bad_use("--entropy", "is measured by 'entroselect entropy' in several processes")
        if self.checkpoint is not None and self.method == "random":
            bad_use("--checkpoint", "has no meaning with --method random")
        if (self.k is None) == (self.fraction is None):
            bad_use("-k / --fraction", "pass one of the two")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            bad_use("--fraction", f"expected more than 0 and at most 1, got {self.fraction:g}")
        for name, methods in APPLIES.items():
            if getattr(self, name) is not None and self.method not in methods:
                bad_use(
                    "--" + name.replace("_", "-"),
                    f"has no meaning with --method {self.method}, only with {' or '.join(methods)}",
                )
        if self.seed is not None and self.method == "greedy" and self.start != "random":
            bad_use("--seed", "greedy draws nothing unless --start random")
        if self.selected is not None and self.start is not None:
            bad_use("--start", "has no meaning with --selected; picks continue from there")
        check_backend(self.backend, selecting=True)

    def count(self, rows: int) -> int:
        """How many rows to pick."""
        return (
            max(1, round(self.fraction * rows)) if self.fraction is not None else int(self.k or 0)
        )


@dataclass(frozen=True)
class Picked:
    """Rows picked by any of the methods.

    Attributes:
        indices: int64 (k,), in pick order.
        distances, thresholds: float64 (k,), None where the method has none.
        radius: the largest distance of any pool row to everything chosen; None if not known yet.
        backend: what computed it.
        profile: where the time went; empty for a random draw.
    """

    indices: Int64
    distances: Float64 | None
    thresholds: Float64 | None
    radius: float | None
    backend: str
    profile: dict[str, Any] = field(default_factory=dict)


def select(
    pool: Annotated[
        Path,
        typer.Argument(metavar="POOL", help=f"Rows to choose from: {pools.KINDS}."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to make for the results.")],
    k: Annotated[int | None, typer.Option("-k", min=1, help="How many rows.")] = None,
    fraction: Annotated[float | None, typer.Option(help="Or: which part of the pool.")] = None,
    method: Annotated[
        Method, typer.Option(help="Farthest first, threshold decay, or a random draw to compare.")
    ] = Method.greedy,
    start: Annotated[
        str | None, typer.Option(help="First greedy pick: a row, 'random' or 'center'. Default 0.")
    ] = None,
    selected: Annotated[
        Path | None, typer.Option(help=".npy with pool rows, or vectors, that are chosen already.")
    ] = None,
    min_distance: Annotated[
        float | None, typer.Option(min=0, help="Greedy: stop when picks get closer than this.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, help="Threshold: starting value. Default: the widest.")
    ] = None,
    decay: Annotated[
        float | None, typer.Option(help="Threshold: factor after each pass. Default 0.95.")
    ] = None,
    metric: Annotated[Metric, typer.Option(help="Distance.")] = Metric.euclidean,
    seed: Annotated[int | None, typer.Option(min=0, help="For whatever is drawn.")] = None,
    backend: Annotated[str, typer.Option(help="See 'entroselect info'.")] = "auto",
    key: Annotated[str | None, typer.Option(help="Which array of the file.")] = None,
    column: Annotated[
        str | None, typer.Option(help="Which column holds the rows, where there are several.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="Which column names the rows. Default: 'id', if there.")
    ] = None,
    entropy: Annotated[
        bool | None,
        typer.Option(
            "--entropy/--no-entropy",
            help="Measure entropy and nearest distances, which compares all pairs. Default: yes, "
            "but no with --memory-limit or several processes.",
        ),
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(help="Such as 8GiB: what does not fit is read in pieces. Default: no limit."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="File to save the state in; if it is there, the selection goes on."),
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Also write report.html.")] = False,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Write selection.parquet though rows have no ids.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print where the time of the selection went.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace OUT once the new is done.")
    ] = False,
) -> None:
    """Picks a spread-out subset of POOL.

    OUT gets indices.npy (pick order), selection.csv, report.json and, for rows with ids,
    selection.parquet, which also says from which earlier row each was so far.

    Started by torchrun, every process takes its part of the pool.
    """
    options = Options(
        pool, key, column, id_column, k, fraction, method.value, _start(start), selected,
        min_distance, threshold, decay, metric.value, seed, backend, entropy, report, parquet,
        memory_limit, checkpoint,
    )  # fmt: skip
    options.check(alone="RANK" not in os.environ)
    if report:
        _check_packages("--report", "cli", "jinja2", "matplotlib")
    if parquet:
        _check_packages("--parquet", "io", "pyarrow")
    with processes.started(backend) as ranks, processes.results(out, force, ranks) as folder:
        summary = run(options, folder, ranks)
    if not processes.leads(ranks):
        return
    _print(summary)
    if profile and summary["profile"]:
        Console(highlight=False).print(profile_table(summary["profile"]))
    say(f"written: {out}")


def run(options: Options, folder: Path | None, ranks: Ranks | None = None) -> dict[str, Any]:
    """Selects, measures and writes into the folder, on the process that has one; returns what
    report.json says."""
    started = time.perf_counter()
    before = None if options.selected is None else pools.read_selected(options.selected)
    rows: Any
    if options.memory_limit is None and ranks is None:
        source = pools.read(options.pool, options.key, options.column, options.id_column)
        rows = source.rows
    else:
        with together(ranks):
            source = pools.outside(options.pool, options.key, options.column, options.id_column)
            rows = processes.share(source.source, ranks)
    k = options.count(source.source.n)
    at = time.perf_counter()
    with naming(features=source.path, selected=options.selected or Path("--selected")):
        picked = pick(options, rows, k, before, ranks is not None)
    seconds = {"select": time.perf_counter() - at}
    if folder is None:
        return {}

    at = time.perf_counter()
    measures = rows is source.rows if options.entropy is None else options.entropy
    ids = source.source.ids(picked.indices)
    tabled = ids is not None or options.parquet
    none = np.empty(0, np.int64)
    kept = source.take(picked.indices if measures or tabled or _needs_cover(options) else none)
    covered = _covered(options, rows, kept, before) if _needs_cover(options) else None
    radius = picked.radius if covered is None else float(covered.radii[-1])
    spreads: dict[str, Spread] = {}
    if measures:
        for name, part in (("before", rows), ("after", kept)):
            say(f"measuring the spread {name}: {len(part)} rows (--no-entropy skips this)")
            spreads[name] = spread(
                part, options.metric, options.backend, options.memory_limit, progress=True
            )
    table = None
    if tabled:
        table = _table(options, source, picked, kept, before, ids)
    seconds["measure"] = time.perf_counter() - at
    seconds["all"] = time.perf_counter() - started

    _write_indices(picked, folder)
    if table is not None:
        _write_parquet(table, folder / "selection.parquet")
    summary = _summary(options, source, picked, radius, spreads, seconds)
    write_json(folder / "report.json", summary)
    if options.report and covered is not None:
        from entroselect.cli.report import selection_page

        page = selection_page(source, picked, covered, spreads, summary)
        (folder / "report.html").write_text(page, encoding="utf-8")
    return summary


def pick(
    options: Options, rows: Any, k: int, before: NDArray[Any] | None, group: bool = False
) -> Picked:
    """The rows the options ask for; `group`: `rows` are this process's part of them."""
    where: dict[str, Any] = {
        "memory_limit": options.memory_limit,
        "group": group or None,
        "checkpoint": options.checkpoint,
    }
    common: dict[str, Any] = {
        "metric": options.metric,
        "backend": options.backend,
        "progress": True,
        "seed": options.seed,
    }
    if options.method == "random":
        checked = _checks.usable_rows("features", rows, options.metric)
        _checks.integer("k", k, 1, checked.n, f" (the pool has {checked.n} rows)")
        drawn = np.random.default_rng(options.seed).choice(checked.n, k, replace=False)
        return Picked(drawn.astype(np.int64), None, None, None, "numpy")
    if options.method == "threshold":
        decay: dict[str, Any] = {} if options.decay is None else {"decay": options.decay}
        done = threshold_select(
            rows, k, selected=before, threshold=options.threshold, **decay, **common, **where
        )
    else:
        start = 0 if options.start is None else options.start
        done = greedy_select(
            rows,
            k,
            start=start,
            selected=before,
            min_distance=options.min_distance,
            **common,
            **where,
        )
    return Picked(
        done.indices, done.distances, done.thresholds, done.radius, done.backend, done.profile
    )


def _start(text: str | None) -> int | str | None:
    if text is None or text in STARTS:
        return text
    if not text.isdecimal():
        bad_use("--start", f"expected a pool row, 'random' or 'center', got {text!r}")
    return int(text)


def _check_packages(option: str, extra: str, *packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise RuntimeError(f"{option} needs {package}: pip install 'entroselect[{extra}]'")


def _needs_cover(options: Options) -> bool:
    return options.report or options.method == "random"


def _covered(
    options: Options, rows: NDArray[Any], kept: NDArray[Any], before: NDArray[Any] | None
) -> Cover:
    """Distances of the pool to everything chosen; what was chosen before comes first."""
    chosen = kept
    if before is not None and len(before):
        chosen = np.concatenate([rows[before] if before.ndim == 1 else before, kept])
    first = len(chosen) - len(kept) + 1
    # Greedy distances tell the radius at every rank already.
    curve = options.report and options.method != "greedy"
    ranks = rising_ranks(first, len(chosen)) if curve else [len(chosen)]
    say(f"measuring the cover of {len(rows)} rows by {len(chosen)}")
    return cover(rows, chosen, ranks, options.metric, options.backend, progress=len(ranks) == 1)


def _write_indices(picked: Picked, folder: Path) -> None:
    np.save(folder / "indices.npy", picked.indices)
    columns: dict[str, list[Any]] = {
        "rank": list(range(1, len(picked.indices) + 1)),
        "index": picked.indices.tolist(),
    }
    if picked.distances is not None:
        columns["distance"] = picked.distances.tolist()
    if picked.thresholds is not None:
        columns["threshold"] = picked.thresholds.tolist()
    with (folder / "selection.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _table(
    options: Options,
    pool: pools.Pool,
    picked: Picked,
    kept: NDArray[Any],
    before: NDArray[Any] | None,
    ids: NDArray[Any] | None,
) -> dict[str, Any]:
    """Columns of selection.parquet. A masked value is null: an id where rows have none, a distance
    where nothing was chosen before, the nearest also where it is a vector that is no pool row."""
    k = len(picked.indices)
    columns: dict[str, Any] = {
        "rank": np.arange(1, k + 1),
        "index": picked.indices,
        "id": ids,
    }
    if picked.distances is None:  # a random draw measures nothing
        return columns
    given = before is not None and before.ndim == 1 and len(before) > 0
    vectors = pool.take(before) if given and before is not None else before
    if vectors is not None and not len(vectors):
        vectors = None
    positions, _ = nearest_before(kept, vectors, options.metric, options.backend)
    # Positions count through what was chosen before and then the picks; -1 is none of them.
    rows = np.full(0 if vectors is None else len(vectors), -1)
    if given and before is not None:
        rows = before
    nearest = np.concatenate([rows, picked.indices]).astype(np.int64)[positions]
    known = (positions >= 0) & (nearest >= 0)
    columns["distance"] = np.ma.array(picked.distances, mask=~np.isfinite(picked.distances))
    columns["nearest_index"] = np.ma.array(nearest, mask=~known)
    columns["nearest_id"] = None
    if ids is not None:
        found = pool.source.ids(np.where(known, nearest, 0))
        columns["nearest_id"] = np.ma.array(found, mask=~known)
    return columns


def _write_parquet(columns: dict[str, Any], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name, values in columns.items():
        if values is None:
            arrays[name] = pa.nulls(len(columns["rank"]), pa.string())
        else:
            mask = np.ma.getmaskarray(values) if np.ma.isMaskedArray(values) else None
            arrays[name] = pa.array(np.ma.getdata(values), mask=mask)
    pq.write_table(pa.table(arrays), path)


def _summary(
    options: Options,
    source: pools.Pool,
    picked: Picked,
    radius: float | None,
    spreads: dict[str, Spread],
    seconds: dict[str, float],
) -> dict[str, Any]:
    given = asdict(options)
    given["pool"] = str(options.pool)
    given["selected"] = None if options.selected is None else str(options.selected)
    given["checkpoint"] = None if options.checkpoint is None else str(options.checkpoint)
    return {
        "input": source.describe(),
        "options": given,
        "picked": len(picked.indices),
        "radius": radius,
        "spread": {name: part.describe() for name, part in spreads.items()},
        "spread_note": (
            "entropy: Kozachenko-Leonenko, k = 1, Euclidean, over the distinct rows "
            "(duplicates='drop'); after: the picked rows alone, without those of --selected"
        ),
        "backend": picked.backend,
        "threads": threads(),
        "profile": picked.profile,
        "seconds": {name: round(value, 6) for name, value in seconds.items()},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of what the figures in a report depend on."""
    return {
        "entroselect": version("entroselect"),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _print(summary: dict[str, Any]) -> None:
    method, rows = summary["options"]["method"], summary["input"]["rows"]
    print(
        f"{method}: picked {summary['picked']:,} of {rows:,} rows, radius {summary['radius']:.6g}, "
        f"{summary['seconds']['select']:.2f} s ({summary['backend']}, {summary['threads']} threads)"
    )
    if summary["spread"]:
        Console(highlight=False).print(spread_table(summary["spread"]))


MEASURES = {
    "rows": "rows",
    "entropy_nats": "entropy (nats)",
    "geometric_mean_distance": "geometric mean distance",
    "mean_nearest_distance": "mean nearest distance",
    "rows_with_a_duplicate": "rows with a duplicate",
}


def spread_table(spreads: dict[str, dict[str, Any]]) -> Table:
    """The measures, one line each, one column for each of the spreads."""
    table = Table("", *spreads)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, label in MEASURES.items():
        table.add_row(label, *(number(part[name]) for part in spreads.values()))
    return table


PROFILE = {
    "rounds": "rounds",
    "picks_per_round": "picks a round",
    "share_of_pairs": "share of the n k pairs looked at",
    "rechecks_per_row": "exact distances a row",
    "open_seconds": "reading and checking the pool (s)",
    "frontier_seconds": "finding the frontier (s)",
    "refresh_seconds": "bringing it up to date (s)",
    "resolve_seconds": "settling picks (s)",
    "read_seconds": "reading, while others are compared (s)",
    "bytes_read": "bytes read",
    "reads_per_row": "times a row was read",
    "processes": "processes",
    "bytes_sent": "bytes sent by rank 0",
    "bytes_received": "bytes received by rank 0",
    "total_seconds": "all of the selection (s)",
}


def profile_table(profile: dict[str, Any]) -> Table:
    """Where the time of a selection went."""
    table = Table("where the time went", "")
    table.columns[1].justify = "right"
    for name, label in PROFILE.items():
        if name not in profile:
            continue
        value = profile[name]
        table.add_row(label, f"{value:,}" if isinstance(value, int) else f"{value:.3g}")
    return table


def number(value: float | int | None) -> str:
    """A number as tables show it."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
