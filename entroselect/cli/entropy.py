"""`entroselect entropy`: the Kozachenko-Leonenko entropy of a pool file."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from entroselect import kl_entropy
from entroselect.cli import inputs, torchrun
from entroselect.cli.errors import bad_use, check_backend, check_memory_limit, naming, reading
from entroselect.cli.options import Backend, Cache, Column, EndpointUrl, Json, Key, MemoryLimit
from entroselect.cli.output import document, show, wants_progress
from entroselect.scale.process_group import shared_errors


class Duplicates(str, Enum):
    """What to do about rows at distance 0 from their neighbour."""

    error = "error"
    floor = "floor"
    drop = "drop"


def entropy(
    pool: Annotated[Path, typer.Argument(metavar="POOL", help=f"Rows: {inputs.KINDS}.")],
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Which neighbour.")] = 1,
    duplicates: Annotated[
        Duplicates, typer.Option(help="For equal rows: fail, use --floor, or keep one of each.")
    ] = Duplicates.error,
    floor: Annotated[
        float | None,
        typer.Option(help="The smallest distance, with --duplicates floor. Default 1e-10."),
    ] = None,
    key: Key = None,
    column: Column = None,
    endpoint_url: EndpointUrl = None,
    cache: Cache = None,
    backend: Backend = "auto",
    memory_limit: MemoryLimit = None,
    as_json: Json = False,
) -> None:
    """Prints the entropy of POOL in nats, and what went into it."""
    if floor is not None and duplicates is not Duplicates.floor:
        bad_use("--floor", "has no meaning without --duplicates floor")
    check_backend(backend)
    check_memory_limit(memory_limit)
    stores = inputs.Stores(endpoint_url, cache)
    stores.check(pool)
    floors: dict[str, Any] = {} if floor is None else {"floor": floor}
    with torchrun.joined(backend) as ranks, naming(features=pool):
        with shared_errors(ranks), reading(pool):
            source = inputs.open_source(pool, key, column, stores=stores)
        found = kl_entropy(
            torchrun.own_part(source, ranks),
            k,
            duplicates=duplicates.value,
            backend=backend,
            memory_limit=memory_limit,
            group=None if ranks is None else True,
            progress=torchrun.is_main_process(ranks) and wants_progress(),
            **floors,
        )
    if not torchrun.is_main_process(ranks):
        return
    measured = {
        "entropy_nats": float(found),
        "n": found.n,
        "d": found.d,
        "k": found.k,
        "zero_distances": found.zero_distances,
        "geometric_mean_distance": found.geometric_mean_distance,
        "backend": found.backend,
        "bytes_read": source.bytes_read,
    }
    if found.recall is not None:
        measured |= {
            "recall": found.recall,
            "too_high_by": _finite(found.excess),
            "entropy_at_least": _finite(found.low),
        }
    if as_json:
        document({"input": source.describe(), "duplicates": duplicates.value, **measured})
        return
    for name, value in measured.items():
        shown = f"{value:.10g}" if isinstance(value, float) else str(value)
        show(f"{name.replace('_', ' '):24}{shown}")


def _finite(bound: float | None) -> float | None:
    """The bound, or None where the sample supports none: JSON has no infinity."""
    return bound if bound is not None and math.isfinite(bound) else None
