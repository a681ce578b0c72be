"""The CUDA backend: filter passes in Triton (kernels/triton), exact distances and the settling of
picks in CUDA (kernels/cuda), on the caller's device and stream.

Tensors are torch's; its functions sort and compact where their order is defined. `Cuda` takes the
kernels as an argument, so that tests can run everything on a CPU: Triton in its interpreter, the
CUDA sources compiled for the host. Nothing here chooses that by itself.
"""

from __future__ import annotations

from typing import Any

import torch

from entroselect.backends.base import not_taken
from entroselect.backends.cuda.autotune import Tile
from entroselect.backends.cuda.device_rows import DeviceRows
from entroselect.backends.cuda.nearest import Search
from entroselect.backends.cuda.pool import Pool
from entroselect.io.rows import Rows
from entroselect.results import Float64, Int64, Neighbours


class Cuda:
    """Opens pools and finds neighbours. Rows in host memory are copied to the current CUDA device.
    `limit`: bytes of device memory that may be used besides the rows; None: all there is."""

    name = "cuda"
    takes = frozenset({"selection", "nearest", "memory_limit", "group", "checkpoint", "cuda"})
    loops = None

    def __init__(
        self,
        kernels: Any = None,
        device: str = "cuda",
        tile: Tile | None = None,
        limit: int | None = None,
    ) -> None:
        if kernels is None:
            from entroselect import _cuda as kernels
        self.kernels, self.device, self.tile, self.limit = kernels, device, tile, limit

    def new_pool(
        self, rows: Rows, metric: str, sub: bool = False, limit: int | None = None
    ) -> Pool:
        """An engine.SubPool, whether `sub` or not. `limit` takes precedence over the backend's
        own."""
        return Pool(self._hold(rows, metric), self.tile, self.limit if limit is None else limit)

    def nearest(
        self,
        queries: Rows,
        points: Rows | None,
        k: int,
        metric: str,
        progress: Any,
        limit: int | None = None,
    ) -> Neighbours:
        """k nearest points of each query; points=None means the other queries."""
        held = self._hold(queries, metric)
        with held.on_device():
            targets = held if points is None else self._hold(points, metric, held.device)
            limit = self.limit if limit is None else limit
            squared, indices = Search(held, targets, k, self.tile, limit=limit).run(progress)
            distances = held.roots(squared)
        return Neighbours(queries.like(distances), queries.like(indices), self.name)

    def update_neighbours(
        self,
        queries: Rows,
        points: Rows | None,
        offset: int,
        squared: Float64,
        indices: Int64,
        metric: str,
        progress: Any,
    ) -> None:
        """Compares queries with further points, whose numbers begin at `offset`, and updates the
        lists of squared distances and indices, which are in host memory, in place."""
        held = self._hold(queries, metric)
        with held.on_device():
            targets = held if points is None else self._hold(points, metric, held.device)
            # Numbered from the first point here, so that ties keep their order.
            known = torch.from_numpy(squared), torch.from_numpy(indices - offset)
            search = Search(held, targets, squared.shape[1], self.tile, known, self.limit)
            found = search.run(progress)
            squared[...] = found[0].cpu().numpy()
            indices[...] = found[1].cpu().numpy() + offset

    def center(self, rows: Rows, metric: str, farthest: bool = False) -> int:
        """The row nearest to the mean row, or farthest from it; of equals, the first."""
        held = self._hold(rows, metric)
        with held.on_device():
            mean = held.empty(held.d, torch.float64)
            self.kernels.mean_row(held.kernel_argument(), held.n, mean.data_ptr(), held.stream())
            squared = held.distances_to(mean)
            best = squared.max() if farthest else squared.min()
            return int((squared == best).nonzero()[0])

    add_distances = exchange = within = batch_greedy = batch_centers = not_taken

    def _hold(self, rows: Rows, metric: str, device: torch.device | None = None) -> DeviceRows:
        if device is None:
            device = torch.device(self.device)
            if device.type == "cuda" and device.index is None:
                device = torch.device("cuda", torch.cuda.current_device())
            if isinstance(rows.values, torch.Tensor):
                device = rows.values.device
        return DeviceRows(self.kernels, rows, metric, device)
