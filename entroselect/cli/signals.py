"""Signals end a command, at whatever moment they come."""

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

# What is thrown away in a destructor is raised again so many seconds later.
_AGAIN = 0.01

_came: list[int] = []  # signals in this command


class Terminated(KeyboardInterrupt):
    """Another signal that ends the command as Ctrl-C does."""

    def __init__(self, said: str = "", number: int = signal.SIGTERM) -> None:
        super().__init__(*([said] if said else []))
        self.number = number


@contextmanager
def ending() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, unless somebody asked for something else.
    They end a process of several at once: it may be waiting for another where Python cannot act.

    A block never ends well after a signal. Python throws away what is raised in a destructor or in
    a callback of a weak reference, of which the import of a library runs hundreds: the signal is
    sent again then. What others swallow, or make another error of (Python 3.11 does, of all that
    is raised in `__set_name__`), is raised at the end of the block.
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
    """A signal that somebody in the block swallowed, or made another error of, is raised at its
    end."""
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
    """Makes `end` the handler of the signals that nobody handles otherwise; returns theirs."""
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
