"""The oracle, tested by other means: exact fractions, literal loops, SciPy."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from entroselect import greedy_select, nearest_distances, reference
from entroselect._float_environment import in_default_float_environment
from entroselect.io.open import as_rows
from tests.conftest import normal
from tests.support.pools import digits, integer_grid


def _by_the_letter(a: list[float], b: list[float]) -> float:
    """The contract's sum, one scalar operation at a time."""
    lanes = [0.0] * 8
    for column, (x, y) in enumerate(zip(a, b, strict=True)):
        difference = x - y
        lanes[column % 8] = lanes[column % 8] + difference * difference
    even = (lanes[0] + lanes[4]) + (lanes[2] + lanes[6])
    return even + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))


@pytest.mark.parametrize("d", [1, 3, 7, 8, 9, 16, 31, 100, 1000])
def test_canonical_sum_is_the_documented_one(d: int) -> None:
    a, b = normal(2, d, seed=d, dtype=np.float64)
    assert float(reference.squared_distances(a, b)) == _by_the_letter(a.tolist(), b.tolist())


def test_canonical_sum_is_close_to_the_exact_value() -> None:
    rows = normal(20, 77, dtype=np.float64) + 1e6
    for other in rows[1:]:
        exact = sum((Fraction(x) - Fraction(y)) ** 2 for x, y in zip(rows[0], other, strict=True))
        ours = Fraction(float(reference.squared_distances(rows[0], other)))
        assert abs(ours - exact) <= exact * Fraction(77 // 8 + 8, 2**53)


def test_greedy_is_farthest_first_on_exact_distances() -> None:
    grid = integer_grid()
    squared = cdist(grid, grid, "sqeuclidean")  # exact: small integers
    picks = [0]
    while len(picks) < len(grid):
        nearest = squared[:, picks].min(axis=1)
        nearest[picks] = -1
        picks.append(int(np.flatnonzero(nearest == nearest.max())[0]))
    assert reference.greedy_select(grid, len(grid)).indices.tolist() == picks


def test_greedy_distances_and_radius() -> None:
    rows = normal(200, 6)
    found = reference.greedy_select(rows, 40, start=17)
    pairwise = cdist(rows.astype(float), rows.astype(float))
    for place in range(1, 40):
        expected = pairwise[found.indices[place], found.indices[:place]].min()
        assert found.distances[place] == pytest.approx(expected, rel=1e-14)
    assert found.radius == pytest.approx(pairwise[:, found.indices].min(axis=1).max(), rel=1e-14)
    assert math.isinf(found.distances[0])


def test_threshold_is_algorithm_2_by_the_letter() -> None:
    rows = normal(150, 5, dtype=np.float64)
    order = np.random.default_rng(3).permutation(150)
    distance = cdist(rows, rows)
    tau, accepted = 3.0, [int(order[0])]
    while len(accepted) < 60:
        for row in order:
            if row not in accepted and distance[row, accepted].min() > tau:
                accepted.append(int(row))
                if len(accepted) == 60:
                    break
        tau *= 0.9
    found = reference.threshold_select(rows, 60, threshold=3.0, decay=0.9, order=order)
    assert found.indices.tolist() == accepted


def test_threshold_without_a_value_starts_at_the_radius_of_the_first_row() -> None:
    rows = normal(80, 4)
    found = reference.threshold_select(rows, 10)
    distance = cdist(rows.astype(float), rows[:1].astype(float)).max()
    assert found.thresholds is not None
    assert found.thresholds[0] == pytest.approx(distance, rel=1e-14)


@pytest.mark.parametrize("k", [1, 4])
def test_nearest_agrees_with_a_tree(k: int) -> None:
    rows = normal(300, 3, dtype=np.float64)
    found = reference.nearest_distances(rows, k=k)
    distances, indices = cKDTree(rows).query(rows, k=k + 1)
    np.testing.assert_array_equal(found.indices, indices[:, 1:])
    np.testing.assert_allclose(found.distances, distances[:, 1:], rtol=1e-14)


def test_nearest_ties_go_to_the_lowest_index() -> None:
    rows = digits()[:400]
    squared = cdist(rows, rows, "sqeuclidean")  # exact: integers
    np.fill_diagonal(squared, np.inf)
    found = reference.nearest_distances(rows)
    np.testing.assert_array_equal(found.indices[:, 0], squared.argmin(axis=1))


def test_cosine_rows_have_length_one() -> None:
    values = reference.canonical_rows(as_rows("x", normal(50, 33)), "cosine")
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, rtol=1e-15)


def test_ties_of_real_numbers_that_are_none_of_rounded_sums() -> None:
    """What "textbook float64" means: the sums in our order decide, where another may not agree."""
    rows = np.array([[0, 0, 0], [0.1, 0.5, 0.2], [0.1, 0.2, 0.5]])
    exact = [sum(Fraction(value) ** 2 for value in row) for row in rows[1:].tolist()]
    assert exact[0] == exact[1]
    from_left = [(a * a + b * b) + c * c for a, b, c in rows[1:].tolist()]
    assert from_left[0] > from_left[1]
    ours = reference.squared_distances(rows[1:], rows[0])
    assert ours[0] < ours[1]
    for backend in ("cpu", "reference"):
        assert greedy_select(rows, 2, backend=backend).indices.tolist() == [0, 2]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@in_default_float_environment  # what it computes itself
def test_where_squared_distances_underflow(backend: str) -> None:
    """As docs/exactness.md says."""

    def distance(difference: float, dtype: str = "float64") -> float:
        rows = np.array([[0.0, 1.0], [difference, 1.0]], dtype=dtype)
        return float(nearest_distances(rows, backend=backend).distances[0, 0])

    assert distance(1.57e-162) == 0
    assert distance(1.58e-162) == math.sqrt(5e-324)
    assert 0 < abs(distance(1e-160 / 3) / (1e-160 / 3) - 1) < 0.01
    for multiple in (1.0, 1.1, 1.9):
        assert distance(2.0**-511 * multiple) == 2.0**-511 * multiple
    assert distance(2.0**-149, "float32") == 2.0**-149


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@in_default_float_environment  # what it computes itself
def test_cosine_of_tiny_rows(backend: str) -> None:
    for rows in ([[3e-161, 4e-161], [3, 4.0]], [[3e-200, 4e-200], [3, 4.0]]):
        found = nearest_distances(np.array(rows), metric="cosine", backend=backend)
        assert found.distances.tolist() == [[0], [0]]
    for tiny in (2.0**-500, 2.0**-600, 2.0**-1074):
        rows = np.array([[3 * tiny, 4 * tiny], [3, 4], [3 * tiny, 3 * tiny]])
        found = nearest_distances(rows, metric="cosine", backend=backend)
        assert found.indices[:, 0].tolist() == [1, 0, 0]
        assert found.distances[:2].tolist() == [[0], [0]]
        assert found.distances[2, 0] == pytest.approx(0.1418, abs=1e-4)
    rows = np.array([[5e-324], [0.0]])
    with pytest.raises(ValueError, match=r"row 1 \(the first\) has length 0"):
        nearest_distances(rows, metric="cosine", backend=backend)


def test_no_other_row_is_scaled_before_cosine() -> None:
    rows = normal(57, 9, dtype=np.float64) * 10.0 ** np.arange(-140, 145, 5)[:, None]
    plain = rows / np.sqrt(reference.squared_distances(rows, np.zeros(9)))[:, None]
    np.testing.assert_array_equal(reference.unit_rows(rows), plain)
    # A row is the same whatever power of two it is multiplied by, as long as that is exact.
    np.testing.assert_array_equal(reference.unit_rows(rows[24:] * 2.0**-850), plain[24:])
