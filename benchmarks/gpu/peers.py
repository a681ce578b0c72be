"""What backend "cuda" is compared with on a GPU: the product, the textbook loop, other libraries.

An adapter takes the pool (float32 (n, d), a tensor) and returns the call that is timed. Imports are
inside, so that a library that is missing costs only its own row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from entroselect.results import on_host


def product(pool: torch.Tensor, k: int) -> Callable[[], None]:
    """(n, d) by (d, k) in fp16, in chunks of columns that reuse one output."""
    halves = pool.half() if pool.is_cuda else pool  # a CPU's fp16 product says nothing
    step = min(k, 4096)
    out = torch.empty((len(pool), step), dtype=halves.dtype, device=pool.device)

    def run() -> None:
        for start in range(0, k, step):
            part = halves[start % len(halves) :][: min(step, k - start)]
            torch.mm(halves, part.T, out=out[:, : len(part)])

    return run


def textbook_step(pool: torch.Tensor) -> Callable[[], None]:
    """Ten picks of the float32 loop."""
    nearest = torch.full((len(pool),), float("inf"), device=pool.device)

    def run() -> None:
        row = torch.zeros((), dtype=torch.int64, device=pool.device)
        for _ in range(10):
            torch.minimum(nearest, ((pool - pool[row]) ** 2).sum(dim=1), out=nearest)
            row = nearest.argmax()

    return run


def flashlib_knn(pool: torch.Tensor) -> Callable[[], Any]:
    """flashlib's fused search: two neighbours, one of them as a rule the row itself."""
    from flashlib import flash_knn

    return lambda: flash_knn(pool, pool, 2)[1]


def faiss_flat(pool: torch.Tensor) -> Callable[[], Any]:
    """faiss' flat index, on the GPU where it was built for one. Host arrays either way."""
    import faiss

    values = np.ascontiguousarray(on_host(pool))

    def run() -> Any:
        index = faiss.IndexFlatL2(values.shape[1])
        if getattr(faiss, "get_num_gpus", int)():
            index = faiss.index_cpu_to_all_gpus(index)
        index.add(values)
        return index.search(values, 2)[1]

    return run


def torch_chunks(pool: torch.Tensor) -> Callable[[], Any]:
    """float32 scores a chunk of rows at a time, and their minimum."""

    def run() -> Any:
        norms, parts = (pool * pool).sum(dim=1), []
        for start in range(0, len(pool), 2048):
            part = pool[start : start + 2048]
            scores = torch.addmm(norms, part, pool.T, alpha=-2)
            scores.diagonal(start).fill_(torch.inf)
            parts.append(scores.argmin(dim=1))
        return torch.cat(parts)[:, None]

    return run


def fpsample_buckets(pool: torch.Tensor, k: int) -> Callable[[], Any]:
    """fpsample's buckets, on the CPU."""
    from benchmarks.support import peers

    return peers.fpsample_bucket(7, np.ascontiguousarray(on_host(pool)), k)


# Name, distribution, adapter, and the most pairs (picks) times columns it is given.
Peer = tuple[str, str, Callable[..., Callable[[], Any]], float]

NEIGHBOURS: list[Peer] = [
    ("flashlib flash_knn", "flashlib", flashlib_knn, 1e15),
    ("torch addmm and argmin, fp32", "torch", torch_chunks, 1e14),
    ("faiss IndexFlatL2", "faiss", faiss_flat, 2e12),
]
SELECTIONS: list[Peer] = [
    ("fpsample buckets, CPU", "fpsample", fpsample_buckets, 1e11),
]


def wrong_neighbours(exact: torch.Tensor, answer: Any) -> str:
    """How many rows have another neighbour than the exact one. Of two, the row itself is none."""
    found = torch.as_tensor(answer, device=exact.device).long()
    if found.shape[1] > 1:
        own = torch.arange(len(found), device=exact.device)
        found = torch.where(found[:, :1] == own[:, None], found[:, 1:2], found[:, :1])
    wrong = int((found[:, 0] != exact[:, 0]).sum())
    return f"wrong neighbour for {wrong} of {len(exact)} ({wrong / len(exact):.2g})"
