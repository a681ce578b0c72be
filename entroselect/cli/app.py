"""The application: its commands and the options that all of them share."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from entroselect.cli.deduplicate import deduplicate
from entroselect.cli.diagnose import diagnose
from entroselect.cli.entropy import entropy
from entroselect.cli.errors import PlainErrors, show
from entroselect.cli.info import info
from entroselect.cli.loop import loop, report
from entroselect.cli.nearest import nearest
from entroselect.cli.select import select

app = typer.Typer(
    cls=PlainErrors,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # brackets in help texts are brackets
)
app.command()(select)
app.command()(entropy)
app.command()(nearest)
app.command()(deduplicate)
app.command()(diagnose)
app.command()(loop)
app.command()(report)
app.command()(info)


@app.callback(invoke_without_command=True)
def entroselect(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Show the traceback of a failure; as ENTROSELECT_DEBUG=1 does."
        ),
    ] = False,
) -> None:
    """The k most spread-out rows of a pool, and how much entropy they carry, exactly."""
    if show_version:
        show(f"entroselect {version('entroselect')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        show(context.get_help())
