"""Parquet and Arrow, saved datasets and frames in memory: null and empty parts, bools, rows of no
length, ids and columns that are there twice, damaged footers, and decoding once."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from entroselect import greedy_select, nearest_distances, open_pool
from entroselect.io import cache, saved
from entroselect.io import parquet as parquet_module

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

X = np.random.default_rng(0).standard_normal((50, 3)).astype("f4")


def lists(rows, kind=None):
    return pa.array(list(rows), kind or pa.list_(pa.float32()))


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_null_and_empty_parts_are_left_out(tmp_path):
    pd = pytest.importorskip("pandas")
    pd.DataFrame({"v": [[1.0, 2.0]] * 3}).to_parquet(tmp_path / "part.0.parquet")
    pd.DataFrame({"v": []}, dtype=object).to_parquet(tmp_path / "part.1.parquet")
    write(tmp_path / "part.2.parquet", other=pa.array([], pa.string()))
    assert open_pool(tmp_path).shape == (3, 2)
    with pytest.raises(ValueError, match=r"part\.1\.parquet: empty, shape \(0,\)"):
        open_pool(tmp_path / "part.1.parquet")
    (tmp_path / "part.0.parquet").unlink()
    with pytest.raises(ValueError, match=r"empty, shape \(0,\)"):
        open_pool(tmp_path)


def test_a_null_part_with_rows_is_refused(tmp_path):
    write(tmp_path / "0.parquet", v=lists(X))
    write(tmp_path / "1.parquet", v=pa.nulls(3))
    with pytest.raises(ValueError, match=r"1\.parquet: no column holds lists"):
        open_pool(tmp_path)


@pytest.mark.parametrize("kind", [pa.list_(pa.bool_()), pa.large_list(pa.bool_()),
                                  pa.list_(pa.bool_(), 2)])  # fmt: skip
def test_lists_of_bools_are_0_and_1(tmp_path, kind):
    given = [[True, False], [False, False], [True, True]] * 7
    source = open_pool(write(tmp_path / "b.parquet", fp=lists(given, kind)))
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
    path = write(tmp_path / "z.parquet", v=lists(rows))
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
    source = open_pool(write(tmp_path / "x.parquet", v=lists(X), id=ids))
    assert source.ids(np.array([3, 49])).tolist() == ["3", "49"]
    assert source.ids(np.array([3, 7])) is None


def test_no_flipped_bit_of_a_footer_ends_the_process(tmp_path):
    """In a process of its own, since what is feared would end this one."""
    write(tmp_path / "x.parquet", v=lists(X), id=pa.array([f"{row}" for row in range(50)]))
    code = """
import sys, pathlib, numpy as np
from entroselect import open_pool
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
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x.parquet"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 200


# Saved datasets


def write_saved(folder, tables, batch=20):
    folder.mkdir()
    names = []
    for number, table in enumerate(tables):
        names.append(f"data-{number:05}-of-{len(tables):05}.arrow")
        with pa.ipc.new_stream(folder / names[-1], table.schema) as stream:
            stream.write_table(table, max_chunksize=batch)
    state = {"_data_files": [{"filename": name} for name in names]}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_saved_datasets(tmp_path):
    ids = [f"row {row}" for row in range(50)]
    table = pa.table({"v": lists(X), "id": ids, "n": range(50)})
    folder = write_saved(tmp_path / "disk", [table[:27], table[:0], table[27:]])
    source = open_pool(folder)
    assert source.shape == (50, 3)
    assert np.array_equal(source.read(0, 50), X)
    assert np.array_equal(source.take(np.array([0, 19, 20, 26, 27, 49])),
                          X[[0, 19, 20, 26, 27, 49]])  # fmt: skip
    assert source.ids(np.array([49, 0, 26])).tolist() == ["row 49", "row 0", "row 26"]
    assert open_pool(folder, id_column="n").ids(np.array([49, 0])).tolist() == [49, 0]
    found = greedy_select(source, 9)
    assert found.indices.tolist() == greedy_select(X, 9).indices.tolist()


def test_datasets_own_folders(tmp_path):
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"v": [[1.0, 2.0]] * 3})
    made.save_to_disk(tmp_path / "disk")
    assert open_pool(tmp_path / "disk").read(0, 3).tolist() == [[1, 2]] * 3
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "both")
    with pytest.raises(ValueError, match=r"both: holds the splits train, test; open one.*both/tr"):
        open_pool(tmp_path / "both")
    assert open_pool(tmp_path / "both/train").shape == (3, 2)
    shuffled = datasets.Dataset.from_dict({"v": X.tolist()}).select(range(49, -1, -1))
    shuffled.save_to_disk(tmp_path / "reversed", num_shards=3)
    assert np.array_equal(open_pool(tmp_path / "reversed").read(0, 50), X[::-1])


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("{", "damaged"),
        ("[]", "expected an object"),
        ('{"_data_files": 3}', "lists no files"),
        ('{"_data_files": [{"filename": "../x.arrow"}]}', "lists the file"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "No such file"),
        ("[" * 100_000, "damaged"),
    ],
)
def test_bad_saved_datasets(tmp_path, state, says):
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(ValueError, match=rf"{tmp_path.name}.*{says}"):
        open_pool(tmp_path)


def test_damaged_saved_datasets(tmp_path):
    folder = write_saved(tmp_path / "disk", [pa.table({"v": lists(X)})])
    path = folder / "data-00000-of-00001.arrow"
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(ValueError, match=r"\.arrow: .*damaged"):
        open_pool(folder).read(0, 50)
    offsets = np.frombuffer(good, np.int32)
    assert 60 in offsets  # of the lists of the first batch
    path.write_bytes(np.where(offsets == 57, 2**30, offsets).tobytes())
    with pytest.raises(ValueError, match=r"\.arrow: .*damaged"):  # and no fault of memory
        open_pool(folder).read(0, 50)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("compression", [None, "lz4"])
def test_streams_as_arrow_writes_them(tmp_path, legacy, compression):
    folder = write_saved(tmp_path / "disk", [pa.table({"v": lists(X)})])
    table = pa.table({"v": lists(X), "n": range(50)})
    options = pa.ipc.IpcWriteOptions(use_legacy_format=legacy, compression=compression)
    path = folder / "data-00000-of-00001.arrow"
    with pa.ipc.new_stream(path, table.schema, options=options) as stream:
        stream.write_table(table, max_chunksize=7)
    assert np.array_equal(open_pool(folder).read(0, 50), X)
    good = path.read_bytes()
    path.write_bytes(good[: -4 if legacy else -8])  # without the mark at the end
    assert np.array_equal(open_pool(folder).read(0, 50), X)
    for length in range(8, len(good) - 8, 37):
        path.write_bytes(good[:length])
        try:
            source = open_pool(folder)
        except ValueError as error:
            assert "damaged" in str(error) or "no rows" in str(error), (length, error)  # noqa: PT017
        else:
            assert np.array_equal(source.read(0, source.n), X[: source.n])
            assert source.n % 7 == 0
            assert source.n < 50


def test_a_stream_that_becomes_shorter_while_it_is_opened(tmp_path, monkeypatch):
    folder = write_saved(tmp_path / "disk", [pa.table({"v": lists(X)})])
    path = folder / "data-00000-of-00001.arrow"

    def cut(schema):
        os.truncate(path, 9)
        return schema

    monkeypatch.setattr("entroselect.io.saved.check_schema", cut)
    with pytest.raises(ValueError, match=r"\.arrow: cannot be read, .*it ends within a message"):
        open_pool(folder)


def test_a_stream_that_another_takes_the_place_of(tmp_path):
    folder = write_saved(tmp_path / "disk", [pa.table({"v": lists(X)})])
    other = write_saved(tmp_path / "other", [pa.table({"v": lists(X + 1)})])
    source = open_pool(folder)
    assert np.array_equal(source.read(0, 5), X[:5])
    (other / "data-00000-of-00001.arrow").rename(folder / "data-00000-of-00001.arrow")
    with pytest.raises(ValueError, match=r"\.arrow: changed since it was opened \(another file"):
        source.read(30, 50)


# Lists of paths, addresses


def test_lists_of_paths(tmp_path):
    np.save(tmp_path / "b.npy", X[:20])
    np.save(tmp_path / "a.npy", X[20:30])
    np.save(tmp_path / "none.npy", X[:0])
    write(tmp_path / "c.parquet", v=lists(X[30:]))
    source = open_pool([tmp_path / "b.npy", str(tmp_path / "a.npy"), tmp_path / "none.npy"])
    assert np.array_equal(source.read(0, 30), X[:30])
    both = open_pool((tmp_path / "b.npy", tmp_path / "c.parquet"))
    assert np.array_equal(both.read(0, 40), X[np.r_[:20, 30:50]])
    assert greedy_select(both, 4, memory_limit="64MB").indices.tolist() == (
        greedy_select(X[np.r_[:20, 30:50]], 4).indices.tolist()
    )
    with pytest.raises(ValueError, match=r"gone\.npy: no such file"):
        open_pool([tmp_path / "b.npy", tmp_path / "gone.npy"])


@pytest.mark.parametrize("path", ["s3://bucket/x.npy", "https://a.b/x.parquet", "hf://datasets/x",
                                  "file:///x.npy", "gs://x"])  # fmt: skip
def test_addresses(path):
    from pathlib import Path

    for given in (path, Path(path), [path]):
        with pytest.raises(ValueError, match=r":/.*is an address.*download it"):
            open_pool(given)


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


# Zarr


def zarr_json(folder, **changes):
    about = json.loads((folder / ".zarray").read_text())
    (folder / ".zarray").write_text(json.dumps(about | changes))


@pytest.fixture
def store(tmp_path):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(tmp_path / "x.zarr", shape=X.shape, chunks=(20, 3), dtype="f4",
                              zarr_format=2)  # fmt: skip
    array[:] = X
    return tmp_path / "x.zarr"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"filters": [{"id": "pickle"}]}, "pickled Python objects.*never loaded"),
        ({"compressor": {"id": "pickle"}}, "pickled Python objects.*never loaded"),
        ({"compressor": {"id": "of-mine"}}, "'of-mine', which is not on the list of codecs"),
        ({"compressor": "zlib"}, "its codecs have no names"),
        ({"filters": [{"id": ["zlib"]}]}, "its codecs have no names"),
        ({"filters": 1.5}, "its codecs have no names"),
        ({"filters": {"id": "pickle"}}, "pickled Python objects"),
        ({"dtype": "|O"}, "pickled Python objects"),
        ({"dtype": "<M8[s]"}, "dtype datetime64.* is not supported"),
        ({"dtype": [["a", "<f4"]]}, "dtype .* is not supported"),
        ({"dtype": "<q4"}, "damaged"),
        ({"chunks": [0, 6]}, "its chunks are no 2 lengths"),
        ({"chunks": [-1, 3]}, "its chunks are no 2 lengths"),
        ({"chunks": [20]}, "its chunks are no 2 lengths"),
        ({"chunks": [1 << 60, 1 << 60]}, "larger than any store"),
        ({"chunks": [1 << 40, 3]}, "a row of chunks .* takes .*fewer rows to a chunk"),
        ({"shape": [-50, 3]}, "its shape is"),
        ({"shape": [50, 1 << 61]}, "larger than any store"),
        ({"shape": "many"}, "its shape is"),
    ],
)
def test_hostile_zarr(store, changes, says):
    zarr_json(store, **changes)
    with pytest.raises((ValueError, TypeError), match=rf"x\.zarr: .*{says}"):
        open_pool(store)


def test_zarr_that_unpickles_runs_nothing(store, tmp_path):
    """The chunk would make a file, were it loaded."""
    import pickle

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    zarr_json(store, filters=[{"id": "pickle"}], compressor=None)
    (store / "0.0").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="pickled"):
        open_pool(store).read(0, 50)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("codec", [{"name": "numcodecs.pickle"}, {"name": "vlen-utf8"}, "pickle",
                                   {"name": "sharding_indexed", "configuration":
                                    {"codecs": [{"name": "numcodecs.pickle"}]}}])  # fmt: skip
def test_hostile_zarr_3(tmp_path, codec):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(tmp_path / "g/x", shape=X.shape, chunks=(20, 3), dtype="f4")[:] = X
    (tmp_path / "g/zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    assert np.array_equal(open_pool(tmp_path / "g").read(0, 50), X)
    about = json.loads((tmp_path / "g/x/zarr.json").read_text())
    about["codecs"].append(codec)
    (tmp_path / "g/x/zarr.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"g: holds pickled Python objects"):
        open_pool(tmp_path / "g")


def test_arrow_streams_have_no_dictionaries(tmp_path):
    table = pa.table({"v": lists(X), "id": pa.array(["a"] * 50).dictionary_encode()})
    folder = write_saved(tmp_path / "disk", [table])
    with pytest.raises(ValueError, match=r"\.arrow: .*'dictionary' is not supported"):
        saved.open_saved(folder, None, None)
