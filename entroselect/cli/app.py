"""The application: its commands, an example of each and the options that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from entroselect.cli.deduplicate import deduplicate
from entroselect.cli.diagnose import diagnose
from entroselect.cli.entropy import entropy
from entroselect.cli.errors import EXIT_CODES, PlainErrors, bad_use
from entroselect.cli.info import info
from entroselect.cli.loop import loop, report
from entroselect.cli.nearest import nearest
from entroselect.cli.output import show
from entroselect.cli.select import select


def _lines(title: str, *lines: str) -> str:
    """The end of a help text; \\b keeps its lines as they are."""
    return "\n".join(["\b", title, *(f"  {line}" for line in lines)])


app = typer.Typer(
    cls=PlainErrors,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # brackets in help texts are brackets
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_lines("Exit codes:", *(f"{code:<5}{what}" for code, what in EXIT_CODES.items())),
)
EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {
    select: (
        "entroselect select pool.npy -k 10 -o chosen",
        "entroselect select generated.npy -k 10 --anchor real.npy -o anchored",
    ),
    entropy: ("entroselect entropy pool.npy --duplicates drop",),
    nearest: ("entroselect nearest generated.npy real.npy -k 5 -o neighbours",),
    deduplicate: ("entroselect deduplicate pool.npy --similarity 0.95 -o distinct",),
    diagnose: ("entroselect diagnose generated.npy real.npy --training training.npy",),
    loop: (
        "entroselect loop --preset digits --select anchored -o run",
        "entroselect loop --preset digits --set train.steps=300 --dry-run",
    ),
    report: ("entroselect report run-none run-anchored -o report.html",),
    info: ("entroselect info --json",),
}
for _command, _examples in EXAMPLES.items():
    _title = "Examples:" if len(_examples) > 1 else "Example:"
    app.command(epilog=_lines(_title, *_examples))(_command)


@app.callback(invoke_without_command=True)
def entroselect(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "-q", "--quiet", help="No notes and no progress: results, warnings and errors alone."
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "-v",
            "--verbose",
            help="Say also what is read, what computes, and the time and memory taken.",
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Show the traceback of a failure; as ENTROSELECT_DEBUG=1 does."
        ),
    ] = False,
) -> None:
    """The k most spread-out rows of a pool, and how much entropy they carry, exactly.

    These options go before the command: entroselect -q select pool.npy -k 10 -o chosen. Results are
    printed on stdout, everything else on stderr.
    """
    if quiet and verbose:
        bad_use("-q / -v", "pass one of the two")
    if show_version:
        show(f"entroselect {version('entroselect')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        show(context.get_help())
