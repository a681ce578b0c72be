"""The caller's floating-point settings have no effect on results.

Flush-to-zero, denormals-are-zero (set by torch.set_flush_denormal, or by a library linked with
-ffast-math) and rounding modes belong to a thread, and NumPy computes with them. The C++ core sets
its own environment at every entry; public operations, which also compute in Python, and the threads
they start use the same environment.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from entroselect import _core

P = ParamSpec("P")
R = TypeVar("R")


def in_default_float_environment(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run with rounding to nearest and subnormal numbers; afterwards, and after an
    exception, the caller's environment is as it was. Not for generators: their caller would get the
    changed settings."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        with _core.FloatEnvironment():
            return function(*args, **kwargs)

    return guarded
