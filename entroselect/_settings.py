"""Every environment variable that the package reads; docs/configuration.md has the same table.

The command line reads more by itself, in cli/torchrun.py: what torchrun tells its processes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from entroselect import _cgroup


class Variable(NamedTuple):
    """values: the accepted words, or a phrase that says which values are. default: what holds
    where the variable is not set, or empty. meaning: what it decides."""

    values: tuple[str, ...] | str
    default: str
    meaning: str


BACKEND = "ENTROSELECT_BACKEND"
THREADS = "ENTROSELECT_THREADS"
BLOCK = "ENTROSELECT_BLOCK"
CELLS = "ENTROSELECT_CELLS"
FILTER = "ENTROSELECT_FILTER"
TILE = "ENTROSELECT_TILE"
DEBUG = "ENTROSELECT_DEBUG"

VARIABLES = {
    BACKEND: Variable("the name of an exact backend", "auto", 'what backend="auto" means'),
    THREADS: Variable(
        "1 to 1024", "the cores this process may use", "worker threads of the C++ core"
    ),
    BLOCK: Variable("an integer >= 1", "chosen per pool and round", "rows of a round's frontier"),
    CELLS: Variable(
        ("always", "never"), "where a sample of rows says that it pays", "picks grouped into cells"
    ),
    FILTER: Variable(
        ("tree", "int8", "bf16"),
        "chosen per pool",
        "what the CPU skips distances with: a k-d tree (at most 8 columns), or products of rows "
        "coded in that type",
    ),
    TILE: Variable(
        "a place in the table of the device, from 0",
        "timed on the device",
        "shape of the tiles of the GPU's filter pass",
    ),
    DEBUG: Variable("anything but 0", "not set", "the command line shows tracebacks"),
    "TMPDIR": Variable(
        "a folder", "/var/tmp for decoded rows, else the system's", "where temporary files go"
    ),
    "OMP_NUM_THREADS": Variable("an integer", "not set", "torch's threads in `entroselect loop`"),
    "LOCAL_WORLD_SIZE": Variable(
        "an integer", "1", "processes of torchrun on this machine, which share its cores"
    ),
}


def backend() -> str:
    """The backend that "auto" stands for, "auto" if none is named. `_dispatch` checks it."""
    return _given(BACKEND) or "auto"


def threads() -> int:
    """Worker threads: the given number, or the cores this process may use, by its affinity and by
    the quota of its container, which it shares with the others that torchrun has started on this
    machine."""
    given = _given(THREADS)
    if given:
        if not given.isdecimal() or not 1 <= int(given) <= 1024:
            raise ValueError(f"{THREADS}: expected an integer from 1 to 1024, got {given!r}")
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    cores = min(cores, _cgroup.processors() or cores)
    return max(1, cores // int(_given("LOCAL_WORLD_SIZE") or "1"))


def set_threads(count: int) -> None:
    """Sets ENTROSELECT_THREADS, for this process and those that it starts."""
    os.environ[THREADS] = str(count)


def block() -> int | None:
    """Rows of a round's frontier; None: the engine chooses."""
    given = _given(BLOCK)
    if not given:
        return None
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"{BLOCK}: expected an integer >= 1, got {given!r}")
    return int(given)


def filter_form() -> str:
    """Which filter the CPU uses: "tree", a k-d tree for at most 8 columns; "int8" or "bf16",
    products of rows coded in that type; "auto": chosen per pool."""
    return _word(FILTER)


def cells() -> str:
    """Whether picks are grouped into cells, so that the triangle inequality can skip whole cells:
    "always", "never", or "auto": where a sample of rows says that it pays."""
    return _word(CELLS)


def tile(shapes: Sequence[object]) -> int | None:
    """The place in `shapes` that ENTROSELECT_TILE names; None: the fastest shape is found by
    timing."""
    given = _given(TILE)
    if not given:
        return None
    if not given.isdecimal() or int(given) >= len(shapes):
        listed = "; ".join(f"{place}: {shape}" for place, shape in enumerate(shapes))
        raise ValueError(f"{TILE}: expected one of {listed}; got {given!r}")
    return int(given)


def debug() -> bool:
    """Whether the command line shows tracebacks."""
    return _given(DEBUG) not in ("", "0")


def has_temporary_folder() -> bool:
    """Whether TMPDIR is set; `tempfile` reads its value."""
    return _is_set("TMPDIR")


def has_torch_threads() -> bool:
    """Whether OMP_NUM_THREADS is set, torch's number of threads; torch reads its value."""
    return bool(_given("OMP_NUM_THREADS"))


def of_the_engine() -> dict[str, str]:
    """Those variables that change how the engine computes and are set, with their values."""
    names = (BACKEND, THREADS, BLOCK, CELLS, FILTER, TILE)
    return {name: os.environ[name] for name in names if _is_set(name)}


def _word(name: str) -> str:
    accepted, given = VARIABLES[name].values, _given(name) or "auto"
    if given not in ("auto", *accepted):
        listed = " or ".join((", ".join(accepted[:-1]), accepted[-1]))
        raise ValueError(f"{name}: expected {listed}, got {given!r}")
    return given


def _is_set(name: str) -> bool:
    return _given(name) != "" or name in os.environ


def _given(name: str) -> str:
    """The variable's value, "" where it is not set."""
    VARIABLES[name]  # KeyError: every variable that is read is in the table
    return os.environ.get(name, "")
