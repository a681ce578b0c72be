"""The smallest limit that an error names works, and what is allocated stays within a limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import (
    energy_distance,
    greedy_select,
    kl_entropy,
    nearest_distances,
    open_pool,
    reference,
    threshold_select,
)
from entroselect.io.source import Source
from entroselect.scale import budget
from tests.conftest import normal, same_neighbours, same_selection
from tests.support.limits import smallest_limit
from tests.support.processes import python

# Selection


def test_the_limit_is_checked() -> None:
    pool = normal(300, 8)
    with pytest.raises(ValueError, match="memory_limit: expected"):
        greedy_select(pool, 3, memory_limit="much")
    limit = smallest_limit(greedy_select, pool, 1)
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
    "farthest": {"start": "farthest-from-center"},
    "cosine": {"metric": "cosine"},
}


@pytest.mark.slow
@pytest.mark.parametrize("what", SMALLEST)
@pytest.mark.parametrize(("n", "k"), [(900, 4), (120, 100), (60, 3)])
def test_the_smallest_limit_works(what: str, n: int, k: int, tmp_path: Path) -> None:
    options = SMALLEST[what]
    pool = normal(n, 40, seed=1)
    np.save(tmp_path / "pool.npy", pool)
    for rows in (pool, open_pool(tmp_path / "pool.npy")):
        for given in (options, {**options, "checkpoint": tmp_path / f"{rows is pool}.c"}):
            least = smallest_limit(greedy_select, rows, k, **given)
            same_selection(
                greedy_select(rows, k, memory_limit=least, **given),
                reference.greedy_select(pool, k, **options),
            )
            if "start" not in options:
                given = {**given, "decay": 0.5}
                given.pop("checkpoint", None)
                assert smallest_limit(threshold_select, rows, k, **given) == least
                threshold_select(rows, k, memory_limit=least, **given)


@pytest.mark.slow
def test_the_smallest_limit_of_rows_that_are_decoded(tmp_path: Path) -> None:
    """What decoding took is counted to the end: the C library keeps it."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    n = 1_600_000
    pool = np.random.default_rng(0).integers(0, 1000, (n, 1)).astype(np.uint16)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(pool.ravel()), 1)
    pq.write_table(pa.table({"rows": rows}), tmp_path / "pool.parquet")
    source = open_pool(tmp_path / "pool.parquet")
    least = smallest_limit(greedy_select, source, 1)
    assert source.overhead > 1 << 24
    assert least > n * budget.BYTES_PER_ROW + source.overhead
    found = greedy_select(source, 2, memory_limit=least + (4 << 20))  # least: tiny tiles, minutes
    assert "bytes_read" in found.profile
    assert pool[found.indices[1], 0] in (0, 999)


@pytest.mark.slow
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
    done = python("-c", code, environment={"ENTROSELECT_THREADS": "1"})
    assert int(done.stdout) < 64 << 20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts its pages")
@pytest.mark.parametrize("limit", [12 << 20, 28 << 20])  # without codes, and with those of most
def test_peak_memory_of_a_selection_stays_within_the_limit(limit: int, tmp_path: Path) -> None:
    """80 MB of rows."""
    np.save(tmp_path / "pool.npy", normal(100_000, 200))
    code = f"""if True:
        from entroselect import greedy_select, open_pool
        def peak():
            status = open("/proc/self/status").read()
            return 1024 * int(status.split("VmHWM:")[1].split()[0])
        pool = open_pool({str(tmp_path / "pool.npy")!r})
        greedy_select(pool.part(0, 3000), 20, memory_limit=1_200_000)
        open("/proc/self/clear_refs", "w").write("5")
        before = peak()
        found = greedy_select(pool, 1000, memory_limit={limit})
        print(peak() - before, found.profile["reads_per_row"])
    """
    done = python("-c", code, environment={"ENTROSELECT_THREADS": "1"})
    taken, read = map(float, done.stdout.split())
    assert taken < limit
    assert (read < 1.4) == (limit > 20 << 20)


# Nearest neighbours and entropy


@pytest.fixture
def file(tmp_path: Path) -> Callable[[Any], Source]:
    """Writes rows to a file and opens it."""

    def write(rows: Any) -> Source:
        np.save(tmp_path / "rows.npy", rows)
        return open_pool(tmp_path / "rows.npy")

    return write


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2])
def test_the_smallest_limit_of_a_search_works(k: int, file: Any) -> None:
    source = file(normal(7000, 128))
    least = smallest_limit(nearest_distances, source, k=k)
    found = nearest_distances(source, k=k, memory_limit=least)
    assert 50 < found.profile["tiles"] < 2000
    same_neighbours(found, nearest_distances(normal(7000, 128), k=k))
    # Of an array, rows are not counted.
    assert nearest_distances(normal(7000, 128), k=k, memory_limit=least).profile["tiles"] > 2


def test_the_smallest_limit_of_a_small_pool_is_what_it_needs() -> None:
    pool = normal(3, 5)
    least = smallest_limit(nearest_distances, pool)
    assert nearest_distances(pool, memory_limit=least).profile["tiles"] == 1


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts its pages")
def test_peak_memory_stays_near_the_limit(tmp_path: Path) -> None:
    """96 MB of points pass by within 16 MB."""
    np.save(tmp_path / "points.npy", np.random.default_rng(0).random((48000, 500), np.float32))
    code = f"""if True:
        import numpy as np
        from entroselect import nearest_distances, open_pool
        def peak():
            status = open("/proc/self/status").read()
            return 1024 * int(status.split("VmHWM:")[1].split()[0])
        points = open_pool({str(tmp_path / "points.npy")!r})
        nearest_distances(np.ones((4, 500), np.float32))
        open("/proc/self/clear_refs", "w").write("5")
        before = peak()
        found = nearest_distances(np.ones((100, 500), np.float32), points, memory_limit="16MB")
        assert found.profile["bytes_read"] == 96_000_000, found.profile
        print(peak() - before)
    """
    done = python("-c", code, environment={"ENTROSELECT_THREADS": "1"})
    assert int(done.stdout) < 20e6


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("duplicates", ["floor", "drop"])
def test_the_smallest_limit_works_for_the_entropy(k: int, duplicates: str, file: Any) -> None:
    """Also for the second search, of rows that had copies."""
    pool = np.concatenate([normal(900, 64), normal(500, 64)])
    for rows in (pool, file(pool)):
        least = smallest_limit(kl_entropy, rows, k, duplicates=duplicates)
        found = kl_entropy(rows, k, duplicates=duplicates, memory_limit=least)
        assert found == kl_entropy(pool, k, duplicates=duplicates)


# Sums over pairs


def test_the_smallest_limit_works_for_sums_over_pairs(file: Any) -> None:
    one, other = normal(900, 40), normal(700, 40, seed=1).astype("f8")
    expected = energy_distance(one, other)
    for rows in (one, file(one)):
        least = smallest_limit(energy_distance, rows, other)
        assert energy_distance(rows, other, memory_limit=least) == expected


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts its pages")
def test_peak_memory_of_sums_over_pairs_stays_within_the_limit(tmp_path: Path) -> None:
    """60 MB of rows and as many points pass by within 12 MB, without the distances."""
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).random((30_000, 500), np.float32))
    code = f"""if True:
        from entroselect import energy_distance, open_pool
        def peak():
            status = open("/proc/self/status").read()
            return 1024 * int(status.split("VmHWM:")[1].split()[0])
        from entroselect.measures.pairs import PairMeans, opened
        rows, points = (open_pool({str(tmp_path / "rows.npy")!r}) for _ in "12")
        energy_distance(rows.read(0, 9), rows.read(0, 9))
        rows, points = opened(rows, points, "euclidean", 12_000_000)
        list(points.pieces(0, 300, 100))
        read = []
        def add(block, tile, totals):
            read.append(tile.n)
            totals += 1
        open("/proc/self/clear_refs", "w").write("5")
        before = peak()
        PairMeans([(rows, points)], 12_000_000, None).mean(rows, points, add)
        assert sum(read) > 4 * 30_000, read
        print(peak() - before)
    """
    # So that what is freed leaves the process at once, and only what is held is counted.
    environment = {"ENTROSELECT_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "100000"}
    assert int(python("-c", code, environment=environment).stdout) < 12e6
