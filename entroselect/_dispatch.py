"""The one place where a backend is chosen.

    backend=            served by
    "auto"              the fastest that can run here: today always the CPU's best instruction set
    "cpu"               the same
    "cpu:avx2" ...      that instruction set, or an error that says why not
    "reference"         entroselect/reference.py, the textbook loops

An explicit backend never falls back to another. The environment variable ENTROSELECT_BACKEND
stands in for "auto".
"""

from __future__ import annotations

import os

from entroselect import _core
from entroselect.cpu import Cpu
from entroselect.reference import NAME as REFERENCE


def choose(backend: str) -> Cpu | None:
    """The backend for a request, None for the reference, whose functions take the same arguments.

    Raises TypeError, or ValueError that says what is available or why this one is not.
    """
    if not isinstance(backend, str):
        raise TypeError(f"backend: expected a string, got {type(backend).__name__}")
    if backend == "auto":
        backend = os.environ.get("ENTROSELECT_BACKEND") or "cpu"
        if backend == "auto":
            backend = "cpu"
    if backend == REFERENCE:
        return None
    reasons = why_not()
    if backend == "cpu":
        return Cpu(next(name for name, reason in reasons.items() if not reason))
    if backend not in reasons:
        known = ", ".join(("auto", "cpu", *reasons, REFERENCE))
        raise ValueError(f"backend: expected one of {known}; got {backend!r}")
    if reasons[backend]:
        raise ValueError(f"backend: {backend!r} cannot run here: {reasons[backend]}")
    return Cpu(backend)


def name_of(backend: str) -> str:
    """What results of that backend will say in `.backend`."""
    chosen = choose(backend)
    return REFERENCE if chosen is None else chosen.name


def why_not() -> dict[str, str]:
    """For every backend, best first: "" when it can run here, otherwise the reason it cannot."""
    reasons = {f"cpu:{isa}": reason for isa, reason in _core.instruction_sets()}
    reasons["cuda"] = "not part of this version"
    return reasons
