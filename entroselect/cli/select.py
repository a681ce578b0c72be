"""`entroselect select`: a spread-out subset of a pool file, with what it did to the spread."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from entroselect._settings import threads
from entroselect.cli import selection_files, torchrun
from entroselect.cli.errors import (
    called,
    describe,
    naming,
)
from entroselect.cli.inputs import KINDS, Input
from entroselect.cli.opened import Opened, opened
from entroselect.cli.options import (
    Backend,
    Cache,
    Candidates,
    Column,
    EndpointUrl,
    Force,
    Groups,
    Join,
    Json,
    Keep,
    Key,
    Method,
    Metric,
    Options,
    Out,
    Quota,
    Scores,
    Weights,
    check_packages,
    method_of,
    start_of,
)
from entroselect.cli.output import document, say, show, wants_progress
from entroselect.cli.pick import anchored_lines, pick
from entroselect.cli.result_folder import Folder
from entroselect.cli.selection_files import PickedRows
from entroselect.cli.signals import heeded
from entroselect.io.columns import Tables
from entroselect.report.spread import SAMPLE, Cover, Spread, cover, rising_ranks, sampled, spread
from entroselect.report.tables import duration, profile_table, spread_table
from entroselect.scale.process_group import ProcessGroup, shared_errors


def select(
    pool: Annotated[
        Path,
        typer.Argument(metavar="POOL", help=f"Rows to choose from: {KINDS}."),
    ],
    out: Out,
    k: Annotated[int | None, typer.Option("-k", min=1, help="How many rows.")] = None,
    fraction: Annotated[
        float | None, typer.Option(help="Or: which part of the pool, to the nearest row.")
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(
            help="Farthest first, threshold decay, anchored, or a random draw to compare. "
            "Default: greedy, with --anchor anchored."
        ),
    ] = None,
    anchor: Annotated[
        Path | None,
        typer.Option(help="Anchored: rows, such as real ones, that the picks shall be like."),
    ] = None,
    diversity: Annotated[
        float | None,
        typer.Option(min=0, help="Anchored: weight of the spread, 0 to 1000. Default 0.003."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Greedy: first pick, a row, 'random', 'center' or 'farthest-from-center'; default "
            "0. Anchored: 'random'."
        ),
    ] = None,
    selected: Annotated[
        Path | None, typer.Option(help=".npy with pool rows, or vectors, that are chosen already.")
    ] = None,
    keep: Keep = None,
    candidates: Candidates = None,
    groups: Groups = None,
    quota: Quota = None,
    weights: Weights = None,
    min_distance: Annotated[
        float | None,
        typer.Option(min=0, help="Greedy: stop when picks (x weights) get closer than this."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, help="Threshold: starting value. Default: the widest.")
    ] = None,
    decay: Annotated[
        float | None, typer.Option(help="Threshold: factor after each pass. Default 0.95.")
    ] = None,
    scores: Scores = None,
    metric: Annotated[Metric, typer.Option(help="Distance.")] = Metric.euclidean,
    seed: Annotated[int | None, typer.Option(min=0, help="For random draws.")] = None,
    backend: Backend = "auto",
    key: Key = None,
    column: Column = None,
    endpoint_url: EndpointUrl = None,
    cache: Cache = None,
    id_column: Annotated[
        str | None, typer.Option(help="Which column names the rows. Default: 'id', if there.")
    ] = None,
    entropy: Annotated[
        bool | None,
        typer.Option(
            "--entropy/--no-entropy",
            help="Measure entropy and nearest distances of all rows, which compares all pairs. "
            f"Default: of {SAMPLE:,} drawn at random where there are more; of none with "
            "--memory-limit or several processes.",
        ),
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(help="Such as 8GiB: what does not fit is read in pieces. Default: no limit."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="File to save the state in; if it exists, the selection resumes."),
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Also write report.html.")] = False,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Write selection.parquet though rows have no ids.")
    ] = False,
    join: Join = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print where the time of the selection went.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Picks a spread-out subset of POOL.

    OUT gets indices.npy (pick order), selection.csv, report.json and, for rows with ids,
    selection.parquet, which also says from which earlier row each was so far; with --join,
    joined.parquet, which has the columns rank and distance before those of POOL. The selection is
    written before anything is joined or measured, and stays if that is interrupted.

    Started by torchrun, every process takes its part of the pool.
    """
    options = Options(
        pool, key, column, id_column, k, fraction, method_of(method, anchor), start_of(start),
        selected, min_distance, threshold, decay, metric.value, seed, backend, entropy, report,
        parquet, memory_limit, checkpoint, anchor, diversity, endpoint_url, cache, groups, quota,
        candidates, weights, keep, scores, join,
    )  # fmt: skip
    options.check(alone=not torchrun.started())
    if report:
        check_packages("--report", "cli", "jinja2", "matplotlib")
    for option, asked_for in (("--parquet", parquet), ("--join", join)):
        if asked_for:
            check_packages(option, "io", "pyarrow")
    with torchrun.joined(backend) as ranks, torchrun.results(out, force, ranks) as folder:
        summary = run(options, folder, ranks)
    if not torchrun.is_main_process(ranks):
        return
    if as_json:
        document({"out": str(out.resolve()), **summary})
        return
    _show(summary)
    if profile and summary["profile"]:
        show(profile_table(summary["profile"]))


def run(
    options: Options, folder: Folder | None, ranks: ProcessGroup | None = None
) -> dict[str, Any]:
    """Selects; then the process that has a folder writes the selection into it and measures it.
    Returns the contents of report.json, {} on the other processes."""
    started = time.perf_counter()
    inputs = opened(options, ranks)
    source = inputs.source
    k = options.count(source.source.n)
    at = time.perf_counter()
    given = {
        "selected": options.selected or Path("--keep"),
        "reference": options.anchor or Path("--anchor"),
        **{name: Path(f"--{name}") for name in ("candidates", "groups", "weights")},
        "quotas": Path("--quota"),
    }
    with naming(features=source.path, **given):
        picked = _pick(options, inputs, k, ranks is not None, folder)
    seconds = {"select": time.perf_counter() - at}
    summary: dict[str, Any] = {}
    with shared_errors(ranks):
        if folder is not None:
            selection_files.write_indices(picked, folder)
            summary = _summary(options, source, picked, seconds)
            folder.write_json("report.json", summary)
            folder.publish()
    if folder is None:
        return {}
    say(f"written: {folder.out}")
    at = time.perf_counter()
    kept_safe = f"the selection is in {folder.out}; measuring it was not finished"
    try:
        with heeded():
            if inputs.tables is not None:
                _join(inputs.tables, picked, folder)
            measured = _measure(options, inputs, picked, folder, summary)
            seconds["measure"] = time.perf_counter() - at
            seconds["all"] = time.perf_counter() - started
            summary["seconds"] = _rounded(seconds)
            summary["finished"] = True
            folder.write_json("report.json", summary)
            if options.report:
                from entroselect.report.selection import selection_page

                page = selection_page(
                    source.rows, picked.indices, picked.distances, *measured, summary
                )
                folder.write("report.html", page)
    except KeyboardInterrupt as error:
        error.args = (kept_safe,)
        raise
    except Exception as error:
        raise RuntimeError(f"{describe(error)}; {kept_safe}") from error
    return summary


def _join(tables: Tables, picked: PickedRows, folder: Folder) -> None:
    """Writes joined.parquet; random and anchored picks have no distance to those before them."""
    columns: dict[str, Any] = {"rank": np.arange(1, len(picked.indices) + 1)}
    if picked.distances is not None:
        columns["distance"] = np.ma.masked_invalid(picked.distances)
    selection_files.write_joined(tables, picked.indices, columns, folder)


def _measure(
    options: Options,
    inputs: Opened,
    picked: PickedRows,
    folder: Folder,
    summary: dict[str, Any],
) -> tuple[Cover | None, dict[str, Spread]]:
    """Writes selection.parquet, measures the selection and puts each measure into report.json as
    soon as it is there. Returns the figures of the page."""
    source, rows, before = inputs.source, inputs.rows, inputs.before
    ids = source.source.ids(picked.indices)
    tabled = ids is not None or options.parquet
    measures = rows is source.rows if options.entropy is None else options.entropy
    if not (tabled or measures or _needs_cover(options)):
        return None, {}
    kept = source.take(picked.indices)
    if tabled:
        columns = selection_files.table(
            source, picked, kept, before, ids, options.metric, options.backend
        )
        selection_files.write_parquet(columns, folder)
    spreads: dict[str, Spread] = {}
    if measures:
        for name, part in (("before", rows), ("after", kept)):
            spreads[name] = _spread(options, name, part)
            summary["spread"][name] = spreads[name].describe()
        folder.write_json("report.json", summary)
    if not _needs_cover(options):
        return None, spreads
    covered = _covered(options, rows, kept, before)
    summary["radius"] = float(covered.radii[-1])
    return covered, spreads


def _spread(options: Options, name: str, rows: Any) -> Spread:
    """How far apart the rows are: all rows with --entropy, otherwise at most SAMPLE of them, drawn
    at random."""
    n = len(rows)
    common: dict[str, Any] = {"metric": options.metric, "backend": options.backend}
    if not options.entropy:
        part = sampled(rows)
        drawn = f"{len(part):,} of {n:,} rows, drawn at random" if len(part) < n else f"{n:,} rows"
        say(f"measuring {name}: {drawn} (--no-entropy skips this)")
        return spread(part, **common, progress=wants_progress(), of=n)
    cost = ""
    if n > SAMPLE:
        cost = f", {n * (n - 1) / 2:.2g} pairs"
        if options.memory_limit is None:
            piece = sampled(rows, 8192)
            at = time.perf_counter()
            spread(piece, **common)
            estimate = (time.perf_counter() - at) * (n / len(piece)) ** 2
            cost += f", about {duration(estimate)} by a sample of {len(piece):,}"
    say(f"measuring {name}: {n:,} rows{cost}")
    if cost:
        say("the selection is written: Ctrl-C leaves it as it is")
    return spread(rows, **common, limit=options.memory_limit, progress=wants_progress())


def _pick(
    options: Options, inputs: Opened, k: int, group: bool, folder: Folder | None
) -> PickedRows:
    """As `pick`; the message of an interruption names the checkpoint."""
    try:
        return pick(options, inputs, k, group)
    except KeyboardInterrupt as error:
        saved = options.checkpoint
        if folder is not None and saved is not None and saved.is_file():
            error.args = (
                f"{folder.out} was not written; what is picked so far is in {saved}, and the same "
                "command goes on from there",
            )
        raise


def _needs_cover(options: Options) -> bool:
    return options.report or options.method == "random"


def _covered(
    options: Options, rows: NDArray[Any], kept: NDArray[Any], before: NDArray[Any] | None
) -> Cover:
    """The cover of the pool by all picks; those of --selected come first."""
    picks = kept
    if before is not None and len(before):
        picks = np.concatenate([rows[before] if before.ndim == 1 else before, kept])
    first = len(picks) - len(kept) + 1
    # Of plain greedy, the distances are the radius at every rank.
    curve = options.report and not options.picks_the_farthest and len(kept) > 0
    ranks = rising_ranks(first, len(picks)) if curve else [len(picks)]
    say(f"measuring the cover of {len(rows):,} rows by {len(picks):,}")
    progress = len(ranks) == 1 and wants_progress()
    return cover(rows, picks, ranks, options.metric, options.backend, progress=progress)


def _summary(
    options: Options, source: Input, picked: PickedRows, seconds: dict[str, float]
) -> dict[str, Any]:
    """The contents of report.json before anything is measured."""
    given = asdict(options)
    for name in ("pool", "selected", "checkpoint", "anchor", "cache", "candidates"):
        given[name] = None if given[name] is None else called(given[name])
    return {
        "finished": False,
        "input": source.describe(),
        "options": given,
        "picked": len(picked.indices),
        "radius": None if options.weights else picked.radius,
        "weighted_radius": picked.radius if options.weights else None,
        "counts": picked.counts,
        "anchored": picked.anchored,
        "spread": {},
        "spread_note": (
            "entropy: Kozachenko-Leonenko, k = 1, Euclidean, over the distinct rows "
            "(duplicates='drop'); it and nearest distances compare only at equal numbers of "
            "measured rows. Fewer measured rows than rows: a sample drawn with seed 0, measured by "
            "itself. after: the picked rows alone, without those of --selected"
        ),
        "backend": picked.backend,
        "threads": threads(),
        "profile": picked.profile,
        "seconds": _rounded(seconds),
        "versions": selection_files.versions(),
    }


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in seconds.items()}


def _show(summary: dict[str, Any]) -> None:
    options, rows = summary["options"], summary["input"]["rows"]
    what = "largest weight x distance left" if summary["radius"] is None else "radius"
    left = summary["weighted_radius"] if summary["radius"] is None else summary["radius"]
    show(
        f"{options['method']}: picked {summary['picked']:,} of {rows:,} rows, {what} "
        f"{left:.6g} ({options['metric']}), {summary['seconds']['select']:.2f} s\n"
        f"backend {summary['backend']}, {summary['threads']} threads"
    )
    if summary["anchored"]:
        show(anchored_lines(summary["anchored"], options["anchor"] is not None))
    if summary["spread"]:
        show(spread_table(summary["spread"], options["metric"]))
        sizes = {part["measured_rows"] for part in summary["spread"].values()}
        if len(sizes) > 1 and options["method"] != "random":
            show("fewer rows stand farther apart even at random: compare with --method random")
