"""Where a run computes."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import torch

from entroselect.loop.config import Config

PACKAGES = ("entroselect", "torch", "diffusers", "numpy", "safetensors")


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
