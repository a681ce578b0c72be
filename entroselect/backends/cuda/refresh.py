"""Bounds brought up to date: `refresh` of engine.Pool.

A pass of the filter is queued with what follows from it, and nothing waits: how many pairs it left
open stays on the device, where kernels read it. Whether there was room for all of them is asked
when the host waits for the device anyway, or before anything that relies on up-to-date bounds; if
there was none, no row counts as up to date, and the pass is made again in parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entroselect.backends.cuda.filter import Found, Task

if TYPE_CHECKING:
    from entroselect.backends.cuda.pool import Pool

# At most this many unmet picks are compared exactly, without a pass: it would leave most open.
FEW = 4

# A pass over more pairs than PAIRS is made in stretches of columns that end so many columns before
# the newest: rows that are near enough by then leave it. Within a stretch only whole tiles of rows
# can leave.
STRETCHES, PAIRS = (8192, 32768), 1 << 28


@dataclass(frozen=True)
class Listed:
    """Rows (None: all) whose bounds are at least `rival`; the order in which the `stale` ones of
    them are compared (others come last); the least number of picks that one has met; and how many
    picks there were."""

    rows: torch.Tensor | None
    keys: torch.Tensor
    stale: int
    least: int
    rival: float
    count: int


@dataclass(frozen=True)
class _Pass:
    """A pass over rows, from a column on, and the pairs that it left open, not looked at yet."""

    rows: torch.Tensor
    least: int
    enough: float
    found: Found


class Refreshing:
    """Brings rows of a pool up to date."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.held, self.kernels = pool, pool.held, pool.kernels
        device = pool.held.device
        # Pairs compared and rows up to date after it, exactly and by passes; pairs rechecked.
        self.tally = torch.zeros(5, dtype=torch.int64, device=device)
        self.exact, self.passed, self.rechecks = self.tally[:2], self.tally[2:4], self.tally[4:]
        self._stale = self.held.empty(2, torch.int32)
        self._unchecked: _Pass | None = None

    def pending(self, rows: torch.Tensor | None, enough: float) -> Listed:
        """Those of the rows (None: all) that are not up to date and at `enough` or above; waits for
        their number."""
        pool, n = self.pool, self.pool.n if rows is None else len(rows)
        keys = self.held.empty(n, torch.int32)
        stale, least = self.kernels.find_stale(
            pool._selection(), 0 if rows is None else rows.data_ptr(), n, pool.count, enough,
            keys.data_ptr(), self._stale.data_ptr(), self.held.stream(),
        )  # fmt: skip
        return Listed(rows, keys, stale, least, enough, pool.count)

    def update(self, listed: Listed, enough: float) -> None:
        """Compares the stale ones of these rows with the picks that they have not met, the newest
        first; a row whose bound falls below `enough` may be left out of the rest. Then it keeps its
        count of met picks: the newest count as unmet too, and are compared again. Its lowered bound
        stays an upper bound."""
        pool = self.pool
        # Rows that have met equally many picks share a range of columns.
        rows = torch.sort(listed.keys, stable=True).indices[: listed.stale]
        if listed.rows is not None:
            rows = listed.rows[rows]
        if pool.count - listed.least <= FEW:
            self.kernels.catch_up(
                pool._selection(), pool._progress.data_ptr(), rows.data_ptr(), len(rows),
                pool.count, self.held.stream(),
            )  # fmt: skip
            self._note(rows, None, None)
            return
        found = self._queue(rows, listed.least, enough)
        if found is None:
            self._update_in_parts(rows, listed.least, enough)
            return
        self._note(found.rows, found.scanned, found)
        self._unchecked = _Pass(found.rows, listed.least, enough, found)

    def unchecked(self) -> list[torch.Tensor]:
        """What `confirm` needs to know, int64 on the device; empty if nothing."""
        return [] if self._unchecked is None else [self._unchecked.found.count]

    def confirm(self, counts: list[int] | None = None) -> bool:
        """Makes the last pass again if there was no room for all its pairs; whether there was.
        `counts`: those of `unchecked`, if they are known; otherwise this waits for them."""
        last, self._unchecked = self._unchecked, None
        if last is None:
            return True
        if self.pool.filter.fits(*(counts or last.found.count.tolist())):
            return True
        self._update_in_parts(last.rows, last.least, last.enough)
        return False

    def forget(self) -> None:
        """Nothing is known of any row."""
        self._unchecked = None

    def counted(self) -> dict[str, int]:
        """Waits for the counters."""
        exact, few, pairs, many, rechecks = self.tally.tolist()
        return {"pairs": pairs, "rechecks": exact + rechecks, "refreshed": few + many}

    def _queue(self, rows: torch.Tensor, least: int, enough: float) -> Found | None:
        """Passes over all columns from the least on, and their rechecks. Returns the last; None if
        one cannot be made."""
        pool, task, end = self.pool, self._task(enough), self.pool.count
        begin = self._stretch(rows, least, end, enough)
        found = pool.filter.queue(task, rows, begin, end)
        while found is not None:
            self._recheck(found)
            if begin <= least:
                break
            end = begin
            rows, left = self._parted(found, end, enough)
            begin = self._stretch(rows, least, end, enough)
            found = pool.filter.queue(task, rows, begin, end, found, left)
        return found

    def _parted(self, found: Found, end: int, enough: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows of a pass, and Found.left, for the next one, over columns before `end`: rows
        that have met as many picks stand together, those that are done behind them."""
        held, pool, n = self.held, self.pool, len(found.rows)
        rows, left = held.empty(n, torch.int64), held.empty(n, torch.int32)
        self.kernels.part_rows(
            pool._selection(), found.rows.data_ptr(),
            pool.filter.scanned(found.scanned, found.left), n, end, enough,
            rows.data_ptr(), left.data_ptr(), pool._work.data_ptr(), held.stream(),
        )  # fmt: skip
        return rows, left

    def _stretch(self, rows: torch.Tensor, least: int, end: int, enough: float) -> int:
        """The first column of the stretch that ends before `end`."""
        if enough <= 0 or len(rows) * (end - least) < PAIRS:
            return least
        starts = [self.pool.count - columns for columns in STRETCHES]
        return max(least, next((start for start in starts if start < end), least))

    def _update_in_parts(self, rows: torch.Tensor, least: int, enough: float) -> None:
        task = self._task(enough)
        self._note(rows, self.pool.filter.run(task, rows, least, self.pool.count), None)

    def _task(self, enough: float) -> Task:
        pool = self.pool

        return Task(
            self.held, pool.codes, pool.columns, squared=pool._bounds, recheck=self._recheck,
            met=pool._met, tighten=True, enough=enough,
        )  # fmt: skip

    def _recheck(self, found: Found) -> None:
        pairs, sides = found.arguments(self.kernels, found.rows)
        self.kernels.recheck(
            pairs, sides, self.pool._selection(), 0, self.held.stream(), self.rechecks.data_ptr()
        )

    def _note(self, rows: torch.Tensor, scanned: torch.Tensor | None, found: Found | None) -> None:
        """Counts rows as up to date; not if the pass found no room for its pairs."""
        passes = self.pool.filter
        self.kernels.note_met(
            self.pool._selection(), rows.data_ptr(),
            passes.scanned(scanned, None if found is None else found.left), passes.room(found),
            len(rows), self.pool.count, (self.exact if scanned is None else self.passed).data_ptr(),
            self.held.stream(),
        )  # fmt: skip
