"""How failures reach the terminal: one or two plain lines on stderr and an exit code.

The codes are those of EXIT_CODES.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from entroselect import _dispatch, _settings
from entroselect._memory import in_words, memory_limit
from entroselect.cli.output import complain, detail, line_on_stderr, to_stdout, verbosity
from entroselect.cli.signals import Terminated, ending
from entroselect.io.errors import shown
from entroselect.io.stores import address_of

FAILED, BAD_USE, UNREAD, ENDED = 1, 2, 141, 128

# For people; `entroselect --help` shows them.
EXIT_CODES = {
    0: "done",
    FAILED: "refused or failed: a file, its data, an option's value, memory",
    BAD_USE: "bad use of the command line",
    ENDED + signal.SIGHUP: "the terminal was closed",
    ENDED + signal.SIGINT: "interrupted (Ctrl-C)",
    UNREAD: "the reader of stdout closed it",
    ENDED + signal.SIGTERM: "asked to end (SIGTERM)",
}

# click's UsageError; some versions of typer bring click along, others carry their own copy of it.
UsageError: Any = typer.BadParameter.__mro__[1]

# What the library raises on purpose, with messages for users; and those subclasses that it does
# not.
_PLAIN = (OSError, ValueError, TypeError, RuntimeError)
_NOT_PLAIN = (UnicodeError, RecursionError, NotImplementedError)


_TAKE_FAISS = "nearest_distances, kl_entropy, generalization_score and mean_nearest_distance"


def bad_use(option: str, why: str) -> NoReturn:
    """Ends the command with exit code 2."""
    raise typer.BadParameter(why, param_hint=f"'{option}'")


def check_backend(backend: str, selecting: bool = False) -> None:
    """Ends the command if that backend is unknown, cannot run here or cannot select."""
    try:
        _dispatch.choose(backend, "selection" if selecting else "nearest")
        detail(f"backend {_dispatch.name_of(backend)}, {_settings.threads()} threads")
    except ValueError as error:
        said = str(error).removeprefix("backend: ").replace(_TAKE_FAISS, "the other commands")
        bad_use("--backend", in_options(said))


def check_memory_limit(given: str | None) -> None:
    """Ends the command if that is no amount of memory."""
    try:
        memory_limit(given)
    except ValueError as error:
        bad_use("--memory-limit", str(error).removeprefix("memory_limit: "))


def describe(error: BaseException) -> str:
    """The message of a failure, for one line."""
    if isinstance(error, MemoryError):
        return f"out of memory: {error}" if str(error) else "out of memory"
    if isinstance(error, OSError) and error.strerror:
        files = [os.fsdecode(f) for f in (error.filename, error.filename2) if _names_file(f)]
        return ": ".join([" -> ".join(files), error.strerror] if files else [error.strerror])
    if not is_plain(error):
        said = f"internal error: {type(error).__name__}: {error}".rstrip(": ")
        return f"{said}; please report it with what 'entroselect --debug ...' prints"
    return str(error) or type(error).__name__


def is_plain(error: BaseException) -> bool:
    """Whether the error's message was written for users."""
    return isinstance(error, _PLAIN) and not isinstance(error, _NOT_PLAIN)


def _names_file(name: Any) -> bool:
    return isinstance(name, (str, bytes)) and bool(name)


@contextmanager
def plain_failures(debug: bool = False) -> Iterator[None]:
    """Turns every exception into a line and SystemExit; `debug`, or ENTROSELECT_DEBUG in the
    environment, shows the traceback too."""
    try:
        with ending():
            yield
            with to_stdout():  # output that cannot be written fails here, not when Python ends
                if sys.stdout is not None:
                    sys.stdout.flush()
    except (typer.Exit, typer.Abort, UsageError):  # the first two are RuntimeErrors
        raise
    except BrokenPipeError:
        _turn_off_stdout()
        sys.exit(UNREAD)
    except KeyboardInterrupt as error:
        _trace(debug)
        number = error.number if isinstance(error, Terminated) else signal.SIGINT
        word = "interrupted" if number == signal.SIGINT else "ended"
        line_on_stderr(f"{word}: {error}" if str(error) else word)
        sys.exit(ENDED + number)
    except Exception as error:
        _trace(debug)
        complain(describe(error))
        _turn_off_stdout()
        sys.exit(FAILED)


def _trace(debug: bool) -> None:
    if debug or _settings.debug():
        for line in traceback.format_exc().splitlines():
            line_on_stderr(line)


def _turn_off_stdout() -> None:
    """Drops output that could not be written, so that Python does not try again when it ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# Arguments of the library that are options of the same name, and those of another name.
_OPTIONS = (
    "cache", "memory_limit", "min_distance", "id_column", "points_key", "points_column", "backend",
    "checkpoint", "column", "decay", "distance", "diversity", "duplicates", "floor", "fraction",
    "key", "metric", "scores", "seed", "selected", "similarity", "start", "threshold",
)  # fmt: skip
_SHORT = {"k": "-k"}
# Quoted text and paths stay as they are.
_VALUE = re.compile(rf"(?<![\w./-])({'|'.join(_OPTIONS)})=(?:'([^']*)'|([\w.:-]+))")
_ASIDE = re.compile(r"\b\w+ \((--[\w-]+)\)")
_WORD = re.compile(rf"(?<![\w./'\"-])({'|'.join(o for o in _OPTIONS if '_' in o)})(?![\w./'\"-])")
_TICKS = re.compile(rf"`({'|'.join(_OPTIONS)})`")


def _option(argument: str) -> str:
    return _SHORT.get(argument) or "--" + argument.replace("_", "-")


def in_options(message: str) -> str:
    """Replaces arguments of the library, in advice about them, by the options of the command.

    Example:
        >>> in_options("x: pass duplicates='drop', or a memory_limit")
        'x: pass --duplicates drop, or a --memory-limit'
    """
    message = _ASIDE.sub(r"\1", message)
    message = _VALUE.sub(lambda m: f"{_option(m[1])} {m[2] or m[3]}", message)
    message = _TICKS.sub(lambda m: _option(m[1]), message)
    return _WORD.sub(lambda m: _option(m[1]), message)


def called(path: Path) -> str:
    """A path or an address as messages and reports have it; what may follow an address as its
    signature is left out."""
    address = address_of(path)
    return str(path) if address is None else address.partition("?")[0]


@contextmanager
def reading(path: Path, option: str | None = None) -> Iterator[None]:
    """Turns every exception that opening a file raises into an error that names the file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.filename):
            raise
        said = str(error) or type(error).__name__
        if not is_plain(error):
            what = type(error).__name__ + (f": {error}" if str(error) else "")
            said = f"cannot be read, it may be damaged; copy or write it again ({what})"
        if not any(name in said for name in (str(path), shown(path), called(path))):
            said = f"{called(path)}: {said}"
        if option is not None:
            said = f"{option}: {said}"
        kind: type[Exception] = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(in_options(said)) from error


@contextmanager
def naming(**files: Path) -> Iterator[None]:
    """In errors of the engine ("features: ...", "k: ..."), replaces the argument's name by the
    file's or the option's; adds the names of `files` to unforeseen errors."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if not is_plain(error):
            raise _unforeseen(error, files) from error
        argument, colon, rest = str(error).partition(": ")
        if argument in files:
            said = f"{called(files[argument])}: {rest}"
        elif colon and (argument in _OPTIONS or argument in _SHORT):
            said = f"{_option(argument)}: {rest}"
        else:
            said = str(error)
        for argument, path in files.items():
            said = said.replace(f" {argument} has ", f" {called(path)} has ")
        said = in_options(said).replace("when points is None", "without POINTS")
        if said == str(error):
            raise
        raise (TypeError if isinstance(error, TypeError) else ValueError)(said) from error
    except Exception as error:
        if is_plain(error) or isinstance(error, MemoryError):
            raise
        raise _unforeseen(error, files) from error


def _unforeseen(error: Exception, files: dict[str, Path]) -> Exception:
    said = describe(error)
    return RuntimeError(f"{', '.join(sorted({called(path) for path in files.values()}))}: {said}")


def _without_pydantic(message: str) -> str:
    """typer's message about a value, without the words of the library that checks values."""
    message = message.replace("Value error, ", "").replace("Input should be", "must be")
    return re.sub(r", unable to parse string as an? [a-z]+$", "", message).rstrip(".")


class PlainErrors(TyperGroup):
    """A group of commands that reports bad use and failures in the form of this module."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        began = time.monotonic()
        quiet, verbose, debug = (ctx.params[name] for name in ("quiet", "verbose", "debug"))
        with verbosity(quiet, verbose), plain_failures(debug):
            result = super().invoke(ctx)
            largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux: KiB
            seconds = time.monotonic() - began
            detail(f"took {seconds:.2f} s and at most {in_words(largest)} of memory")
        return result

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        """Parses, runs and exits."""
        extra["standalone_mode"] = False  # it would print bad use in a form of its own
        if "" in (sys.argv[1:] if args is None else args):  # a path of no name is this folder
            complain("an argument is empty; is a variable of the shell not set?")
            sys.exit(BAD_USE)
        # A terminal's encoding may not have every character of a file's name.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            code = super().main(args, *more, **extra)
        except UsageError as error:
            command = error.ctx.command_path if error.ctx else "entroselect"
            said = _without_pydantic(error.format_message())
            own = self.get_params(typer.Context(self))
            option = getattr(error, "option_name", None)
            if any(option in each.opts for each in own):
                said = f"{option} goes before the command: entroselect {option} ..."
            complain(f"{said} (see {command} --help)")
            sys.exit(BAD_USE)
        sys.exit(code if isinstance(code, int) else 0)
