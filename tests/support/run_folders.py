"""Copies of a run's folder, and a record of what a run prints."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from entroselect.loop.progress import Progress
from tests.support.loop_runs import TINY

SHORT = dataclasses.replace(TINY, iterations=2)


class Notes(Progress):
    """Remembers what was noted."""

    def __init__(self) -> None:
        super().__init__(False)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def same(one: Path, other: Path) -> None:
    """All files, byte by byte."""
    for path in sorted(p for p in one.rglob("*") if p.is_file()):
        name = path.relative_to(one)
        assert (other / name).read_bytes() == path.read_bytes(), name


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])
