"""Neighbours and entropy of rows that are read in tiles, or held by several processes: the same
bits as in one piece."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroselect import (
    generalization_score,
    kl_entropy,
    mean_nearest_distance,
    nearest_distances,
    open_pool,
    reference,
)
from entroselect.io.source import ArraySource, Source
from entroselect.scale import budget, tiled_nearest
from tests.conftest import ROOT, normal, same_neighbours
from tests.support import processes
from tests.support.pools import POOLS

SEVERAL = [name for name in POOLS if name != "one_row"]
LIMIT = "1GiB"  # where a plan is made up, any will do


@pytest.fixture
def file(tmp_path: Path) -> Callable[[Any], Source]:
    """Writes rows to a file and opens it."""

    def write(rows: Any) -> Source:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, rows)
        return open_pool(path)

    return write


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Sets the number of rows of blocks and of tiles."""

    def use(block: int, tile: int) -> None:
        made_up = budget.TilePlan(block, tile)
        monkeypatch.setattr(budget, "plan_alone", lambda *_: made_up)

    return use


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", SEVERAL)
def test_adversarial_pools(name: str, k: int, file: Any, plan: Any) -> None:
    pool = POOLS[name]()[:700]
    k = min(k, len(pool) - 1)
    oracle = reference.nearest_distances(pool, k=k)
    for block, tile in ((4, 9), (9, 4)):
        plan(len(pool) // block + 1, len(pool) // tile + 1)
        same_neighbours(nearest_distances(file(pool), k=k, memory_limit=LIMIT), oracle)


@pytest.mark.parametrize("name", ["digits", "duplicates", "unequal_clusters", "one_column"])
def test_every_backend(name: str, backend: str, file: Any, plan: Any) -> None:
    pool = POOLS[name]()[:500]
    plan(90, 70)
    for k in (1, 3):
        found = nearest_distances(file(pool), k=k, backend=backend, memory_limit=LIMIT)
        same_neighbours(found, reference.nearest_distances(pool, k=k))
        assert found.backend == backend


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", ["integer_grid", "duplicates", "images", "float16_rows"])
def test_points_of_their_own(name: str, metric: str, file: Any, plan: Any) -> None:
    """Rows are found among the points too, and the copies of each lie in several tiles."""
    pool = POOLS[name]()[1:]
    queries, points = pool[::3], np.concatenate([pool[100:], pool])
    plan(50, 37)
    for k in (1, 6):
        oracle = reference.nearest_distances(queries, points, k, metric=metric)
        for q, p in ((queries, points), (file(queries), points), (file(queries), file(points))):
            found = nearest_distances(q, p, k, metric=metric, memory_limit=LIMIT)
            same_neighbours(found, oracle)


def test_cosine_within_one_set(file: Any, plan: Any) -> None:
    pool = POOLS["digits"]()[:400]
    plan(64, 48)
    for k in (1, 4):
        found = nearest_distances(file(pool), k=k, metric="cosine", memory_limit=LIMIT)
        same_neighbours(found, reference.nearest_distances(pool, k=k, metric="cosine"))


@pytest.mark.slow
def test_tiles_of_a_single_row(file: Any, plan: Any) -> None:
    """Most lists have places left when a tile has been met; every border is between equal rows."""
    pool = np.repeat(normal(6, 10), 4, axis=0)
    plan(1, 1)
    for k in (1, 5, 23):
        oracle = reference.nearest_distances(pool, k=k)
        same_neighbours(nearest_distances(file(pool), k=k, memory_limit=LIMIT), oracle)


@pytest.mark.slow
@given(
    n=st.integers(2, 120),
    d=st.one_of(st.integers(1, 12), st.integers(13, 300)),
    levels=st.sampled_from([2, 5, 10**6]),
    fraction=st.floats(0, 1, allow_subnormal=False),
    sizes=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    queries=st.integers(0, 60),
    dtypes=st.tuples(*[st.sampled_from(["float32", "float64", "int8", "uint8"])] * 2),
    seed=st.integers(0, 2**32),
)
def test_any_tiles(n, d, levels, fraction, sizes, queries, dtypes, seed) -> None:
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, min(levels, 127), (n, d)).astype(dtypes[0])
    against = rng.integers(0, levels, (queries, d)).astype(dtypes[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "plan_alone", lambda *_: budget.TilePlan(*sizes))
        if queries:
            k = max(1, int(fraction * n))
            found = nearest_distances(against, pool, k, memory_limit=LIMIT)
            same_neighbours(found, reference.nearest_distances(against, pool, k))
        k = max(1, int(fraction * (n - 1)))
        found = nearest_distances(pool, k=k, memory_limit=LIMIT)
        same_neighbours(found, reference.nearest_distances(pool, k=k))


@pytest.mark.parametrize("tiles", ["ascending", "descending", "shuffled"])
@pytest.mark.parametrize("k", [1, 7])
def test_any_order_of_points(tiles: str, k: int, backend: str) -> None:
    """What the core is told of may have higher and lower numbers than what it looks at."""
    from entroselect._dispatch import choose
    from entroselect.io.open import as_rows

    pool = POOLS["binary_vectors"]()[:240]
    cuts = list(range(0, 240, 40))
    pairs = [(q, p) for q in cuts for p in cuts]
    if tiles == "descending":
        pairs.reverse()
    if tiles == "shuffled":
        np.random.default_rng(0).shuffle(pairs)
    squared = np.full((240, k), np.inf)
    indices = np.full((240, k), tiled_nearest.NO_NEIGHBOUR)
    for q, p in pairs:
        part = slice(q, q + 40)
        queries, points = as_rows("", pool[part]), as_rows("", pool[p : p + 40])
        choose(backend, "nearest").update_neighbours(
            queries, None if p == q else points, p, squared[part], indices[part], "euclidean", None
        )
    oracle = reference.nearest_distances(pool, k=k)
    np.testing.assert_array_equal(indices, oracle.indices)
    np.testing.assert_array_equal(np.sqrt(squared), oracle.distances)


# Memory and files


def test_without_a_limit_a_source_is_read_once(file: Any) -> None:
    pool = POOLS["images"]()
    found = nearest_distances(file(pool), k=2)
    same_neighbours(found, reference.nearest_distances(pool, k=2))
    assert found.profile == {"bytes_read": pool.nbytes, "tiles": 1}
    assert nearest_distances(pool).profile == {"bytes_read": 0, "tiles": 1}


def test_bytes_read_are_counted(file: Any, plan: Any) -> None:
    pool = normal(100, 16)
    plan(30, 20)
    found = nearest_distances(file(pool), memory_limit=LIMIT)
    rows = 100 + 70 + 40 + 10
    assert found.profile["bytes_read"] == rows * 64
    assert found.profile["tiles"] == (1 + 4) + (1 + 2) + (1 + 1) + 1
    found = nearest_distances(file(pool), file(pool[:50]), memory_limit=LIMIT)
    assert found.profile["bytes_read"] == (100 + 4 * 50) * 64
    assert nearest_distances(pool, memory_limit=LIMIT).profile["bytes_read"] == 0


@pytest.mark.parametrize(
    ("spoil", "metric", "message"),
    [
        (math.nan, "euclidean", r"queries: values must be finite; row 83 \(the first\) holds nan"),
        (1e200, "euclidean", r"queries: row 83 holds 1e\+200 at column 0; squared distances"),
        (0.0, "cosine", r"queries: row 83 \(the first\) has length 0"),
    ],
)
def test_bad_values_have_their_number_in_the_pool(
    spoil: float, metric: str, message: str, file: Any, plan: Any
) -> None:
    pool = normal(120, 6, dtype=np.float64)
    pool[83] = pool[83] * 0 if spoil == 0 else pool[83]
    pool[83, 0] = spoil
    plan(50, 20)
    with pytest.raises(ValueError, match=message):
        nearest_distances(file(pool), metric=metric, memory_limit=LIMIT)
    with pytest.raises(ValueError, match=message.replace("queries", "points")):
        nearest_distances(normal(5, 6), file(pool), metric=metric, memory_limit=LIMIT)
    with pytest.raises(ValueError, match=message):
        nearest_distances(file(pool), metric=metric)


def test_arguments_are_checked_before_rows_are_read(file: Any) -> None:
    source = file(normal(20, 4))
    for change, message in (
        ({"k": 20}, "k: must be at least 1 and at most 19"),
        ({"points": normal(3, 5)}, "points: has 5 columns but queries has 4"),
        ({"memory_limit": "much"}, "memory_limit: expected a number of bytes"),
        ({"metric": "l1"}, "metric: expected one of"),
        ({"backend": "reference", "memory_limit": "1GB"}, "memory_limit: backend 'reference'"),
    ):
        with pytest.raises(ValueError, match=message):
            nearest_distances(source, **change)
    assert source.bytes_read == 0


def test_the_reference_reads_sources(file: Any) -> None:
    pool = normal(30, 4)
    found = nearest_distances(file(pool), backend="reference")
    same_neighbours(found, reference.nearest_distances(pool))


def test_progress_reaches_the_end(file: Any, plan: Any) -> None:
    calls: list[tuple[int, int]] = []
    plan(300, 170)
    for points in (None, normal(500, 16, seed=1)):
        calls.clear()
        nearest_distances(
            file(normal(1000, 16)),
            points,
            memory_limit=LIMIT,
            progress=lambda done, total: calls.append((done, total)),
        )
        assert calls[-1] == (1000, 1000)
        assert calls == sorted(calls)
        assert len(calls) > 5


def test_an_array_as_a_source_is_not_copied(plan: Any) -> None:
    pool = normal(60, 8)
    source = ArraySource(pool)
    plan(20, 20)
    same_neighbours(
        nearest_distances(source, memory_limit=LIMIT), reference.nearest_distances(pool)
    )
    assert source.bytes_read == 0


# Entropy and metrics


def _same_entropy(ours: Any, oracle: Any) -> None:
    assert float(ours) == float(oracle)
    for name in ("n", "d", "k", "zero_distances", "geometric_mean_distance"):
        assert getattr(ours, name) == getattr(oracle, name)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("name", SEVERAL)
def test_entropy_to_the_last_bit(name: str, k: int, file: Any, plan: Any) -> None:
    pool = POOLS[name]()
    plan(len(pool) // 5 + 1, len(pool) // 8 + 1)
    for duplicates in ("error", "floor", "drop"):
        outcomes = []
        for features, limit in ((pool, None), (file(pool), LIMIT)):
            try:
                found = kl_entropy(features, k, duplicates=duplicates, memory_limit=limit)
                outcomes.append((float(found), found.__dict__))
            except ValueError as error:
                outcomes.append((str(error), {}))
        assert outcomes[0] == outcomes[1]


def test_drop_is_the_entropy_of_the_distinct_rows(file: Any, plan: Any) -> None:
    pool = POOLS["duplicates"]()
    first = np.sort(np.unique(pool, axis=0, return_index=True)[1])
    plan(41, 23)
    for k in (1, 2, 6):
        found = kl_entropy(file(pool), k, duplicates="drop", memory_limit=LIMIT)
        assert float(found) == float(kl_entropy(pool[first], k))
        assert found == pytest.approx(reference.kl_entropy(pool[first], k), rel=1e-13)
        assert found.n == 60


def test_drop_where_few_rows_have_copies(file: Any, plan: Any) -> None:
    """Those are searched again, among all."""
    distinct = normal(150, 5)
    pool = np.concatenate([distinct, distinct[10:150:7]])
    plan(41, 23)
    for k in (1, 3):
        found = kl_entropy(file(pool), k, duplicates="drop", memory_limit=LIMIT)
        assert float(found) == float(kl_entropy(distinct, k))
        assert found == pytest.approx(reference.kl_entropy(distinct, k), rel=1e-13)


def test_metrics(file: Any, plan: Any) -> None:
    made, known = POOLS["images"]()[:90], POOLS["images"]()[70:]
    plan(31, 17)
    for kind in ("l2", "mse"):
        ours = generalization_score(file(made), file(known), kind=kind, memory_limit=LIMIT)
        assert ours == generalization_score(made, known, kind=kind)
    assert mean_nearest_distance(file(made), memory_limit=LIMIT) == mean_nearest_distance(made)
    bad = known.astype("f4")
    bad[44, 3] = math.inf
    with pytest.raises(ValueError, match=r"training: values must be finite; row 44 \(the first\)"):
        generalization_score(file(made), file(bad), memory_limit=LIMIT)
    with pytest.raises(ValueError, match=r"features: values must be finite; row 44 \(the first\)"):
        kl_entropy(file(bad), memory_limit=LIMIT)


# Several processes


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_processes(size: int, tmp_path: Path) -> None:
    """Every case of tests/support/nearest_ranks.py, in processes that are started once."""
    pytest.importorskip("torch.distributed")
    module = [sys.executable, "-m", "tests.support.nearest_ranks"]
    ranks = [[*module, rank, size, tmp_path] for rank in range(size)]
    one_thread = {"ENTROSELECT_THREADS": "1", "OMP_NUM_THREADS": "1"}
    processes.together(ranks, cwd=ROOT, environment=one_thread, seconds=300)
