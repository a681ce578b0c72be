"""Bad input: the message names the argument, what was found and what is accepted."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from entroselect import (
    deduplicate,
    greedy_select,
    kl_entropy,
    nearest_distances,
    neighbours_within,
    threshold_select,
)
from tests.conftest import normal

POOL = normal(10, 3)


def _with(value: float, row: int = 6, column: int = 1) -> Any:
    pool = POOL.astype(np.float64)
    pool[row, column] = value
    pool[row + 2, 0] = value
    return pool


CASES: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    # features
    ("nan", lambda: greedy_select(_with(np.nan), 2), ValueError,
     "features: values must be finite; row 6 (the first) holds nan at column 1"),
    ("inf", lambda: greedy_select(_with(-np.inf), 2), ValueError,
     "features: values must be finite; row 6 (the first) holds -inf at column 1"),
    ("nan f16", lambda: greedy_select(_with(np.nan).astype("f2"), 2), ValueError, "row 6 (the"),
    ("too large", lambda: greedy_select(_with(1e200), 2), ValueError,
     "features: row 6 holds 1e+200 at column 1; squared distances overflow beyond 1e+150"),
    ("1-D", lambda: greedy_select(np.zeros(5), 2), ValueError,
     "features: expected a 2-D array (rows, columns), got shape (5,)"),
    ("3-D", lambda: kl_entropy(np.zeros((5, 2, 2))), ValueError, "got shape (5, 2, 2)"),
    ("no rows", lambda: greedy_select(np.zeros((0, 3)), 1), ValueError,
     "features: empty, shape (0, 3)"),
    ("no columns", lambda: greedy_select(np.zeros((3, 0)), 1), ValueError,
     "features: empty, shape (3, 0)"),
    ("object", lambda: greedy_select(np.array([[1, "a"]], dtype=object), 1), TypeError,
     "features: dtype object is not supported"),
    ("complex", lambda: greedy_select(np.zeros((3, 2), complex), 1), TypeError,
     "features: dtype complex128 is not supported"),
    ("strings", lambda: greedy_select([["a"], ["b"]], 1), TypeError, "features: dtype str"),
    ("ragged", lambda: greedy_select([[1.0], [1.0, 2.0]], 1), TypeError,
     "features: cannot be read as an array of numbers"),
    ("None", lambda: greedy_select(None, 1), TypeError, "features: expected an array of numbers"),
    ("path", lambda: greedy_select("pool.npy", 1), TypeError, "features: expected an array"),
    ("zero row", lambda: greedy_select(np.eye(3)[[0, 1, 2, 0]] * [1, 1, 0], 1, metric="cosine"),
     ValueError, "features: row 2 (the first) has length 0, so metric='cosine' cannot"),
    # k
    ("k 0", lambda: greedy_select(POOL, 0), ValueError,
     "k: must be at least 1 and at most 10 (the pool has 10 rows), got 0"),
    ("k > n", lambda: greedy_select(POOL, 11), ValueError, "at most 10 (the pool has 10 rows)"),
    ("k > n threshold", lambda: threshold_select(POOL, 11), ValueError, "k: must be at least 1"),
    ("k float", lambda: greedy_select(POOL, 2.0), TypeError, "k: expected an integer, or a share"),
    ("k None", lambda: greedy_select(POOL, None), TypeError, "k: expected an integer, or a share"),
    ("k bool", lambda: greedy_select(POOL, True), TypeError, "k: expected an integer, got True"),
    ("k > left", lambda: greedy_select(POOL, 9, selected=[0, 1]), ValueError,
     "at most 8 (the pool has 10 rows, 2 selected), got 9"),
    ("none left", lambda: greedy_select(POOL, 1, selected=range(10)), ValueError,
     "selected: names every row of the pool (10); none is left to pick"),
    ("k neighbours", lambda: nearest_distances(POOL, k=10), ValueError,
     "k: must be at least 1 and at most 9 (there are 9 candidates), got 10"),
    ("k points", lambda: nearest_distances(POOL, POOL[:4], 5), ValueError,
     "at most 4 (there are 4 candidates), got 5"),
    ("alone", lambda: nearest_distances(POOL[:1]), ValueError,
     "queries: at least 2 rows needed when points is None"),
    # start, seed
    ("start", lambda: greedy_select(POOL, 2, start=10), ValueError,
     "start: must be at least 0 and at most 9 (a pool row), got 10"),
    ("start -1", lambda: greedy_select(POOL, 2, start=-1), ValueError, "start: must be at least 0"),
    ("start word", lambda: greedy_select(POOL, 2, start="first"), ValueError,
     "start: expected one of random, center, farthest-from-center, got 'first'"),
    ("start float", lambda: greedy_select(POOL, 2, start=1.5), TypeError,
     "start: expected a pool index or one of random, center, farthest-from-center, got 1.5"),
    ("start+selected", lambda: greedy_select(POOL, 2, start="center", selected=[1]), ValueError,
     "start: has no meaning together with selected"),
    ("seed alone", lambda: greedy_select(POOL, 2, seed=3), ValueError, "seed: only start='random'"),
    ("seed", lambda: greedy_select(POOL, 2, start="random", seed=-1), ValueError,
     "seed: must be at least 0, got -1"),
    # selected
    ("selected outside", lambda: greedy_select(POOL, 2, selected=[3, 12]), ValueError,
     "selected: index 12 (at position 1) is outside the pool, which has rows 0 to 9"),
    ("selected negative", lambda: greedy_select(POOL, 2, selected=[-1]), ValueError,
     "selected: index -1 (at position 0) is outside the pool"),
    ("selected twice", lambda: greedy_select(POOL, 2, selected=[3, 5, 3]), ValueError,
     "selected: index 3 is repeated (again at position 2)"),
    ("selected floats", lambda: greedy_select(POOL, 2, selected=[0.5]), TypeError,
     "selected: expected a list of integer pool indices, got dtype float64"),
    ("selected 3-D", lambda: greedy_select(POOL, 2, selected=np.zeros((2, 2, 2))), ValueError,
     "selected: expected a list of pool indices or an (M, d) array of vectors"),
    ("selected width", lambda: greedy_select(POOL, 2, selected=np.zeros((2, 4))), ValueError,
     "selected: has 4 columns but features has 3"),
    ("selected nan", lambda: greedy_select(POOL, 2, selected=np.full((2, 3), np.nan)), ValueError,
     "selected: values must be finite; row 0"),
    # choices
    ("metric", lambda: greedy_select(POOL, 2, metric="l2"), ValueError,
     "metric: expected one of euclidean, cosine, tanimoto, hamming, got 'l2'"),
    ("metric nearest", lambda: nearest_distances(POOL, metric="dot"), ValueError, "metric: exp"),
    ("backend", lambda: greedy_select(POOL, 2, backend="gpu"), ValueError,
     "backend: expected one of auto, cpu, cpu:avx512bf16"),
    ("backend type", lambda: greedy_select(POOL, 2, backend=1), TypeError, "backend: expected a"),
    ("cuda", lambda: greedy_select(POOL, 2, backend="cuda"), ValueError,
     "backend: 'cuda' cannot run here: "),
    ("progress", lambda: greedy_select(POOL, 2, progress="yes"), TypeError, "progress: expected"),
    ("duplicates", lambda: kl_entropy(POOL, duplicates="ignore"), ValueError,
     "duplicates: expected one of error, floor, drop, got 'ignore'"),
    ("floor", lambda: kl_entropy(POOL, floor=0), ValueError, "floor: expected a number > 0, got 0"),
    # distances and thresholds
    ("min_distance", lambda: greedy_select(POOL, 2, min_distance=-1), ValueError,
     "min_distance: expected a number finite and >= 0, got -1"),
    ("min_distance nan", lambda: greedy_select(POOL, 2, min_distance=np.nan), ValueError,
     "min_distance: expected a number finite and >= 0, got nan"),
    ("min_distance word", lambda: greedy_select(POOL, 2, min_distance="x"), TypeError,
     "min_distance: expected a number finite and >= 0, got 'x'"),
    ("threshold", lambda: threshold_select(POOL, 2, threshold=np.inf), ValueError,
     "threshold: expected a number finite and >= 0, got inf"),
    ("decay 1", lambda: threshold_select(POOL, 2, decay=1), ValueError,
     "decay: expected a number above 0 and at most 0.999999, got 1"),
    ("order short", lambda: threshold_select(POOL, 2, order=[0, 1]), ValueError,
     "order: expected a permutation of the 10 pool rows, got 2 entries"),
    ("order twice", lambda: threshold_select(POOL, 2, order=[0] * 10), ValueError,
     "order: index 0 is repeated"),
    ("order+seed", lambda: threshold_select(POOL, 2, order=range(10), seed=1), ValueError,
     "seed: shuffles the traversal that order already gives"),
    ("scores+order", lambda: threshold_select(POOL, 2, scores=range(10), order=range(10)),
     ValueError, "scores: give the traversal that order gives too"),
    ("scores+seed", lambda: threshold_select(POOL, 2, scores=range(10), seed=1), ValueError,
     "scores: give the traversal that seed gives too"),
    ("scores short", lambda: threshold_select(POOL, 2, scores=[1, 2]), ValueError,
     "scores: expected one number per row of the pool, shape (10,), got dtype int64"),
    ("scores of bools", lambda: threshold_select(POOL, 2, scores=[True] * 10), ValueError,
     "scores: expected one number per row of the pool"),
    ("scores nan", lambda: threshold_select(POOL, 2, scores=[1.0] * 9 + [np.nan]), ValueError,
     "scores: row 9 (the first) has NaN"),
    ("no k", lambda: threshold_select(POOL, threshold=1), ValueError,
     "k: only with decay=None"),
    ("one pass at what", lambda: threshold_select(POOL, decay=None), ValueError,
     "threshold: with decay=None it stays as it is"),
    ("deduplicate at what", lambda: deduplicate(POOL), ValueError,
     "distance: pass either distance or similarity"),
    ("deduplicate twice", lambda: deduplicate(POOL, 1, similarity=0.5), ValueError,
     "distance: pass either distance or similarity"),
    ("deduplicate below 0", lambda: deduplicate(POOL, -1), ValueError,
     "distance: expected a number finite and >= 0"),
    ("similarity above 1", lambda: deduplicate(POOL, similarity=1.1), ValueError,
     "similarity: expected a number from -1 to 1"),
    ("similarity euclidean", lambda: deduplicate(POOL, similarity=1, metric="euclidean"),
     ValueError, "similarity: is that of metric='cosine'"),
    ("within nan", lambda: neighbours_within(POOL, distance=np.nan), ValueError,
     "distance: expected a number finite and >= 0"),
    ("within other width", lambda: neighbours_within(POOL, POOL[:, 1:], distance=1), ValueError,
     "points: has"),
    ("decay nearly 1", lambda: threshold_select(POOL, 2, decay=1 - 2.0**-53), ValueError,
     "decay: expected a number above 0 and at most 0.999999"),
    ("decay word", lambda: threshold_select(POOL, 2, decay="0.5"), TypeError,
     "decay: expected a number above 0 and at most 0.999999, got '0.5'"),
    ("min_distance bool", lambda: greedy_select(POOL, 2, min_distance=True), TypeError,
     "min_distance: expected a number finite and >= 0, got True"),
    ("min_distance huge", lambda: greedy_select(POOL, 2, min_distance=10**400), ValueError,
     "min_distance: expected a number finite and >= 0, got 1000"),
    ("selected ragged", lambda: greedy_select(POOL, 2, selected=[[0, 1], [2]]), TypeError,
     "selected: cannot be read as an array of numbers"),
    ("order ragged", lambda: threshold_select(POOL, 2, order=[[0, 1], [2]]), TypeError,
     "order: cannot be read as an array of numbers"),
    ("metric array", lambda: greedy_select(POOL, 2, metric=np.array(["cosine"])), ValueError,
     "metric: expected one of euclidean, cosine"),
    ("masked", lambda: greedy_select(np.ma.masked_greater(POOL, 1), 2), TypeError,
     "features: masked arrays are not supported"),
    # points
    ("points width", lambda: nearest_distances(POOL, normal(4, 5)), ValueError,
     "points: has 5 columns but queries has 3"),
    ("points nan", lambda: nearest_distances(POOL, _with(np.nan)), ValueError,
     "points: values must be finite; row 6"),
]  # fmt: skip


@pytest.mark.parametrize("use", ["cpu", "reference"])
@pytest.mark.parametrize(
    ("call", "error", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_message(
    call: Callable[[], Any],
    error: type[Exception],
    message: str,
    use: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENTROSELECT_BACKEND", use)
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize("value", ["0", "two", "-3", "5000"])
def test_thread_count(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTROSELECT_THREADS", value)
    with pytest.raises(ValueError, match="ENTROSELECT_THREADS: expected an integer from 1 to 1024"):
        greedy_select(POOL, 2)


@pytest.mark.parametrize("value", ["0", "big"])
def test_block_size(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTROSELECT_BLOCK", value)
    with pytest.raises(ValueError, match="ENTROSELECT_BLOCK: expected an integer"):
        greedy_select(POOL, 2)


def test_an_instruction_set_the_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from entroselect import _dispatch

    lacking = [name for name, reason in _dispatch.why_not().items() if reason]
    for name in lacking:
        with pytest.raises(ValueError, match=f"backend: '{name}' cannot run here: "):
            greedy_select(POOL, 2, backend=name)


def test_a_build_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "entroselect._cuda", None)  # as if it did not exist
    with pytest.raises(ValueError, match="'cuda' cannot run here: built without CUDA"):
        greedy_select(POOL, 2, backend="cuda")
