"""What a caller's thread makes of floating-point numbers does not matter here.

Flush-to-zero and denormals-are-zero (torch.set_flush_denormal, or any library linked with
-ffast-math) and rounding modes belong to a thread, and NumPy computes with what it finds. The C++
core sets its own environment at every entry; public operations, which compute in Python as well,
and the threads they start run in the same.
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
    exception, the caller's environment is as it was. Not for generators: they would leave theirs
    to whoever takes the next value."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        with _core.FloatEnvironment():
            return function(*args, **kwargs)

    return guarded
