"""Backend "faiss": approximate neighbours with canonical distances and a measured recall.

    candidates   a faiss index over a float32 copy of the points, moved and scaled as fits
    distances    canonical, of the candidates alone (`_core.nearest_among`); ties: lowest index
    recall       a sample of the queries is searched exactly as well and compared

A point that the index misses is not found at all. Distances are right for the indices returned, and
never smaller than the exact engine's. Queries to which the index gives fewer than k points are
searched exactly.

"faiss:FACTORY" takes what faiss.index_factory makes of that string, "faiss:FACTORY:PARAMETERS"
also sets what faiss calls index parameters: "faiss:IVF1024,Flat:nprobe=16". "faiss" alone is
DEFAULT (docs/decisions.md has the measurements). Its graph depends on which thread comes first, so
that two runs on several threads may miss different points; on one thread, or with an index made of
cells, they do not.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import _core
from entroselect._settings import threads
from entroselect.backends.base import not_taken
from entroselect.backends.cpu import Cpu
from entroselect.io.rows import Rows
from entroselect.reference import unit_rows
from entroselect.results import Float64, Neighbours

DEFAULT = "HNSW32,Flat:efSearch=64"
SAMPLE = 1000  # queries whose exact neighbours say what the recall is
SEED = 0  # of every random draw: sample and training rows
SPARE = 8  # candidates beyond the k: float32 may order near ones wrongly
TILE = 1 << 21  # values that are float64 at a time
FARTHEST = 1e15  # clips outliers in the index, whose float32 squares must not overflow
GPU_WIDTH = 1024  # candidates per query that every version of faiss finds on a GPU
TRAINING = 40  # rows per cell; faiss warns below 39


def why_not() -> str:
    """What is missing for backend "faiss", "" if nothing is."""
    if importlib.util.find_spec("faiss") is None:
        return "faiss is not installed: pip install 'entroselect[faiss]'"
    try:
        import faiss
    except ImportError as error:
        return f"faiss does not load: {error}"
    return "" if hasattr(faiss, "index_factory") else "the package called faiss is another one"


class Faiss:
    """Finds neighbours of rows in memory, in one process; selection is exact only."""

    takes = frozenset({"nearest"})
    loops = None
    new_pool = update_neighbours = center = add_distances = exchange = within = not_taken
    batch_greedy = batch_centers = not_taken

    def __init__(self, name: str, exact: Cpu) -> None:
        self.name = name
        self.exact = exact

    def nearest(
        self, queries: Rows, points: Rows | None, k: int, metric: str, progress: Any
    ) -> Neighbours:
        """About the k nearest points of each query; points=None means the other queries."""
        with _thread_count(threads()):
            width = k + (points is None) + SPARE
            index, frame = self._index(queries if points is None else points, metric, width)
            candidates = self._candidates(index, frame, queries, width, progress)
        del index
        targets = queries if points is None else points
        squared, indices = _core.nearest_among(
            queries.values,
            queries.dtype,
            targets.values,
            targets.dtype,
            points is None,
            candidates,
            k,
            metric == "cosine",
            threads(),
        )
        del candidates
        distances = np.sqrt(squared)
        short = np.flatnonzero(indices[:, k - 1] < 0)
        for begin in range(0, len(short), 1 << 16):
            some = short[begin : begin + (1 << 16)]
            found = self._exactly(some, queries, points, k, metric)
            distances[some], indices[some] = found.distances, found.indices
        rng = np.random.default_rng(SEED)
        sample = np.sort(rng.choice(queries.n, min(SAMPLE, queries.n), replace=False))
        exact = self._exactly(sample, queries, points, k, metric)
        both = np.sort(np.concatenate([indices[sample], exact.indices], axis=1), axis=1)
        recall = float(np.count_nonzero(both[:, 1:] == both[:, :-1]) / exact.indices.size)
        return Neighbours(distances, indices, self.name, recall, (sample, exact.distances))

    def _exactly(
        self, rows: NDArray[np.int64], queries: Rows, points: Rows | None, k: int, metric: str
    ) -> Neighbours:
        """The exact neighbours of some of the queries."""
        some = Rows(queries.values[rows], queries.dtype)
        if points is not None:
            return self.exact.nearest(some, points, k, metric, None)
        # One more, since each finds itself, if its copies do not fill the list.
        found = self.exact.nearest(some, queries, k + 1, metric, None)
        others = found.indices != rows[:, None]
        others[others.all(axis=1), k] = False
        shape = (len(rows), k)
        return Neighbours(
            found.distances[others].reshape(shape),
            found.indices[others].reshape(shape),
            found.backend,
        )

    def _index(self, points: Rows, metric: str, width: int) -> tuple[Any, _Frame]:
        """A faiss index that holds the points as the frame shows them and can find `width`."""
        import faiss

        wanted = self.name.partition(":")[2] or DEFAULT
        factory, _, parameters = wanted.partition(":")
        rng = np.random.default_rng(SEED)
        frame = _Frame.around(points, metric, rng)
        try:
            index = faiss.index_factory(points.d, factory)
            if parameters:
                space: Any = faiss.ParameterSpace()
                space.set_index_parameters(index, parameters)
            cells = getattr(faiss.try_extract_index_ivf(index), "nlist", 0)
            index = _on_gpu(index, width)
            if not index.is_trained:
                size = min(points.n, max(TRAINING * cells, 1 << 14))
                rows = np.sort(rng.choice(points.n, size, replace=False))
                index.train(np.concatenate([tile for _, tile in frame.tiles(points, rows)]))
            for _, tile in frame.tiles(points):
                index.add(tile)
        except RuntimeError as error:
            raise ValueError(
                f"backend: {self.name!r} cannot index {points.n} rows of {points.d} columns: "
                f"{_said(error)}"
            ) from error
        return index, frame

    def _candidates(
        self, index: Any, frame: _Frame, queries: Rows, width: int, progress: Any
    ) -> NDArray[np.int64]:
        """Per query, rows of the points that may be among its nearest; -1: none."""
        found = np.empty((queries.n, min(index.ntotal, width)), dtype=np.int64)
        for begin, tile in frame.tiles(queries):
            try:
                _, found[begin : begin + len(tile)] = index.search(tile, found.shape[1])
            except RuntimeError as error:
                raise ValueError(f"backend: {self.name!r} cannot search: {_said(error)}") from error
            if progress is not None:
                progress(begin + len(tile), queries.n)
        return found


def _on_gpu(index: Any, width: int) -> Any:
    """The index on the first GPU, where faiss is built for one, finds one and has that kind of
    index for it. Unverified: it has never run on a GPU."""
    import faiss

    if faiss.get_num_gpus() == 0 or width > GPU_WIDTH:
        return index
    try:
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    except RuntimeError:
        return index


def _said(error: RuntimeError) -> str:
    """faiss's message, without the place in its sources."""
    return re.sub(r"^Error in .*? at \S+:\d+: (Error: )?", "", str(error), flags=re.S)


@dataclass(frozen=True)
class _Frame:
    """Turns rows into the index's float32 values, around 0 and of size 1, so that neither an offset
    nor the unit of the data costs digits."""

    cosine: bool
    centre: Float64
    scale: float

    @staticmethod
    def around(points: Rows, metric: str, rng: np.random.Generator) -> _Frame:
        """A frame for points like a sample of these."""
        size = min(points.n, max(64, TILE // points.d), 4096)
        frame = _Frame(metric == "cosine", np.zeros(points.d), 1.0)
        sample = frame._canonical(points.float64(np.sort(rng.choice(points.n, size, False))))
        centre = np.median(sample, axis=0)  # unmoved by outliers
        sizes = np.abs(sample - centre).max(axis=1)
        typical = float(np.median(sizes)) or float(sizes.max()) or 1.0
        return _Frame(frame.cosine, centre, 1 / max(typical, 1e-300))

    def tiles(
        self, rows: Rows, some: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(place, float32 rows), tile by tile; of some rows only, if given."""
        count = rows.n if some is None else len(some)
        step = max(1, TILE // rows.d)
        for begin in range(0, count, step):
            part: Any = slice(begin, min(count, begin + step))
            values = self._canonical(rows.float64(part if some is None else some[part]))
            with np.errstate(over="ignore"):  # clipped
                values = (values - self.centre) * self.scale
            np.clip(values, -FARTHEST, FARTHEST, out=values)
            yield begin, values.astype(np.float32)

    def _canonical(self, values: Float64) -> Float64:
        return unit_rows(values) if self.cosine else values


@contextmanager
def _thread_count(count: int) -> Iterator[None]:
    """Lets faiss use `count` threads within the block."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
