"""`entroselect diagnose`: what generated rows lack, and which selection helps."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from entroselect import diagnose as find
from entroselect.cli import inputs
from entroselect.cli.errors import check_backend, naming, reading
from entroselect.cli.options import Backend, Cache, Column, EndpointUrl, Json, Key
from entroselect.cli.output import document, show, wants_progress
from entroselect.io import Source
from entroselect.measures.diagnosis import Diagnosis


def diagnose(
    generated: Annotated[
        Path, typer.Argument(metavar="GENERATED", help=f"Rows of a model: {inputs.KINDS}.")
    ],
    real: Annotated[Path, typer.Argument(metavar="REAL", help="Real rows, the reference.")],
    training: Annotated[
        Path | None, typer.Option(help="Rows the model was trained on. Default: not compared.")
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("-k", "--k", min=1, help="Rows to be picked. Default: half of GENERATED."),
    ] = None,
    neighbours: Annotated[int, typer.Option(min=1, help="Of precision and recall.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    key: Key = None,
    column: Column = None,
    endpoint_url: EndpointUrl = None,
    cache: Cache = None,
    backend: Backend = "auto",
    as_json: Json = False,
) -> None:
    """Says what GENERATED lacks against REAL.

    It may lack variety or fidelity; what is printed says which selection to use, as a command.
    """
    check_backend(backend, selecting=True)
    files = {"features": generated, "reference": real, "training": training}
    stores = inputs.Stores(endpoint_url, cache)
    stores.check(*files.values())
    given = {name: path for name, path in files.items() if path is not None}
    sources: dict[str, Source] = {}
    with naming(**given):
        for name, path in given.items():
            with reading(path):
                sources[name] = inputs.open_source(path, key, column, stores=stores)
        found = find(
            **sources,
            k=k,
            neighbours=neighbours,
            seed=seed,
            backend=backend,
            progress=wants_progress(),
        )
    if as_json:
        described = {name: source.describe() for name, source in sources.items()}
        document({**described, **found.to_dict()})
    else:
        more = ["--key", key] if key else ["--column", column] if column else []
        show(f"{found}\n\n{_command(found, generated, real, more)}")


def _command(found: Diagnosis, generated: Path, real: Path, more: list[str]) -> str:
    """What to run to follow the advice."""
    method = ["--method", "random"]
    if found.size.enough:
        method = ["--anchor", str(real)]
        if found.verdict == "repeats":
            method += ["--diversity", "0.01"]
    elif found.verdict == "repeats":
        method = ["--method", "greedy"]
    words = ["select", str(generated), "-k", str(found.picks), *method, *more, "-o", "chosen"]
    return f"entroselect {shlex.join(words)}"
