"""Picks settled among the rows of a block: `settle` and `settle_in_order` of engine.Pool.

Farthest first, rows that are up to date are compared with each other by the filter, and picks
follow from the few pairs that conflict (docs/exactness.md, "Conflicts"). Where those are many, as
in the first rounds, picks are settled within micro-blocks; so are picks in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from entroselect.backends.cuda.filter import Task
from entroselect.backends.cuda.frame import Coded
from entroselect.results import Float64, Int64

if TYPE_CHECKING:
    from entroselect.backends.cuda.pool import Pool

# Micro-blocks take less time than a pass for this many candidates, and after this many picks, when
# most pairs conflict.
FEW = 128

# Conflicts that there is room for: per candidate, and in all.
CONFLICTS_PER_ROW, CONFLICTS = 32, 1 << 21

# At most this many values are sorted by counting, in one launch: that takes less time than the
# dozen of a radix sort.
RANKED = 8192


class Settling:
    """Settles picks of a pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.held, self.kernels = pool, pool.held, pool.kernels
        self.state = self.held.empty(self.kernels.STATE_BYTES, torch.uint8)
        self.micro = self.held.empty(self.kernels.MICRO, torch.int64)
        self.between = self.held.empty(self.kernels.MICRO**2, torch.float64)
        self.places = torch.arange(0, device=pool.held.device)
        self.after = self.places.int()  # places + 1
        self.dense_until = FEW  # picks before which conflicts are not listed again

    def farthest_first(
        self, rows: torch.Tensor, rival: float, rival_index: int, limit: int, floor: float
    ) -> tuple[Int64, Float64, float]:
        """As `Pool.settle`; the rows ascend."""
        rows, bounds, _stop = self.pool._candidates(rows, rival, rival_index, len(rows))
        limit = min(limit, len(rows))
        self.pool._make_room(limit)
        if len(rows) > FEW and self.pool.count >= self.dense_until:
            try:
                found = self._by_conflicts(rows, bounds, rival, rival_index, limit, floor)
            except torch.OutOfMemoryError:
                found = None
            if found is not None:
                return found
            self.dense_until = self.pool.count * 3 // 2 + 1
        scratch, squared, _kept = self._scratch(rows, limit)
        picked, ahead = self.kernels.farthest_first(
            self.pool._selection(), scratch, rows.data_ptr(), len(rows), self.pool.count,
            rival, rival_index, limit, floor, self.held.stream(),
        )  # fmt: skip
        return *self._settled(picked, squared), ahead

    def in_order(self, rows: torch.Tensor, limit: int, floor: float) -> tuple[Int64, Float64]:
        """As `Pool.settle_in_order`."""
        limit = min(limit, len(rows))
        self.pool._make_room(limit)
        scratch, squared, _kept = self._scratch(rows[:1], limit)
        picked = self.kernels.in_order(
            self.pool._selection(), scratch, rows.data_ptr(), len(rows), self.pool.count,
            limit, floor, self.held.stream(),
        )  # fmt: skip
        return self._settled(picked, squared)

    def _by_conflicts(
        self,
        rows: torch.Tensor,
        bounds: torch.Tensor,
        rival: float,
        rival_index: int,
        limit: int,
        floor: float,
    ) -> tuple[Int64, Float64, float] | None:
        """As `farthest_first`, for rows that beat the rival; None, and nothing is settled, if too
        many pairs conflict, if rows are not up to date, or for want of memory."""
        pool, kernels, n, stream = self.pool, self.kernels, len(rows), self.held.stream()
        capacity = min(CONFLICTS_PER_ROW * n, CONFLICTS)
        need = n * (pool.frame.bytes_per_row() + 96) + capacity * kernels.CONFLICT_BYTES
        if pool.filter.limit is not None and need > pool.filter.limit // 4:
            return None
        head = kernels.OUTCOME_WORDS
        result = torch.zeros(head + 2 * n, dtype=torch.int64, device=rows.device)
        outcome, picks, squared = result[:head], result[head : head + n], result[head + n :]
        pairs = self.held.empty(capacity * kernels.CONFLICT_BYTES, torch.uint8)
        value, turns = self.held.empty(n, torch.float64), self.held.empty(2 * n, torch.int32)
        conflicts = kernels.Conflicts(
            rows.data_ptr(), n, rival, rival_index, outcome.data_ptr(), pairs.data_ptr(), capacity,
            value.data_ptr(), turns.data_ptr(),
        )  # fmt: skip
        kernels.begin_conflicts(pool._selection(), conflicts, pool.count, stream)
        count = self._list(conflicts, rows, bounds)
        if count is None:
            return None
        kernels.pick_by_conflicts(conflicts, stream)
        ordered, place = self._sorted(value)
        kernels.keep_picks(
            pool._selection(), conflicts, ordered.data_ptr(), place.data_ptr(), pool.count, limit,
            floor, picks.data_ptr(), squared.data_ptr(), stream,
        )  # fmt: skip
        host = torch.cat([result, count[:2]]).cpu().numpy()
        settled = kernels.settled(host.ctypes.data, capacity)
        if settled is None:
            return None
        picked, ahead = settled
        pool._note_settled(picked, int(host[-1]))
        found, at = host[head : head + n], host[head + n : head + 2 * n].view(np.float64)
        return found[:picked].copy(), at[:picked].copy(), ahead

    def _list(
        self, conflicts: Any, rows: torch.Tensor, bounds: torch.Tensor
    ) -> torch.Tensor | None:
        """Adds the pairs of rows that conflict; `Found.count`, None without memory for it."""
        pool, n = self.pool, len(rows)
        # The worst first, so that each row is compared with those that come after it here: of the
        # two it has the smaller bound, within which they conflict.
        squared, order = self._sorted(bounds, worst_first=True)
        coded = self._coded(rows, order)
        if n > len(self.places):
            self.places = torch.arange(2 * n, device=rows.device)
            self.after = (self.places + 1).int()
        task = Task(
            self.held, coded, coded, squared, lambda found: None, tighten=False, met=self.after,
            skip=0,
        )  # fmt: skip
        places = self.places[:n]
        found = pool.filter.queue(task, places, 0, n)
        if found is None:
            return None
        pairs, sides = found.arguments(self.kernels, places)
        self.kernels.add_conflicts(
            pool._selection(), conflicts, order.data_ptr(), pairs, sides, self.held.stream(),
            pool.filter.room(found),
        )  # fmt: skip
        return found.count

    def _sorted(
        self, values: torch.Tensor, worst_first: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Values in descending order, of equals the first first, and their places; both the other
        way around if the worst come first."""
        n = len(values)
        if n > RANKED:
            ordered, places = torch.sort(values, descending=True, stable=True)
            return (ordered.flip(0), places.flip(0)) if worst_first else (ordered, places)
        ordered, places = torch.empty_like(values), self.held.empty(n, torch.int64)
        self.kernels.rank(
            values.data_ptr(), n, worst_first, ordered.data_ptr(), places.data_ptr(),
            self.held.stream(),
        )  # fmt: skip
        return ordered, places

    def _coded(self, rows: torch.Tensor, order: torch.Tensor) -> Coded:
        frame, codes, n = self.pool.frame, self.pool.codes, len(rows)
        if codes is None:
            return frame.code(self.held, rows[order], 0, n)
        coded = frame.room(self.held, n)
        self.kernels.gather_codes(
            codes.kernel_argument(self.kernels), rows.data_ptr(), order.data_ptr(), n,
            frame.width, coded.kernel_argument(self.kernels), self.held.stream(),
        )  # fmt: skip
        return coded

    def _scratch(self, rows: torch.Tensor, limit: int) -> tuple[Any, torch.Tensor, Any]:
        keys = self.held.empty(max(1, len(rows)), torch.int64)
        squared = self.held.empty(max(1, limit), torch.float64)
        scratch = self.kernels.Scratch(
            self.state.data_ptr(), self.micro.data_ptr(), self.between.data_ptr(),
            keys.data_ptr(), squared.data_ptr(),
        )  # fmt: skip
        return scratch, squared, keys  # the caller keeps these until the kernels are done

    def _settled(self, picked: int, squared: torch.Tensor) -> tuple[Int64, Float64]:
        pool = self.pool
        both = [pool.picks[pool.count : pool.count + picked], squared[:picked].view(torch.int64)]
        rows, at = torch.stack(both).cpu().numpy()
        pool._note_settled(picked, picked * self.kernels.MICRO)
        return rows, at.view(np.float64)
