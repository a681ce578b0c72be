"""What every pool must do: the primitives that entroselect/engine.py documents.

A pool knows an upper bound of each row's squared distance to its nearest pick. Its round loops
need these rules and no others, and every implementer is held to all of them:

1.  Picked rows and added vectors are counted; a picked or excluded row is not available, has
    bound -1 and never comes back.
2.  A bound is never smaller than the row's distance. After `refresh` it is that distance, or some
    upper bound below `enough`.
3.  A frontier leaves out no row that is better than the rival, and the rival is one of those left
    out (-1 if there are none). A pool whose bounds are all up to date may name no rows at all:
    then it settles picks among all of them.
4.  `settle` picks the best of the rows given, again and again, while it is better than the rival,
    at the floor and within the limit. Between equal distances the lowest index comes first, for
    the rival too. The next pick's squared distance is known if floor or limit ended it, else -1.
5.  `next_in_order` goes through an order from a position, `settle_in_order` picks the rows that
    are still at the floor when their turn comes.
6.  `widest` is the largest bound, and 0 when no row is available.
7.  Part of a larger pool (engine.SubPool): `state` claims no pick to be met that may still lower a
    bound; after `restart` a row need not be compared with those picks to come that it has met.
8.  `profile` has the counters of engine.COUNTED.
9.  Rows can be set aside (constrained.LimitedPool): excluded rows that are put back with the bounds
    they had are available again, and what they had met then they have met.

The model is tests/support/pool_model.py, and picks, squared distances and bounds are equal to the
last bit. Pools are cut short: ties, copies, an offset, tiny numbers, one column, cosine; and rows
of bits, of which many distances are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from entroselect import engine, open_pool, reference
from entroselect.backends.cpu import Cpu
from entroselect.io.open import as_rows
from entroselect.scale.sharded_pool import ShardedPool
from entroselect.scale.streamed_pool import StreamedPool
from tests.conftest import BACKENDS
from tests.support.pool_model import Model, check, check_frontier, check_in_order, check_settle
from tests.support.pools import POOLS, without_zero_rows
from tests.support.thread_group import ThreadGroup, Together

# The interpreter is NumPy, which warns where a GPU silently computes an infinity.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")

CASES = [
    ("integer_grid", "euclidean"),
    ("duplicates", "euclidean"),
    ("offset_1e6", "euclidean"),
    ("tiny_scale", "euclidean"),
    ("one_column", "euclidean"),
    ("unequal_clusters", "cosine"),
    ("duplicates", "cosine"),
]
QUICK = [CASES[0], CASES[-1]]
BITS = [("bits", "tanimoto"), ("bits", "hamming")]

KINDS = ["int8", "bf16", "cells", "tree", "streamed", "sharded", "sharded streamed", "cuda"]


def of(kinds: list[str]) -> list[Any]:
    """Pools of these kinds in all cases; the CUDA one needs a build for the host."""
    slow = pytest.mark.slow
    bits = [pytest.param("int8", *case) for case in BITS] if "int8" in kinds else []
    return bits + [
        pytest.param(kind, *case, marks=() if kind != "cuda" and case in QUICK else slow)
        for kind in kinds
        for case in CASES
    ]


ALL = of(KINDS)
SOME_ROWS = of([kind for kind in KINDS if kind != "tree"])  # a tree settles all its rows
PARTS = of(["int8", "bf16", "cells", "streamed", "cuda"])


def rows_of(kind: str, name: str, metric: str) -> Any:
    if name == "bits":
        return np.packbits(np.random.default_rng(0).random((110, 30)) < 0.2, axis=1)
    pool = POOLS[name]()
    if metric == "cosine":
        pool = without_zero_rows(pool)
    rows = {"cuda": 60, "streamed": 210, "sharded streamed": 300}.get(kind, 110)
    return np.ascontiguousarray(pool[:rows, : 8 if kind == "tree" else None])


def smallest_limit(values: Any, metric: str) -> int:
    with pytest.raises(ValueError, match="smallest that works") as error:
        StreamedPool(open_pool(values), metric, Cpu(BACKENDS[0]), 1)
    return int(str(error.value).rsplit(" ", 1)[1])


def streamed(values: Any, metric: str) -> StreamedPool:
    """Over rows that do not fit in one tile."""
    limit = smallest_limit(values.astype(np.float64), metric)  # vectors may be of another dtype
    pool = StreamedPool(open_pool(values), metric, Cpu(BACKENDS[0]), limit)
    assert pool.budget.tile < len(values)
    return pool


def sharded(values: Any, metric: str, local: Callable[[Any, str], Any]) -> Together:
    """In threads, the first of which has few rows where they are in memory."""
    n, backend = len(values), Cpu(BACKENDS[0])

    def new(group: ThreadGroup, part: slice) -> tuple[ShardedPool, Any]:
        own, dtype = values[part], str(values.dtype)
        under = local(own, metric)
        group_: Any = group
        return ShardedPool(under, own.__getitem__, dtype, metric, backend, group_), under

    return Together([0, n // 2, n] if local is streamed else [0, 5, 2 * n // 3, n], new)


def in_memory(values: Any, metric: str, sub: bool = True) -> Any:
    return Cpu(BACKENDS[0]).new_pool(as_rows("pool", values), metric, sub=sub)


def on_device(values: Any, metric: str, request: pytest.FixtureRequest) -> Any:
    from entroselect.backends.cuda import Cuda
    from entroselect.backends.cuda.autotune import Tile

    host = Cuda(request.getfixturevalue("host_kernels"), "cpu", Tile(32, 32, 32, 4, 1))
    return host.new_pool(as_rows("pool", values), metric, sub=True)


class Whole:
    """A pool without the primitives of engine.SubPool."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        if name in vars(engine.SubPool):
            raise AttributeError(name)
        return getattr(self._pool, name)


Open = Callable[[str, str, str], tuple[Any, Model]]


@pytest.fixture
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """A pool of a kind, and its model."""
    made = []

    def use(kind: str, name: str, metric: str) -> tuple[Any, Model]:
        values = rows_of(kind, name, metric)
        # Blocks inside blocks are settled in several rounds.
        monkeypatch.setenv("ENTROSELECT_BLOCK", "3")
        if kind in ("bf16", "tree"):
            monkeypatch.setenv("ENTROSELECT_FILTER", kind)
        if kind == "cells":
            monkeypatch.setenv("ENTROSELECT_CELLS", "always")
        if kind == "cuda":
            pytest.importorskip("triton")
            pool = on_device(values, metric, request)
        elif kind == "streamed":
            pool = streamed(values, metric)
        elif kind.startswith("sharded"):
            pool = sharded(values, metric, streamed if "streamed" in kind else in_memory)
            made.append(pool)
        else:
            pool = in_memory(values, metric, sub=kind != "tree")
            pool = Whole(pool) if kind == "tree" else pool
        return pool, Model(values, metric)

    yield use
    for pool in made:
        pool.close()


def vectors_of(model: Model, seed: int, dtype: type = np.float64) -> Any:
    """Vectors of other places, with a copy of a row."""
    rng = np.random.default_rng(seed)
    rows = model.values[rng.permutation(model.n)[:5]]
    if model.bits:
        rows[1:] *= rng.random((4, rows.shape[1])) < 0.7
        return packed(rows)
    return np.concatenate([rows[:1], rows[1:] * rng.uniform(0.7, 1.3, (4, 1))]).astype(dtype)


def packed(values: Any) -> Any:
    return np.packbits(values.astype(bool), axis=1)


def begin(pool: Any, model: Model) -> None:
    """Vectors that are not in the pool, then rows of it."""
    vectors = vectors_of(model, 0)
    pool.add_vectors(vectors, str(vectors.dtype))
    model.add_vectors(vectors)
    rows = model.available[[3, -1, 17]]
    pool.add_picks(rows)
    model.add_picks(rows)


@pytest.mark.parametrize(("kind", "name", "metric"), ALL)
def test_picks_count_and_do_not_come_back(kind: str, name: str, metric: str, opened: Open) -> None:
    pool, model = opened(kind, name, metric)
    assert (pool.n, pool.d) == (packed(model.values) if model.bits else model.values).shape
    if not kind.startswith("sharded"):  # whose counters are those of the local pool
        assert set(engine.COUNTED) <= pool.profile().keys()
    check(pool, model)
    begin(pool, model)
    check(pool, model)
    pool.refresh(None, np.inf)  # a first look at all rows, of which none is at infinity
    check(pool, model)


@pytest.mark.parametrize(("kind", "name", "metric"), ALL)
def test_bounds_are_exact_or_below_enough(kind: str, name: str, metric: str, opened: Open) -> None:
    pool, model = opened(kind, name, metric)
    begin(pool, model)
    some = np.random.default_rng(1).permutation(model.n)[:30]
    if kind.startswith("sharded"):
        some = np.sort(some)
    # Rows at the very bound that is enough are not below it.
    for enough in (float(np.median(model.nearest())), float(model.nearest().max()), 0.0):
        pool.refresh(some, enough)
        check(pool, model, some, enough)
        rows = model.available[:2]  # a pick that no row has met before more come
        pool.add_picks(rows)
        model.add_picks(rows)
        pool.refresh(None, enough)
        check(pool, model, np.arange(model.n), enough)


@pytest.mark.parametrize(("kind", "name", "metric"), ALL)
def test_farthest_first(kind: str, name: str, metric: str, opened: Open) -> None:
    """Rounds of any size, limit and floor, to the last row; then nothing is left."""
    pool, model = opened(kind, name, metric)
    begin(pool, model)
    pool.refresh(None, np.inf)
    assert check_settle(pool, model, 10, 0, 0.0) == 0
    check_settle(pool, model, 10, 5, float(model.nearest().max()))
    rng = np.random.default_rng(2)
    rounds = 0
    while len(model.available):
        check_settle(pool, model, int(rng.integers(1, 40)), int(rng.integers(1, 60)), 0.0)
        rounds += 1
        assert rounds < 200
    assert pool.widest() == 0.0
    check_frontier(pool, model, 10)
    found, end = pool.next_in_order(np.arange(model.n), 0, 10, 0.0)
    assert (len(found), end) == (0, model.n)


@pytest.mark.parametrize(("kind", "name", "metric"), ALL)
def test_in_order(kind: str, name: str, metric: str, opened: Open) -> None:
    """Passes with a falling floor, from any position, the last of which takes copies too."""
    pool, model = opened(kind, name, metric)
    begin(pool, model)
    pool.refresh()
    rng = np.random.default_rng(3)
    order = rng.permutation(model.n)[5:]  # rows that may not be picked are not in it
    widest = float(model.nearest().max())
    for floor in (widest, widest / 4, widest / 64, 0.0):
        position = 0
        while position < len(order) and len(model.available) > 9:
            limit = int(rng.integers(1, 30))
            size = int(rng.integers(1, 30))
            position = check_in_order(pool, model, order, position, size, limit, floor)
    check_in_order(pool, model, order, len(order), 5, 5, 0.0)


@pytest.mark.parametrize(("kind", "name", "metric"), SOME_ROWS)
def test_equal_distances_are_settled_by_index(
    kind: str, name: str, metric: str, opened: Open
) -> None:
    """A rival that is as far as rows on both sides of it."""
    pool, model = opened(kind, name, metric)
    begin(pool, model)
    pool.refresh()
    known = model.nearest()
    tied = np.flatnonzero(known == known.max())
    rival = int(tied[len(tied) // 2])
    rows = np.setdiff1d(model.available, [rival])
    picks, squared, next_squared = pool.settle(rows, known[rival], rival, model.n, 0.0)
    expected = model.settle(rows.tolist(), known[rival], rival, model.n, 0.0)
    assert (picks.tolist(), squared.tolist(), next_squared) == expected
    assert all(row < rival for row in picks)
    check(pool, model)


@pytest.mark.parametrize(("kind", "name", "metric"), PARTS)
def test_excluded_rows_are_out(kind: str, name: str, metric: str, opened: Open) -> None:
    """Rows that are picked elsewhere, whose vectors come another way."""
    pool, model = opened(kind, name, metric)
    begin(pool, model)
    rows = model.available[::7]
    pool.exclude(rows)
    model.exclude(rows)
    check(pool, model)
    given = packed(model.values[rows]) if model.bits else model.values[rows]
    pool.add_vectors(given, str(given.dtype))
    model.add_vectors(given)
    pool.refresh()
    check(pool, model, np.arange(model.n))
    check_settle(pool, model, 20, 8, 0.0)
    check_in_order(pool, model, np.arange(model.n), 0, 20, 8, 0.0)


@pytest.mark.parametrize(("kind", "name", "metric"), of(["int8", "cells", "tree", "streamed"]))
def test_rows_set_aside_come_back(kind: str, name: str, metric: str, opened: Open) -> None:
    """With bounds from before the picks that were made meanwhile."""
    pool, model = opened(kind, name, metric)
    core = pool._pool if kind == "tree" else pool
    begin(pool, model)
    pool.refresh(model.available[::3])
    rows = model.available[1::2]
    kept, start = core.bounds(rows), model.start[rows]
    for _ in range(2):  # some of them a second time
        core.exclude(rows)
        model.exclude(rows)
        check(pool, model)
        check_settle(pool, model, 30, 4, 0.0)
        core.put_back(rows, kept)
        model.start[rows] = start
        rows, kept, start = rows[::2], kept[::2], start[::2]
        check(pool, model)
    pool.refresh()
    np.testing.assert_array_equal(core.bounds(np.arange(model.n)), model.nearest())
    check(pool, model, np.arange(model.n))
    check_settle(pool, model, 40, 12, 0.0)


@pytest.mark.parametrize(("kind", "name", "metric"), PARTS)
def test_a_state_can_be_gone_on_from(kind: str, name: str, metric: str, opened: Open) -> None:
    """With any bounds above what is known, and some of the picks to come met already."""
    pool, model = opened(kind, name, metric)
    begin(pool, model)
    check_settle(pool, model, 20, 8, 0.0)
    pool.refresh(model.available[::3])
    bounds, _ = pool.state()
    bounds = np.where(bounds < 0, bounds, np.minimum(bounds * 1.5, model.start))
    met = np.random.default_rng(4).integers(0, 4, model.n)
    model.restart(bounds, np.zeros_like(met))
    model.add_vectors(vectors_of(model, 0))  # with which `begin` begins
    bounds = model.nearest(met)
    pool.restart(bounds, met)
    model.restart(bounds, met)
    check(pool, model)  # no pick has come yet
    begin(pool, model)
    check(pool, model)
    some = model.available[::2]
    pool.refresh(some)
    check(pool, model, some)
    pool.refresh()
    check(pool, model, np.arange(model.n))
    check_settle(pool, model, 30, 12, 0.0)


@pytest.mark.parametrize("kind", [*KINDS[:-1], pytest.param("cuda", marks=pytest.mark.slow)])
def test_round_loops_over_it_equal_the_oracle(kind: str, opened: Open) -> None:
    pool, model = opened(kind, "duplicates", "euclidean")
    k = model.n // 2
    oracle = reference.greedy_select(rows_of(kind, "duplicates", "euclidean"), k)
    state = engine.SelectionState()
    radius = engine.farthest_first(pool, k, None, int(oracle.indices[0]), state, None)
    picks, squared, _ = state.joined()
    assert picks.tolist() == oracle.indices.tolist()
    np.testing.assert_array_equal(np.sqrt(squared), oracle.distances)
    assert radius == oracle.radius
    check(pool, model_of(model, picks))


def model_of(model: Model, picks: Any) -> Model:
    model.add_picks(picks)
    return model


def test_threads_stand_in_for_processes() -> None:
    """The group of threads does what tests/scale/test_sharded_pool.py asks of the real one."""

    def exchanges(ranks: ThreadGroup, _: slice) -> Any:
        rank = ranks.rank
        own = np.full((rank, 2), rank)
        at_one = ranks.gather(own, 1)
        assert ranks.max_with_index(float(rank > 0), 10 - rank) == (1.0, 8)
        assert np.concatenate(ranks.all_gather(own)).tolist() == [[1, 1], [2, 2], [2, 2]]
        assert (at_one is None) == (rank != 1)
        assert ranks.broadcast(own, 2).tolist() == [[2, 2], [2, 2]]
        with pytest.raises(ZeroDivisionError), ranks.shared_errors():
            rank / (rank - 1)
        return None, None

    Together([0, 1, 2, 3], exchanges).close()
