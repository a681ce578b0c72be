"""Parquet: null and empty parts, bools, rows of no length, ids that are not unique, damage; decoded
once for a selection that reads them again and again."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest

from entroselect import greedy_select, nearest_distances, open_pool
from entroselect.io import cache
from entroselect.io import parquet as parquet_module
from tests.support.processes import python
from tests.support.sources import KINDS, N, X, bits_table, check, lists, values, write_lists_of

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.mark.parametrize("kind", ["list", "large", "fixed"])
@pytest.mark.parametrize("dtype", KINDS[:-2])
def test_parquet(tmp_path, dtype, kind, monkeypatch):
    given = values(dtype)
    monkeypatch.setattr(parquet_module, "_BATCH", 400)  # batches that end within row groups
    pq.write_table(bits_table(given, kind), tmp_path / "x.parquet", row_group_size=50)
    check(open_pool(tmp_path / "x.parquet"), given)


def test_parquet_column_names_and_tensors(tmp_path):
    """Names with dots that begin alike, lists of lists, and Arrow's tensors of fixed shape."""
    a, b = values("<f4"), values("<f8", N, 6)
    nested = pa.array([row.reshape(2, 3).tolist() for row in b])
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(b.reshape(N, 2, 3))
    columns = {"v": bits_table(a)["vector"], "v.w": nested, "t": tensors, "label": range(N)}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=64)
    check(open_pool(tmp_path / "x.parquet", column="v"), a)
    check(open_pool(tmp_path / "x.parquet", column="v.w"), b)
    check(open_pool(tmp_path / "x.parquet", column="t"), b)
    with pytest.raises(ValueError, match=r"x\.parquet: several columns.*v \(.*v\.w \(.*t \("):
        open_pool(tmp_path / "x.parquet")


def test_reading_parquet_forward_decodes_each_row_once(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_module, "_BATCH", 640)
    given = values("<f4", 1000, 8)
    pq.write_table(bits_table(given), tmp_path / "x.parquet", row_group_size=500)
    source = open_pool(tmp_path / "x.parquet")
    for start in range(0, 1000, 33):
        source.read(start, min(1000, start + 33))
    assert source.bytes_read == given.nbytes
    source.take(np.array([999]))
    assert source.bytes_read == given.nbytes  # still at hand
    source.take(np.array([505]))
    assert source.bytes_read == given.nbytes + 640  # the first batch of its row group
    pq.write_table(bits_table(given), tmp_path / "x.parquet", row_group_size=100)
    source = open_pool(tmp_path / "x.parquet")
    source.take(np.array([3, 25, 405, 901]))
    assert source.bytes_read == (2 + 1 + 1) * 640  # what lies between is not decoded


@pytest.mark.slow
def test_parquet_needs_little_memory(tmp_path):
    """One row group of 64 MiB: neither it nor a column chunk is ever held whole."""
    given = np.random.default_rng(0).integers(0, 9, size=(65536, 256)).astype(np.float32)
    table = bits_table(given, "fixed")
    pq.write_table(
        table,
        tmp_path / "x.parquet",
        row_group_size=1 << 20,
        use_dictionary=False,
        compression=None,
    )
    del table
    before, most = pa.total_allocated_bytes(), 0
    source = open_pool(tmp_path / "x.parquet")
    for start in range(0, source.n, 1000):
        part = source.read(start, min(source.n, start + 1000))
        assert np.array_equal(part, given[start : start + 1000])
        most = max(most, pa.total_allocated_bytes() - before)
    assert 0 < most < source.overhead
    source._release()
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_null_and_empty_parts_are_left_out(tmp_path):
    pd = pytest.importorskip("pandas")
    pd.DataFrame({"v": [[1.0, 2.0]] * 3}).to_parquet(tmp_path / "part.0.parquet")
    pd.DataFrame({"v": []}, dtype=object).to_parquet(tmp_path / "part.1.parquet")
    write_lists_of(tmp_path / "part.2.parquet", other=pa.array([], pa.string()))
    assert open_pool(tmp_path).shape == (3, 2)
    with pytest.raises(ValueError, match=r"part\.1\.parquet: empty, shape \(0,\)"):
        open_pool(tmp_path / "part.1.parquet")
    (tmp_path / "part.0.parquet").unlink()
    with pytest.raises(ValueError, match=r"empty, shape \(0,\)"):
        open_pool(tmp_path)


def test_a_null_part_with_rows_is_refused(tmp_path):
    write_lists_of(tmp_path / "0.parquet", v=lists(X))
    write_lists_of(tmp_path / "1.parquet", v=pa.nulls(3))
    with pytest.raises(ValueError, match=r"1\.parquet: no column holds lists"):
        open_pool(tmp_path)


@pytest.mark.parametrize("kind", [pa.list_(pa.bool_()), pa.large_list(pa.bool_()),
                                  pa.list_(pa.bool_(), 2)])  # fmt: skip
def test_lists_of_bools_are_0_and_1(tmp_path, kind):
    given = [[True, False], [False, False], [True, True]] * 7
    source = open_pool(write_lists_of(tmp_path / "b.parquet", fp=lists(given, kind)))
    assert (source.dtype, source.stored) == ("uint8", "bool")
    assert source.read(0, 21).tolist() == np.array(given, int).tolist()
    assert source.take(np.array([2, 20])).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([[]] + [[1.0, 2, 3]] * 9, r"row 0 \(the first\) holds a list of 0 where others hold 3"),
        ([[1.0]] + [[1.0, 2, 3]] * 9, r"row 0 \(the first\) holds a list of 1 where others hold 3"),
        ([[1.0, 2, 3]] * 9 + [[]], r"row 9 \(the first\) holds a list of 0 where others hold 3"),
        ([[]] * 5, r"empty, shape \(5, 0\); at least 1 row and 1 column needed"),
        ([[]] * 40 + [[1.0]], r"row 40 \(the first\) holds a list of 1 where others hold 0"),
        ([None] * 5, r"row 0 \(the first\) is missing"),
    ],
)
def test_rows_of_no_length(tmp_path, rows, says):
    path = write_lists_of(tmp_path / "z.parquet", v=lists(rows))
    with pytest.raises(ValueError, match=rf"z\.parquet: {says}"):
        open_pool(path).read(0, len(rows))


def test_columns_that_are_there_twice(tmp_path):
    table = pa.Table.from_arrays([lists(X), lists(X), pa.array(range(50))], ["v", "v", "n"])
    pq.write_table(table, tmp_path / "t.parquet")
    for options in ({}, {"column": "v"}):
        with pytest.raises(ValueError, match=r"t\.parquet: holds two columns called 'v'; rename"):
            open_pool(tmp_path / "t.parquet", **options)
    table = pa.Table.from_arrays([lists(X), pa.array(range(50)), pa.array(range(50))],
                                 ["v", "n", "n"])  # fmt: skip
    pq.write_table(table, tmp_path / "t.parquet")
    assert open_pool(tmp_path / "t.parquet", column="v").shape == (50, 3)
    with pytest.raises(ValueError, match=r"t\.parquet: holds two columns called 'n'"):
        open_pool(tmp_path / "t.parquet", column="v", id_column="n")


@pytest.mark.parametrize("kind", ["text", "category", "number"])
def test_ids_that_are_not_unique_are_refused(tmp_path, kind):
    given = pa.array(["a", "web", "b", "web"] + [f"{row}" for row in range(46)])
    if kind == "category":
        given = given.dictionary_encode()
    if kind == "number":
        given = pa.array([5, 7, 6, 7, *range(100, 146)])
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"v": lists(X), "source": given}), path, row_group_size=3)
    with pytest.raises(ValueError, match=r"x\.parquet: ids must be distinct, column 'source' calls "
                                         r"row 1 and row 3 '?(web|7)'?; choose"):  # fmt: skip
        open_pool(path, id_column="source")
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(ValueError, match=r"x\.parquet: ids must be distinct"):
        open_pool(tmp_path, id_column="source")


def test_an_id_column_nobody_asked_for_may_have_holes(tmp_path):
    ids = pa.array([None if row == 7 else f"{row}" for row in range(50)])
    source = open_pool(write_lists_of(tmp_path / "x.parquet", v=lists(X), id=ids))
    assert source.ids(np.array([3, 49])).tolist() == ["3", "49"]
    assert source.ids(np.array([3, 7])) is None


@pytest.mark.slow
def test_no_flipped_bit_of_a_footer_ends_the_process(tmp_path):
    """In a process of its own, since what is feared would end this one."""
    write_lists_of(tmp_path / "x.parquet", v=lists(X), id=pa.array([f"{row}" for row in range(50)]))
    code = """
import sys, pathlib, numpy as np
from entroselect import open_pool
from tests.support.processes import python
path = pathlib.Path(sys.argv[1])
good, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
footer = int.from_bytes(good[-8:-4], "little")
for _ in range(1200):
    place = len(good) - 1 - int(rng.integers(footer + 8))
    damaged = bytearray(good)
    damaged[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(damaged)
    try:
        source = open_pool(path, id_column="id")
        source.read(0, min(source.n, 50)), source.ids(np.array([3]))
    except (ValueError, TypeError) as error:
        assert str(error).startswith(str(path)), error
        refused += 1
print(refused)
"""
    done = python("-c", code, tmp_path / "x.parquet")
    assert int(done.stdout) > 200


# Decoded once


@pytest.fixture
def parquet(tmp_path):
    given = np.random.default_rng(1).standard_normal((20_000, 32)).astype("f4")
    path = tmp_path / "x.parquet"
    flat = pa.FixedSizeListArray.from_arrays(pa.array(given.ravel()), 32)
    pq.write_table(pa.table({"v": flat, "id": range(20_000)}), path, row_group_size=7000)
    return given, path


def left_over(folder):
    return [path.name for path in folder.iterdir() if path.name != "x.parquet"]


def test_parquet_under_a_limit_is_decoded_once(parquet, tmp_path, monkeypatch, caplog):
    given, path = parquet
    monkeypatch.setattr(parquet_module, "_OVERHEAD", 0)  # which would be more than all the rows
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    caplog.set_level(logging.INFO, "entroselect")
    source = open_pool(path)
    found = greedy_select(source, 60, memory_limit="4MB")
    assert found.indices.tolist() == greedy_select(given, 60).indices.tolist()
    assert source.bytes_read == given.nbytes
    assert len(caplog.messages) == 1
    assert "x.parquet: decoded once into a temporary file of 2.44 MiB in" in caplog.text
    assert left_over(tmp_path) == []
    monkeypatch.setenv("ENTROSELECT_THREADS", "2")  # each takes some of the limit
    found = nearest_distances(source, memory_limit="8MB")
    assert source.bytes_read == 2 * given.nbytes
    assert found.indices.tolist() == nearest_distances(given).indices.tolist()


def test_a_copy_reads_as_what_it_is_of(parquet):
    given, path = parquet
    source = open_pool(path)
    copy = cache.decoded_once(source)
    assert isinstance(copy, cache.Decoded)
    assert copy.overhead == source.overhead  # the allocator keeps it
    assert cache.decoded_once(copy) is copy
    rows = np.array([3, 4, 7000, 19_999])
    assert np.array_equal(copy.take(rows), given[rows])
    assert np.array_equal(copy.part(100, 200).read(5, 50), given[105:150])
    assert np.array_equal(cache.decoded_once(source.part(100, 200)).read(5, 50), given[105:150])
    assert copy.ids(rows).tolist() == rows.tolist()
    assert source.bytes_read > 0
    array = open_pool(given)
    assert cache.decoded_once(array) is array


def test_a_full_disk_is_said_and_rows_are_decoded_again(parquet, monkeypatch, caplog):
    _, path = parquet
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 1000))
    source = open_pool(path)
    assert cache.decoded_once(source) is source
    assert "2.44 MiB decoded do not fit into" in caplog.text
    assert "TMPDIR" in caplog.text


def test_a_disk_that_fills_up_names_the_file(parquet, monkeypatch):
    def full(self, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.Decoded, "_write", full)
    with pytest.raises(OSError, match=r"x\.parquet: decoded rows could not be written to .*TMPDIR"):
        cache.decoded_once(open_pool(parquet[1]))
