"""What the commands print: results on stdout, everything else on stderr.

On stderr are notes and progress, which -q leaves out, what -v adds, warnings and errors. No line
has colours or other escape sequences, on a terminal or elsewhere; rich draws the bars of progress
on terminals, without colours if NO_COLOR is set.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console

from entroselect.io.errors import printable

_QUIET, _NORMAL, _VERBOSE = range(3)

_verbosity = _NORMAL


@contextmanager
def verbosity(quiet: bool, verbose: bool) -> Iterator[None]:
    """What `say`, `detail` and `wants_progress` do inside the block."""
    global _verbosity
    before = _verbosity
    _verbosity = _QUIET if quiet else _VERBOSE if verbose else _NORMAL
    try:
        yield
    finally:
        _verbosity = before


def wants_progress() -> bool:
    """Whether long work says how far it is: unless -q."""
    return _verbosity > _QUIET


def say(line: str) -> None:
    """Prints a note on stderr, unless -q."""
    if _verbosity > _QUIET:
        line_on_stderr(line)


def detail(line: str) -> None:
    """Prints a note on stderr with -v."""
    if _verbosity > _NORMAL:
        line_on_stderr(line)


def warn(message: str) -> None:
    """Prints a warning on stderr."""
    line_on_stderr("warning: " + " ".join(message.split()))


def complain(message: str) -> None:
    """Prints the message of a failure on stderr, on one line."""
    line_on_stderr("error: " + " ".join(message.split()))


def line_on_stderr(line: str) -> None:
    """Prints a line on stderr, also with -q."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # stderr is closed, which must not lose the work
            print(printable(line), file=sys.stderr, flush=True)


def show(result: Any, end: str = "\n") -> None:
    """Prints a text, or a table of rich's, on stdout. Brackets are brackets, not markup.

    Raises:
        OSError: saying that stdout could not be written.
    """
    with to_stdout():
        if isinstance(result, str):
            print(result, end=end)
        else:
            plain = Console(highlight=False, markup=False, emoji=False, color_system=None)
            plain.print(result)


def document(content: dict[str, Any]) -> None:
    """Prints the one JSON object of --json on stdout, on one line. JSON has no NaN and no infinity:
    they become null."""
    show(json.dumps(_finite(content), allow_nan=False))


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


@contextmanager
def to_stdout() -> Iterator[None]:
    """Names stdout in errors of writing it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(f"stdout could not be written: {error.strerror or error}") from error
