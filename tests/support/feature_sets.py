"""Sets of features, some far from the origin."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")


FAR = 10**9  # an offset that leaves 29 bits of float64 for the data


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def whole(n: int, d: int, high: int = 3, seed: int = 0) -> np.ndarray:
    """Small whole numbers: ties and copies everywhere, and nothing is rounded."""
    return rng(seed).integers(0, high, (n, d)).astype(np.float64)
