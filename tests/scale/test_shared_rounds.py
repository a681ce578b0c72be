"""Rounds of several processes, which are threads here: as few as one process has, however the rows
lie, and within the room of the process that settles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from entroselect import engine, greedy_select, open_pool, reference
from entroselect.backends.cpu import Cpu
from entroselect.io.open import as_rows
from entroselect.scale.budget import BYTES_PER_ROW, Budget
from entroselect.scale.sharded_pool import ShardedPool
from entroselect.scale.streamed_pool import StreamedPool
from tests.conftest import BACKENDS, normal
from tests.support.pools import POOLS
from tests.support.thread_group import ThreadGroup, Together


class Recorded(ThreadGroup):
    """Remembers how many rows came to one process at most."""

    most = 0

    def gather(self, array: Any, root: int, sizes: Any = None) -> Any:
        found = super().gather(array, root, sizes)
        self.most = max(self.most, 0 if found is None else len(found))
        return found


class Shared:
    """A pool in four threads; `room` as in ShardedPool."""

    def __init__(self, values: Any, room: int | None = None) -> None:
        n, backend = len(values), Cpu(BACKENDS[0])
        self.pools: list[ShardedPool] = []

        def new(group: ThreadGroup, part: slice) -> tuple[ShardedPool, Any]:
            group.__class__ = Recorded
            own, ranks = values[part], group
            under = backend.new_pool(as_rows("pool", own), "euclidean", sub=True)
            take = own.__getitem__
            pool = ShardedPool(under, take, str(own.dtype), "euclidean", backend, ranks, room)
            return pool, under

        self._together = Together([0, n // 4, n // 2, 3 * n // 4, n], new)

    def select(self, k: int, first: int) -> tuple[engine.SelectionState, float, int]:
        """The state, the radius, the most rows that rank 0 had in a round."""

        def run(rank: int) -> Any:
            pool, state = self._together.pools[rank], engine.SelectionState()
            return state, engine.farthest_first(pool, k, None, first, state, None)

        found = self._together.each(run)
        for state, radius in found[1:]:
            assert state.joined()[0].tolist() == found[0][0].joined()[0].tolist()
            assert radius == found[0][1]
        return *found[0], self._together.pools[0].ranks.most

    def close(self) -> None:
        self._together.close()


@pytest.fixture
def shared() -> Iterator[Any]:
    made: list[Shared] = []

    def use(*given: Any) -> Shared:
        made.append(Shared(*given))
        return made[-1]

    yield use
    for pool in made:
        pool.close()


@pytest.mark.parametrize("way", ["even", "far rows with the last"])
def test_as_few_rounds_as_alone(way: str, shared: Any) -> None:
    values = normal(20_000, 16)
    if way != "even":
        values = values[np.argsort((values**2).sum(axis=1), kind="stable")]
    alone = greedy_select(values, 2000, start=5)
    state, radius, _ = shared(values).select(2000, 5)
    assert state.joined()[0].tolist() == alone.indices.tolist()
    assert radius == alone.radius
    assert state.rounds <= 1.35 * alone.profile["rounds"]


@pytest.mark.parametrize(
    ("name", "room"),
    [("integer_grid", 1), ("duplicates", 7), ("unequal_clusters", 7), ("offset_1e6", 9)],
)
def test_rows_that_are_settled_fit(name: str, room: int, shared: Any) -> None:
    """Rooms for fewer rows than there are processes, and for fewer than beat the rival."""
    values = POOLS[name]()[:200]
    k = len(values) // 3
    oracle = reference.greedy_select(values, k)
    state, radius, most = shared(values, room).select(k, int(oracle.indices[0]))
    assert state.joined()[0].tolist() == oracle.indices.tolist()
    np.testing.assert_array_equal(np.sqrt(state.joined()[1]), oracle.distances)
    assert radius == oracle.radius
    assert most <= max(room, 4)


def test_vectors_of_another_dtype_leave_less_room() -> None:
    """They are kept as float64, so fewer rows fit than when the processes agreed on how many. A row
    that a pass looks at and that does not fit would be judged by a stale bound."""
    values, vectors = normal(400, 200).astype(np.float16), normal(2, 200, seed=1)
    order, backend = np.arange(400), Cpu(BACKENDS[0])
    oracle = reference.threshold_select(values, threshold=17.0, decay=None, selected=vectors)

    def new(group: ThreadGroup, part: slice) -> tuple[ShardedPool, StreamedPool]:
        own = open_pool(values[part])
        limit = Budget.least(BYTES_PER_ROW * own.n + own.overhead, 1600, 200)
        under = StreamedPool(own, "euclidean", backend, limit)
        ranks, room = group, under.capacity
        pool = ShardedPool(under, under.take, "float16", "euclidean", backend, ranks, room)
        return pool, under

    def run(rank: int) -> tuple[list[int], list[float]]:
        pool, state = together.pools[rank], engine.SelectionState()
        pool.add_vectors(vectors, "float64")
        engine.threshold_decay(pool, 400, order, 17.0, None, state, None)
        picks, squared, _ = state.joined()
        return picks.tolist(), np.sqrt(squared).tolist()

    together = Together([0, 50, 400], new)
    assert together.each(run) == [(oracle.indices.tolist(), oracle.distances.tolist())] * 2
    together.close()
