"""The device on which a run computes, and its number of threads."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch

from entroselect import _settings
from entroselect.loop.config import Config

PACKAGES = ("entroselect", "torch", "diffusers", "numpy", "safetensors")

# Twice the threads must save at least this share of the time: on a busy machine they wait for each
# other, and a small network is up to ten times slower on two than on one.
WORTH = 0.2


def environment(device: str) -> dict[str, Any]:
    """Versions and machine."""
    return {
        "packages": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device if device == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
    }


def device_of(config: Config) -> str:
    """config.device, with "auto" decided; ValueError if torch cannot use it."""
    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=config.device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: {config.device!r} cannot be used ({error})") from None
    return config.device


def fastest_threads(seconds: Callable[[], float]) -> int:
    """Finds and sets the number of threads with which torch is fastest; `seconds()` does some work
    and returns its time.

    1, 2, 4 ... up to what torch would take by itself, while it gets faster. OMP_NUM_THREADS, where
    it is set, is obeyed.
    """
    most = torch.get_num_threads()
    if _settings.has_torch_threads() or most == 1:
        return most
    best = 1
    torch.set_num_threads(1)
    taken = seconds()
    while best < most:
        more = min(2 * best, most)
        torch.set_num_threads(more)
        found = seconds()
        if found > taken * (1 - WORTH):
            break
        best, taken = more, found
    torch.set_num_threads(best)
    return best
