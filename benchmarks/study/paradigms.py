"""Part "claims": the paper's other settings, with the anchored selection beside its own.

Accumulated real images, fresh ones, guidance, several models, other kept shares and sizes. It is
also the control that decides what anchoring is worth: real images may enter through a reference,
or by training on them.
"""

from __future__ import annotations

from benchmarks.study import loops
from benchmarks.study.tasks import Given, Task

COLUMNS = loops.COLUMNS
_ACCUMULATE = ("accumulate none", "accumulate greedy", "accumulate anchored")
_FRESH = ("fresh random", "fresh greedy", "fresh anchored")
_KEPT = ("keep 0.2", "keep 0.4", "keep 0.6", "keep 0.8")
PLAN: loops.Plan = [
    ("digits repeats", _ACCUMULATE),
    ("digits scatters", _ACCUMULATE),
    ("digits repeats", _FRESH),
    ("digits scatters, fresh left", ("none", *_FRESH)),
    ("digits repeats", ("guided none", "guided greedy", "guided anchored")),
    ("digits repeats", ("N / 2", "2 N")),
    ("digits scatters", _KEPT),
    ("digits repeats", _KEPT),
    ("digits scatters", ("two models none", "two models greedy", "two models anchored")),
    ("digits scatters", ("guided none", "guided greedy", "guided anchored")),
    ("mnist repeats", _ACCUMULATE),
]


def tasks(given: Given) -> list[Task]:
    """The runs."""
    return loops.tasks(given, PLAN)
