"""The pool of one call, wherever its rows are: in memory, on disk, with other processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import _checks, engine
from entroselect._memory import memory_limit as parsed
from entroselect._progress import Report, reporter
from entroselect.backends.base import Backend
from entroselect.backends.cpu import add_rows, distances_to
from entroselect.io import open_pool
from entroselect.io.cache import decoded_once
from entroselect.io.convert import refuse
from entroselect.io.open import as_rows
from entroselect.io.rows import Rows, is_on_cuda
from entroselect.io.source import EmptySource, Source
from entroselect.results import Float64, Int64, Selection, on_host
from entroselect.scale.checkpoint import Checkpoint
from entroselect.scale.marks import Marks, row_marks
from entroselect.scale.process_group import digest, process_group_of, shared_errors, too_few
from entroselect.scale.sharded_pool import ShardedPool
from entroselect.scale.streamed_pool import BYTES_A_ROW, Budget, StreamedPool, bytes_beside

# Rows that are marked at a time.
_AT_ONCE = 1 << 26  # bytes


class OpenedPool:
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
        backend: Backend,
        *,
        memory_limit: Any = None,
        group: Any = None,
        whole: bool = True,
        picks: Any = 0,
        selected: Any = None,
    ) -> None:
        """`whole`: nobody will ask for the state of the pool. `picks`: how many there will be,
        beside those in `selected`.

        Raises:
            ValueError, TypeError: naming the argument; on all processes if on one.
        """
        limit = parsed(memory_limit)
        self.ranks = process_group_of(group)
        self.metric, self.backend = metric, backend
        self._rows: Rows | None = None
        self._marks: Marks | None = None  # of rows in memory, once they are asked for
        with self.shared_errors():
            _checks.choice("metric", metric, _checks.METRICS)
            given = self._given(features, limit)
            self._dtype = given.dtype
            picks = picks if isinstance(picks, int) else 0  # else an error that is raised later
            all_of_it, in_pieces = _needed(given, picks, selected)
        self.first, self.n, self.d = 0, given.n, given.d
        if self.ranks is not None:
            sizes = np.concatenate(self.ranks.all_gather(np.array([given.n], dtype=np.int64)))
            self.first, self.n = int(sizes[: self.ranks.rank].sum()), int(sizes.sum())
        if isinstance(given, Source) or self.ranks is not None:
            row_bytes = given.d * np.dtype(_stored(given.dtype)).itemsize
            what = f"{given.n} rows of {row_bytes} bytes"
            too_few(limit, min(all_of_it, in_pieces), what, self.ranks)
        fits = given.n > 0 and limit is not None and all_of_it <= limit  # no rows cannot be held
        in_memory = isinstance(given, Rows) or fits
        with self.shared_errors():
            if in_memory:
                local = self._in_memory(given, whole and self.ranks is None, limit)
            else:
                assert isinstance(given, Source)
                once = decoded_once(given)
                local = StreamedPool(once, metric, backend, limit or max(1 << 30, in_pieces))
                local.first = self.first
        self._local = local
        self.pool: engine.Pool = local
        if self.ranks is not None:
            self.ranks.check_agreement(f"columns={local.d}; dtype={self._dtype}; metric={metric}")
            self.pool = ShardedPool(local, self.take, self._dtype, metric, backend, self.ranks)
            if self.n == 0:
                raise ValueError("features: empty on every rank; at least 1 row needed")

    def shared_errors(self) -> AbstractContextManager[None]:
        """Errors in the block on one process become errors on all."""
        return shared_errors(self.ranks)

    def check_agreement(self, **arguments: Any) -> None:
        """All processes were called with these."""
        if self.ranks is not None:
            texts = [f"{name}={_short(value)}" for name, value in arguments.items()]
            self.ranks.check_agreement("; ".join(texts))

    def begin(self, before: Int64, vectors: Rows | None) -> None:
        """These pool rows or vectors count as chosen."""
        if len(before):
            self.pool.add_picks(before)
        if vectors is not None:
            self.pool.add_vectors(vectors.values, vectors.dtype)

    def reporter(self, progress: Any, what: str) -> AbstractContextManager[Report | None]:
        """Reports progress, on one process."""
        alone = self.ranks is None or self.ranks.rank == 0
        return reporter(progress if alone else None, what)

    @property
    def block(self) -> engine.SubPool:
        """This process's own rows."""
        return self._local

    def take(self, rows: Int64) -> NDArray[Any]:
        """Own rows, in host memory."""
        if isinstance(self._local, StreamedPool):
            return self._local.take(rows)
        return self._in_host_memory(rows)

    def center(self) -> int:
        """The row nearest to the mean row of the whole pool, the first of equals."""
        if self.ranks is None and self._rows is not None:
            return self.backend.center(self._rows, self.metric)
        total = np.zeros(self.d)
        for rank in range(1 if self.ranks is None else self.ranks.size):
            with (
                self.shared_errors()
            ):  # one after the other: the order of a sum decides its last bit
                if self.ranks is None or self.ranks.rank == rank:
                    self._add_rows(total)
            if self.ranks is not None:
                total = self.ranks.broadcast(total, rank)
        total /= self.n
        with self.shared_errors():
            squared, row = self._nearest_to(total)
        if self.ranks is not None:
            squared, row = self.ranks.max_with_index(-squared, self.first + row)
        return row

    def broadcast_draw(self, draw: Callable[[], NDArray[Any]]) -> NDArray[Any]:
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
        }
        return Checkpoint(path, about, self.n, self.first, self.ranks)

    def marks(self) -> Marks:
        """Of own rows, as far as they were read."""
        if isinstance(self._local, StreamedPool):
            return self._local.marks()
        if self._marks is None:
            marks, step = np.empty(self._local.n, np.uint32), max(1, _AT_ONCE // (8 * self.d))
            for at in range(0, self._local.n, step):
                marks[at : at + step] = row_marks(self._in_host_memory(slice(at, at + step)))
            self._marks = marks
        return self._marks

    def verify(self, marks: Marks) -> None:
        """Own rows must have these marks, those of a checkpoint.

        Raises:
            ValueError: naming the first that has not.
        """
        since = "the checkpoint was saved"
        if isinstance(self._local, StreamedPool):
            self._local.verify(marks, since)
            return
        changed = np.flatnonzero(self.marks() != marks)
        if len(changed):
            raise ValueError(
                f"features: row {self.first + int(changed[0])} changed since {since} "
                f"({len(changed)} of {self._local.n} rows did); delete the checkpoint, or pass the "
                "rows that it is of"
            )

    def _given(self, features: Any, limit: int | None) -> Rows | Source:
        """The rows, their values unseen: in memory where there is no limit."""
        if self.ranks is not None and getattr(features, "shape", (1,))[0] == 0:
            return EmptySource(features)
        if limit is None or is_on_cuda(features):
            return as_rows("features", features)
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

    def _in_memory(self, given: Rows | Source, whole: bool, limit: int | None) -> engine.SubPool:
        rows = as_rows("features", given)
        numbers = range(self.first, self.first + rows.n)
        _checks.usable_values("features", rows, self.metric, numbers)
        self._rows = rows
        pool: engine.SubPool = self.backend.new_pool(rows, self.metric, sub=not whole, limit=limit)
        return pool

    def _add_rows(self, total: Float64) -> None:
        if isinstance(self._local, StreamedPool):
            self._local.add_rows(total)
        elif self._rows is not None:
            add_rows(self._host_rows(), self.metric, total)

    def _nearest_to(self, vector: Float64) -> tuple[float, int]:
        if isinstance(self._local, StreamedPool):
            return self._local.nearest_to(vector)
        squared = distances_to(self._host_rows(), self.metric, vector)
        row = int(np.argmin(squared))
        return float(squared[row]), row

    def _in_host_memory(self, rows: Any) -> NDArray[Any]:
        assert self._rows is not None
        return self._rows.take(rows)

    def _host_rows(self) -> Rows:
        assert self._rows is not None
        if not self._rows.on_cuda:
            return self._rows
        return Rows(self._rows.take(slice(None)), self._rows.dtype)


def _stored(dtype: str) -> str:
    """The NumPy dtype in which the engine has such values."""
    return "uint16" if dtype == "bfloat16" else dtype


def _needed(given: Rows | Source, picks: int, selected: Any) -> tuple[int, int]:
    """Bytes with which a pool is held in memory, and with which it is read in pieces."""
    if isinstance(given, Rows):
        return 0, 0
    row_bytes = given.d * np.dtype(_stored(given.dtype)).itemsize
    # Rows of an array are there anyway, others would have to be held.
    held = 0 if given.format == "array" else row_bytes
    all_of_it = given.n * (held + bytes_beside(given.d))
    all_of_it += picks * (row_bytes + bytes_beside(given.d))
    # Choices of two dtypes are kept as float64.
    mixed = _vectors_dtype(selected) not in (None, given.dtype)
    fixed = BYTES_A_ROW * given.n + given.overhead
    in_pieces = Budget.least(fixed, 8 * given.d if mixed else row_bytes, given.d)
    return (in_pieces if given.n == 0 else all_of_it), in_pieces


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
    ) -> None:
        """`about`: what makes this selection the one that a checkpoint is of."""
        self._opened, self._k, self._report = opened, k, report
        self._checkpoint: Checkpoint | None = None
        self.state = engine.SelectionState()
        try:
            if checkpoint is not None:
                self._checkpoint = opened.checkpoint(checkpoint, about)
                self._go_on(self._checkpoint, before, 0 if vectors is None else vectors.n)
            opened.begin(before, vectors)
            if self.state.done:
                opened.pool.add_picks(self.state.picks[0])
        except BaseException:
            self.__exit__()
            raise

    def _go_on(self, checkpoint: Checkpoint, before: Int64, vectors: int) -> None:
        """From what was saved, if anything was."""
        opened = self._opened
        with opened.shared_errors():
            opened.marks()  # of rows in memory: before anything is found out about them
            saved = checkpoint.load(opened.block.n, before, vectors)
        opened.check_agreement(checkpoint="there" if saved else "not there")
        if saved is None:
            return
        if saved.state.done > self._k:
            raise ValueError(
                f"k: {checkpoint.path} has {saved.state.done} picks already; pass at least that "
                "many, or another checkpoint"
            )
        with opened.shared_errors():
            opened.verify(saved.marks)
        self.state = saved.state
        # Rows that are chosen are about to be said to be so again.
        bounds = saved.bounds
        bounds[bounds < 0] = np.inf
        opened.block.restart(bounds, saved.met.astype(np.int64))

    def __enter__(self) -> SelectionRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self._checkpoint is not None:
            self._checkpoint.close()

    def after_round(self, state: engine.SelectionState) -> None:
        """After a round."""
        if self._report is not None:
            self._report(state.done, self._k)
        if self._checkpoint is not None:
            self._checkpoint.offer(state, self._opened.block, self._opened.marks)

    def end(self) -> None:
        """After the last one."""
        if self._checkpoint is not None:
            self._checkpoint.save(self.state, self._opened.block, self._opened.marks)

    def result(self, radius: float, began: float, opened: float, passes: bool = False) -> Selection:
        """What was selected; `began` and `opened` are times of `time.perf_counter`. `passes`: with
        the threshold of each pick."""
        like, pool = self._opened.like, self._opened.pool
        indices, squared, thresholds = self.state.joined()
        return Selection(
            like(indices),
            like(np.sqrt(squared)),
            radius,
            self._opened.backend.name,
            like(thresholds) if passes else None,
            engine.profile(pool, len(indices), self.state.rounds, began, opened),
        )


def check_count(k: Any, rows: _checks.Shaped, before: Int64) -> int:
    """k as an int the pool can serve."""
    left = rows.n - len(before)
    why = f" (the pool has {rows.n} rows" + (f", {len(before)} selected)" if len(before) else ")")
    if left < 1:
        raise ValueError(f"selected: names every row of the pool ({rows.n}); none is left to pick")
    return _checks.integer("k", k, 1, left, why)


def _short(value: Any) -> Any:
    """Something that says which value it was: itself, or of arrays what they hold in short."""
    if isinstance(value, np.generic):  # a start or seed that NumPy counted
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Rows):
        value = value.values
    return digest(on_host(value)) if hasattr(value, "dtype") else str(value)
