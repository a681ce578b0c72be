"""The oracles, tested by other means: what every other test trusts is compared here with answers
written by hand, brute force over Python numbers and fractions, and SciPy. tests/operations has more
of the reference; the helpers that compare answers have to fail on every changed one."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy.special import digamma

from entroselect import kl_entropy, reference
from tests.conftest import same_neighbours, same_selection

# Small integers: squares and their sums are exact in float64, and many are equal.
LATTICE = [[a, b] for a in range(5) for b in range(4)]
SCATTERED = [[3, 0], [0, 1], [7, 7], [2, 5], [7, 6], [0, 1], [4, 4], [9, 2], [5, 0], [1, 8]]


def _squares(rows: list[list[int]], others: list[list[int]]) -> list[list[Fraction]]:
    return [
        [sum((Fraction(x) - y) ** 2 for x, y in zip(row, other, strict=True)) for other in others]
        for row in rows
    ]


def _array(rows: list[list[int]]) -> Any:
    return np.array(rows, dtype=np.float64)


# Distances


LESS = 2.5 * 2.0**-28  # its square is lost when added to 1 alone, and twice that is not
UP = 1 + 2.0**-52


@pytest.mark.parametrize(
    ("columns", "expected"),
    [  # column 0 holds 1, these hold LESS: ((0+4) + (2+6)) + ((1+5) + (3+7))
        ((4,), 1),
        ((1, 5), UP),
        ((1, 3), UP),
        ((5, 7), UP),
        ((2, 6), UP),
        ((4, 2), 1),  # one after the other
        ((4, 6), 1),
        ((2, 1), 1),
        ((8, 16), 1),  # in the lane of column 0, in order
        ((9, 1), UP),  # both in lane 1
        ((12, 4), UP),
        ((11, 7), UP),
    ],
)
def test_order_of_the_canonical_sum(columns: tuple[int, ...], expected: float) -> None:
    row = np.zeros(17)
    row[0] = 1
    row[list(columns)] = LESS
    assert reference.squared_distances(row, np.zeros(17)) == expected
    assert reference.squared_distances(-row[None], np.zeros((1, 17))).tolist() == [expected]


def test_a_square_is_rounded_before_it_is_added() -> None:
    """A fused multiply-add would round once, and up."""
    a = 1 + 2.0**-30
    row = np.zeros(17)
    row[[0, 8, 16]] = 2.0**-27, 2.0**-27, a
    assert Fraction(a) ** 2 + Fraction(1, 2**53) > Fraction(a * a) + Fraction(1, 2**53)
    assert reference.squared_distances(row, np.zeros(17)) == 1 + 2.0**-29


def test_squared_distances_of_integers() -> None:
    found = reference.squared_distances(_array(LATTICE)[:, None], _array(SCATTERED)[None])
    assert found.tolist() == _squares(LATTICE, SCATTERED)


# Selections


def _farthest_first(rows: list[list[int]], k: int, start: int) -> list[int]:
    """Every pick is looked for among all rows, from all picks, anew."""
    squares, picks = _squares(rows, rows), [start]
    while len(picks) < k:
        left = [row for row in range(len(rows)) if row not in picks]
        picks.append(max(left, key=lambda row: (min(squares[row][p] for p in picks), -row)))
    return picks


@pytest.mark.parametrize(("rows", "start"), [(LATTICE, 0), (LATTICE, 7), (SCATTERED, 3)])
def test_greedy_by_brute_force(rows: list[list[int]], start: int) -> None:
    picks = _farthest_first(rows, len(rows) - 2, start)
    found = reference.greedy_select(_array(rows), len(rows) - 2, start=start)
    assert found.indices.tolist() == picks
    squares = _squares(rows, rows)
    nearest = [min(squares[p][q] for q in picks[:n]) for n, p in enumerate(picks) if n]
    assert found.distances.tolist() == [math.inf, *map(math.sqrt, nearest)]
    assert found.radius == math.sqrt(max(min(row[p] for p in picks) for row in squares))


def test_greedy_by_hand() -> None:
    line = [[0.0], [1.0], [2.0], [10.0], [6.0]]
    found = reference.greedy_select(line, 3)  # 10 is farthest from 0; then 6 (4 away) beats 2
    assert found.indices.tolist() == [0, 3, 4]
    assert found.distances.tolist() == [math.inf, 10.0, 4.0]
    assert found.radius == 2.0
    assert reference.greedy_select(line, 5, min_distance=2.0).indices.tolist() == [0, 3, 4, 2]
    assert reference.greedy_select(line, 5, min_distance=2.1).indices.tolist() == [0, 3, 4]
    assert reference.greedy_select(line, 2, selected=[0, 3]).indices.tolist() == [4, 2]
    assert reference.greedy_select(line, 1, selected=[[7.0]]).indices.tolist() == [0]
    assert reference.greedy_select(line, 1, start="center").indices.tolist() == [2]  # mean 3.8
    # By direction alone: (0, 1) is a right angle away, (1, 1) half of one.
    fan = [[1.0, 0.0], [50.0, 50.0], [0.0, 0.1]]
    assert reference.greedy_select(fan, 2, metric="cosine").indices.tolist() == [0, 2]
    assert reference.greedy_select(fan, 2).indices.tolist() == [0, 1]


def _threshold_decay(
    rows: list[list[int]], k: int, order: list[int], tau: Fraction, decay: Fraction
) -> list[int]:
    """Algorithm 2 with exact numbers; needs no copies among the rows."""
    squares, picks = _squares(rows, rows), [order[0]]
    while len(picks) < k:
        for row in order:
            if row in picks or min(squares[row][p] for p in picks) <= tau**2:
                continue
            picks.append(row)
            if len(picks) == k:
                break
        tau *= decay
    return picks


@pytest.mark.parametrize("order", [range(20), range(19, -1, -1), [(7 * i) % 20 for i in range(20)]])
def test_threshold_by_brute_force(order: Any) -> None:
    order = list(order)
    for k in (1, 2, 9, 20):
        picks = _threshold_decay(LATTICE, k, order, Fraction(4), Fraction(1, 2))
        found = reference.threshold_select(
            _array(LATTICE), k, threshold=4.0, decay=0.5, order=np.array(order)
        )
        assert found.indices.tolist() == picks


def test_threshold_by_hand() -> None:
    line = [[0.0], [1.0], [2.0], [10.0], [0.0]]
    found = reference.threshold_select(line, 5, threshold=4.0, decay=0.5)
    # 4: 0 and 10. 2: 2 is not *more* than 2 away. 1: 2; 1 is not more than 1 away. 0.5: 1. Then
    # only the copy of 0 is left.
    assert found.indices.tolist() == [0, 3, 2, 1, 4]
    assert found.thresholds is not None
    assert found.thresholds.tolist() == [4.0, 4.0, 1.0, 0.5, 0.0]
    assert found.distances.tolist() == [math.inf, 10.0, 2.0, 1.0, 0.0]
    assert found.radius == 0.0
    assert reference.threshold_select(line, 1).thresholds.tolist() == [10.0]  # type: ignore[union-attr]


# Neighbours and entropy


@pytest.mark.parametrize("k", [1, 3])
def test_nearest_by_brute_force(k: int) -> None:
    squares = _squares(SCATTERED, LATTICE)
    found = reference.nearest_distances(_array(SCATTERED), _array(LATTICE), k)
    for query, row in enumerate(squares):
        best = sorted((square, point) for point, square in enumerate(row))[:k]
        assert found.indices[query].tolist() == [point for _, point in best]
        assert found.distances[query].tolist() == [math.sqrt(square) for square, _ in best]
    alone = reference.nearest_distances(_array(SCATTERED), k=k)
    for query, row in enumerate(_squares(SCATTERED, SCATTERED)):
        others = [(square, point) for point, square in enumerate(row) if point != query]
        assert alone.indices[query].tolist() == [point for _, point in sorted(others)[:k]]


def _entropy(rows: list[list[int]], k: int) -> float:
    """The formula with SciPy's digamma and the volume of the ball written out for d = 2."""
    n, d = len(rows), 2
    squares = _squares(rows, rows)
    kth = [sorted(squares[i][j] for j in range(n) if j != i)[k - 1] for i in range(n)]
    logs = math.fsum(0.5 * math.log(square) for square in kth)
    return float(digamma(n) - digamma(k)) + math.log(math.pi) + d / n * logs


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("entropy", [reference.kl_entropy, kl_entropy])
def test_entropy_by_scipy(entropy: Callable[..., Any], k: int) -> None:
    rows = [row for place, row in enumerate(SCATTERED) if row not in SCATTERED[:place]]
    found = entropy(_array(rows), k)
    assert found == pytest.approx(_entropy(rows, k), rel=1e-13)
    dropped = entropy(_array(SCATTERED), k, duplicates="drop")
    assert dropped == found
    assert (dropped.n, dropped.zero_distances) == (9, 2 if k == 1 else 0)


@pytest.mark.parametrize("entropy", [reference.kl_entropy, kl_entropy])
def test_entropy_by_hand(entropy: Callable[..., Any]) -> None:
    # psi(2) - psi(1) = 1; the ball of one dimension has volume 2; both distances are 3.
    assert entropy([[1.0], [4.0]]) == pytest.approx(1 + math.log(2) + math.log(3), rel=1e-15)
    with pytest.raises(ValueError, match="distance 0"):
        entropy([[1.0], [1.0], [4.0]])
    floored = entropy([[1.0], [1.0], [4.0]], duplicates="floor", floor=0.5)
    # psi(3) - psi(1) = 3/2; distances 0.5, 0.5, 3
    assert floored == pytest.approx(1.5 + math.log(2) + math.log(0.75) / 3, rel=1e-14)


# The helpers that compare whole answers


PICKED = reference.threshold_select(_array(LATTICE), 6)
FOUND = reference.nearest_distances(_array(SCATTERED), k=2)


def _changes(result: Any) -> list[tuple[str, Any]]:
    """The result with one thing changed, each in turn: every number of every array to the next
    float64 or index, its length and its type."""
    changed = []
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if isinstance(value, float):
            changed.append((field.name, math.nextafter(value, math.inf)))
        if not isinstance(value, np.ndarray):
            continue
        for place in np.ndindex(value.shape):
            other = value.copy()
            before = np.nextafter(value[place], -np.inf)
            other[place] = value[place] + 1 if value.dtype == np.int64 else before
            changed.append((field.name, other))
        changed.append((field.name, value[:-1]))
        if field.name != "thresholds":
            changed.append((field.name, value.astype(np.float32)))
    return changed


@pytest.mark.parametrize(("same", "result"), [(same_selection, PICKED), (same_neighbours, FOUND)])
def test_a_changed_answer_is_noticed(same: Callable[[Any, Any], None], result: Any) -> None:
    same(dataclasses.replace(result), result)
    changes = _changes(result)
    assert len(changes) > 20
    for name, value in changes:
        with pytest.raises(AssertionError):
            same(dataclasses.replace(result, **{name: value}), result)


def test_missing_thresholds_are_noticed() -> None:
    without = dataclasses.replace(PICKED, thresholds=None)
    for ours, oracle in itertools.permutations((PICKED, without), 2):
        with pytest.raises(AssertionError):
            same_selection(ours, oracle)
