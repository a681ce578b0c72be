"""Selection from rows that are read piece by piece: whole index lists equal the oracle's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from entroselect import engine, greedy_select, open_pool, reference, threshold_select
from entroselect.backends.cpu import Cpu
from entroselect.io.open import as_rows
from entroselect.scale import budget, streamed_pool
from tests.conftest import BACKENDS, normal, same_selection
from tests.support.pools import POOLS


def smallest_limit(pool: NDArray, **options) -> int:
    """For reading piece by piece, as the error says it; with many picks it would not fit anyway."""
    with pytest.raises(ValueError, match="memory_limit") as caught:
        greedy_select(pool, 1, memory_limit=1, **options)
    return int(re.search(r"smallest that works is (\d+)", str(caught.value))[1])


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles and blocks of as few as three rows."""
    monkeypatch.setattr(budget, "LEAST_ROWS", 3)


@pytest.mark.parametrize("room", [1, 4])
@pytest.mark.parametrize("name", POOLS)
def test_adversarial_pools(name: str, room: int, tiny: None) -> None:
    pool = POOLS[name]()[:600]
    limit = smallest_limit(pool) + 16 * (room - 1) * len(pool)
    k = max(1, len(pool) // (2 if room == 4 else 10))
    oracle = reference.greedy_select(pool, k)
    found = greedy_select(pool, k, memory_limit=limit)
    same_selection(found, oracle)
    assert "bytes_read" in found.profile or len(pool) < 3  # it did not simply fit
    oracle = reference.threshold_select(pool, k, decay=0.7)
    same_selection(threshold_select(pool, k, decay=0.7, memory_limit=limit), oracle)


@pytest.mark.parametrize("backend", [BACKENDS[0], BACKENDS[-1]])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_options(metric: str, backend: str, tiny: None, tmp_path: Path) -> None:
    pool = normal(300, 12)
    limit = smallest_limit(pool)
    for options in (
        {"start": "center"},
        {"start": "random", "seed": 3},
        {"start": 299},
        {"selected": [7, 3, 250]},
        {"selected": normal(40, 12, seed=9).astype(np.float64)},
        {"min_distance": 0.3 if metric == "cosine" else 2.5},
    ):
        oracle = reference.greedy_select(pool, 50, metric=metric, **options)
        found = greedy_select(
            pool, 50, metric=metric, backend=backend, memory_limit=2 * limit, **options
        )
        same_selection(found, oracle)
    for options in (
        {"order": np.random.default_rng(0).permutation(300)},
        {"seed": 5, "threshold": 0.4, "decay": 0.5},
        {"selected": [7, 3, 250], "decay": 0.8},
    ):
        oracle = reference.threshold_select(pool, 50, metric=metric, **options)
        found = threshold_select(
            pool, 50, metric=metric, backend=backend, memory_limit=limit, **options
        )
        same_selection(found, oracle)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "int32", ">f4"])
def test_files(dtype: str, tiny: None, tmp_path: Path) -> None:
    pool = (normal(500, 8) * 50).clip(0).astype(dtype)
    np.save(tmp_path / "pool.npy", pool)
    oracle = reference.greedy_select(pool, 120)
    source = open_pool(tmp_path / "pool.npy")
    found = greedy_select(source, 120, memory_limit=smallest_limit(pool) + 4000)
    same_selection(found, oracle)
    assert found.profile["bytes_read"] == source.bytes_read >= pool.nbytes
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    same_selection(greedy_select(mapped, 120, memory_limit=smallest_limit(pool) + 4000), oracle)
    same_selection(greedy_select(source, 120), oracle)


def test_rows_are_read_a_handful_of_times(tmp_path: Path) -> None:
    pool = normal(20000, 32)
    np.save(tmp_path / "pool.npy", pool)
    source = open_pool(tmp_path / "pool.npy")
    found = greedy_select(source, 2000, memory_limit=1_500_000)
    same_selection(found, greedy_select(pool, 2000))
    assert found.profile["reads_per_row"] < 5


def test_picks_beyond_memory_go_to_a_file(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = normal(400, 30)
    read = []
    whole = streamed_pool.PickStore.tiles
    monkeypatch.setattr(
        streamed_pool.PickStore,
        "tiles",
        lambda self, first: read.append(self._moved) or whole(self, first),
    )
    limit = smallest_limit(pool)
    same_selection(greedy_select(pool, 300, memory_limit=limit), reference.greedy_select(pool, 300))
    assert max(read) > 0


def test_everything_that_fits_is_held(tmp_path: Path) -> None:
    pool = normal(300, 8)
    found = greedy_select(pool, 30, memory_limit="1GiB")
    assert "bytes_read" not in found.profile
    same_selection(found, reference.greedy_select(pool, 30))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_bad_values_are_named_by_their_row(bad: float, tiny: None) -> None:
    pool = normal(300, 8).astype(np.float64)
    pool[211, 5] = bad
    with pytest.raises(ValueError, match=r"features: .*row 211.*column 5"):
        greedy_select(pool, 30, memory_limit=smallest_limit(normal(300, 8).astype(np.float64)))


def test_a_zero_row_has_no_direction(tiny: None) -> None:
    pool = normal(300, 8)
    pool[77] = 0
    with pytest.raises(ValueError, match=r"features: row 77 .*cosine"):
        greedy_select(pool, 30, metric="cosine", memory_limit=smallest_limit(pool))


def test_the_limit_is_checked() -> None:
    pool = normal(300, 8)
    with pytest.raises(ValueError, match="memory_limit: expected"):
        greedy_select(pool, 3, memory_limit="much")
    limit = smallest_limit(pool)
    greedy_select(pool, 1, memory_limit=limit)
    with pytest.raises(ValueError, match=f"memory_limit: .*{limit}"):
        threshold_select(pool, 1, memory_limit=limit - 1)
    with pytest.raises(ValueError, match="memory_limit: backend 'reference'"):
        greedy_select(pool, 1, memory_limit=limit, backend="reference")


SMALLEST = {
    "as it is": {},
    "vectors of another dtype": {"selected": normal(9, 40).astype(np.float64)},
    "vectors of integers": {"selected": np.arange(80).reshape(2, 40)},
    "vectors of the same dtype": {"selected": normal(9, 40, seed=2)},
    "rows": {"selected": [3, 9, 11]},
    "center": {"start": "center"},
    "cosine": {"metric": "cosine"},
}


@pytest.mark.parametrize("what", SMALLEST)
@pytest.mark.parametrize(("n", "k"), [(900, 4), (120, 100), (60, 3)])
def test_the_smallest_limit_works(what: str, n: int, k: int, tmp_path: Path) -> None:
    options = SMALLEST[what]
    pool = normal(n, 40, seed=1)
    np.save(tmp_path / "pool.npy", pool)
    for rows in (pool, open_pool(tmp_path / "pool.npy")):
        for given in (options, {**options, "checkpoint": tmp_path / f"{rows is pool}.c"}):
            with pytest.raises(ValueError, match="memory_limit: 1 bytes are too few") as caught:
                greedy_select(rows, k, memory_limit=1, **given)
            least = int(re.search(r"smallest that works is (\d+)", str(caught.value))[1])
            with pytest.raises(ValueError, match=f"smallest that works is {least}"):
                greedy_select(rows, k, memory_limit=least - 1, **given)
            same_selection(
                greedy_select(rows, k, memory_limit=least, **given),
                reference.greedy_select(pool, k, **options),
            )
            if "start" not in options:
                given = {**given, "decay": 0.5}
                given.pop("checkpoint", None)
                with pytest.raises(ValueError, match=f"smallest that works is {least}"):
                    threshold_select(rows, k, memory_limit=least - 1, **given)
                threshold_select(rows, k, memory_limit=least, **given)


def test_the_smallest_limit_of_rows_that_are_decoded(tmp_path: Path) -> None:
    """What decoding took is counted to the end: the C library keeps it."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    n = 1_600_000
    pool = np.random.default_rng(0).integers(0, 1000, (n, 1)).astype(np.uint16)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(pool.ravel()), 1)
    pq.write_table(pa.table({"rows": rows}), tmp_path / "pool.parquet")
    source = open_pool(tmp_path / "pool.parquet")
    least = smallest_limit(source)
    assert source.overhead > 1 << 24
    assert least > n * budget.BYTES_PER_ROW + source.overhead
    found = greedy_select(source, 2, memory_limit=least + (4 << 20))  # least: tiny tiles, minutes
    assert "bytes_read" in found.profile
    assert pool[found.indices[1], 0] in (0, 999)


def test_values_come_in_the_order_asked_for() -> None:
    pool = normal(50, 4)
    opened = streamed_pool.StreamedPool(
        open_pool(pool), "euclidean", None, budget.BYTES_PER_ROW * 50 + 10**6
    )
    rows = np.array([31, 2, 2, 49, 0])
    assert (opened.take(rows) == as_rows("pool", pool).values[rows]).all()


@pytest.mark.parametrize("seeds", [range(first, first + 100) for first in range(0, 400, 100)])
def test_a_block_is_settled_up_to_its_rival(seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers, so that rows of the block fall to the very bound of the best row outside."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        monkeypatch.setenv("ENTROSELECT_BLOCK", str(rng.integers(1, 30)))
        rows = rng.integers(0, 4, (40, 3)).astype(np.float32)
        bounds = ((rows - rng.integers(0, 4, 3)) ** 2).sum(axis=1, dtype=np.float64)
        rival, place = float(rng.integers(0, 8)), int(rng.integers(0, 41))
        limit, floor = int(rng.integers(0, 41)), float(rng.integers(0, 4))
        block = Cpu(BACKENDS[0]).new_pool(as_rows("rows", rows), "euclidean", sub=True)
        block.restart(bounds, np.zeros(40, np.int64))
        found, squared, ahead = engine.settle_block(block, rival, place, limit, floor)

        picked, at, next_one = [], [], -1.0
        while True:
            best = int(np.argmax(bounds))
            if not (bounds[best] > rival or (bounds[best] == rival and best < place)):
                break
            if len(picked) == limit or bounds[best] < floor:
                next_one = bounds[best]
                break
            picked.append(best)
            at.append(bounds[best])
            bounds = np.minimum(bounds, ((rows - rows[best]) ** 2).sum(axis=1))
            bounds[picked] = -1
        assert (found.tolist(), squared.tolist(), ahead) == (picked, at, next_one)
        kept, met = block.state()
        assert (kept >= bounds).all()
        assert (kept[met == len(picked)] == bounds[met == len(picked)]).all()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts its pages")
def test_decoding_once_stays_within_the_limit(tmp_path):
    """80 MB of a Zarr array, of whose chunks the allocator keeps some."""
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(tmp_path / "z", shape=(160_000, 125), chunks=(2000, 125), dtype="f4")
    array[...] = np.random.default_rng(0).random((160_000, 125), np.float32)
    code = f"""if True:
        from entroselect import greedy_select, open_pool
        def peak():
            status = open("/proc/self/status").read()
            return 1024 * int(status.split("VmHWM:")[1].split()[0])
        pool = open_pool({str(tmp_path / "z")!r})
        pool.read(0, 1)
        open("/proc/self/clear_refs", "w").write("5")
        before = peak()
        greedy_select(pool, 50, memory_limit="64MiB")
        print(peak() - before)
    """
    environment = {**os.environ, "ENTROSELECT_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert int(run.stdout) < 64 << 20
