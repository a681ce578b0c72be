"""Progress of a run: bars on a terminal, a plain line every 15 seconds elsewhere.

Apart from entroselect/_progress.py, which the functions use and which works without rich.
"""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Shows one phase at a time, on stderr. A context manager; Progress(False) shows nothing."""

    def __init__(self, shown: bool = True) -> None:
        self.shown = shown
        self.terminal = shown and sys.stderr.isatty()
        self.bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = None
        self.what = "starting"  # the phase

    def __enter__(self) -> Progress:
        if self.terminal:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.terminal:
            self.bars.stop()

    def start(self, what: str, total: int | None, unit: str = "") -> None:
        """A new phase of `total` units."""
        self.what, self.total, self.unit = what, total, unit
        self.began = self.told = time.monotonic()
        self.begun_at: int | None = None
        if self.terminal:
            for task in self.bars.task_ids:
                self.bars.remove_task(task)
            self.task = self.bars.add_task(what, total=total, note="")  # type: ignore[assignment]
        elif self.shown:
            self._line(what + ("" if total is None else f", {total} {unit}"))

    def update(self, done: int, note: str = "", rate: tuple[int, str] | None = None) -> None:
        """`done` units are done. `rate`: (n, what), if one unit is n of something else to show the
        speed in, such as (64, "images/s")."""
        now = time.monotonic()
        if self.begun_at is None:
            self.begun_at = done
        each, of_what = rate or (1, f"{self.unit}/s")
        elapsed = now - self.began
        if elapsed > 0 and done > self.begun_at:
            speed = (done - self.begun_at) / elapsed
            note = f"{note}, {speed * each:,.0f} {of_what}".removeprefix(", ")
            if self.total and not self.terminal:
                note += f", {(self.total - done) / speed:,.0f} s left"
        if self.terminal and self.task is not None:
            self.bars.update(self.task, completed=done, note=note)
        elif self.shown and now - self.told >= SECONDS_BETWEEN_LINES:
            self.told = now
            self._line(f"{self.what}: {done} of {self.total} {self.unit} ({note})")

    def note(self, text: str) -> None:
        """Prints a note."""
        if self.terminal:
            self.bars.console.print(f"note: {text}", markup=False, highlight=False)
        elif self.shown:
            self._line(f"note: {text}")

    @staticmethod
    def _line(text: str) -> None:
        print(text, file=sys.stderr, flush=True)
