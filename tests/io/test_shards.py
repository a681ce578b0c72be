"""Folders of shards, and ids in the metadata beside them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from entroselect import open_pool
from entroselect.io import parquet as parquet_module
from tests.support.sources import N, bits_table, check, values

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<i8"])
def test_npy_shards(tmp_path, dtype):
    given = values(dtype)
    ends = [0, 64, 64, 65, 200, N]  # one is empty
    for shard, (begin, end) in enumerate(itertools.pairwise(ends)):
        np.save(tmp_path / f"img_emb_{shard:04}.npy", given[begin:end])
    (tmp_path / "_SUCCESS").write_text("")
    source = open_pool(tmp_path)
    check(source, given)
    assert source.ids(np.array([1])) is None
    for shard, (begin, end) in enumerate(itertools.pairwise(ends)):
        names = [f"image-{row}" for row in range(begin, end)]
        table = pa.table({"key": pa.array(names, pa.string()), "number": np.arange(begin, end)})
        pq.write_table(table, tmp_path / f"metadata_{shard:04}.parquet", row_group_size=30)
    source = open_pool(tmp_path, id_column="key")
    rows = np.array([210, 0, 64, 63, 64, 199])
    assert source.ids(rows).tolist() == [f"image-{row}" for row in rows]
    assert open_pool(tmp_path, id_column="number").ids(rows).tolist() == rows.tolist()
    assert open_pool(tmp_path).ids(rows) is None  # no column is called "id"


def test_metadata_in_a_folder_of_its_own(tmp_path):
    (tmp_path / "img_emb").mkdir()
    (tmp_path / "metadata").mkdir()
    for shard in range(2):
        np.save(tmp_path / f"img_emb/img_emb_{shard}.npy", values("<f4")[:10])
        names = pa.table({"url": [f"{shard}/{row}" for row in range(10)]})
        pq.write_table(names, tmp_path / f"metadata/metadata_{shard}.parquet")
    source = open_pool(tmp_path / "img_emb", id_column="url")
    assert source.ids(np.array([13, 2])).tolist() == ["1/3", "0/2"]


def test_shards_come_in_the_order_of_their_names_as_text(tmp_path):
    for shard in (0, 2, 10):
        np.save(tmp_path / f"a_{shard}.npy", np.full((1, 1), float(shard)))
    assert open_pool(tmp_path).read(0, 3).ravel().tolist() == [0, 10, 2]


def test_parquet_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_module, "_BATCH", 400)
    given, names = values("<f4"), np.array([f"row {row}" for row in range(N)])
    ends = [0, 0, 90, 91, N]  # the first is empty, and knows no width
    for shard, (begin, end) in enumerate(itertools.pairwise(ends)):
        table = bits_table(given[begin:end], names=names[begin:end])
        pq.write_table(table, tmp_path / f"part-{shard}.parquet", row_group_size=41)
    source = open_pool(tmp_path)
    check(source, given)
    rows = np.array([91, 90, 3, 210, 3])
    assert source.ids(rows).tolist() == names[rows].tolist()
    table = bits_table(given[:3], names=pa.array([1, 2, 1 << 40], pa.int64()))
    pq.write_table(table, tmp_path / "part-4.parquet")
    assert open_pool(tmp_path).ids(np.array([213, 0])).tolist() == [1 << 40, "row 0"]


def test_ids_are_strings_or_integers(tmp_path):
    columns = {
        "number": pa.array(range(N), pa.int64()),
        "small": pa.array(np.arange(N), pa.uint16()),
        "text": pa.array(map(str, range(N))),
        "category": pa.array(map(str, range(N))).dictionary_encode(),
        "half": pa.array(np.arange(N) / 2),
        "hole": pa.array([None if row == 100 else row for row in range(N)], pa.int64()),
    }
    table = pa.table({**columns, "vector": bits_table(values("<f4"))["vector"]})
    for options in ({}, {"write_statistics": False}):
        path = tmp_path / "x.parquet"
        pq.write_table(table, path, row_group_size=60, **options)
        rows = np.array([170, 59, 60, 0])
        for column in ("number", "small"):
            found = open_pool(path, id_column=column).ids(rows)
            assert (found.tolist(), found.dtype.name) == (rows.tolist(), str(table[column].type))
        for column in ("text", "category"):
            assert open_pool(path, id_column=column).ids(rows).tolist() == ["170", "59", "60", "0"]
        with pytest.raises(ValueError, match=r"x\.parquet: ids must be strings or integers.*half"):
            open_pool(path, id_column="half")
        with pytest.raises(ValueError, match=r"x\.parquet: row 100 \(the first\) has no id"):
            open_pool(path, id_column="hole")
        with pytest.raises(ValueError, match=r"x\.parquet: has no column 'nope' for ids.*number"):
            open_pool(path, id_column="nope")
