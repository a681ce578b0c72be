"""How failures reach the terminal: one or two plain lines on stderr and an exit code.

0    done
1    failed: a file or its data, an argument the engine refuses, memory
2    bad use of the command line
130  Ctrl-C
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from entroselect import _dispatch
from entroselect._memory import memory_limit

FAILED, BAD_USE, INTERRUPTED = 1, 2, 130

# click's UsageError; some versions of typer bring click along, others carry their own copy of it.
UsageError: Any = typer.BadParameter.__mro__[1]


def bad_use(option: str, why: str) -> NoReturn:
    """Ends the command with exit code 2."""
    raise typer.BadParameter(why, param_hint=f"'{option}'")


def check_backend(backend: str, selecting: bool = False) -> None:
    """Ends the command if that backend is unknown, cannot run here or cannot select."""
    try:
        (_dispatch.choose_exact if selecting else _dispatch.choose)(backend)
    except ValueError as error:
        bad_use("--backend", str(error).removeprefix("backend: "))


def check_memory_limit(given: str | None) -> None:
    """Ends the command if that is no amount of memory."""
    try:
        memory_limit(given)
    except ValueError as error:
        bad_use("--memory-limit", str(error).removeprefix("memory_limit: "))


def say(line: str) -> None:
    """A line for the person at the terminal; stdout stays for results."""
    print(line, file=sys.stderr, flush=True)


def complain(message: str) -> None:
    """The message of a failure, on one line."""
    say("error: " + " ".join(message.split()))


@contextmanager
def plain_failures() -> Iterator[None]:
    """Turns what data, files and the engine raise into a line and SystemExit."""
    try:
        yield
    except (typer.Exit, typer.Abort):  # both are RuntimeErrors
        raise
    except KeyboardInterrupt:
        say("interrupted: nothing was written")
        sys.exit(INTERRUPTED)
    except MemoryError as error:
        complain(f"out of memory: {error}" if str(error) else "out of memory")
        sys.exit(FAILED)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        complain(str(error) or type(error).__name__)
        sys.exit(FAILED)


@contextmanager
def naming(**files: Path) -> Iterator[None]:
    """Names the file instead of the argument in what the engine raises ("features: ...")."""
    try:
        yield
    except (ValueError, TypeError) as error:
        argument, _, rest = str(error).partition(": ")
        if argument not in files:
            raise
        raise type(error)(f"{files[argument]}: {rest}") from error


class PlainErrors(TyperGroup):
    """A group of commands that reports bad use and failures as this module says."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        with plain_failures():
            return super().invoke(ctx)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Parses, runs and exits."""
        extra["standalone_mode"] = False  # it would print bad use in a form of its own
        try:
            code = super().main(*args, **extra)
        except UsageError as error:
            command = error.ctx.command_path if error.ctx else "entroselect"
            complain(f"{error.format_message()} (see {command} --help)")
            sys.exit(BAD_USE)
        sys.exit(code if isinstance(code, int) else 0)
