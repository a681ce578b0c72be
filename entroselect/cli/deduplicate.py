"""`entroselect deduplicate`: the rows of a pool file without near-duplicates."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from entroselect import deduplicate as deduplicated
from entroselect._settings import threads
from entroselect.cli import inputs, selection_files, torchrun
from entroselect.cli.errors import (
    bad_use,
    check_backend,
    check_memory_limit,
    naming,
    reading,
)
from entroselect.cli.options import (
    Backend,
    Cache,
    Column,
    EndpointUrl,
    Force,
    Join,
    Json,
    Key,
    MemoryLimit,
    Metric,
    Out,
    Scores,
)
from entroselect.cli.output import document, say, show, wants_progress
from entroselect.cli.result_folder import Folder
from entroselect.io import Source
from entroselect.io.columns import Tables
from entroselect.results import Cover, on_host
from entroselect.scale.process_group import ProcessGroup, shared_errors

JOINED = ("rank", "rows")  # columns that --join adds


def deduplicate(
    pool: Annotated[Path, typer.Argument(metavar="POOL", help=f"Rows: {inputs.KINDS}.")],
    out: Out,
    distance: Annotated[
        float | None,
        typer.Option(min=0, help="Rows at most this far from a kept row are dropped."),
    ] = None,
    similarity: Annotated[
        float | None,
        typer.Option(
            min=-1, max=1, help="Or: rows at least this similar to one, by cosine or Tanimoto."
        ),
    ] = None,
    scores: Scores = None,
    metric: Annotated[
        Metric | None, typer.Option(help="Distance. Default: euclidean, with --similarity cosine.")
    ] = None,
    backend: Backend = "auto",
    key: Key = None,
    column: Column = None,
    id_column: Annotated[
        str | None, typer.Option(help="Which column names the rows. Default: 'id', if there.")
    ] = None,
    endpoint_url: EndpointUrl = None,
    cache: Cache = None,
    memory_limit: MemoryLimit = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="File to save the state in; if it exists, the command resumes."),
    ] = None,
    join: Join = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Drops rows of POOL that are close to a row that is kept.

    The rows that are kept are farther than --distance from each other.

    OUT gets indices.npy (kept rows, in the order in which they were looked at), selection.csv (how
    many rows each stands for, itself included), duplicate_of.npy and distances.npy (of every row of
    POOL, the nearest kept row and its distance) and report.json; with --join, joined.parquet too,
    which has the columns rank and rows (as selection.csv) before those of POOL.

    Started by torchrun, every process takes its part of the pool.
    """
    if (distance is None) == (similarity is None):
        bad_use("--distance / --similarity", "pass one of the two")
    if similarity is not None and metric in (Metric.euclidean, Metric.hamming):
        bad_use("--metric", "has no meaning with --similarity, which is of cosine or tanimoto")
    check_backend(backend, selecting=True)
    check_memory_limit(memory_limit)
    stores = inputs.Stores(endpoint_url, cache)
    stores.check(pool)
    options: dict[str, Any] = {
        "distance": distance,
        "similarity": similarity,
        "metric": None if metric is None else metric.value,
        "backend": backend,
        "memory_limit": memory_limit,
        "checkpoint": None if checkpoint is None else str(checkpoint),
    }
    with torchrun.joined(backend) as ranks, torchrun.results(out, force, ranks) as folder:
        with shared_errors(ranks):
            with reading(pool):
                source = inputs.open_source(pool, key, column, id_column, stores)
                tables = selection_files.tables_to_join(source, JOINED) if join else None
            numbers = None if scores is None else inputs.read_scores(scores, source.n)
        started = time.perf_counter()
        with naming(features=pool):
            cover = deduplicated(
                torchrun.own_part(source, ranks), scores=numbers, **options,
                group=None if ranks is None else True, progress=wants_progress(),
            )  # fmt: skip
        seconds = time.perf_counter() - started
        if ranks is not None:
            cover = _gathered(cover, ranks)
        if folder is None:
            return
        _write(cover, source, tables, folder)
        summary = _summary(cover, source, options, scores, seconds)
        folder.write_json("report.json", summary)
    say(f"written: {out.resolve()}")
    if as_json:
        document({"out": str(out.resolve()), **summary})
        return
    kept, n = len(cover.indices), len(cover.distances)
    show(
        f"{kept:,} of {n:,} rows kept in {seconds:.2f} s ({cover.backend}); "
        f"{n - kept:,} are duplicates"
    )


def _write(cover: Cover, source: Source, tables: Tables | None, folder: Folder) -> None:
    columns: dict[str, list[Any]] = {
        "rank": list(range(1, len(cover.indices) + 1)),
        "index": on_host(cover.indices).tolist(),
        "rows": on_host(cover.sizes).tolist(),
    }
    ids = source.ids(on_host(cover.indices))
    if ids is not None:
        columns["id"] = ids.tolist()
    selection_files.write_csv(columns, folder)
    for name in ("indices", "duplicate_of", "distances"):
        with folder.file(f"{name}.npy") as file:
            np.save(file, on_host(getattr(cover, name)))
    if tables is not None:
        added = {name: np.array(columns[name]) for name in JOINED}
        selection_files.write_joined(tables, on_host(cover.indices), added, folder)


def _summary(
    cover: Cover, source: Source, options: dict[str, Any], scores: str | None, seconds: float
) -> dict[str, Any]:
    """The contents of report.json."""
    return {
        "input": source.describe(),
        "options": {**options, "scores": scores},
        "rows": len(cover.distances),
        "kept": len(cover.indices),
        "largest_distance": float(cover.distances.max()),
        "most_rows_of_one": int(cover.sizes.max()),
        "backend": cover.backend,
        "threads": threads(),
        "seconds": round(seconds, 6),
        "versions": selection_files.versions(),
    }


def _gathered(cover: Cover, ranks: ProcessGroup) -> Cover:
    """On rank 0, what all processes found of their rows."""
    picks, distances = (ranks.gather(on_host(part), 0) for part in (cover.picks, cover.distances))
    if picks is None or distances is None:
        return cover
    return replace(cover, picks=picks, distances=distances)
