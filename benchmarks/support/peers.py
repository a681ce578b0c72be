"""Adapters of the other implementations, one function each.

A selection peer is a function of (pool float32 (n, d), k) and returns a callable that gives k
pool rows in pick order, from row 0 where the peer allows it. A neighbour peer is a function of
(rows float32 (n, d)) and returns a callable that gives (distances (n,), indices (n,)) of the
nearest other row. Conversions that a user of that peer would not repeat are done outside the
callable. Imports are inside, so that a missing peer costs only its own row.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Picks = Callable[[], Array]
Nearest = Callable[[], tuple[Array, Array]]


def numpy_textbook(x: Array, k: int) -> Picks:
    """One broadcast difference per pick."""

    def run() -> Array:
        nearest = np.full(len(x), np.inf, dtype=np.float32)
        picks = np.zeros(k, dtype=np.int64)
        for i in range(1, k):
            difference = x - x[picks[i - 1]]
            np.minimum(nearest, np.sum(difference * difference, axis=1), out=nearest)
            nearest[picks[i - 1]] = -1
            picks[i] = np.argmax(nearest)
        return picks

    return run


def numpy_matrix_vector(x: Array, k: int) -> Picks:
    """||a||^2 + ||b||^2 - 2ab: one matrix-vector product per pick."""

    def run() -> Array:
        squares = np.einsum("ij,ij->i", x, x)
        nearest = np.full(len(x), np.inf, dtype=np.float32)
        product = np.empty(len(x), dtype=np.float32)
        picks = np.zeros(k, dtype=np.int64)
        for i in range(1, k):
            last = picks[i - 1]
            np.dot(x, x[last], out=product)
            product *= -2
            product += squares
            product += squares[last]
            np.minimum(nearest, product, out=nearest)
            nearest[last] = -np.inf  # rounding may leave others below 0
            picks[i] = np.argmax(nearest)
        return picks

    return run


def torch_textbook(x: Array, k: int) -> Picks:
    """One broadcast difference per pick, in torch."""
    import torch

    rows = torch.from_numpy(x)

    def run() -> Array:
        nearest = torch.full((len(rows),), torch.inf)
        picks = torch.zeros(k, dtype=torch.int64)
        for i in range(1, k):
            difference = rows - rows[picks[i - 1]]
            torch.minimum(nearest, difference.square_().sum(1), out=nearest)
            nearest[picks[i - 1]] = -1
            picks[i] = nearest.argmax()
        return np.asarray(picks)

    return run


def fpsample_vanilla(x: Array, k: int) -> Picks:
    """fpsample's plain loop."""
    import fpsample

    return lambda: fpsample.fps_sampling(x, k, start_idx=0)


def fpsample_bucket(height: int, x: Array, k: int) -> Picks:
    """fpsample's KD-tree buckets (QuickFPS), its fastest exact variant; its documentation advises
    a height of 7 for medium and of 9 for large pools. Does not start where it is asked to."""
    import fpsample

    height = min(height, len(x).bit_length() - 1)
    return lambda: fpsample.bucket_fps_kdline_sampling(x, k, height, start_idx=0)


def fpsample_npdu(x: Array, k: int) -> Picks:
    """fpsample's windowed update: a heuristic that takes nearby rows to be nearby points."""
    import fpsample

    def run() -> Array:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the window covers the whole pool
            return fpsample.fps_npdu_sampling(x, k, start_idx=0)

    return run


def fpsample_batch(height: int, clouds: Array, k: int) -> Picks:
    """fpsample's KD-tree buckets, one cloud after the other: it has no batches."""
    import fpsample

    height = min(height, clouds.shape[1].bit_length() - 1)

    def run() -> Array:
        sample = fpsample.bucket_fps_kdline_sampling
        return np.array([sample(cloud, k, height, start_idx=0) for cloud in clouds])

    return run


def torch_cluster_batch(clouds: Array, k: int) -> Picks:
    """torch_cluster's fps: its threads take one cloud each."""
    import torch
    from torch_cluster import fps

    count, n, d = clouds.shape
    rows = torch.from_numpy(clouds.reshape(count * n, d))
    ends, begins = torch.arange(0, (count + 1) * n, n), np.arange(0, count * n, n)[:, None]
    ratio = float(np.nextafter(np.float32(k / n), np.float32(0)))  # rounded up to k points

    def run() -> Array:
        picks = fps(rows, ratio=ratio, random_start=False, ptr=ends)
        return picks.numpy().reshape(count, -1) - begins

    return run


def _skmatter(name: str) -> Callable[[Array, int], Picks]:
    def adapter(x: Array, k: int) -> Picks:
        from skmatter import sample_selection

        def run() -> Array:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                selector = getattr(sample_selection, name)(initialize=0, n_to_select=k)
                return np.asarray(selector.fit(x).selected_idx_)

        return run

    adapter.__doc__ = f"scikit-matter's {name}."
    return adapter


skmatter_fps = _skmatter("FPS")
skmatter_voronoi = _skmatter("VoronoiFPS")


def rdkit_lazy(x: Array, k: int) -> Picks:
    """RDKit's lazy max-min over a distance function in Python."""
    from rdkit.SimDivFilters.rdSimDivPickers import MaxMinPicker

    def distance(i: int, j: int) -> float:
        difference = x[i] - x[j]
        return float(difference @ difference)

    return lambda: np.asarray(MaxMinPicker().LazyPick(distance, len(x), k, firstPicks=[0]))


def rdkit_bits(x: Array, k: int) -> Picks:
    """RDKit's lazy max-min on bit vectors, by Tanimoto distance; x holds 0 and 1."""
    from rdkit.DataStructs import ExplicitBitVect
    from rdkit.SimDivFilters.rdSimDivPickers import MaxMinPicker

    vectors = [ExplicitBitVect(x.shape[1]) for _ in x]
    for vector, row in zip(vectors, x, strict=True):
        vector.SetBitsFromList(np.flatnonzero(row).tolist())
    return lambda: np.asarray(
        MaxMinPicker().LazyBitVectorPick(vectors, len(vectors), k, firstPicks=[0])
    )


def numpy_threshold(x: Array, k: int, decay: float) -> Picks:
    """The threshold filter with one matrix-vector product per accepted row."""

    def run() -> Array:
        squares = np.einsum("ij,ij->i", x, x)
        nearest = np.maximum(squares + squares[0] - 2 * (x @ x[0]), 0)
        picks = [0]
        nearest[0] = -1
        square = float(nearest.max())
        while len(picks) < k:
            position = 0
            while len(picks) < k:
                ahead = nearest[position:] > square
                step = int(np.argmax(ahead))
                if not ahead[step]:
                    break
                position += step
                picks.append(position)
                update = squares + squares[position] - 2 * (x @ x[position])
                np.minimum(nearest, update, out=nearest)
                nearest[position] = -1
            square *= decay * decay
        return np.asarray(picks)

    return run


def numpy_random(x: Array, k: int) -> Picks:
    """k random rows."""
    return lambda: np.random.default_rng(0).choice(len(x), k, replace=False)


def numpy_herding(x: Array, k: int, real: Array) -> Picks:
    """Herding with the kernel -|a - b|: each pick lowers the energy distance to `real` most."""

    def run() -> Array:
        squares = np.einsum("ij,ij->i", x, x)
        attraction = _mean_distances(x, squares, real)
        picks = np.zeros(k, dtype=np.int64)
        sums = np.zeros(len(x))
        left = np.zeros(len(x))  # infinite where picked
        for i in range(k):
            picks[i] = np.argmin((i + 1) * attraction - sums + left)
            left[picks[i]] = np.inf
            sums += _distances(x, squares, picks[i])
        return picks

    return run


def numpy_exchange(x: Array, k: int, real: Array) -> Picks:
    """From random rows: every pick in turn for the row that lowers the energy distance to `real`
    most, until no exchange does."""

    def run() -> Array:
        squares = np.einsum("ij,ij->i", x, x)
        attraction = _mean_distances(x, squares, real)
        picks = np.random.default_rng(0).choice(len(x), k, replace=False)
        sums = np.sum([_distances(x, squares, row) for row in picks], axis=0, dtype=np.float64)
        picked = np.zeros(len(x), dtype=bool)
        picked[picks] = True
        least = 1e-6 * k * float(attraction.mean())  # a smaller gain is rounding
        stayed = slot = 0
        while stayed < k:
            gone = picks[slot]
            without = sums - _distances(x, squares, gone)
            value = k * attraction - without
            best = int(np.argmin(np.where(picked, np.inf, value)))
            stayed += 1
            if value[best] < value[gone] - least:
                picked[[gone, best]] = False, True
                picks[slot], sums, stayed = best, without + _distances(x, squares, best), 0
            slot = (slot + 1) % k
        return picks

    return run


def _distances(x: Array, squares: Array, row: int) -> Array:
    """Of all rows to one."""
    found = squares + squares[row] - 2 * (x @ x[row])
    found[row] = 0
    return np.sqrt(np.maximum(found, 0))


def _mean_distances(x: Array, squares: Array, real: Array) -> Array:
    """Of every row to those of `real`."""
    total = np.zeros(len(x))
    for part in np.array_split(real, -(-len(real) // 500)):
        products = x @ part.T
        products *= -2
        products += squares[:, None]
        products += np.einsum("ij,ij->i", part, part)
        total += np.sqrt(np.maximum(products, 0)).sum(axis=1)
    return total / len(real)


def _without_self(distances: Array, indices: Array) -> tuple[Array, Array]:
    """The nearest other row, from two neighbours of which one should be the row itself."""
    which = (indices[:, 0] == np.arange(len(indices))).astype(int)
    rows = np.arange(len(indices))
    return distances[rows, which], indices[rows, which]


def faiss_flat(x: Array) -> Nearest:
    """faiss IndexFlatL2, two neighbours (one is the row itself)."""
    import faiss

    def run() -> tuple[Array, Array]:
        index = faiss.IndexFlatL2(x.shape[1])
        index.add(x)
        squared, indices = index.search(x, 2)
        squared, indices = _without_self(squared, indices)
        return np.sqrt(np.maximum(squared, 0)), indices

    return run


def sklearn_brute(x: Array) -> Nearest:
    """scikit-learn NearestNeighbors(algorithm="brute")."""
    from sklearn.neighbors import NearestNeighbors

    def run() -> tuple[Array, Array]:
        search = NearestNeighbors(n_neighbors=1, algorithm="brute", n_jobs=-1).fit(x)
        distances, indices = search.kneighbors()
        return distances[:, 0], indices[:, 0]

    return run


def torch_chunks(x: Array, rows: int = 2048) -> Nearest:
    """torch.addmm and min over chunks of rows, by the norm trick."""
    import torch

    given = torch.from_numpy(x)

    def run() -> tuple[Array, Array]:
        squares = given.square().sum(1)
        parts = []
        for start in range(0, len(given), rows):
            part = given[start : start + rows]
            squared = torch.addmm(squares, part, given.T, alpha=-2)
            squared.diagonal(start).fill_(torch.inf)
            least, indices = squared.min(1)
            parts.append(((least + squares[start : start + rows]).clamp_(min=0).sqrt_(), indices))
        distances, indices = (torch.cat(column) for column in zip(*parts, strict=True))
        return distances.numpy(), indices.numpy()

    return run


def scipy_tree(x: Array) -> Nearest:
    """SciPy cKDTree, built inside the timed call."""
    from scipy.spatial import cKDTree

    def run() -> tuple[Array, Array]:
        return _without_self(*cKDTree(x).query(x, k=2, workers=-1))

    return run
