"""Random numbers that depend on what they are for, not on what was drawn before.

A resumed run needs no state of a generator: every step, batch and pick has a seed of its own.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def numbers(*key: int | str) -> np.random.Generator:
    """NumPy's generator for that purpose, e.g. numbers(seed, "select", iteration)."""
    return np.random.default_rng(_words(key))


def noise(*key: int | str) -> torch.Generator:
    """torch's generator on the CPU for that purpose."""
    word = np.random.SeedSequence(_words(key)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(word) >> 1)


def _words(key: tuple[int | str, ...]) -> list[int]:
    return [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
