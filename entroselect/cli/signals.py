"""Signals end a command, at any time."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

from entroselect.cli.torchrun import started

# Seconds until a signal that Python dropped in a destructor is sent again.
_AGAIN = 0.01

_came: list[int] = []  # signals in this command


class Terminated(KeyboardInterrupt):
    """Another signal that ends the command as Ctrl-C does."""

    def __init__(self, said: str = "", number: int = signal.SIGTERM) -> None:
        super().__init__(*([said] if said else []))
        self.number = number


@contextmanager
def ending() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, unless they already have a handler. In one
    of several processes they keep their default and end it at once: it may be waiting for another
    process where Python cannot act.

    A block never ends well after a signal. Python drops an exception that is raised in a destructor
    or in a callback of a weak reference, and importing a library runs hundreds of those: then the
    signal is sent again. An exception that other code swallows or replaces (Python 3.11 replaces
    those raised in `__set_name__`) is raised at the end of the block.
    """
    waiting: list[threading.Timer] = []

    def end(number: int, frame: Any) -> None:
        _came.append(number)
        raise _interruption(number)

    def thrown_away(what: Any) -> None:
        if not _came or not issubclass(what.exc_type, KeyboardInterrupt):
            before(what)
            return
        again = threading.Timer(_AGAIN, os.kill, (os.getpid(), _came[-1]))
        again.daemon = True
        waiting.append(again)
        again.start()

    before, taken = sys.unraisablehook, _take(end)
    sys.unraisablehook = thrown_away
    try:
        with heeded():
            yield
    finally:
        for timer in waiting:
            timer.cancel()
        sys.unraisablehook = before
        for number, handler in taken.items():
            signal.signal(number, handler)
        if taken:
            _came.clear()


@contextmanager
def heeded() -> Iterator[None]:
    """Raises, at the end of the block, a signal that was swallowed in it or turned into another
    error."""
    try:
        yield
    except (typer.Exit, typer.Abort):  # RuntimeErrors: the command chose how it ends
        raise
    except Exception as error:
        if _came:
            raise _interruption(_came[-1]) from error
        raise
    if _came:
        raise _interruption(_came[-1])


def _interruption(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number=number)


def _take(end: Any) -> dict[int, Any]:
    """Makes `end` the handler of those signals that have none; returns the earlier handlers."""
    defaults: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
    if not started():
        defaults |= {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    taken = {}
    for number, handler in defaults.items():
        if signal.getsignal(number) is handler:
            with suppress(ValueError):  # not the main thread
                signal.signal(number, end)
                taken[number] = handler
    return taken
