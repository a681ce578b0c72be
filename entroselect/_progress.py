"""Progress of long work: a bar on a terminal, plain lines elsewhere, or the caller's function."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from entroselect._float_environment import in_default_float_environment

Report = Callable[[int, int], None]

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def reporter(progress: Any, what: str) -> Iterator[Report | None]:
    """Turns the `progress` argument of the public functions into a function of (done, total)."""
    if progress is None or progress is False:
        yield None
    elif callable(progress):
        yield in_default_float_environment(progress)  # it may change the environment
    elif progress is not True:
        raise TypeError(
            "progress: expected None, True or a function of (done, total), got "
            f"{type(progress).__name__}"
        )
    elif sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import Progress
        except ImportError:
            yield _lines(what)
            return
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield _lines(what)


def _lines(what: str) -> Report:
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES or (done == total and total > 0):
            last = now
            with suppress(OSError):  # stderr is closed: no reason to lose the work
                print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    return report
