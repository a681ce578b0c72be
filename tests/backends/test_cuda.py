"""The CUDA backend against the oracle: whole index lists.

Without a GPU, the host build of kernels/cuda and Triton's interpreter stand in for it: everything
is tested but the devices themselves, on pools cut short. On a GPU the same tests run there, on
whole pools, with inputs that are tensors of the device.
"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import (
    _dispatch,
    greedy_select,
    kl_entropy,
    nearest_distances,
    open_pool,
    reference,
    threshold_select,
)
from entroselect.io.open import as_rows
from entroselect.io.rows import Rows
from entroselect.results import on_host
from entroselect.scale import budget, streamed_pool
from tests.conftest import NO_GPU, ROOT, normal, same_neighbours, same_selection
from tests.support.pools import POOLS, without_zero_rows

torch = pytest.importorskip("torch")
pytest.importorskip("triton", reason="the filter's kernels are written in Triton")

# The interpreter is NumPy, which warns where a GPU silently computes an infinity.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """A function that puts a pool where backend "cuda" works, and makes it the one chosen."""
    from entroselect.backends.cuda import Cuda

    if not NO_GPU:

        def there(pool: Any, limit: int | None = None, **_tile: Any) -> Any:
            monkeypatch.setattr(
                _dispatch,
                "choose",
                lambda backend, *inputs: None if backend == "reference" else Cuda(limit=limit),
            )
            return torch.as_tensor(np.array(pool), device="cuda")

        return there
    from entroselect.backends.cuda.autotune import Tile

    kernels = request.getfixturevalue("host_kernels")
    # A program goes through several tiles of columns, as it does where there are many.
    monkeypatch.setattr("entroselect.backends.cuda.filter.PROGRAMS", 3)

    def use(
        pool: Any, columns: int = 32, capacity: int | None = None, tma: bool = False, **more: Any
    ) -> Any:
        host = Cuda(kernels, "cpu", Tile(32, columns, 32, 4, 1, capacity, tma), **more)
        monkeypatch.setattr(
            _dispatch, "choose", lambda backend, *inputs: None if backend == "reference" else host
        )
        return pool

    use(None)
    return use


def _cut(name: str, metric: str = "euclidean", rows: int = 100) -> Any:
    pool = POOLS[name]()
    if metric == "cosine":
        pool = without_zero_rows(pool)
    return pool[:rows] if NO_GPU else pool


def _same(found: Any, oracle: Any) -> None:
    """As same_selection or same_neighbours, for tensors too."""
    assert found.backend == "cuda"
    parts = {name: on_host(getattr(found, name)) for name in ("indices", "distances")}
    if isinstance(oracle, reference.Neighbours):
        return same_neighbours(reference.Neighbours(**parts, backend="cuda"), oracle)
    limits = None if found.thresholds is None else on_host(found.thresholds)
    return same_selection(
        reference.Selection(**parts, radius=found.radius, backend="cuda", thresholds=limits), oracle
    )


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", POOLS)
def test_greedy(name: str, metric: str, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = _cut(name, metric)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "24")  # many rounds, so that the filter has work
    oracle = reference.greedy_select(pool, len(pool), metric=metric)
    _same(greedy_select(gpu(pool), len(pool), metric=metric), oracle)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", POOLS)
def test_threshold(name: str, metric: str, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = _cut(name, metric, 70)
    k = max(1, len(pool) * 3 // 4)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "24")
    options = {"metric": metric, "decay": 0.8, "seed": 3}
    _same(threshold_select(gpu(pool), k, **options), reference.threshold_select(pool, k, **options))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", POOLS)
def test_nearest(name: str, metric: str, gpu: Any) -> None:
    pool = _cut(name, metric, 80)
    if len(pool) < 2:
        pytest.skip("a single row has no neighbour")
    _same(
        nearest_distances(gpu(pool), metric=metric),
        reference.nearest_distances(pool, metric=metric),
    )


@pytest.mark.parametrize("name", ["digits", "duplicates", "unequal_clusters", "one_outlier"])
@pytest.mark.parametrize("k", [3, 20])
def test_several_neighbours(name: str, k: int, gpu: Any) -> None:
    pool = _cut(name, rows=170)
    _same(
        nearest_distances(gpu(pool[:30]), gpu(pool[10:]), k),
        reference.nearest_distances(pool[:30], pool[10:], k),
    )


def test_neighbours_among_several_blocks_of_points(gpu: Any) -> None:
    pool = _cut("unequal_clusters", rows=150)
    limit = 2 * 64 * 140  # 64 coded rows at a time
    _same(nearest_distances(gpu(pool, limit=limit)), reference.nearest_distances(pool))


@pytest.mark.parametrize("k", [1, 4])
def test_neighbours_in_tiles(k: int, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies lie in several tiles, whose lists are merged by (distance, index)."""
    pool = np.repeat(_cut("images", rows=20), 3, axis=0)
    plan = budget.TilePlan(23, 17)
    monkeypatch.setattr(budget, "plan_alone", lambda *_: plan)
    for against in (None, pool[::-1].copy()):
        there = None if against is None else gpu(against)
        found = nearest_distances(gpu(pool), there, k, memory_limit="1GiB")
        _same(found, reference.nearest_distances(pool, against, k))
        assert found.profile["tiles"] > 5


@pytest.mark.parametrize("queries", [np.float64, np.float16, np.uint8])
@pytest.mark.parametrize("points", [np.float32, np.float64])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_queries_and_points_of_other_types(
    queries: type, points: type, metric: str, gpu: Any
) -> None:
    rng = np.random.default_rng(0)
    q, p = (rng.integers(1, 200, (n, 20)).astype(t) for n, t in ((20, queries), (70, points)))
    oracle = reference.nearest_distances(q, p, metric=metric)
    _same(nearest_distances(gpu(q), gpu(p), metric=metric), oracle)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_selected_vectors(dtype: type, metric: str, gpu: Any) -> None:
    pool = POOLS["digits"]()[:120]
    vectors = np.random.default_rng(5).integers(1, 17, (37, 64)).astype(dtype)
    options: dict[str, Any] = {"selected": vectors, "metric": metric}
    oracle = reference.greedy_select(pool, 60, **options)
    options["selected"] = gpu(vectors)
    _same(greedy_select(gpu(pool), 60, **options), oracle)


def test_selected_indices_and_min_distance(gpu: Any) -> None:
    pool = _cut("unequal_clusters", rows=150)
    before = [3, 149, 77]
    whole = reference.greedy_select(pool, 80, selected=before)
    limit = float(whole.distances[50])
    options = {"selected": before, "min_distance": limit}
    _same(greedy_select(gpu(pool), 80, **options), reference.greedy_select(pool, 80, **options))
    _same(
        threshold_select(gpu(pool), 80, selected=before),
        reference.threshold_select(pool, 80, selected=before),
    )


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("start", ["center", "random", 7])
def test_starts(start: Any, metric: str, gpu: Any) -> None:
    pool = normal(90, 19) + 3
    options = {"start": start, "metric": metric, "seed": 11 if start == "random" else None}
    _same(greedy_select(gpu(pool), 30, **options), reference.greedy_select(pool, 30, **options))


@pytest.mark.parametrize("block", ["1", "7", "64", "1000"])
def test_block_size_changes_nothing(block: str, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = _cut("digits", rows=300)
    monkeypatch.setenv("ENTROSELECT_BLOCK", block)
    k = {"1": 20, "7": 100}.get(block, 200)
    _same(greedy_select(gpu(pool), k), reference.greedy_select(pool, k))


def test_more_pairs_than_there_is_room_for(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal rows far from the centre leave every pair open."""
    pool = np.concatenate([normal(70, 8), np.full((40, 8), 50, np.float32)])
    pool[70:, 0] += np.random.default_rng(1).integers(0, 2, 40) * np.float32(1e-5)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "40")
    few = {"columns": 16, "capacity": 512}
    _same(greedy_select(gpu(pool, **few), 100), reference.greedy_select(pool, 100))
    _same(nearest_distances(gpu(pool, **few), k=2), reference.nearest_distances(pool, k=2))


def test_a_pool_whose_codes_do_not_fit(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = _cut("unequal_clusters", rows=200)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "40")
    _same(greedy_select(gpu(pool, limit=20000), 150), reference.greedy_select(pool, 150))


def test_out_of_memory_takes_smaller_tiles_then_says_what_it_needs(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from entroselect.backends.cuda.filter import Frame

    if not NO_GPU:
        pytest.skip("needs tiles smaller than a GPU's")
    pool = _cut("unequal_clusters", rows=200)
    room, largest = Frame.room, 40

    def full(self: Any, rows: Any, n: int) -> Any:
        if n > largest:
            raise torch.OutOfMemoryError("no more")
        return room(self, rows, n)

    monkeypatch.setattr(Frame, "room", full)
    _same(nearest_distances(gpu(pool)), reference.nearest_distances(pool))
    largest = 20
    with pytest.raises(MemoryError, match=r"backend 'cuda': \d+ more bytes of GPU memory needed"):
        nearest_distances(gpu(pool))


def test_the_filter_does_the_work(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = normal(400, 64)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "60")
    found = greedy_select(gpu(pool), 120)
    _same(found, reference.greedy_select(pool, 120))
    profile = found.profile
    assert 0 < profile["pairs"] < 0.8 * 400 * 120  # lazy
    assert 0 < profile["rechecks"] < 0.15 * profile["pairs"] + 4 * 400  # certified


# A block, its plain model, and what may be done to both.


def _block(request: pytest.FixtureRequest, pool: Any, metric: str) -> Any:
    """A pool on its own."""
    from entroselect.backends.cuda import Cuda
    from entroselect.backends.cuda.autotune import Tile

    if not NO_GPU:
        backend = Cuda()
    else:
        tile = Tile(32, 32, 32, 4, 1)
        backend = Cuda(request.getfixturevalue("host_kernels"), "cpu", tile)
    return backend.new_pool(as_rows("pool", pool), metric, sub=True)


class Model:
    """What a block must know: every distance to every choice, and what was told of earlier ones."""

    def __init__(self, pool: Any, metric: str) -> None:
        self.values = reference.canonical_rows(as_rows("pool", pool), metric)
        self.restart(np.full(len(pool), np.inf), np.zeros(len(pool), np.int64))

    def restart(self, bounds: Any, met: Any) -> None:
        self.start, self.met = bounds.copy(), met.copy()
        self.squared = np.empty((len(bounds), 0))

    def choose(self, vectors: Any) -> None:
        for vector in vectors:
            found = reference.squared_distances(self.values, vector)[:, None]
            self.squared = np.concatenate([self.squared, found], axis=1)

    def exclude(self, rows: Any) -> None:
        self.start[rows] = -1

    def nearest(self, met: Any) -> Any:
        """Squared distance to the choices from the first unmet at the restart to `met`."""
        place = np.arange(self.squared.shape[1])
        open_ = (place >= self.met[:, None]) & (place < met[:, None])
        found = np.where(open_, self.squared, np.inf).min(axis=1, initial=np.inf)
        return np.where(self.start < 0, -1, np.minimum(self.start, found))


def _check_block(block: Any, model: Model, fresh: Any = (), enough: float = 0.0) -> None:
    """Bounds are never too small, as good as `met` says, and exact or below `enough` if fresh."""
    bounds, met = block.state()
    assert (bounds.dtype, met.dtype) == (np.float64, np.int64)
    assert isinstance(bounds, np.ndarray)
    count = model.squared.shape[1]
    assert block.count == count
    assert block.available == np.count_nonzero(model.start >= 0)
    assert met.max(initial=0) <= count
    exact = model.nearest(np.full(len(met), count))
    assert np.all(bounds >= exact)
    assert np.all(bounds <= model.nearest(met))
    np.testing.assert_array_equal(block.bounds(np.array([5, 2, 9])), bounds[[5, 2, 9]])
    assert block.widest() == max(0.0, bounds.max())
    settled = np.array(fresh, dtype=np.int64)
    settled = settled[(bounds[settled] >= enough) & (bounds[settled] >= 0)]
    np.testing.assert_array_equal(bounds[settled], exact[settled])
    assert np.all((met[settled] == count) | (bounds[settled] == 0))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", ["digits", "duplicates", "unequal_clusters"])
def test_a_block_knows_what_it_says(
    name: str, metric: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from entroselect.backends.cuda import pool as pools

    monkeypatch.setattr(pools, "NEWEST", 8)
    pool = _cut(name, metric, 70)[:70]
    n = len(pool)
    block, model = _block(request, pool, metric), Model(pool, metric)
    rng = np.random.default_rng(2)
    everything = np.arange(n)
    for round_ in range(3):
        rows = rng.choice(np.flatnonzero(model.start >= 0), 3, replace=False)
        block.add_picks(rows)
        model.choose(model.values[rows])
        model.exclude(rows)
        _check_block(block, model)
        others = rng.permutation(n)[:30]
        block.refresh(others)
        _check_block(block, model, others)
        rows = np.flatnonzero(model.start >= 0)[:2]  # not met by anyone before more come
        block.add_picks(rows)
        model.choose(model.values[rows])
        model.exclude(rows)
        # Vectors of other places, one of them this pool's, which it may not pick itself.
        given = rng.permutation(n)[:25]
        own = given[model.start[given] >= 0][:1]
        block.add_vectors(pool[given], str(pool.dtype))
        block.exclude(own)
        model.choose(model.values[given])
        model.exclude(own)
        _check_block(block, model)
        # Rows at the very bound that is enough are not below it: by a stale bound, by an exact one.
        for known in (block.bounds(others), model.nearest(np.full(n, 10**9))[others]):
            enough = float(np.sort(known)[len(known) // 2])
            block.refresh(others, enough)
            _check_block(block, model, others, enough)
        block.refresh(None, enough)
        _check_block(block, model, everything, enough)
        if round_ == 1:
            bounds, met = block.state()
            # Anything above what is known will do, and choices that a row is said to have met
            # must not be looked at.
            bounds = np.where(bounds < 0, bounds, np.minimum(bounds * 1.5, model.start))
            met = rng.integers(0, 3, n)
            block.restart(bounds, met)
            model.restart(bounds, met)
            _check_block(block, model)  # nobody has met anything yet
    block.refresh()
    _check_block(block, model, everything)
    np.testing.assert_array_equal(block.bounds(everything), model.nearest(np.full(n, 10**9)))


def test_a_row_below_enough_is_left_alone(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from entroselect.backends.cuda import pool as pools

    if not NO_GPU:
        pytest.skip("counts pairs of small tiles")
    monkeypatch.setattr(pools, "NEWEST", 32)
    pool = normal(200, 16)
    near = pool + np.float32(0.01)
    counted = []
    for enough in (0.0, 1.0):
        block, model = _block(request, pool, "euclidean"), Model(pool, "euclidean")
        # The newest choices lie at the first 100 rows, the older ones at nobody's place.
        block.add_vectors(np.concatenate([pool[:100] * 5, near[:32]]), "float32")
        model.choose(np.concatenate([pool[:100] * 5, near[:32]]).astype(np.float64))
        block.refresh(None, enough)
        _check_block(block, model, np.arange(200), enough)
        counted.append(block.profile()["pairs"])
        if enough:
            met = block.state()[1]
            assert not met[:32].any()  # stopped, so only choices in order count
            assert np.all(met[32:][block.bounds(np.arange(32, 200)) >= enough] == 132)
            before = block.profile()["pairs"]
            block.refresh(np.arange(32), enough)  # nothing to do
            assert block.profile()["pairs"] == before
    assert counted[0] == 200 * 132
    assert counted[1] == 200 * 132 - 32 * 100


@pytest.mark.parametrize("newest", [7, 16])
def test_stopping_early_changes_nothing(
    newest: int, gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from entroselect.backends.cuda import pool as pools

    pool = normal(400, 16)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "60")
    lazy = {}
    for size in (newest, 1 << 30):
        monkeypatch.setattr(pools, "NEWEST", size)
        lazy[size] = greedy_select(gpu(pool, columns=64), 120)
        _same(lazy[size], reference.greedy_select(pool, 120))
        found = threshold_select(gpu(pool, columns=64), 100)
        _same(found, reference.threshold_select(pool, 100))
    assert lazy[newest].profile["pairs"] < lazy[1 << 30].profile["pairs"]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", ["digits", "duplicates"])
def test_streamed_pools_of_blocks(
    name: str, metric: str, gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = _cut(name, metric, 100)[:100]
    np.save(tmp_path / "pool.npy", pool)
    gpu(pool)  # for the backend alone: the rows come from the file
    monkeypatch.setenv("ENTROSELECT_BLOCK", "24")
    monkeypatch.setattr(budget, "LEAST_ROWS", 8)
    limit = budget.Budget.least(budget.BYTES_PER_ROW * 100, pool[0].nbytes, 64)
    given, opened = open_pool(tmp_path / "pool.npy"), []
    meet = streamed_pool.StreamedPool._compare
    monkeypatch.setattr(
        streamed_pool.StreamedPool,
        "_compare",
        lambda self, *rest: (opened.append(self), meet(self, *rest))[1],
    )
    options: dict[str, Any] = {"metric": metric}
    found = greedy_select(given, 70, memory_limit=limit, **options)
    _same(found, reference.greedy_select(pool, 70, **options))
    found = threshold_select(given, 60, memory_limit=limit, **options)
    _same(found, reference.threshold_select(pool, 60, **options))
    assert len(set(opened)) == 2


@pytest.mark.parametrize("columns", [16, 64])
@pytest.mark.parametrize("name", ["digits", "unequal_clusters", "one_outlier"])
def test_tiles_copied_by_descriptors(
    name: str, columns: int, gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rows by index and of rows in order, with a last tile that is not full."""
    pool = _cut(name, rows=107)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "24")
    tile = {"columns": columns, "tma": True}
    k = min(90, len(pool))
    _same(greedy_select(gpu(pool, **tile), k), reference.greedy_select(pool, k))
    _same(nearest_distances(gpu(pool, **tile)), reference.nearest_distances(pool))
    queries = pool[:30]
    _same(
        nearest_distances(gpu(queries, **tile), gpu(pool[10:], **tile), 5),
        reference.nearest_distances(queries, pool[10:], 5),
    )


def test_a_near_code_does_not_hide_a_nearer_row(gpu: Any) -> None:
    """What roundings of codes move together and apart, in tiles met one after the other: the codes'
    nearest is another row than the nearest."""
    step = (
        2.0**-10
    )  # of float16 from 1 to 2, and of codes: the frame is centred at 0 and scaled by 1
    a, rows = 0.3, np.zeros((100, 1))
    rows[::10, 0] = 1.0
    rows[5::10, 0] = -1.0
    # Codes: the query's is 1.5, one is 480 steps to its right, one 481 to its left. The rows
    # themselves: 480 + 2a and 481 - 2a, and a is more than a quarter.
    rows[[1, 42, 73], 0] = 1.5 - a * step, 1.5 + (480 + a) * step, 1.5 - (481 - a) * step
    _same(nearest_distances(gpu(rows), k=1), reference.nearest_distances(rows))


def test_entropy_and_copies(gpu: Any) -> None:
    pool = _cut("duplicates", rows=120)
    with pytest.raises(ValueError, match="have their nearest row at distance 0"):
        kl_entropy(gpu(pool))
    ours = kl_entropy(gpu(pool), duplicates="drop")
    oracle = kl_entropy(pool, duplicates="drop", backend="reference")
    assert float(ours) == float(oracle)
    assert ours.n == oracle.n


def test_progress(gpu: Any) -> None:
    calls: list[tuple[int, int]] = []
    nearest_distances(gpu(normal(50, 8)), progress=lambda done, n: calls.append((done, n)))
    assert calls[-1] == (50, 50)


def test_without_a_gpu_it_says_so() -> None:
    if not NO_GPU:
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="backend: 'cuda' cannot run here: ") as refused:
        greedy_select(normal(10, 3), 2, backend="cuda")
    assert NO_GPU in str(refused.value)


def test_device_memory_is_never_read_by_a_cpu_backend() -> None:
    there = Rows(torch.zeros((4, 3)), "float32")  # a tensor is what rows on a device hold
    with pytest.raises(ValueError, match="backend: 'cpu' reads host memory"):
        greedy_select(there, 2, backend="cpu")
    if NO_GPU:
        with pytest.raises(ValueError, match="backend: 'cuda' cannot run here"):
            greedy_select(there, 2)


def test_smallest_distances_are_kept_apart(gpu: Any) -> None:
    """A row's residual may be far larger than the distances to its copies."""
    pool = np.repeat(normal(12, 33, dtype=np.float64), 8, axis=0)
    pool += np.arange(96)[:, None] % 8 * 1e-13
    assert math.isfinite(float(kl_entropy(pool)))
    _same(nearest_distances(gpu(pool)), reference.nearest_distances(pool))


def test_the_measurements_of_gpu_check_run(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import gpu as measurements
    from benchmarks import record

    first = {name: (name, *rest) for name, *rest in reversed(measurements.CASES)}
    monkeypatch.setattr(measurements, "CASES", list(reversed(first.values())))
    device = "cpu" if NO_GPU else "cuda"
    rows = measurements.run(device, 60, tmp_path, quick=True)
    ours = [row for row in rows if row["kind"] == "ours"]
    agreement = {row["case"].split()[0]: row.get("agreement") for row in ours}
    assert agreement["greedy"] == "20 of 20 as on the CPU"
    assert agreement["nearest"] == "64 of 64 as in float64"
    chunks = [row for row in rows if row["contestant"].startswith("torch addmm")]
    assert [row["agreement"] for row in chunks] == ["wrong neighbour for 0 of 150 (0)"]
    assert len(record.read(tmp_path / "gpu-greedy.csv")) >= 3
    assert len(record.read(tmp_path / "gpu-nearest.csv")) >= 3
    (settled,) = record.read(tmp_path / "gpu-resolve.csv")
    assert settled["note"].endswith(" ns a pick")
    passes = record.read(tmp_path / "gpu-filter.csv")
    assert passes[0]["note"].endswith(" % of the product's rate")
    assert passes[0]["instruction_set"].startswith("cuda: ")
    printed = capsys.readouterr().out
    assert "of the product's rate" in printed
    assert "skipped, not installed: flashlib\n" in printed or not NO_GPU
    none = measurements.run(device, -1.0, tmp_path, quick=True)
    assert none == []
    assert "skipped, no time left: greedy (10000, 64, 1000)" in capsys.readouterr().out
    (error,) = measurements.certificate(_dispatch.choose("cuda"), seeds=1, widths=(16,))
    assert "of the bound" in error["note"]


def test_peers_that_fail_or_err_cost_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import gpu as measurements

    exact = torch.tensor([[1], [0], [3], [2]])

    def broken(pool: Any) -> Any:
        raise RuntimeError("no kernel image\nand more")

    def missing(pool: Any) -> Any:
        raise ImportError

    def itself_second(pool: Any) -> Any:  # right for rows 0, 1 and 3
        return lambda: np.array([[1, 0], [0, 1], [2, 1], [2, 3]])

    peers = [
        ("a", "a", broken, 9.0),
        ("b", "b", missing, 9.0),
        ("c", "c", itself_second, 9.0),
        ("d", "d", itself_second, 0.5),
    ]
    (row,) = measurements.against(
        peers, "case", (4, 1, 1), 1.0, 1.0, 0.0, (None,),
        lambda answer: measurements.wrong_neighbours(exact, answer),
    )  # fmt: skip
    assert row["contestant"] == "c"
    assert row["agreement"] == "wrong neighbour for 1 of 4 (0.25)"
    assert capsys.readouterr().out.splitlines() == [
        "skipped, failed: a on case: RuntimeError: no kernel image",
        "skipped, not installed: b",
        "skipped, would take too long: d on case",
    ]


def test_the_shapes_chosen_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import gpu as measurements
    from entroselect.backends.cuda import autotune

    monkeypatch.setattr(autotune, "CHOICES", {})
    assert measurements.shapes_chosen().startswith("tiles: none timed")
    first, second = autotune.TILES[9][:2]
    autotune.CHOICES["H", 64] = autotune.Choice(second, {first: "cannot run: X", second: 0.25})
    assert measurements.shapes_chosen().splitlines() == [
        f"tiles for widths to 64 on H: {second}",
        f"    {first}: cannot run: X",
        f"    {second}: 0.250 ms",
    ]


def test_gpu_check_keeps_to_its_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import gpu_check

    now, given = 0.0, []

    def slow(command: list[str], timeout: float, **_options: Any) -> Any:
        nonlocal now
        given.append(command)
        if "setup.py" in command:
            now += 100
            return subprocess.CompletedProcess(command, 0)
        now += timeout  # everything else takes all it is given
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(gpu_check, "why_not", lambda: "")
    monkeypatch.setattr(gpu_check.time, "monotonic", lambda: now)
    monkeypatch.setattr(gpu_check.subprocess, "run", slow)
    monkeypatch.setattr(gpu_check.shutil, "which", lambda tool: tool)
    assert gpu_check.main() == 1
    assert now <= gpu_check.SECONDS
    printed = capsys.readouterr().out
    assert "== tests: FAILED (no end after 285 s)" in printed
    assert "== memcheck: skipped, no time left" in printed
    assert given[-1][-2:] == ["--seconds", "140"]


def test_gpu_check_says_what_is_missing() -> None:
    if not NO_GPU:
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout.startswith("gpu-check: cannot run here: ")


needs_gpu = pytest.mark.skipif(bool(NO_GPU), reason=f"needs a GPU: {NO_GPU}")


@needs_gpu
def test_a_larger_pool_of_every_type() -> None:
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        pool = torch.randn((20000, 96), generator=torch.Generator().manual_seed(0)).to(dtype)
        there = pool.cuda()
        for call in (
            lambda x: greedy_select(x, 1500),
            lambda x: threshold_select(x, 1500),
            lambda x: nearest_distances(x, k=1),
            lambda x: nearest_distances(x[:2000], x, k=5),
        ):
            ours, cpu = call(there), call(pool)
            assert ours.indices.device == there.device
            np.testing.assert_array_equal(on_host(ours.indices), cpu.indices)
            np.testing.assert_array_equal(on_host(ours.distances), cpu.distances)


@needs_gpu
def test_the_callers_stream_and_device_are_used() -> None:
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        stream = torch.cuda.Stream(device)
        with torch.cuda.stream(stream):
            # Still being filled when the selection starts: another stream would read zeros.
            pool = torch.zeros((50000, 64), device=device)
            for _ in range(50):
                pool = pool @ torch.eye(64, device=device)
            pool += torch.arange(3200000, device=device).reshape(50000, 64) % 251
            found = greedy_select(pool, 300)
        stream.synchronize()
        assert found.indices.device == device
        np.testing.assert_array_equal(
            on_host(found.indices), greedy_select(on_host(pool), 300).indices
        )


@needs_gpu
def test_host_arrays_may_be_sent_there() -> None:
    pool = normal(3000, 40)
    found = greedy_select(pool, 200, backend="cuda")
    assert isinstance(found.indices, np.ndarray)
    same_selection(found, reference.greedy_select(pool, 200))


@needs_gpu
@pytest.mark.parametrize("method", ["greedy", "threshold", "variance", "random", "none"])
def test_the_loop_chooses_the_same_from_features_on_the_device(method: Any) -> None:
    from entroselect.loop.choose import choose

    pool = normal(900, 24)
    there = torch.as_tensor(pool, device="cuda")
    np.testing.assert_array_equal(
        choose(there, 200, method, drop_outliers=0.05),
        choose(pool, 200, method, drop_outliers=0.05),
    )
