"""Sources: arrays in memory and in maps, gathers, threads, limits of memory, libraries that are
missing."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import entroselect
from entroselect import _memory, open_pool
from entroselect.io import arrow, npy
from entroselect.io import parquet as parquet_module
from entroselect.io import source as source_module
from entroselect.io.npy import FlatFile
from entroselect.io.rows import _WIDEN
from entroselect.io.source import ArraySource
from tests.support.processes import python
from tests.support.sources import D, N, bits_table, check, same_bits, values, write_safetensors

pq = pytest.importorskip("pyarrow.parquet")


def test_arrays_and_memmaps(tmp_path):
    given = values("<f4")
    check(open_pool(given), given)
    check(open_pool(given[:, ::2]), given[:, ::2])
    check(open_pool(given.tolist()), np.array(given.tolist()))
    source = open_pool(given)
    assert open_pool(source) is source
    np.save(tmp_path / "x.npy", given)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for view, through_the_file in (
        (mapped, True),
        (mapped[13:99], True),  # whose `offset` is still that of the whole map
        (mapped[::2], False),
        (mapped.T, False),
        (np.load(tmp_path / "x.npy", mmap_mode="c"), False),
        (mapped + 1, False),
    ):
        source = open_pool(view)
        assert isinstance(source, FlatFile) == through_the_file
        if len(view) > 200 and view.shape[1] > 1:
            check(source, np.asarray(view))
        else:
            assert same_bits(source.read(0, source.n), np.ascontiguousarray(view))
    big = np.memmap(tmp_path / "raw", np.float64, "w+", offset=8192 + 24, shape=(N, D))
    big[:] = values("<f8")
    check(open_pool(big), values("<f8"))


def test_a_source_can_be_selected_from(tmp_path):
    given = values("<f4")
    given[1] = 0  # squares of the largest float32 overflow
    pq.write_table(bits_table(given, "fixed"), tmp_path / "x.parquet")
    source = open_pool(tmp_path / "x.parquet")
    assert (
        entroselect.greedy_select(source, 20).indices.tolist()
        == entroselect.reference.greedy_select(given, 20).indices.tolist()
    )
    assert float(entroselect.kl_entropy(source)) == float(entroselect.kl_entropy(given))


def test_a_source_larger_than_memory_says_so(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", values("<f4"))
    monkeypatch.setattr(source_module, "available", lambda: 5000)
    with pytest.raises(
        ValueError, match=r"features: .*x\.npy takes 5\.77 KiB and 4\.88 KiB.*memory_limit"
    ):
        entroselect.greedy_select(open_pool(tmp_path / "x.npy"), 3)


def test_take_reads_through_small_gaps_only(tmp_path, monkeypatch):
    given = np.arange(5000 * 8, dtype=np.float32).reshape(5000, 8)  # 32 bytes a row
    np.save(tmp_path / "x.npy", given)
    monkeypatch.setattr(source_module, "READ_THROUGH", 320)  # 10 rows
    monkeypatch.setattr(source_module, "PIECE", 3200)  # 100 rows
    monkeypatch.setattr(source_module, "_LEAST_PIECE", 3200)
    source = open_pool(tmp_path / "x.npy")
    asked = []
    reading = source._reading

    def spied():
        manager = reading()

        class Spy:
            def __enter__(self):
                fill = manager.__enter__()

                def spying(start, out):
                    asked.append((start, len(out)))
                    fill(start, out)

                return spying

            def __exit__(self, *error):
                return manager.__exit__(*error)

        return Spy()

    monkeypatch.setattr(source, "_reading", spied)
    for rows, expected in (
        ([3, 14], [(3, 12)]),  # ten between them
        ([3, 15], [(3, 1), (15, 1)]),
        ([3, 4, 5, 90, 91], [(3, 3), (90, 2)]),
        ([98, 99, 100, 101], [(98, 2), (100, 2)]),  # reads end where pieces do
        (list(range(0, 100, 5)), [(0, 96)]),
    ):
        asked.clear()
        before = source.bytes_read
        assert np.array_equal(source.take(np.array(rows)), given[rows])
        assert asked == expected
        assert source.bytes_read - before == 32 * sum(count for _, count in expected)


def test_take_reads_scattered_rows_in_several_threads(tmp_path, monkeypatch):
    given = np.arange(5000 * 8, dtype=np.float32).reshape(5000, 8)
    np.save(tmp_path / "x.npy", given)
    monkeypatch.setattr(source_module, "READ_THROUGH", 64)  # 2 rows
    source = open_pool(tmp_path / "x.npy").part(7, 4990)
    threads = []
    read_at = npy.read_at

    def read_and_wait(*given):  # long enough for another thread to come between
        threads.append(threading.get_ident())
        read_at(*given)
        time.sleep(0.0002)

    monkeypatch.setattr(npy, "read_at", read_and_wait)
    rows = np.flatnonzero(np.random.default_rng(0).random(source.n) < 0.25)
    assert np.array_equal(source.take(rows), given[7:4990][rows])
    assert 1 < len(set(threads[16:])) <= source_module.READERS
    assert {*threads[:16]} == {threading.get_ident()}  # the first reads tell how slow they are
    assert threading.get_ident() not in threads[16:]
    threads.clear()
    with monkeypatch.context() as patch:  # as fast as from the system's cache
        patch.setattr(source_module, "CACHED_START", 60.0)
        assert np.array_equal(source.take(rows), given[7:4990][rows])
    assert {*threads} == {threading.get_ident()}
    threads.clear()
    rows = np.arange(0, 60, 4)  # too few to be worth it
    assert np.array_equal(source.take(rows), given[7:4990][rows])
    assert len(threads) == 15
    assert set(threads) == {threading.get_ident()}


def test_npy_needs_no_memory_of_its_own(tmp_path):
    tracemalloc = pytest.importorskip("tracemalloc")
    np.save(tmp_path / "x.npy", np.zeros((4096, 1024), np.float32))  # 16 MiB
    source = open_pool(tmp_path / "x.npy")
    tracemalloc.start()
    try:
        part = source.read(0, 512)
        assert tracemalloc.get_traced_memory()[1] < part.nbytes + (64 << 10)
        tracemalloc.reset_peak()
        source.take(np.arange(0, 4096, 8))
        peak = tracemalloc.get_traced_memory()[1] - 2 * part.nbytes  # with the result
        assert peak < part.nbytes + (64 << 10)  # 2 MiB of gaps at a time, not all 16
    finally:
        tracemalloc.stop()


def test_a_background_thread_may_read(tmp_path, monkeypatch):
    def slow(*arguments):
        time.sleep(0.0002)  # long enough for another thread to come between
        return arrow.dense(*arguments)

    monkeypatch.setattr(parquet_module, "dense", slow)
    monkeypatch.setattr(parquet_module, "_BATCH", 6400)
    given = values("<f4", 3000, 16)
    np.save(tmp_path / "x.npy", given)
    pq.write_table(bits_table(given), tmp_path / "x.parquet", row_group_size=256)
    for name in ("x.npy", "x.parquet"):
        source, wrong = open_pool(tmp_path / name), []

        def read(source=source, wrong=wrong):
            for start in range(0, 3000, 100):
                if not np.array_equal(source.read(start, start + 100), given[start : start + 100]):
                    wrong.append(start)

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for rows in np.random.default_rng(0).permuted(np.tile(np.arange(3000), (20, 1)), axis=1):
            chosen = np.sort(rows[:50])
            assert np.array_equal(source.take(chosen), given[chosen])
        for thread in threads:
            thread.join()
        assert not wrong


def test_rows_that_are_not_there_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", values("<f4"))
    source = open_pool(tmp_path / "x.npy")
    for start, stop in ((-1, 3), (0, N + 1), (5, 4)):
        with pytest.raises(ValueError, match=r"x\.npy: has rows 0 to 210, asked for"):
            source.read(start, stop)
    for rows in ([-1], [N]):
        for asks in (source.take, source.ids):
            with pytest.raises(ValueError, match=r"x\.npy: expected rows within 0 to 210"):
                asks(np.array(rows))
    for rows in ([3, 3], [4, 3]):
        with pytest.raises(ValueError, match=r"x\.npy: expected distinct rows in ascending order"):
            source.take(np.array(rows))
    with pytest.raises(TypeError, match=r"x\.npy: expected a list of row numbers"):
        source.take(np.array([0.5]))


@pytest.mark.parametrize("package", ["pyarrow", "safetensors", "zarr"])
def test_a_missing_library_is_named(tmp_path, monkeypatch, package):
    pq.write_table(bits_table(values("<f4")), tmp_path / "pyarrow.parquet")
    write_safetensors(tmp_path / "safetensors.safetensors", "F32", values("<f4"))
    (tmp_path / "zarr.zarr").mkdir()
    (tmp_path / "zarr.zarr/zarr.json").write_text("{}")
    for name in {package, *(name for name in sys.modules if name.partition(".")[0] == package)}:
        monkeypatch.setitem(sys.modules, name, None)
    path = next(tmp_path.glob(f"{package}.*"))
    with pytest.raises(ValueError, match=rf"{path.name}: .*{package}.*entroselect\[io\]"):
        open_pool(path)


def test_importing_entroselect_imports_numpy_alone(tmp_path):
    pq.write_table(bits_table(values("<f4"), names=range(N)), tmp_path / "x.parquet")
    code = (
        "import sys; import entroselect; entroselect.open_pool([[1.0]])\n"
        "def print_imported(names): print([name for name in names if name in sys.modules])\n"
        "print_imported(['pyarrow', 'safetensors', 'zarr', 'torch', 'datasets', 'pandas'])\n"
        "entroselect.open_pool(sys.argv[1]).read(0, 100)\n"
        "print_imported(['pandas', 'zarr', 'torch'])"  # pandas would take 55 MiB
    )
    done = python("-c", code, tmp_path / "x.parquet")
    old = int(pytest.importorskip("pyarrow").__version__.split(".")[0]) < 17
    assert done.stdout.split() == ["[]", "['pandas']" if old else "[]"]


def test_every_widened_dtype_is_read(tmp_path):
    for dtype in _WIDEN:
        np.save(tmp_path / "x.npy", values(np.dtype(dtype)))
        check(open_pool(tmp_path / "x.npy"), values(np.dtype(dtype)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (1, 1),
        (np.int64(4096), 4096),
        ("123", 123),
        ("2GiB", 2 << 30),
        ("2 gib", 2 << 30),
        ("500MB", 500_000_000),
        (" 1.5 GB ", 1_500_000_000),
        (".5KiB", 512),
        ("7B", 7),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_memory_limit(given, expected):
    assert _memory.memory_limit(given) == expected


@pytest.mark.parametrize(
    "given", [0, -1, "0", "-2GB", "", "GB", "2 Gibs", "2GG", "1e9", "nan", "inf", "2,5GB", "0.5B"]
)
def test_memory_limit_refuses_values(given):
    with pytest.raises(ValueError, match=r"memory_limit: expected a number of bytes.*got"):
        _memory.memory_limit(given)


@pytest.mark.parametrize("given", [True, 1.5, b"2GB", [2], np.bool_(True)])
def test_memory_limit_refuses_types(given):
    with pytest.raises(TypeError, match=r"memory_limit: expected a number of bytes.*got"):
        _memory.memory_limit(given)


def test_available_memory_is_a_plain_number():
    found = _memory.available()
    if Path("/proc/meminfo").exists():
        assert found is not None
        assert found > 1 << 20


def test_array_sources_gather_from_views():
    given = values("<f4", N, 2 * D)[:, :D]
    check(ArraySource(given), given)


def test_a_part_is_a_source_of_its_own(tmp_path: Path) -> None:
    pool = np.random.default_rng(0).standard_normal((50, 3)).astype("f4")
    np.save(tmp_path / "pool.npy", pool)
    whole = open_pool(tmp_path / "pool.npy")
    part = whole.part(20, 45)
    assert part.shape == (25, 3)
    assert (part.read(5, 25) == pool[25:45]).all()
    assert (part.take(np.array([0, 24])) == pool[[20, 44]]).all()
    assert (part.rows("pool").values == pool[20:45]).all()
    assert part.bytes_read == whole.bytes_read > 0
    assert whole.part(50, 50).n == 0
    with pytest.raises(ValueError, match="rows 0 to 24"):
        part.read(0, 26)
    with pytest.raises(ValueError, match="40:51"):
        whole.part(40, 51)
