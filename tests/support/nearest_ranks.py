"""One of several processes that find neighbours together, for tests/scale/test_tiled_nearest.py.

    python -m tests.support.nearest_ranks RANK SIZE FOLDER

Every case is one function, called in the same order by all processes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch.distributed as distributed

from entroselect import (
    Selection,
    deduplicate,
    generalization_score,
    kl_entropy,
    mean_nearest_distance,
    nearest_distances,
    neighbours_within,
    open_pool,
    reference,
    threshold_select,
)
from entroselect.scale import budget
from tests.support.pools import POOLS

NAMES = ("binary_vectors", "integer_grid", "duplicates", "unequal_clusters", "images", "one_column")


def shards(n: int, size: int) -> Iterator[list[int]]:
    """Borders of the shards of n rows: even, uneven, and with every shard empty once."""
    yield [n * r // size for r in range(size + 1)]
    yield [0, *(n - n // 3**r for r in range(1, size)), n]
    for empty in range(size):
        others = [n * r // (size - 1) for r in range(size)]
        yield [*others[: empty + 1], *others[empty:]]


def cases(rank: int, size: int, folder: Path) -> None:
    """Runs them all."""
    small = patch.object(budget, "plan_ranks", lambda *_: budget.TilePlan(90, 50))
    for number, name in list(enumerate(NAMES))[:: size - 1]:  # each kind of shards comes up
        pool = POOLS[name]()[:260]
        oracles = {k: reference.nearest_distances(pool, k=k) for k in (1, 4)}
        nats = {(k, how): nats_of(pool, k, how) for k in (1, 4) for how in ("floor", "drop")}
        every = list(enumerate(shards(len(pool), size)))
        for turn, cuts in (every[number % 2], every[2 + number % size]):
            mine = slice(cuts[rank], cuts[rank + 1])
            shard: Any = pool[mine]
            if turn == 1:  # from files, in tiles
                np.save(folder / f"{name}{rank}.npy", shard)
                shard = open_pool(folder / f"{name}{rank}.npy")
            for k, oracle in oracles.items():
                if turn == 0:
                    same(nearest_distances(shard, k=k, group=True), oracle, mine)
                with small:
                    same(nearest_distances(shard, k=k, group=True), oracle, mine)
                    for how in ("floor", "drop"):
                        assert nats[k, how] == nats_of(shard, k, how, group=True), (name, k, how)
            with small:
                assert mean_nearest_distance(shard, group=True) == mean_nearest_distance(pool)
    points_of_their_own(rank, size, small)
    duplicates(rank, size, folder, small)
    rows_of_several_types(rank, size)
    real_limits(rank, size, folder)
    traffic(rank, size)
    errors(rank, size)


def nats_of(rows: Any, k: int, how: str, **options: Any) -> tuple[float, int, float]:
    """An entropy and what went into it."""
    found = kl_entropy(rows, k, duplicates=how, **options)
    return float(found), found.n, found.geometric_mean_distance


def same(found: Any, oracle: Any, mine: slice) -> None:
    """Our part of the oracle's answer."""
    np.testing.assert_array_equal(found.indices, oracle.indices[mine])
    np.testing.assert_array_equal(found.distances, oracle.distances[mine])


def points_of_their_own(rank: int, size: int, small: Any) -> None:
    """Queries and points in shards of different sizes."""
    pool = POOLS["half_ulp_steps"]()[:300]
    queries, points = pool[:110], pool[70:]
    some, others = list(shards(110, size)), list(shards(230, size))
    for metric in ("euclidean", "cosine"):
        oracle = reference.nearest_distances(queries, points, 3, metric=metric)
        for q, p in zip(some, reversed(others), strict=True):
            ours, theirs = slice(q[rank], q[rank + 1]), slice(p[rank], p[rank + 1])
            with small:
                found = nearest_distances(
                    queries[ours], points[theirs], 3, metric=metric, group=True
                )
                same(found, oracle, ours)
                score = generalization_score(queries[ours], points[theirs], group=True)
            assert score == generalization_score(queries, points)


def duplicates(rank: int, size: int, folder: Path, small: Any) -> None:
    """Points within a distance, rows without duplicates, and what each pick stands for: a process
    has its own rows' part of them."""
    for number, name in enumerate(("integer_grid", "duplicates", "unequal_clusters")):
        pool = POOLS[name]()[:260]
        some = nearest_distances(pool, k=9).distances
        distance = float(np.quantile(some, 0.6, method="nearest"))
        scores = np.arange(260) % 11
        best_first = sorted(range(260), key=lambda row: (-scores[row], row))
        oracle = reference.deduplicate(pool, distance, order=best_first)
        lists = reference.neighbours_within(pool, distance=distance)
        picked = threshold_select(pool, 30, seed=1)
        covered = picked.assign(pool)
        cuts = list(shards(260, size))[1 + number % size]
        mine = slice(cuts[rank], cuts[rank + 1])
        shard: Any = pool[mine]
        for limit in (None, "60MB"):
            if limit is not None and len(shard):
                np.save(folder / f"{name}{rank}.npy", shard)
                shard = open_pool(folder / f"{name}{rank}.npy")
            options = {"group": True, "memory_limit": limit}
            found = deduplicate(shard, distance, scores=scores, **options)
            for ours, whole in ((found, oracle), (picked.assign(shard, **options), covered)):
                np.testing.assert_array_equal(ours.indices, whole.indices)
                np.testing.assert_array_equal(ours.sizes, whole.sizes)
                np.testing.assert_array_equal(ours.picks, whole.picks[mine])
                np.testing.assert_array_equal(ours.distances, whole.distances[mine])
            begin, end = lists.indptr[mine.start], lists.indptr[mine.stop]
            with small:
                within = neighbours_within(shard, distance=distance, **options)
            own = lists.indptr[mine.start : mine.stop + 1] - begin
            np.testing.assert_array_equal(within.indptr, own)
            np.testing.assert_array_equal(within.indices, lists.indices[begin:end])
            np.testing.assert_array_equal(within.distances, lists.distances[begin:end])


def rows_of_several_types(rank: int, size: int) -> None:
    """Processes may have read their shards from files of different types."""
    pool = POOLS["images"]()[: 60 * size]
    mine = slice(60 * rank, 60 * rank + 60)
    shard = pool[mine].astype(("float64", "uint8", "float32")[rank])
    same(nearest_distances(shard, k=2, group=True), reference.nearest_distances(pool, k=2), mine)


def real_limits(rank: int, size: int, folder: Path) -> None:
    """The smallest limit, as the error names it."""
    n = 900
    pool = np.random.default_rng(0).standard_normal((n * size, 64)).astype(np.float32)
    mine = slice(n * rank, n * rank + n)
    with pytest.raises(ValueError, match="memory_limit: 1 bytes are too few") as error:
        nearest_distances(pool[mine], memory_limit=1, group=True)
    least = int(str(error.value).removesuffix(" (on rank 0)").rsplit(" ", 1)[1])
    found = nearest_distances(pool[mine], memory_limit=least, group=True)
    assert found.profile["tiles"] > size
    same(found, nearest_distances(pool), mine)

    picked, n = Selection(np.arange(50), np.zeros(50), 0.0, ""), len(pool)  # unequal processes
    np.save(folder / f"unequal{rank}.npy", pool[: 9 + 900 * rank])
    shard = open_pool(folder / f"unequal{rank}.npy")
    with pytest.raises(ValueError, match="memory_limit: 1 bytes are too few") as error:
        picked.assign(shard, memory_limit=1, group=True)
    least = int(str(error.value).removesuffix(" (on rank 0)").rsplit(" ", 1)[1])
    named: list[Any] = [None] * size
    distributed.all_gather_object(named, least)
    assert len(set(named)) == 1, named
    picked.assign(shard, memory_limit=least, group=True)


def traffic(rank: int, size: int) -> None:
    """Every process receives the points of the others once."""
    pool = np.random.default_rng(0).standard_normal((2000 * size, 100)).astype(np.float32)
    profile = nearest_distances(pool[2000 * rank : 2000 * rank + 2000], group=True).profile
    points = 2000 * 400 * (size - 1)
    assert points < profile["bytes_received"] < points + 10_000, profile
    assert 2000 * 400 <= profile["bytes_sent"] < 2000 * 400 + 10_000, profile


def errors(rank: int, size: int) -> None:
    """One process's mistake is an error of all, and the next call works."""
    pool = np.random.default_rng(rank).standard_normal((40, 5)).astype(np.float32)
    bad = pool.copy()
    bad[7, 2] = np.nan
    wrong = [
        (lambda: nearest_distances(bad if rank else pool, group=True), "queries: values must be"),
        (lambda: nearest_distances(pool[:, : 5 - rank], group=True), "disagree: columns=5 on rank"),
        (lambda: nearest_distances(pool, k=1 + rank, group=True), "disagree: k=1 on rank 0"),
        (lambda: deduplicate(pool, 1 + rank, group=True), "disagree: threshold=1.0 on rank 0"),
        (lambda: neighbours_within(pool, distance=1 + rank, group=True), "disagree: distance=1.0"),
        (lambda: nearest_distances(pool, pool if rank else None, group=True), "points=None on"),
        (lambda: nearest_distances(pool, k=40 * size, group=True), f"at most {40 * size - 1}"),
        (lambda: nearest_distances(pool[:0], group=True), "queries: at least 2 rows needed"),
        (lambda: nearest_distances(pool, pool[:0], group=True), "points: at least 1 row needed"),
        (lambda: kl_entropy(np.ones((4, 2)), group=True), "have their nearest row at"),
        (lambda: kl_entropy(np.ones((4, 2)), duplicates="drop", group=True), "only 1 distinct"),
        (lambda: nearest_distances(pool, backend="reference", group=True), "group: backend"),
    ]
    for call, message in wrong:
        with pytest.raises((ValueError, TypeError), match=message):
            call()


if __name__ == "__main__":
    own, all_of_them, where = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{where}/meeting",
        rank=own,
        world_size=all_of_them,
        timeout=timedelta(seconds=60),
    )
    cases(own, all_of_them, where)
    distributed.barrier()
    # The transport's threads do not always survive an orderly end of their process.
    os._exit(0)
