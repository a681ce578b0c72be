"""How many threads the engine may use."""

from __future__ import annotations

import os


def threads() -> int:
    """Worker threads: ENTROSELECT_THREADS, or the cores this process may use, which it shares with
    the others that torchrun has started on this machine."""
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
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
