"""What the checks of `benchmarks.gpu.smoke` share: the backend under test, rows, and the list of
checks."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

# A name, the files to look at when it fails, and what to run.
Check = tuple[str, str, Callable[["Bench"], str | None]]
CHECKS: list[Check] = []

DTYPES = ("float64", "float32", "float16", "bfloat16", "uint8")
WIDTHS = (1, 7, 8, 33, 100, 300)  # below and beyond the columns that are loaded ahead


def check(name: str, look_at: str) -> Callable[[Any], Any]:
    """Registers a check; checks run in the order of this file."""

    def add(run: Callable[[Bench], str | None]) -> Callable[[Bench], str | None]:
        CHECKS.append((name, look_at, run))
        return run

    return add


class Bench:
    """The backend under test, and rows of every kind on its device."""

    def __init__(self, host: Path | None) -> None:
        self.host = host
        if host is None:
            self.device, self.tiles, self.scale = "cuda", None, 1
            return
        os.environ["TRITON_INTERPRET"] = "1"
        from entroselect.backends.cuda.autotune import Tile

        found = next(host.glob("_cuda_host*.so"))
        spec = importlib.util.spec_from_file_location("_cuda_host", found)
        assert spec is not None
        assert spec.loader is not None
        self.kernels = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.kernels)
        self.device, self.scale = "cpu", 16  # the interpreter is slow
        self.tiles = (Tile(32, 32, 32, 4, 1), Tile(32, 32, 32, 4, 1, None, True))

    def backend(self, tile: Any = None) -> Any:
        """Backend "cuda" with that shape of tiles; None: the one it chooses."""
        from entroselect.backends.cuda import Cuda

        if self.tiles is None:
            return Cuda(tile=tile)
        return Cuda(self.kernels, "cpu", tile or self.tiles[0])

    def all_tiles(self) -> tuple[Any, ...]:
        """Every shape that is tried on this device."""
        import torch

        from entroselect.backends.cuda import autotune

        if self.tiles is not None:
            return self.tiles
        return tuple(autotune.table(torch.device("cuda", torch.cuda.current_device())))

    def rows(self, n: int, d: int, dtype: str, seed: int = 0) -> tuple[Any, Any]:
        """(tensor on the device, the same values on the host as float64): many ties, no row of
        zeros."""
        import torch

        rng = np.random.default_rng(seed)
        values = rng.integers(1, 12, (n, d)) if dtype == "uint8" else rng.normal(size=(n, d))
        values = np.round(values, 1) + (0 if dtype == "uint8" else 3)
        given = torch.from_numpy(values).to(getattr(torch, dtype))
        return given.to(self.device), given.double().numpy()

    def hold(self, given: Any, metric: str = "euclidean", tile: Any = None) -> Any:
        """Device rows of a tensor."""
        return self.backend(tile)._hold(self.as_rows(given), metric)

    def as_rows(self, given: Any) -> Any:
        """What the package makes of a caller's tensor."""
        from entroselect.io.open import as_rows

        return as_rows("rows", given)

    def kinds(self, n: int) -> Iterator[tuple[str, Any, Any]]:
        """Rows of every dtype and several widths, then rows that are part of wider ones."""
        for dtype in DTYPES:
            for d in WIDTHS:
                yield f"{dtype}, d = {d}", *self.rows(n, d, dtype)
            wide, values = self.rows(n, 40, dtype)
            yield f"{dtype}, strided", wide[:, 3:36], values[:, 3:36]


def equal(what: str, found: Any, expected: Any) -> None:
    """Raises where two arrays differ in any bit that counts."""
    found = found.cpu().numpy() if hasattr(found, "cpu") else np.asarray(found)
    expected = np.asarray(expected)
    if found.shape == expected.shape and np.array_equal(found, expected):
        return
    if found.shape != expected.shape:
        raise AssertionError(f"{what}: shape {found.shape}, expected {expected.shape}")
    wrong = np.argwhere(found != expected)
    at = tuple(int(place) for place in wrong[0])
    raise AssertionError(
        f"{what}: {len(wrong)} of {found.size} differ, the first at {at}: {found[at]!r}, "
        f"expected {expected[at]!r}"
    )
