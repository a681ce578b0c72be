"""Lance datasets as pools."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from entroselect import greedy_select, open_pool
from entroselect.io.columns import Tables

X = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)


@pytest.fixture
def dataset(tmp_path):
    lance = pytest.importorskip("lance")
    pa = pytest.importorskip("pyarrow")

    def table(rows):
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(X[rows].ravel()), 16)
        return pa.table({"v": vectors, "id": [f"row{row}" for row in rows]})

    lance.write_dataset(table(range(200)), tmp_path / "x.lance", max_rows_per_file=64)
    return lance.write_dataset(table(range(200, 300)), tmp_path / "x.lance", mode="append")


def test_rows_of_fragments(dataset, tmp_path):
    rows = np.array([0, 63, 64, 150, 199, 200, 299])
    for given in (tmp_path / "x.lance", dataset):
        pool = open_pool(given)
        assert (pool.format, pool.shape, pool.dtype) == ("lance", (300, 16), "float32")
        assert np.array_equal(pool.read(0, 300), X)
        assert np.array_equal(pool.read(60, 210), X[60:210])
        before = pool.bytes_read
        assert np.array_equal(pool.take(rows), X[rows])
        assert pool.bytes_read - before == 64 * len(rows)  # those rows alone
        assert pool.ids(rows[::-1]).tolist() == [f"row{row}" for row in rows[::-1]]
        (table,) = Tables(pool).take(rows)
        assert table["id"].to_pylist() == [f"row{row}" for row in rows]
        expected = greedy_select(X, 20).indices.tolist()
        assert greedy_select(pool, 20, memory_limit="512MiB").indices.tolist() == expected


def test_deleted_rows_and_later_versions(dataset, tmp_path):
    dataset.delete("id = 'row3'")
    pool = open_pool(tmp_path / "x.lance", column="v")
    left = np.delete(X, 3, axis=0)
    dataset.delete("id = 'row0'")  # a later version
    assert np.array_equal(pool.read(0, 299), left)
    assert np.array_equal(pool.take(np.array([2, 3, 298])), left[[2, 3, 298]])


def test_what_cannot_be_read(dataset, tmp_path, monkeypatch):
    path = tmp_path / "x.lance"
    for options, says in (
        ({"column": "w"}, r"x\.lance: has no column 'w'"),
        ({"column": "id"}, r"x\.lance: column 'id' holds string"),
        ({"key": "x"}, "drop the key"),
        ({"id_column": "v"}, "ids must be strings or integers"),
    ):
        with pytest.raises(ValueError, match=says):
            open_pool(path, **options)
    next((path / "data").glob("*.lance")).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"x\.lance: .*damaged"):
        open_pool(path).read(0, 300)
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(ValueError, match=r"x\.lance: .*pylance.*entroselect\[lance\]"):
        open_pool(path)


def test_a_folder_without_the_library(tmp_path, monkeypatch):
    (tmp_path / "x.lance" / "_versions").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(ValueError, match=r"x\.lance: .*pylance.*entroselect\[lance\]"):
        open_pool(tmp_path / "x.lance")
