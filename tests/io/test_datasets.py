"""Tensors, datasets of torch and Hugging Face, and objects that have items."""

from __future__ import annotations

import numpy as np
import pytest

from entroselect import open_pool
from tests.support.sources import D, N, bits_table, check, values


def test_torch_tensors_and_datasets():
    torch = pytest.importorskip("torch")
    halves = torch.from_numpy(values("<f4")).to(torch.bfloat16)
    bits = halves.view(torch.uint16).numpy()
    check(open_pool(halves), bits, "bfloat16")
    data = torch.utils.data.TensorDataset(halves, torch.arange(N))
    check(open_pool(data, column=0), bits, "bfloat16")
    check(open_pool(data, column="0"), bits, "bfloat16")
    with pytest.raises(ValueError, match=r"items are tuples of 2.*column=0"):
        open_pool(data)

    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(TypeError, match=r"path_or_object: .*__len__.*got Endless"):
        open_pool(Endless())


class Records:
    """A map-style dataset that counts what it is asked for."""

    def __init__(self, rows, wrap=lambda row: {"vector": row, "label": 3}):
        self.rows, self.wrap, self.asked = rows, wrap, []

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, position):
        self.asked.append(position)
        return self.wrap(self.rows[position])


def test_objects_with_items():
    given = values("<f8")
    check(open_pool(Records(given), column="vector"), given)
    check(open_pool(Records(given, lambda row: row)), given)
    check(open_pool(Records(given, lambda row: row.tolist())), given)
    check(open_pool(Records(given, lambda row: row.reshape(1, D))), given)
    records = Records(given)
    source = open_pool(records, column="vector")
    records.asked.clear()
    source.take(np.array([3, 4, 90]))
    assert records.asked == [3, 4, 90]  # items may be dear: no others are made
    with pytest.raises(ValueError, match=r"items are dicts.*vector, label"):
        open_pool(records)
    with pytest.raises(ValueError, match=r"item 0 has nothing under column 'x'.*vector, label"):
        open_pool(records, column="x")
    with pytest.raises(ValueError, match="Records of 0 items: empty"):
        open_pool(Records([]))
    with pytest.raises(ValueError, match="item 0 is a single number"):
        open_pool(Records([1.0, 2.0], lambda row: row))
    ragged = [np.zeros(3), np.zeros(3), np.zeros(4), np.zeros(3, np.float32)]
    source = open_pool(Records(ragged, lambda row: row))
    for rows, what in (([2], "item 2 has 4 float64"), ([3], "item 3 has 3 float32")):
        with pytest.raises(ValueError, match=f"{what}.*3 float64"):
            source.take(np.array(rows))
    with pytest.raises(TypeError, match=r"path_or_object: .*got bytes"):
        open_pool(b"rows")
    with pytest.raises(TypeError, match=r"path_or_object: .*got dict; choose one of 'train'"):
        open_pool({"train": [[1.0]]})
    with pytest.raises(TypeError, match=r"path_or_object: .*got int"):
        open_pool(3)


class Dataset:
    """The part of `datasets.Dataset` that is used, where that package is not installed."""

    def __init__(self, table):
        self.table = table

    def __len__(self):
        return len(self.table)

    def with_format(self, format):
        assert format == "arrow"
        return self

    def select_columns(self, names):
        return Dataset(self.table.select(names))

    def __getitem__(self, rows):
        if isinstance(rows, slice):
            return self.table.slice(rows.start or 0, rows.stop - (rows.start or 0))
        return self.table.take(rows)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2", "<i2"])
def test_datasets(dtype, real):
    given = values(dtype)
    table = bits_table(given, names=[f"row {row}" for row in range(N)])
    if real:
        datasets = pytest.importorskip("datasets")
        data = datasets.Dataset(table)
    else:
        data = Dataset(table)
    source = open_pool(data)
    check(source, given)
    assert source.ids(np.array([5, 210, 0])).tolist() == ["row 5", "row 210", "row 0"]
    if real:
        check(open_pool(data.select(range(N - 1, -1, -1))), given[::-1])
        matrix = datasets.Features({"m": datasets.Array2D((2, 3), "float64")})
        data = datasets.Dataset.from_dict({"m": values("<f8", N, 6).reshape(N, 2, 3)}, matrix)
        check(open_pool(data), values("<f8", N, 6))
        with pytest.raises(TypeError, match="IterableDataset: has no length"):
            open_pool(data.to_iterable_dataset())
