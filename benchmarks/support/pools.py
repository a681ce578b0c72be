"""The pools: every one reproducible from its name and size, float32 unless it says otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DATA = "ENTROSELECT_BENCH_DATA"


def normal(n: int, d: int) -> np.ndarray[Any, Any]:
    """Standard normal rows: no structure to exploit."""
    return np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)


def spectrum(n: int, d: int) -> np.ndarray[Any, Any]:
    """Normal, standard deviation of axis j (1 + j)**-0.8: what learned features look like."""
    return normal(n, d) * np.arange(1, d + 1, dtype=np.float32) ** -0.8


def clustered(n: int, d: int) -> np.ndarray[Any, Any]:
    """100 Gaussians; centres (four times as wide) and rows with standard deviation j**-0.5."""
    rng = np.random.default_rng(1)
    centres = 4 * rng.standard_normal((100, d), dtype=np.float32)
    rows = normal(n, d)
    rows += centres[rng.integers(100, size=n)]
    rows *= np.arange(1, d + 1, dtype=np.float32) ** -0.5
    return rows


def offset(n: int, d: int) -> np.ndarray[Any, Any]:
    """Standard normal rows moved by 1000 along every axis."""
    return normal(n, d) + np.float32(1000)


def fingerprints(n: int, d: int) -> np.ndarray[Any, Any]:
    """Bits as uint8 0/1; 2 to 10 of 100 are set, as in molecular fingerprints."""
    rng = np.random.default_rng(2)
    density = rng.uniform(0.02, 0.1, (n, 1))
    return (rng.random((n, d), dtype=np.float32) < density).astype(np.uint8)


def mnist(n: int, d: int) -> np.ndarray[Any, Any]:
    """First n training images (first d pixels) of an mnist.npz, 0 to 255: `x_train` as Keras has
    it, or `x` with a mask `train`. Raises FileNotFoundError when ENTROSELECT_BENCH_DATA does not
    name the file."""
    given = os.environ.get(DATA)
    if not given or not Path(given).is_file():
        raise FileNotFoundError(f"{DATA} does not name an mnist.npz")
    with np.load(given, allow_pickle=False) as file:
        images = file["x_train"] if "x_train" in file else file["x"][file["train"]]
    rows = images.reshape(len(images), -1)
    if rows.shape[0] < n or rows.shape[1] < d:
        raise ValueError(f"{given}: expected {n} images of {d} pixels, found {rows.shape}")
    return rows[:n, :d].astype(np.float32)


POOLS: dict[str, Callable[[int, int], np.ndarray[Any, Any]]] = {
    "normal": normal,
    "spectrum": spectrum,
    "clustered": clustered,
    "offset 1000": offset,
    "fingerprints": fingerprints,
    "mnist": mnist,
}
