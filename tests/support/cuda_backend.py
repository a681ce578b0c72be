"""Backend "cuda" on a GPU, or in its host build: pools cut to size, answers compared."""

from __future__ import annotations

from typing import Any

import numpy as np
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


# A block, its plain model, and what may be done to both.


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


class Model:
    """The model of a block: every distance to every pick, and the bounds and counts at the
    restart."""

    def __init__(self, pool: Any, metric: str) -> None:
        self.values = reference.canonical_rows(as_rows("pool", pool), metric)
        self.restart(np.full(len(pool), np.inf), np.zeros(len(pool), np.int64))

    def restart(self, bounds: Any, met: Any) -> None:
        self.start, self.met = bounds.copy(), met.copy()
        self.squared = np.empty((len(bounds), 0))

    def choose(self, vectors: Any) -> None:
        for vector in vectors:
            found = reference.squared_distances(self.values, vector)[:, None]
            self.squared = np.concatenate([self.squared, found], axis=1)

    def exclude(self, rows: Any) -> None:
        self.start[rows] = -1

    def nearest(self, met: Any) -> Any:
        """Squared distance to the picks from the first unmet at the restart to `met`."""
        place = np.arange(self.squared.shape[1])
        open_ = (place >= self.met[:, None]) & (place < met[:, None])
        found = np.where(open_, self.squared, np.inf).min(axis=1, initial=np.inf)
        return np.where(self.start < 0, -1, np.minimum(self.start, found))


def check_block(block: Any, model: Model, fresh: Any = (), enough: float = 0.0) -> None:
    """Bounds are never too small, as good as `met` says, and exact or below `enough` if fresh."""
    bounds, met = block.state()
    assert (bounds.dtype, met.dtype) == (np.float64, np.int64)
    assert isinstance(bounds, np.ndarray)
    count = model.squared.shape[1]
    assert block.count == count
    assert block.available == np.count_nonzero(model.start >= 0)
    assert met.max(initial=0) <= count
    exact = model.nearest(np.full(len(met), count))
    assert np.all(bounds >= exact)
    assert np.all(bounds <= model.nearest(met))
    np.testing.assert_array_equal(block.bounds(np.array([5, 2, 9])), bounds[[5, 2, 9]])
    assert block.widest() == max(0.0, bounds.max())
    settled = np.array(fresh, dtype=np.int64)
    settled = settled[(bounds[settled] >= enough) & (bounds[settled] >= 0)]
    np.testing.assert_array_equal(bounds[settled], exact[settled])
    assert np.all((met[settled] == count) | (bounds[settled] == 0))
