"""How many threads the engine may use."""

from __future__ import annotations

import os

from entroselect import _cgroup


def threads() -> int:
    """Worker threads: ENTROSELECT_THREADS, or the cores this process may use, by its affinity and
    by the quota of its container, which it shares with the others that torchrun has started on
    this machine."""
    given = os.environ.get("ENTROSELECT_THREADS")
    if given:
        if not given.isdecimal() or not 1 <= int(given) <= 1024:
            raise ValueError(
                f"ENTROSELECT_THREADS: expected an integer from 1 to 1024, got {given!r}"
            )
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    cores = min(cores, _cgroup.processors() or cores)
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
