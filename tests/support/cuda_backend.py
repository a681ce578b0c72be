"""Backend "cuda" on a GPU, or in its host build: pools cut to size, answers compared."""

from __future__ import annotations

from typing import Any

import pytest

from entroselect import reference
from entroselect.io.open import as_rows
from entroselect.results import on_host
from tests.conftest import NO_GPU, same_neighbours, same_selection
from tests.support.pools import POOLS, without_zero_rows


def cut(name: str, metric: str = "euclidean", rows: int = 100) -> Any:
    pool = POOLS[name]()
    if metric == "cosine":
        pool = without_zero_rows(pool)
    return pool[:rows] if NO_GPU else pool


def same(found: Any, oracle: Any) -> None:
    """As same_selection or same_neighbours, for tensors too."""
    assert found.backend == "cuda"
    parts = {name: on_host(getattr(found, name)) for name in ("indices", "distances")}
    if isinstance(oracle, reference.Neighbours):
        return same_neighbours(reference.Neighbours(**parts, backend="cuda"), oracle)
    limits = None if found.thresholds is None else on_host(found.thresholds)
    return same_selection(
        reference.Selection(**parts, radius=found.radius, backend="cuda", thresholds=limits), oracle
    )


def new_block(request: pytest.FixtureRequest, pool: Any, metric: str) -> Any:
    """A pool on its own."""
    from entroselect.backends.cuda import Cuda
    from entroselect.backends.cuda.autotune import Tile

    if not NO_GPU:
        backend = Cuda()
    else:
        tile = Tile(32, 32, 32, 4, 1)
        backend = Cuda(request.getfixturevalue("host_kernels"), "cpu", tile)
    return backend.new_pool(as_rows("pool", pool), metric, sub=True)
