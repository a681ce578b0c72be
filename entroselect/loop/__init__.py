"""The self-consuming loop: train, generate, select, train again.

Shi et al. 2025 (arXiv 2509.16499). Needs the extra `loop`. Four functions:

    run        the loop in a folder that can be resumed, with your own model, features and data
    resolve    options and presets
    choose     the next training set from a pool's features
    measure    entropy, generalisation, Frechet distance and more of one iteration

Behind them, each usable alone: `data.load` images from files, `models` what generates,
`train.train` one diffusion model, `sample.generate` images from it, `features.spaces` where
distances are taken, `runs.read` runs as one table, `report.page` runs compared on a page.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entroselect.loop.config import resolve
    from entroselect.loop.iterate import run
    from entroselect.loop.metrics import measure
    from entroselect.loop.selection import choose

__all__ = ["choose", "measure", "resolve", "run"]

_HOME = {"choose": "selection", "measure": "metrics", "resolve": "config", "run": "iterate"}


def __getattr__(name: str) -> Any:  # so that importing a small part does not import torch
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
