"""Checks of arguments. Each raises an error that names the argument, what was found and what is
accepted, before any work starts."""

from __future__ import annotations

import math
import operator
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from entroselect.io.bits import bit_rows
from entroselect.io.convert import plain_array, refuse
from entroselect.io.open import as_rows
from entroselect.io.rows import Rows, is_on_cuda
from entroselect.results import Int64

# Distances of numbers, and of bits, which only selections and searches take.
METRICS = ("euclidean", "cosine")
BIT_METRICS = ("tanimoto", "hamming")

# Beyond this, (a - b)**2 summed over the columns may overflow float64.
LARGEST = 1e150


class Shaped(Protocol):
    """Anything with n rows and d columns."""

    @property
    def n(self) -> int: ...

    @property
    def d(self) -> int: ...


def integer(name: str, value: Any, low: int, high: int | None = None, why: str = "") -> int:
    """`value` as an int within [low, high]; bools and floats are refused."""
    try:
        number = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if number < low or (high is not None and number > high):
        upto = "" if high is None else f" and at most {high}"
        raise ValueError(f"{name}: must be at least {low}{upto}{why}, got {number}")
    return number


def pick_count(k: Any, n: int, low: int, most: int, why: str) -> int:
    """`k` as an int within [low, most]. A float between 0 and 1 is a share of n rows: the decimal
    number that it prints as, times n, rounded to the nearest integer (half to even), and at least
    `low`."""
    if isinstance(k, (float, np.floating)) and 0 < k < 1:
        k = max(low, round(Fraction(str(k)) * n))
    elif isinstance(k, (float, np.floating)):
        raise TypeError(
            f"k: expected an integer, or a share of the rows between 0 and 1, got {k!r}"
        )
    return integer("k", k, low, most, why)


def real(name: str, value: Any, accepted: str, ok: Any) -> float:
    """`value` as a float for which ok(value) holds; `accepted` describes those in the error."""
    try:
        if isinstance(value, (str, bytes, bool, np.bool_)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number {accepted}, got {value!r}") from None
    except OverflowError:
        number = math.inf
    if not ok(number):
        raise ValueError(f"{name}: expected a number {accepted}, got {value!r}")
    return number


def non_negative(name: str, value: Any) -> float:
    """`value` as a finite float >= 0."""
    return real(name, value, "finite and >= 0", lambda x: math.isfinite(x) and x >= 0)


def choice(name: str, value: Any, accepted: tuple[str, ...]) -> str:
    """`value`, which must be one of the accepted strings."""
    if not isinstance(value, str) or value not in accepted:
        raise ValueError(f"{name}: expected one of {', '.join(accepted)}, got {value!r}")
    return value


def seed_value(seed: Any) -> int | None:
    """`seed` as None or an integer >= 0."""
    return None if seed is None else integer("seed", seed, 0)


def is_of_bits(metric: Any) -> bool:
    """Whether a metric is one of rows of bits."""
    return isinstance(metric, str) and metric in BIT_METRICS


def metric_rows(name: str, given: Any, metric: str, may_be_empty: bool = False) -> Rows:
    """Rows in memory as the metric takes them; values are not looked at."""
    choice("metric", metric, METRICS + BIT_METRICS)
    return (bit_rows if is_of_bits(metric) else as_rows)(name, given, may_be_empty)


def usable_rows(name: str, given: Any, metric: str = "euclidean") -> Rows:
    """Rows whose every value is finite and small enough to square; for cosine, no zero row."""
    rows = metric_rows(name, given, metric)
    usable_values(name, rows, metric)
    return rows


def usable_values(name: str, rows: Rows, metric: str, numbers: Int64 | range | None = None) -> None:
    """As `usable_rows`, for a part of a larger pool. `numbers`: the rows' numbers there, for
    errors."""

    def number(row: int) -> int:
        return row if numbers is None else int(numbers[row])

    bad = rows.first_unusable(LARGEST)
    if bad >= 0:
        row = rows.float64(bad)
        column = int(np.flatnonzero(~(np.abs(row) <= LARGEST))[0])
        if math.isfinite(row[column]):
            raise ValueError(
                f"{name}: row {number(bad)} holds {row[column]:g} at column {column}; squared "
                f"distances overflow beyond {LARGEST:g}, rescale the data"
            )
        raise ValueError(
            f"{name}: values must be finite; row {number(bad)} (the first) holds {row[column]} at "
            f"column {column}"
        )
    if metric == "cosine":
        zero = rows.first_zero()
        if zero >= 0:
            raise ValueError(
                f"{name}: row {number(zero)} (the first) has length 0, so metric='cosine' cannot "
                "normalise it; drop such rows"
            )


def same_width(name: str, rows: Shaped, other_name: str, other: Shaped) -> None:
    """Raises ValueError unless both have the same number of columns."""
    if rows.d != other.d:
        raise ValueError(f"{name}: has {rows.d} columns but {other_name} has {other.d}")


def picked_before(selected: Any, pool: Shaped, metric: str) -> tuple[Int64, Rows | None]:
    """`selected` as (pool indices, vectors): one of the two is empty or None."""
    nothing = np.empty(0, dtype=np.int64)
    if selected is None:
        return nothing, None
    if is_on_cuda(selected) and len(selected.shape) == 1:
        selected = np.from_dlpack(selected.cpu())  # indices, a few bytes per pick
    refuse("selected", selected)
    if not hasattr(selected, "shape") or len(selected.shape) == 1:  # indices, or a Series of rows
        selected = plain_array("selected", selected)
    shape = selected.shape
    if len(shape) == 2 and shape[0] > 0:
        vectors = usable_rows("selected", selected, metric)
        same_width("selected", vectors, "features", pool)
        return nothing, vectors
    if len(shape) == 2 or tuple(shape) == (0,):
        return nothing, None
    if len(shape) != 1:
        raise ValueError(
            "selected: expected a list of pool indices or an (M, d) array of vectors, "
            f"got shape {tuple(shape)}"
        )
    return distinct_indices("selected", selected, pool.n), None


def traversal_order(order: Any, n: int) -> Int64:
    """`order` as a permutation of the n pool rows."""
    indices = distinct_indices("order", order, n)
    if len(indices) != n:
        raise ValueError(
            f"order: expected a permutation of the {n} pool rows, got {len(indices)} entries"
        )
    return indices


def row_numbers(name: str, given: Any, n: int) -> NDArray[Any]:
    """`given` as one number per row of a pool of n."""
    array = plain_array(name, given)
    if array.dtype.kind not in "iuf" or array.shape != (n,):
        raise ValueError(
            f"{name}: expected one number per row of the pool, shape ({n},), got dtype "
            f"{array.dtype} with shape {array.shape}"
        )
    return array


def row_weights(weights: Any, n: int) -> NDArray[np.float64] | None:
    """`weights` as one positive float64 per row of a pool of n, so small that no product with a
    distance overflows; None if there are none."""
    if weights is None:
        return None
    found = np.ascontiguousarray(row_numbers("weights", weights, n), dtype=np.float64)
    bad = np.flatnonzero(~((found >= 1 / LARGEST) & (found <= LARGEST)))
    if len(bad) == 0:
        return found
    weight = found[bad[0]]
    if 0 < weight < math.inf:
        advice = f"accepted are {1 / LARGEST:g} to {LARGEST:g}; rescale all of them alike"
    else:
        advice = "expected finite numbers above 0; candidates= leaves rows out"
    raise ValueError(f"weights: row {bad[0]} (the first) has {weight:g}; {advice}")


def row_scores(scores: Any, n: int) -> NDArray[Any]:
    """`scores` as one number per row of a pool of n."""
    array = row_numbers("scores", scores, n)
    unknown = np.flatnonzero(np.isnan(array))
    if len(unknown):
        raise ValueError(
            f"scores: row {unknown[0]} (the first) has NaN; give such rows a number, or drop them"
        )
    return array


def distinct_indices(name: str, given: Any, n: int) -> Int64:
    """`given` as distinct rows of a pool of n."""
    array = plain_array(name, given)
    if array.ndim == 1 and array.dtype == np.bool_:
        raise TypeError(
            f"{name}: expected a list of integer pool indices, got a mask of bools; pass "
            "numpy.flatnonzero(mask)"
        )
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: expected a list of integer pool indices, got dtype {array.dtype} "
            f"with shape {array.shape}"
        )
    outside = np.flatnonzero((array < 0) | (array >= n))
    if len(outside):
        raise ValueError(
            f"{name}: index {array[outside[0]]} (at position {outside[0]}) is outside the pool, "
            f"which has rows 0 to {n - 1}"
        )
    indices = array.astype(np.int64)
    _, first = np.unique(indices, return_index=True)
    if len(first) != len(indices):
        repeat = int(np.setdiff1d(np.arange(len(indices)), first)[0])
        raise ValueError(
            f"{name}: index {indices[repeat]} is repeated (again at position {repeat}); "
            "each row may stand once"
        )
    return indices


def start_rows(start: Any, k: int, n: int) -> Int64:
    """`start` as k distinct rows of a pool of n, which exchanges begin with."""
    rows = distinct_indices("start", start, n)
    if len(rows) != k:
        raise ValueError(f"start: expected k = {k} pool rows, got {len(rows)}")
    return rows
