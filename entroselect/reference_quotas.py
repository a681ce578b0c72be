"""The oracle of candidates and quotas, for the textbook loops in reference.py: picks are handed to
the groups one by one, and every question is answered from the start. Slow on purpose; it shares
nothing with entroselect/_quotas.py, so that each checks the other."""

from __future__ import annotations

import copy
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


class Limits:
    """Which rows may be picked next. For checked arguments; `picked`: the rows in `selected`."""

    def __init__(
        self, candidates: Any, groups: Any, quotas: Any, k: int | None, picked: Mask
    ) -> None:
        n = len(picked)
        self._candidates = np.ones(n, dtype=bool)
        if candidates is not None:
            self._candidates = np.isin(np.arange(n), np.arange(n)[np.asarray(candidates)])
        self._labels: list[Any] | None = None if groups is None else np.asarray(groups).tolist()
        self._quotas: dict[Any, int] = {}
        if self._labels is not None:
            sizes = dict.fromkeys(sorted(set(self._labels)), 0)
            for row in np.flatnonzero(self._candidates & ~picked):
                sizes[self._labels[row]] += 1
            self._quotas = _quotas(quotas, sizes, k or 0)
        self.counts = None if groups is None else dict.fromkeys(self._quotas, 0)

    def may_be_picked(self, picked: Mask) -> Mask:
        """(n,), the unpicked candidates whose group is not full."""
        may: Mask = self._candidates & ~picked
        if self._labels is not None and self.counts is not None:
            full = {label for label, most in self._quotas.items() if self.counts[label] >= most}
            may &= np.array([label not in full for label in self._labels])
        return may

    def may_follow(self, first: int, picked: Mask) -> Mask:
        """(n,), the rows that may be picked after this one."""
        then = copy.deepcopy(self)
        then.count(first)
        return then.may_be_picked(picked)

    def count(self, row: int) -> None:
        """This row has been picked."""
        if self._labels is not None and self.counts is not None:
            self.counts[self._labels[row]] += 1


def _quotas(rule: Any, sizes: dict[Any, int], k: int) -> dict[Any, int]:
    """At most how many rows of each group; `sizes` in the order of labels."""
    given: Counter[Any] = Counter(dict.fromkeys(sizes, 0))
    if rule is None or not isinstance(rule, str):
        return {label: min(size, (rule or {}).get(label, size)) for label, size in sizes.items()}
    if rule == "proportional":
        shares = {label: Fraction(k * size, sum(sizes.values())) for label, size in sizes.items()}
        given.update({label: int(share) for label, share in shares.items()})
        rest = k - sum(given.values())
        order = sorted(sizes, key=lambda g: (given[g] - shares[g], -sizes[g]))  # stable
        given.update(order[:rest])
        return dict(given)
    for _ in range(min(k, sum(sizes.values()))):  # to the group that has least, of those with rows
        open_groups = [label for label in sizes if given[label] < sizes[label]]
        given[min(open_groups, key=lambda g: (given[g], -sizes[g]))] += 1
    return dict(given)
