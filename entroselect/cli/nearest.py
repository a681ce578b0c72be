"""`entroselect nearest`: nearest neighbours of the rows of a file."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from entroselect import nearest_distances
from entroselect._settings import threads
from entroselect.cli import inputs, torchrun
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
    EndpointUrl,
    Force,
    Json,
    MemoryLimit,
    Metric,
    Out,
)
from entroselect.cli.output import document, say, show, wants_progress
from entroselect.cli.result_folder import Folder
from entroselect.cli.selection_files import versions
from entroselect.io import Source
from entroselect.results import Neighbours, on_host
from entroselect.scale.process_group import ProcessGroup, shared_errors


def nearest(
    queries: Annotated[Path, typer.Argument(metavar="QUERIES", help=f"Rows: {inputs.KINDS}.")],
    out: Out,
    points: Annotated[
        Path | None,
        typer.Argument(metavar="POINTS", help="Rows to search. Default: the other queries."),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Neighbours of each query.")] = 1,
    metric: Annotated[Metric, typer.Option(help="Distance.")] = Metric.euclidean,
    key: Annotated[str | None, typer.Option(help="Which array of QUERIES.")] = None,
    points_key: Annotated[
        str | None, typer.Option(help="Which array of POINTS. Default: as --key.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Which column of QUERIES, where there are several.")
    ] = None,
    points_column: Annotated[
        str | None, typer.Option(help="Which column of POINTS. Default: as --column.")
    ] = None,
    endpoint_url: EndpointUrl = None,
    cache: Cache = None,
    backend: Backend = "auto",
    memory_limit: MemoryLimit = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Finds the k nearest POINTS of every row of QUERIES.

    OUT gets indices.npy and distances.npy, both (queries, k), and report.json.
    """
    if points is None and points_key is not None:
        bad_use("--points-key", "has no meaning without POINTS")
    if points is None and points_column is not None:
        bad_use("--points-column", "has no meaning without POINTS")
    check_backend(backend)
    check_memory_limit(memory_limit)
    stores = inputs.Stores(endpoint_url, cache)
    stores.check(queries, points)
    options: dict[str, Any] = {
        "k": k,
        "metric": metric.value,
        "backend": backend,
        "memory_limit": memory_limit,
    }
    with torchrun.joined(backend) as ranks, torchrun.results(out, force, ranks) as folder:
        with shared_errors(ranks):
            with reading(queries):
                source = inputs.open_source(queries, key, column, stores=stores)
            target = None
            if points is not None:
                # A name of an array or a column in QUERIES is one in POINTS of the same kind too.
                alike = points.suffix == queries.suffix
                keyed = alike or points.suffix in (".npz", ".safetensors", ".zarr")
                points_key = points_key or (key if keyed else None)
                points_column = points_column or (column if alike else None)
                with reading(points):
                    target = inputs.open_source(points, points_key, points_column, stores=stores)
        started = time.perf_counter()
        with naming(queries=queries, points=points or queries):
            found = nearest_distances(
                torchrun.own_part(source, ranks),
                None if target is None else torchrun.own_part(target, ranks),
                **options,
                group=None if ranks is None else True,
                progress=torchrun.is_main_process(ranks) and wants_progress(),
            )
        seconds = time.perf_counter() - started
        if ranks is not None:
            found = _gathered(found, ranks)
        if folder is None:
            return
        summary = _summary(found, source, target, options, seconds)
        _write(folder, found, summary)
    say(f"written: {out.resolve()}")
    if as_json:
        document({"out": str(out.resolve()), **summary})
    else:
        show(_in_words(found, summary))


def _in_words(found: Neighbours, summary: dict[str, Any]) -> str:
    recall = "" if found.recall is None else f"; recall {found.recall:.4f}, measured on a sample"
    return (
        f"{len(found.indices):,} queries in {summary['seconds']:.2f} s ({found.backend}):\n"
        f"nearest distance ({summary['options']['metric']}) "
        f"{summary['mean_nearest_distance']:.6g} on average, "
        f"{summary['largest_nearest_distance']:.6g} at most{recall}"
    )


def _summary(
    found: Neighbours,
    source: Source,
    target: Source | None,
    options: dict[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """The contents of report.json."""
    return {
        "queries": source.describe(),
        "points": None if target is None else target.describe(),
        "options": options,
        "mean_nearest_distance": float(found.distances[:, 0].mean()),
        "largest_nearest_distance": float(found.distances[:, 0].max()),
        "backend": found.backend,
        "recall": found.recall,
        "threads": threads(),
        "seconds": round(seconds, 6),
        "bytes_read": found.profile["bytes_read"],
        "versions": versions(),
    }


def _write(folder: Folder, found: Neighbours, summary: dict[str, Any]) -> None:
    for name, array in (("indices.npy", found.indices), ("distances.npy", found.distances)):
        with folder.file(name) as file:
            np.save(file, array)
    folder.write_json("report.json", summary)


def _gathered(found: Neighbours, ranks: ProcessGroup) -> Neighbours:
    """On rank 0, the neighbours that all processes found; it writes them."""
    distances = ranks.gather(on_host(found.distances), 0)
    indices = ranks.gather(on_host(found.indices), 0)
    if distances is None or indices is None:
        return found
    return replace(found, distances=distances, indices=indices)
