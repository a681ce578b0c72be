"""The plain float32 matrix product, which the time of selection is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

OUTPUT_BYTES = 256 << 20  # of the product kept at once; larger ones go chunk by chunk


def _chunks(n: int, k: int) -> list[slice]:
    size = min(n, max(1, OUTPUT_BYTES // (4 * k)))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def with_numpy(a: Any, b: Any) -> Callable[[], Any]:
    """a (n, d) times the transpose of b (k, d), into memory allocated once, whose last chunk the
    callable returns."""
    chunks = _chunks(len(a), len(b))
    out = np.empty((chunks[0].stop, len(b)), dtype=np.float32)

    def run() -> Any:
        for chunk in chunks:
            np.matmul(a[chunk], b.T, out=out[: chunk.stop - chunk.start])
        return out[: chunk.stop - chunk.start]

    return run


def with_torch(a: Any, b: Any) -> Callable[[], Any]:
    """The same with torch.mm."""
    import torch

    left, right = torch.from_numpy(a), torch.from_numpy(b).T
    chunks = _chunks(len(a), len(b))
    out = torch.empty((chunks[0].stop, len(b)), dtype=torch.float32)

    def run() -> Any:
        for chunk in chunks:
            torch.mm(left[chunk], right, out=out[: chunk.stop - chunk.start])
        return out[: chunk.stop - chunk.start]

    return run
