"""Saved datasets and Arrow streams; addresses and lists of paths."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from entroselect import greedy_select, open_pool
from entroselect.io import saved
from entroselect.io.columns import Tables
from tests.support.sources import X, lists, write_lists_of

pa = pytest.importorskip("pyarrow")


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
    (first, *_, last) = Tables(source).take(np.array([0, 21, 26, 27, 49]))
    assert first.to_pydict() == {"v": [X[0].tolist()], "id": ["row 0"], "n": [0]}
    assert last["n"].to_pylist()[-1] == 49
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
    write_lists_of(tmp_path / "c.parquet", v=lists(X[30:]))
    source = open_pool([tmp_path / "b.npy", str(tmp_path / "a.npy"), tmp_path / "none.npy"])
    assert np.array_equal(source.read(0, 30), X[:30])
    both = open_pool((tmp_path / "b.npy", tmp_path / "c.parquet"))
    assert np.array_equal(both.read(0, 40), X[np.r_[:20, 30:50]])
    assert greedy_select(both, 4, memory_limit="64MB").indices.tolist() == (
        greedy_select(X[np.r_[:20, 30:50]], 4).indices.tolist()
    )
    with pytest.raises(ValueError, match=r"gone\.npy: no such file"):
        open_pool([tmp_path / "b.npy", tmp_path / "gone.npy"])


def test_arrow_streams_have_no_dictionaries(tmp_path):
    table = pa.table({"v": lists(X), "id": pa.array(["a"] * 50).dictionary_encode()})
    folder = write_saved(tmp_path / "disk", [table])
    with pytest.raises(ValueError, match=r"\.arrow: .*'dictionary' is not supported"):
        saved.open_saved(folder, None, None)
