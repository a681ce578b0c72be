"""One selection, from opening its pool to its last round: what greedy and threshold share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import _checks, engine
from entroselect._memory import memory_limit as bytes_of
from entroselect._progress import Report, reporter
from entroselect._quotas import Constraint
from entroselect.backends.base import Backend
from entroselect.constrained import ConstrainedPool
from entroselect.io import open_pool
from entroselect.io.cache import decoded_once
from entroselect.io.convert import refuse
from entroselect.io.open import as_rows
from entroselect.io.rows import Rows, is_on_cuda
from entroselect.io.source import EmptySource, Source
from entroselect.results import Float64, Int64, Selection, on_host
from entroselect.scale.batches import numpy_dtype
from entroselect.scale.budget import (
    check_least,
    gathered_bytes,
    gathered_least,
    gathered_rows,
    pool_bytes,
    pool_needs,
)
from entroselect.scale.checkpoint import Checkpoint
from entroselect.scale.memory_pool import MemoryPool
from entroselect.scale.process_group import ProcessGroup, digest, process_group_of, shared_errors
from entroselect.scale.sharded_pool import ShardedPool
from entroselect.scale.streamed_pool import StreamedPool


class OpenedPool:
    """The pool that a selection is made from: in memory, read from disk, with other processes.

    Attributes:
        n, d: rows, of all processes, and columns.
        pool: the primitives.
        local: this process's own rows.
        ranks: the processes, None for a single one.
    """

    def __init__(
        self,
        features: Any,
        metric: str,
        backend: Backend,
        *,
        memory_limit: Any = None,
        group: Any = None,
        whole: bool = True,
        picks: Any = 0,
        selected: Any = None,
        extra: int = 0,
    ) -> None:
        """`whole`: no checkpoint will be taken; the pool may then be a k-d tree, which cannot
        report its bounds. `picks`: how many picks there will be, besides those in `selected`; None:
        perhaps all rows. `extra`: bytes per row that the selection keeps besides.

        Raises:
            ValueError, TypeError: naming the argument; on all processes if on one.
        """
        limit, self.ranks = bytes_of(memory_limit), process_group_of(group)
        self.metric, self.backend = metric, backend
        with self.shared_errors():
            _checks.choice("metric", metric, _checks.METRICS + _checks.BIT_METRICS)
            given = self._given(features, limit)
            self._dtype = given.dtype
            # Bytes that are kept anyway, and those that each needs besides what the caller holds.
            kept = in_memory = streamed = extra * given.n
            if isinstance(given, Source):
                picks = _most_picks(picks, given.n, self.ranks)
                mixed = _vectors_dtype(selected) not in (None, given.dtype)
                in_memory, streamed = pool_needs(given, picks, mixed, kept)
        self.first, self.n, self.d = 0, given.n, given.d
        if self.ranks is not None:
            sizes = np.concatenate(self.ranks.all_gather(np.array([given.n], dtype=np.int64)))
            self.first, self.n = int(sizes[: self.ranks.rank].sum()), int(sizes.sum())
        row_bytes = given.d * numpy_dtype(given.dtype).itemsize
        if self.ranks is not None:
            in_memory += gathered_least(row_bytes, given.d)
        if isinstance(given, Source) or self.ranks is not None:
            what = f"{given.n} rows of {row_bytes} bytes"
            check_least(limit, min(in_memory, streamed), what, self.ranks)
        fits = given.n > 0 and limit is not None and in_memory <= limit  # no rows cannot be held
        self.local: MemoryPool | StreamedPool
        room: int | None = None  # rows of all processes that can be settled here
        with self.shared_errors():
            if fits or isinstance(given, Rows):
                rows = as_rows("features", given)
                numbers = range(self.first, self.first + rows.n)
                _checks.usable_values("features", rows, metric, numbers)
                sub = not whole or self.ranks is not None
                if limit is not None:
                    room = gathered_rows(limit - in_memory, row_bytes, given.d)
                self.local = MemoryPool(rows, metric, backend, self.first, sub=sub, limit=limit)
            else:
                limit = limit or max(1 << 30, streamed)
                self.local = StreamedPool(
                    decoded_once(given), metric, backend, limit - kept, self.first, picks
                )
                # Its own candidates are in memory besides.
                left = self.local.capacity * (row_bytes + pool_bytes(given.d))
                room = left // gathered_bytes(row_bytes, given.d)
        self.pool: engine.Pool = self.local.primitives
        if self.ranks is not None:
            self.ranks.check_agreement(f"columns={self.d}; dtype={self._dtype}; metric={metric}")
            self.pool = ShardedPool(
                self.local.primitives, self.local.take, self._dtype, metric, backend, self.ranks,
                room, self.local.on_device,
            )  # fmt: skip
            if self.n == 0:
                raise ValueError("features: empty on every rank; at least 1 row needed")

    def shared_errors(self) -> AbstractContextManager[None]:
        """Errors in the block on one process become errors on all."""
        return shared_errors(self.ranks)

    def check_agreement(self, **arguments: Any) -> None:
        """Raises ValueError on all processes unless all were called with the same arguments."""
        if self.ranks is not None:
            texts = [f"{name}={_short(value)}" for name, value in arguments.items()]
            self.ranks.check_agreement("; ".join(texts))

    def begin(self, before: Int64, vectors: Rows | None) -> None:
        """Makes these pool rows, or these vectors, picks before the first round."""
        if len(before):
            self.pool.add_picks(before)
        if vectors is not None:
            self.pool.add_vectors(vectors.values, vectors.dtype)

    def weigh(self, weights: Float64) -> None:
        """Has rows compared by weight x distance, in a single process."""
        pool: Any = self.pool  # a WeightedPool of a backend that takes weights
        pool.weigh(weights)

    def reporter(self, progress: Any, what: str) -> AbstractContextManager[Report | None]:
        """Reports progress, on one process."""
        alone = self.ranks is None or self.ranks.rank == 0
        return reporter(progress if alone else None, what)

    def center(self, farthest: bool = False, among: NDArray[np.bool_] | None = None) -> int:
        """The row nearest to the mean row of the whole pool, or farthest from it; the first of
        equals. `among`, (n,): which rows may be it."""
        if self.ranks is None and among is None and isinstance(self.local, MemoryPool):
            return self.local.center(farthest)
        if among is not None:
            among = among[self.first : self.first + self.local.n]
        total = np.zeros(self.d)
        if self.ranks is None:
            self.local.add_rows(total)
            return self.local.nearest_to(total / self.n, farthest, among)[1]
        for rank in range(self.ranks.size):  # in turn: the order of a sum decides its last bit
            with self.shared_errors():
                if self.ranks.rank == rank:
                    self.local.add_rows(total)
            total = self.ranks.broadcast(total, rank)
        with self.shared_errors():
            squared, row = self.local.nearest_to(total / self.n, farthest, among)
        return self.ranks.max_with_index(squared if farthest else -squared, self.first + row)[1]

    def broadcast_draw(self, draw: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array that rank 0 draws, on every process."""
        drawn = draw()
        return drawn if self.ranks is None else self.ranks.broadcast(drawn, 0)

    def like(self, found: Any) -> Any:
        """Puts a result where the pool is: host memory or a CUDA device."""
        return self.local.like(found)

    def checkpoint(self, path: Any, about: dict[str, Any]) -> Checkpoint:
        """Opens the checkpoint file of this selection. `about`: what identifies it."""
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"checkpoint: expected the path of a file, got {path!r}")
        about = {
            **{name: _short(value) for name, value in about.items()},
            "rows": self.n,
            "columns": self.d,
            "dtype": self._dtype,
            "metric": self.metric,
        }
        return Checkpoint(path, about, self.n, self.first, self.ranks)

    def _given(self, features: Any, limit: int | None) -> Rows | Source:
        """`features` as Rows without a memory limit, as a Source with one; values are not checked
        yet."""
        if self.ranks is not None and getattr(features, "shape", (1,))[0] == 0:
            return EmptySource(features)
        if limit is None or is_on_cuda(features):
            return _checks.metric_rows("features", features, self.metric)
        if isinstance(features, (str, os.PathLike)):
            raise TypeError(f"features: expected rows, got a path; pass open_pool({features!r})")
        refuse("features", features)
        source = open_pool(features)
        in_memory = not isinstance(features, Source) and source.format in ("array", "memmap")
        if in_memory and len(source.stored_shape) != 2:  # as without a limit
            raise ValueError(
                "features: expected a 2-D array (rows, columns), got shape "
                f"{tuple(source.stored_shape)}"
            )
        return source


def _most_picks(picks: Any, n: int, ranks: ProcessGroup | None) -> int:
    """How many picks a process may have to keep, which has n rows itself; `picks`: see above."""
    if picks is None:
        return n * (1 if ranks is None else ranks.size)
    if isinstance(picks, float) and 0 < picks < 1:
        return math.ceil(picks * n) * (1 if ranks is None else ranks.size)
    return picks if isinstance(picks, int) else 0  # otherwise an error is raised later


def _vectors_dtype(selected: Any) -> str | None:
    """The dtype of vectors; None for indices, and for what is refused later."""
    try:
        rows = as_rows("selected", selected)
    except (TypeError, ValueError):
        return None
    return rows.dtype


class SelectionRun:
    """One selection from an opened pool: where it begins, and what happens after each round."""

    def __init__(
        self,
        opened: OpenedPool,
        k: int,
        before: Int64,
        vectors: Rows | None,
        checkpoint: Any,
        about: dict[str, Any],
        report: Report | None,
        in_order: bool = False,
        constraint: Constraint | None = None,
        weights: Float64 | None = None,
    ) -> None:
        """`about`: the arguments that a checkpoint must agree with. `in_order`: how many
        picks there will be is not known; progress is that of the pass over the pool."""
        self._constraint, self.weighted = constraint, weights is not None
        self._opened, self._k, self._report, self._in_order = opened, k, report, in_order
        self._checkpoint: Checkpoint | None = None
        self._limited: ConstrainedPool | None = None
        self.state = engine.SelectionState()
        try:
            if checkpoint is not None:
                self._checkpoint = opened.checkpoint(checkpoint, about)
                self._resume(self._checkpoint, before, 0 if vectors is None else vectors.n)
            if weights is not None:
                opened.weigh(weights)
            opened.begin(before, vectors)
            if self.state.done:
                opened.pool.add_picks(self.state.picks[0])
            self.pool: engine.Pool = opened.pool
            if constraint is not None:
                picks = self.state.joined()[0]
                self.pool = self._limited = ConstrainedPool.of(
                    opened.pool, opened.local.primitives, opened.first, constraint, picks
                )
        except BaseException:
            self.__exit__()
            raise

    def _resume(self, checkpoint: Checkpoint, before: Int64, vectors: int) -> None:
        """Restores the state from the checkpoint, if there is one."""
        opened, local = self._opened, self._opened.local
        with opened.shared_errors():
            local.marks()  # of rows in memory: before any of them is compared
            saved = checkpoint.load(local.n, before, vectors)
        opened.check_agreement(checkpoint="there" if saved else "not there")
        if saved is None:
            return
        if saved.state.done > self._k:
            raise ValueError(
                f"k: {checkpoint.path} has {saved.state.done} picks already; pass at least that "
                "many, or another checkpoint"
            )
        with opened.shared_errors():
            local.verify(saved.marks)
        self.state = saved.state
        # A picked row has the bound -1. __init__ marks these rows as picked again. Replace the
        # saved mark first, or `available` would be reduced twice.
        bounds = saved.bounds
        bounds[bounds < 0] = np.inf
        local.primitives.restart(bounds, saved.met.astype(np.int64))

    def __enter__(self) -> SelectionRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self._checkpoint is not None:
            self._checkpoint.close()

    def after_round(self, state: engine.SelectionState) -> None:
        """Reports progress, and saves a checkpoint if it is due."""
        if self._report is not None:
            self._report(state.position if self._in_order else state.done, self._k)
        if self._checkpoint is not None:
            self._checkpoint.offer(state, self._saved, self._opened.local.marks)

    def end(self, radius: float) -> float:
        """Saves the finished selection in the checkpoint. Returns the radius: the one given, unless
        that is only of the rows that may be picked."""
        if self._limited is not None:
            self._limited.put_back()
            pool = self._opened.pool
            radius = engine.settled_radius(pool, engine.block_size(pool), self.weighted)
        if self._checkpoint is not None:
            self._checkpoint.save(self.state, self._saved, self._opened.local.marks)
        return radius

    @property
    def _saved(self) -> Any:
        """What reports the state of this process's rows."""
        return self._opened.local.primitives if self._limited is None else self._limited

    def result(self, radius: float, began: float, opened: float, passes: bool = False) -> Selection:
        """The result; `began` and `opened` are times of `time.perf_counter`. `passes`: adds the
        threshold of each pick."""
        like, pool = self._opened.like, self._opened.pool
        indices, squared, thresholds = self.state.joined()
        return Selection(
            like(indices),
            like(np.sqrt(squared)),
            radius,
            self._opened.backend.name,
            like(thresholds) if passes else None,
            engine.profile(pool, len(indices), self.state.rounds, began, opened),
            None if self._constraint is None else self._constraint.counts(indices),
        )


def _short(value: Any) -> Any:
    """A short value that identifies an argument: the value itself, or a digest of an array."""
    if isinstance(value, np.generic):  # a start or seed that NumPy counted
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Rows):
        value = value.values
    return digest(on_host(value)) if hasattr(value, "dtype") else str(value)
