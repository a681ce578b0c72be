"""Which rows a selection may pick: candidates, and at most so many of each group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import _checks
from entroselect.io.convert import decoded, plain_array, refuse
from entroselect.io.rows import is_on_cuda
from entroselect.results import Int64

Mask = NDArray[np.bool_]
Groups = NDArray[np.int32]

RULES = ("equal", "proportional")

# The most bytes per row of the pool that a selection keeps for this besides the caller's arguments:
# whether it may be picked, its group, its place in its group; and while it is set aside its number
# and bound, which are in two arrays for a moment.
BYTES_PER_ROW = 1 + 4 + 8 + 2 * (8 + 8)


def bytes_per_row(candidates: Any, groups: Any) -> int:
    """`BYTES_PER_ROW`, 0 where neither argument is given."""
    return 0 if candidates is None and groups is None else BYTES_PER_ROW


@dataclass(frozen=True)
class Constraint:
    """Which rows may be picked.

    Attributes:
        allowed: (n,), the candidates that do not count as picked already.
        groups: (n,), the number of every row's group; one group if none were given.
        labels: of the groups, in ascending order; empty if none were given.
        quotas: (groups,), at most how many rows of each are picked; no more than are allowed.
    """

    allowed: Mask
    groups: Groups
    labels: list[Any]
    quotas: Int64

    @property
    def open(self) -> Mask:
        """(n,), the rows that may be the first pick."""
        open_rows: Mask = self.allowed & (self.quotas > 0)[self.groups]
        return open_rows

    def counts(self, picks: Int64) -> dict[Any, int] | None:
        """How many of the picks are of each group; None without groups."""
        if not self.labels:
            return None
        found = np.bincount(self.groups[picks], minlength=len(self.labels))
        return dict(zip(self.labels, found.tolist(), strict=True))

    def first_pick(self, start: int) -> int:
        """The row that an integer `start` names: 0 is the first row that may be picked."""
        open_rows = self.open
        if open_rows[start]:
            return start
        if start == 0:
            return int(np.argmax(open_rows))
        raise ValueError(
            f"start: row {start} may not be picked: it is no candidate, or its group has a quota "
            "of 0; pass another row, or leave start out for the first that may be picked"
        )


def constraint(
    candidates: Any, groups: Any, quotas: Any, k: Any, n: int, before: Int64
) -> tuple[Constraint | None, int]:
    """The checked constraint (None if no argument was given) and k.

    Args:
        candidates, groups, quotas: the caller's arguments.
        k: a number of picks or a share of the n rows; None: as many as may be picked.
        n: rows of the pool.
        before: pool rows that count as picked already.

    Raises:
        ValueError, TypeError: naming the argument.
    """
    if groups is None and quotas is not None:
        raise ValueError("quotas: say how many rows of each group; pass groups=, a label per row")
    allowed = np.ones(n, dtype=bool) if candidates is None else _mask(candidates, n)
    named = int(allowed.sum())
    allowed[before] = False
    left = int(allowed.sum())
    if left < 1:
        raise ValueError(
            "selected: names every candidate; none is left to pick"
            if candidates is not None
            else f"selected: names every row of the pool ({n}); none is left to pick"
        )
    why = f" (the pool has {n} rows"
    why += "" if candidates is None else f", {named} of them candidates"
    why += f", {len(before)} selected)" if len(before) else ")"
    most = left if k is None else _checks.pick_count(k, n, 1, left, why)
    if candidates is None and groups is None:
        return None, most
    numbers: Groups = np.zeros(n, np.int32)
    labels: list[Any] = []
    if groups is not None:
        numbers, labels = group_numbers(groups, n)
    sizes = np.bincount(numbers[allowed], minlength=max(1, len(labels)))
    if isinstance(quotas, str) and k is None:
        raise ValueError(f"quotas: {quotas!r} are shares of k; pass k, or a mapping")
    each = sizes if quotas is None else _quotas(quotas, labels, sizes, most)
    room = int(each.sum())
    if k is None:
        most = room
    if room < max(1, most):
        asked = "; raise one of them" if k is None else f", k is {most}; raise them or lower k"
        raise ValueError(f"quotas: together they let {room} rows be picked{asked}")
    return Constraint(allowed, numbers, labels, each), most


def about(constraint: Constraint | None) -> dict[str, Any]:
    """What a checkpoint, and every process, must agree with: the quotas, not their rule."""
    if constraint is None:
        return dict.fromkeys(("candidates", "groups", "quotas"))
    return {
        "candidates": constraint.allowed,
        "groups": constraint.groups,
        "quotas": constraint.quotas,
    }


def group_numbers(groups: Any, n: int) -> tuple[Groups, list[Any]]:
    """(the number of every row's group, the groups' labels in ascending order).

    Raises:
        ValueError, TypeError: naming groups.
    """
    if is_on_cuda(groups):
        groups = np.from_dlpack(groups.cpu())
    if isinstance(groups, (str, bytes, Mapping)):  # such as the name of a column
        kind = type(groups).__name__
        raise TypeError(f"groups: expected one label per row of the pool, got {kind}")
    refuse("groups", groups)
    if isinstance(groups, np.ma.MaskedArray):
        raise TypeError("groups: masked arrays are not supported; give every row a label")
    given: NDArray[Any]
    if isinstance(groups, (list, tuple)):  # NumPy would make text of numbers that are beside text
        given = np.empty(len(groups), dtype=object)
        given[:] = groups
    else:
        given = np.asarray(decoded(groups))
    if given.shape != (n,):
        raise ValueError(
            f"groups: expected one label per row of the pool, shape ({n},), got {given.shape}"
        )
    if given.dtype.kind in "OT":
        return _numbered([label.item() if isinstance(label, np.generic) else label
                          for label in given.tolist()])  # fmt: skip
    if given.dtype.kind == "f":
        unknown = np.flatnonzero(np.isnan(given))
        if len(unknown):
            raise ValueError(
                f"groups: row {unknown[0]} (the first) has the label NaN; give such rows a label"
            )
    if given.dtype.kind not in "iubU":
        raise TypeError(f"groups: expected integers or strings, got dtype {given.dtype}")
    labels, numbers = np.unique(given, return_inverse=True)
    return numbers.astype(np.int32), labels.tolist()


def _numbered(given: list[Any]) -> tuple[Groups, list[Any]]:
    """As `group_numbers`, of Python objects."""
    for row, label in enumerate(given):
        if not isinstance(label, (str, int)):
            raise ValueError(
                f"groups: row {row} (the first) has the label {label!r:.40}; expected integers or "
                "strings, one per row"
            )
        if isinstance(label, str) != isinstance(given[0], str):
            raise TypeError(
                f"groups: row {row} has the label {label!r:.40} and row 0 has {given[0]!r:.40}; "
                "expected integers or strings, not both"
            )
    labels = sorted(set(given))
    number = {label: place for place, label in enumerate(labels)}
    return np.fromiter(map(number.__getitem__, given), np.int32, len(given)), labels


def _mask(candidates: Any, n: int) -> Mask:
    """`candidates` as a mask of the n pool rows."""
    array = plain_array("candidates", candidates)
    if array.shape == (0,) and n:
        raise ValueError("candidates: empty; there is nothing to pick")
    if array.dtype != np.bool_:
        mask = np.zeros(n, dtype=bool)
        mask[_checks.distinct_indices("candidates", array, n)] = True
        return mask
    if array.shape != (n,):
        raise ValueError(
            f"candidates: expected a mask of shape ({n},), one value per row of the pool, got "
            f"{array.shape}"
        )
    if not array.any():
        raise ValueError("candidates: the mask is False everywhere; there is nothing to pick")
    return np.array(array)


def _quotas(quotas: Any, labels: list[Any], sizes: Int64, k: int) -> Int64:
    """At most how many rows of each group, never more than its size."""
    if isinstance(quotas, str):
        _checks.choice("quotas", quotas, RULES)
        return equal_quotas(sizes, k) if quotas == "equal" else proportional_quotas(sizes, k)
    if not isinstance(quotas, Mapping):
        raise TypeError(
            f"quotas: expected one of {', '.join(RULES)}, or a mapping from labels to numbers, got "
            f"{type(quotas).__name__}"
        )
    number = {label: place for place, label in enumerate(labels)}
    found = sizes.astype(np.int64)
    for label, most in quotas.items():
        key = label.item() if isinstance(label, np.generic) else label
        if key not in number:
            some = ", ".join(map(repr, labels[:5])) + (", ..." if len(labels) > 5 else "")
            raise ValueError(f"quotas: {key!r} is no label of groups, which has {some}")
        place = number[key]
        found[place] = min(found[place], _checks.integer(f"quotas: {key!r}", most, 0))
    return found


def equal_quotas(sizes: Int64, k: int) -> Int64:
    """k picks shared alike by groups of these sizes; what a small group cannot fill goes to the
    others, evenly. What cannot be shared evenly goes, one each, to the largest groups, the first
    of equals."""
    if k >= sizes.sum():
        return sizes.astype(np.int64)
    ascending = np.sort(sizes)
    filled = np.concatenate([[0], np.cumsum(ascending)[:-1]])  # by all rows of smaller groups
    levels = (k - filled) // np.arange(len(sizes), 0, -1)  # what the others then have each
    level = levels[np.argmax(ascending > levels)]  # for the smallest group that is not emptied
    quotas: Int64 = np.minimum(sizes, level).astype(np.int64)
    largest = np.argsort(-sizes, kind="stable")
    quotas[largest[: k - int(quotas.sum())]] += 1
    return quotas


def proportional_quotas(sizes: Int64, k: int) -> Int64:
    """k picks in proportion to the sizes, by largest remainders; equal remainders: the larger
    group first, then the first of equals."""
    total = int(sizes.sum())
    shares = [divmod(k * int(size), total) for size in sizes]
    whole = np.array([share for share, _ in shares], dtype=np.int64)
    remainders = [remainder for _, remainder in shares]
    rest = k - int(whole.sum())
    order = sorted(range(len(sizes)), key=lambda g: (-remainders[g], -int(sizes[g]), g))
    whole[order[:rest]] += 1
    return whole
