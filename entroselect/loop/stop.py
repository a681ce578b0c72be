"""The end of the time that a run is given."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class Stopped(BaseException):
    """The time is over, and what was finished is saved. Handlers of Exception do not catch it."""


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Raises Stopped at the deadline, as Ctrl-C would, in a block that saves no state.

    Only in the main thread, where signals arrive; elsewhere the end is noticed afterwards.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise Stopped
    main = threading.current_thread() is threading.main_thread()
    if not main or math.isinf(left) or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> NoReturn:
        raise Stopped

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, left)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
