"""Part "regimes": selections where a model repeats its training images, and where it scatters."""

from __future__ import annotations

from benchmarks.study import loops
from benchmarks.study.tasks import Given, Task

COLUMNS = loops.COLUMNS
_ARMS = ("none", "greedy", "anchored", "energy", "threshold")
# Most telling first. The further values of `diversity` draw the curve of the page's picture.
PLAN: loops.Plan = [
    ("digits scatters", _ARMS),
    ("digits repeats", _ARMS),
    ("digits scatters", ("anchored 0.01", "anchored 0.1", "anchored 1", "moments")),
    ("digits repeats", ("anchored 0.01", "anchored 0.1", "anchored 1", "moments")),
    ("digits scatters", ("variance",)),
    ("mnist repeats", _ARMS),
    ("mnist scatters", _ARMS),
    ("mnist repeats", ("anchored 0.01",)),
    ("mnist scatters", ("anchored 0.01",)),
]


def tasks(given: Given) -> list[Task]:
    """The runs."""
    return loops.tasks(given, PLAN)
