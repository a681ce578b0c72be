"""The pool of one call, wherever its rows are: in memory, on disk, with other processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import _checks, engine
from entroselect._memory import memory_limit as parsed
from entroselect._progress import Report, reporter
from entroselect._rows import Rows, is_on_cuda
from entroselect.checkpoint import Checkpoint
from entroselect.cpu import add_rows, distances_to
from entroselect.io import open_pool
from entroselect.io.cache import decoded_once
from entroselect.io.source import NoRows, Source
from entroselect.ranks import digest, ranks_of, together
from entroselect.results import Float64, Int64, on_host
from entroselect.sharded import Sharded
from entroselect.streamed import BYTES_A_ROW, Budget, Streamed, bytes_beside

# Rows that tell one pool from another.
_SAMPLE = 64


class Opened:
    """The pool that a selection is made from.

    Attributes:
        n, d: rows, of all processes, and columns.
        pool: the primitives.
        ranks: the processes, None for a single one.
    """

    def __init__(
        self,
        features: Any,
        metric: str,
        backend: Any,
        *,
        memory_limit: Any = None,
        group: Any = None,
        whole: bool = True,
        picks: Any = 0,
    ) -> None:
        """`whole`: nobody will ask for the state of the pool. `picks`: how many there will be.

        Raises:
            ValueError, TypeError: naming the argument; on all processes if on one.
        """
        limit = parsed(memory_limit)
        picks = picks if isinstance(picks, int) else 0  # otherwise an error that is raised later
        self.ranks = ranks_of(group)
        self.metric, self.backend = metric, backend
        self._rows: Rows | None = None
        with self.together():
            _checks.choice("metric", metric, _checks.METRICS)
            local = self._open(features, limit, whole and self.ranks is None, picks)
        self._local = local
        self.first, self.n, self.d = 0, local.n, local.d
        self.pool: engine.Pool = local
        if self.ranks is not None:
            self.ranks.check_same(f"columns={local.d}; dtype={self._dtype}; metric={metric}")
            sharded = Sharded(local, self.values, self._dtype, metric, backend, self.ranks)
            self.pool, self.first, self.n = sharded, sharded.first, sharded.n
            if self.n == 0:
                raise ValueError("features: empty on every rank; at least 1 row needed")

    def together(self) -> AbstractContextManager[None]:
        """Errors in the block on one process become errors on all."""
        return together(self.ranks)

    def check_same(self, **arguments: Any) -> None:
        """All processes were called with these."""
        if self.ranks is not None:
            texts = [f"{name}={_short(value)}" for name, value in arguments.items()]
            self.ranks.check_same("; ".join(texts))

    def begin(self, before: Int64, vectors: Rows | None) -> None:
        """These pool rows or vectors count as chosen."""
        if len(before):
            self.pool.pick(before)
        if vectors is not None:
            self.pool.extend(vectors.values, vectors.dtype)

    def reporter(self, progress: Any, what: str) -> AbstractContextManager[Report | None]:
        """Reports progress, on one process."""
        alone = self.ranks is None or self.ranks.rank == 0
        return reporter(progress if alone else None, what)

    @property
    def block(self) -> engine.Block:
        """This process's own rows."""
        return self._local

    def values(self, rows: Int64) -> NDArray[Any]:
        """Own rows, in host memory."""
        if isinstance(self._local, Streamed):
            return self._local.values(rows)
        assert self._rows is not None
        return self._rows.host(rows)

    def center(self) -> int:
        """The row nearest to the mean row of the whole pool, the first of equals."""
        if self.ranks is None and self._rows is not None:
            return int(self.backend.center(self._rows, self.metric))
        total = np.zeros(self.d)
        for rank in range(1 if self.ranks is None else self.ranks.size):
            with self.together():  # one after the other: the order of a sum decides its last bit
                if self.ranks is None or self.ranks.rank == rank:
                    self._add_rows(total)
            if self.ranks is not None:
                total = self.ranks.broadcast(total, rank)
        total /= self.n
        with self.together():
            squared, row = self._nearest_to(total)
        if self.ranks is not None:
            squared, row = self.ranks.largest(-squared, self.first + row)
        return row

    def agreed(self, draw: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """What rank 0 draws."""
        drawn = draw()
        return drawn if self.ranks is None else self.ranks.broadcast(drawn, 0)

    def like(self, found: Any) -> Any:
        """Results where the pool is."""
        return found if self._rows is None else self._rows.like(found)

    def checkpoint(self, path: Any, about: dict[str, Any]) -> Checkpoint:
        """The file of this selection."""
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"checkpoint: expected the path of a file, got {path!r}")
        about = {
            **{name: _short(value) for name, value in about.items()},
            "rows": self.n,
            "columns": self.d,
            "dtype": self._dtype,
            "metric": self.metric,
            "pool": self._fingerprint(),
        }
        with self.together():
            return Checkpoint(path, about, self.n, self.first, self.ranks)

    def _open(self, features: Any, limit: int | None, whole: bool, picks: int) -> engine.Block:
        source: Source
        if self.ranks is not None and getattr(features, "shape", (1,))[0] == 0:
            source = NoRows(features)
        elif limit is None or is_on_cuda(features):
            return self._in_memory(features, whole, limit)
        else:
            if isinstance(features, (str, os.PathLike)):
                raise TypeError(
                    f"features: expected rows, got a path; pass open_pool({features!r})"
                )
            source = open_pool(features)
            row_bytes = source.read(0, 0).itemsize * source.d
            # Rows of an array are there anyway, others would have to be held.
            held = 0 if source.format == "array" else row_bytes
            needed = source.n * (held + bytes_beside(source.d))
            needed += picks * (row_bytes + bytes_beside(source.d))
            if needed <= limit:
                return self._in_memory(source, whole, limit)
            fixed = BYTES_A_ROW * source.n + source.overhead
            if needed < Budget.least(fixed, row_bytes, source.d):
                raise ValueError(
                    f"memory_limit: {limit} bytes are too few for {source.n} rows of {row_bytes} "
                    f"bytes; the smallest that works is {needed}"
                )
        self._dtype = source.dtype
        return Streamed(decoded_once(source), self.metric, self.backend, limit or 1 << 30)

    def _in_memory(self, features: Any, whole: bool, limit: int | None) -> engine.Block:
        rows = _checks.usable_rows("features", features, self.metric)
        self._rows, self._dtype = rows, rows.dtype
        pool: engine.Block = self.backend.open_pool(rows, self.metric, block=not whole, limit=limit)
        return pool

    def _add_rows(self, total: Float64) -> None:
        if isinstance(self._local, Streamed):
            self._local.add_rows(total)
        elif self._rows is not None:
            add_rows(self._host_rows(), self.metric, total)

    def _nearest_to(self, vector: Float64) -> tuple[float, int]:
        if isinstance(self._local, Streamed):
            return self._local.nearest_to(vector)
        squared = distances_to(self._host_rows(), self.metric, vector)
        row = int(np.argmin(squared))
        return float(squared[row]), row

    def _host_rows(self) -> Rows:
        assert self._rows is not None
        if not self._rows.on_cuda:
            return self._rows
        return Rows(self._rows.host(slice(None)), self._rows.dtype)

    def _fingerprint(self) -> str:
        sample = np.unique(np.linspace(0, self.n - 1, _SAMPLE).astype(np.int64)) - self.first
        own = sample[(sample >= 0) & (sample < self._local.n)]
        with self.together():
            values = self.values(own)
        marks = np.array([int(digest(row), 16) for row in values], dtype=np.uint64)
        if self.ranks is not None:
            marks = np.concatenate(self.ranks.gather(marks))
        return hashlib.blake2b(marks.tobytes(), digest_size=8).hexdigest()


class Run:
    """One selection from an opened pool: where it begins, and what happens after each round."""

    def __init__(
        self,
        opened: Opened,
        k: int,
        before: Int64,
        vectors: Rows | None,
        checkpoint: Any,
        about: dict[str, Any],
        report: Report | None,
    ) -> None:
        """`about`: what makes this selection the one that a checkpoint is of."""
        self._opened, self._k, self._report = opened, k, report
        self._checkpoint: Checkpoint | None = None
        self.trail = engine.Trail()
        saved = None
        if checkpoint is not None:
            self._checkpoint = opened.checkpoint(checkpoint, about)
            with opened.together():
                saved = self._checkpoint.load(opened.block.n)
            opened.check_same(checkpoint="there" if saved else "not there")
        if saved is not None:
            self.trail, bounds, met = saved
            if self.trail.done > k:
                raise ValueError(
                    f"k: {checkpoint} has {self.trail.done} picks already; pass at least that "
                    "many, or another checkpoint"
                )
            # Rows that are chosen are about to be said to be so again.
            chosen = np.concatenate([before, *self.trail.picks]) - opened.first
            bounds[chosen[(chosen >= 0) & (chosen < opened.block.n)]] = np.inf
            opened.block.restart(bounds, met.astype(np.int64))
        opened.begin(before, vectors)
        if self.trail.done:
            opened.pool.pick(self.trail.picks[0])

    def watch(self, trail: engine.Trail) -> None:
        """After a round."""
        if self._report is not None:
            self._report(trail.done, self._k)
        if self._checkpoint is not None:
            self._checkpoint.offer(trail, self._opened.block)

    def end(self) -> None:
        """After the last one."""
        if self._checkpoint is not None:
            self._checkpoint.save(self.trail, self._opened.block)


def _short(value: Any) -> Any:
    """Something that says which value it was: itself, or of arrays what they hold in short."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Rows):
        value = value.values
    return digest(on_host(value)) if hasattr(value, "dtype") else str(value)
