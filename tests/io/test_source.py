"""Pools on disk: every format gives back the bits that went in, reads what it is asked for, keeps
little in memory, and says what is wrong with a file before any work."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import entroselect
from entroselect import _memory, open_pool
from entroselect.io import arrow
from entroselect.io import parquet as parquet_module
from entroselect.io import source as source_module
from entroselect.io.npy import FlatFile
from entroselect.io.open import as_rows
from entroselect.io.rows import _WIDEN
from entroselect.io.source import ArraySource

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

N, D = 211, 7  # primes: no shard, batch, chunk or row group divides them
KINDS = ["<f2", "<f4", "<f8", "|u1", "<i2", "<i8", "|b1", "bfloat16"]


def values(dtype, n=N, d=D):
    """Rows that use a dtype's range: extremes, subnormals, negative zero."""
    rng = np.random.default_rng(3)
    if dtype == "bfloat16":
        return rng.integers(0, 1 << 15, size=(n, d), dtype=np.uint16)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.integers(0, 2, size=(n, d)).astype(bool)
    if kind.kind in "iu":
        info = np.iinfo(kind)
        return rng.integers(info.min, info.max, size=(n, d), dtype=kind.newbyteorder("="),
                            endpoint=True).astype(kind)  # fmt: skip
    found = rng.normal(size=(n, d)).astype(kind)
    info = np.finfo(kind)
    found[1, :4] = [-0.0, info.tiny / 2, info.max, info.eps]
    return found


def same_bits(found, expected):
    """Equal in dtype, shape and every bit."""
    return (
        found.dtype == expected.dtype
        and found.shape == expected.shape
        and found.tobytes() == expected.tobytes()
    )


def check(source, given, stored=None):
    """A source reads as `given` does through as_rows, however it is asked."""
    rows = as_rows("features", given)
    expected = np.ascontiguousarray(rows.values)
    if stored == "bfloat16":
        expected = given
    assert source.shape == (source.n, source.d) == expected.shape
    assert len(source) == len(expected)
    assert source.dtype == (stored or rows.dtype)
    assert same_bits(source.read(0, source.n), expected)
    for start, stop in ((0, 1), (5, 5), (29, 101), (source.n - 1, source.n), (100, 103), (1, 200)):
        part = source.read(start, stop)
        assert same_bits(part, expected[start:stop])
        assert part.flags.c_contiguous
        assert part.flags.owndata or part.base is not None
    rng = np.random.default_rng(1)
    for count in (0, 1, 2, 13, 100, source.n):
        chosen = np.sort(rng.choice(source.n, count, replace=False))
        assert same_bits(source.take(chosen), expected[chosen])
    whole = as_rows("features", source)
    assert whole.dtype == source.dtype
    assert same_bits(np.ascontiguousarray(whole.values), expected)
    source._release()  # nothing of it is at hand
    before = source.bytes_read
    source.take(np.arange(source.n))
    assert source.bytes_read - before == source.n * source.row_bytes
    described = source.describe()
    assert described["rows"] == source.n
    json.dumps(described)


def bits_table(array, kind="list", names=None):
    """A pyarrow table with the rows of an array in the column "vector"."""
    flat = pa.array(np.ascontiguousarray(array).ravel())
    n, d = array.shape
    if kind == "fixed":
        column = pa.FixedSizeListArray.from_arrays(flat, d)
    else:
        offsets = np.arange(n + 1) * d
        column = (
            pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat)
            if kind == "large"
            else pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)
        )
    columns = {"vector": column}
    if names is not None:
        columns = {"id": pa.array(names), **columns}
    return pa.table(columns)


def write_safetensors(path, dtype, array):
    """By hand: NumPy has no bfloat16, and the offset is odd on purpose."""
    entry = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [3, 3 + array.nbytes]}
    other = {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}
    header = json.dumps({"pad": other, "x": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"abc" + array.tobytes())


@pytest.mark.parametrize("dtype", [*KINDS[:-1], ">f4", ">f8", ">i2", ">f2"])
def test_npy(tmp_path, dtype):
    given = values(dtype)
    np.save(tmp_path / "x.npy", given)
    check(open_pool(tmp_path / "x.npy"), given)
    with (tmp_path / "2.npy").open("wb") as file:
        np.lib.format.write_array(file, given, version=(2, 0))
    check(open_pool(str(tmp_path / "2.npy")), given)


def test_more_dimensions_are_flattened(tmp_path):
    images = values("|u1", N, 12).reshape(N, 2, 3, 2)
    np.save(tmp_path / "x.npy", images)
    source = open_pool(tmp_path / "x.npy")
    check(source, images.reshape(N, -1))
    assert source.describe()["shape"] == [N, 2, 3, 2]


def test_npz(tmp_path):
    given = values("<f4")
    np.savez_compressed(tmp_path / "x.npz", a=given, b=np.arange(3))
    check(open_pool(tmp_path / "x.npz", key="a"), given)
    with pytest.raises(ValueError, match=r"x\.npz: holds several arrays.*key.*a \(211, 7\), b"):
        open_pool(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("F16", "<f2"), ("BF16", "bfloat16"), ("F32", "<f4"), ("F64", "<f8"), ("I16", "<i2"),
     ("I64", "<i8"), ("U8", "|u1"), ("BOOL", "|b1")],
)  # fmt: skip
def test_safetensors(tmp_path, name, dtype):
    given = values(dtype)
    write_safetensors(tmp_path / "x.safetensors", name, given)
    stored = "bfloat16" if dtype == "bfloat16" else None
    source = open_pool(tmp_path / "x.safetensors", key="x")
    check(source, given, stored)
    assert source.stored == (stored or given.dtype.name)


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


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<i2", "<f8"])
def test_zarr(tmp_path, dtype, version):
    zarr = pytest.importorskip("zarr")
    given = values(dtype)
    array = zarr.create_array(
        tmp_path / "x.zarr", shape=given.shape, chunks=(20, 3), dtype=dtype, zarr_format=version
    )
    array[:] = given
    check(open_pool(tmp_path / "x.zarr"), given)


def test_zarr_groups(tmp_path):
    zarr = pytest.importorskip("zarr")
    given = values("<f4")
    group = zarr.open_group(tmp_path / "g", mode="w")
    group.create_array("one", shape=(3,), dtype="i4")
    group.create_array("deep/two", shape=given.shape, dtype="f4", chunks=(64, D))[:] = given
    check(open_pool(tmp_path / "g", key="deep/two"), given)
    with pytest.raises(ValueError, match=r"g: holds several arrays.*deep/two \(211, 7\)"):
        open_pool(tmp_path / "g")
    with pytest.raises(ValueError, match=r"one: is one Zarr array.*drop the key"):
        open_pool(tmp_path / "g/one", key="x")


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


def cut(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[:keep])


def test_bad_npy(tmp_path):
    path = tmp_path / "x.npy"
    for name in ("gone.npy", "gone.parquet", "gone", "gone.zarr"):
        with pytest.raises(ValueError, match=f"{name}: no such file"):
            open_pool(tmp_path / name)
    np.save(path, np.arange(5.0))
    with pytest.raises(ValueError, match=r"x\.npy: .*shape \(5,\); expected \(rows, columns\)"):
        open_pool(path)
    np.save(path, np.empty((0, 4)))
    with pytest.raises(ValueError, match=r"x\.npy: empty, shape \(0, 4\)"):
        open_pool(path)
    np.save(path, np.asfortranarray(values("<f4")))
    with pytest.raises(ValueError, match=r"x\.npy: is in Fortran order.*ascontiguousarray"):
        open_pool(path)
    np.save(path, np.ones((3, 3), complex))
    with pytest.raises(TypeError, match=r"x\.npy: dtype complex128 is not supported; use float16"):
        open_pool(path)
    np.save(path, np.array([["a", {}]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"x\.npy: holds pickled Python objects.*never loaded"):
        open_pool(path)
    path.write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match=r"x\.npy: is not a \.npy file"):
        open_pool(path)
    np.save(path, values("<f4"))
    whole = path.stat().st_size
    source = open_pool(path)
    cut(path, whole - 1)
    with pytest.raises(ValueError, match=rf"x\.npy: .*cut short.*has {whole - 1} .*{whole}"):
        open_pool(path)
    with pytest.raises(ValueError, match=r"x\.npy: .*became shorter"):  # and not a bus error
        source.read(0, N)
    cut(path, 40)
    with pytest.raises(ValueError, match=r"x\.npy: .*cut short"):
        open_pool(path)
    for options in ({"key": "a"}, {"column": "a"}, {"id_column": "a"}):
        with pytest.raises(ValueError, match=rf"x\.npy: .*drop .*{next(iter(options))}"):
            open_pool(path, **options)


def test_bad_shards(tmp_path):
    with pytest.raises(ValueError, match=r"holds no \.npy or \.parquet files"):
        open_pool(tmp_path)
    (tmp_path / "img_emb").mkdir()
    with pytest.raises(ValueError, match=r"holds no \.npy.*its folders are img_emb"):
        open_pool(tmp_path)
    good, path = values("<f4"), tmp_path / "b.npy"
    np.save(tmp_path / "a.npy", good)
    for bad, what in (
        (values("<f4", 9, D + 1), "b.npy: has rows of 8 float32 and .*a.npy of 7 float32"),
        (values("<f2", 9), "b.npy: has rows of 7 float16 and .*a.npy of 7 float32"),
        (good.astype(">f4"), "b.npy: has rows of 7 >f4 and .*a.npy of 7 float32"),
        (np.arange(7.0), r"b.npy: holds an array of shape \(7,\)"),
    ):
        np.save(path, bad)
        with pytest.raises(ValueError, match=what):
            open_pool(tmp_path)
    np.save(path, good)
    cut(path, path.stat().st_size - 4)
    with pytest.raises(ValueError, match=r"b\.npy: .*cut short"):
        open_pool(tmp_path)
    np.save(path, good[:9])
    assert open_pool(tmp_path).n == N + 9
    with pytest.raises(ValueError, match=r"have no columns; drop column"):
        open_pool(tmp_path, column="x")
    with pytest.raises(ValueError, match=r"has no \.parquet files with ids"):
        open_pool(tmp_path, id_column="id")
    names = pa.table({"id": range(N)})
    pq.write_table(names, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"holds 2 \.npy files and 1 \.parquet files"):
        open_pool(tmp_path)
    pq.write_table(names, tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet: has 211 rows and .*b\.npy has 9"):
        open_pool(tmp_path)
    (tmp_path / "b.parquet").rename(tmp_path / "b_7.parquet")
    with pytest.raises(ValueError, match=r"b_7\.parquet: stands where the metadata of .*b\.npy"):
        open_pool(tmp_path)
    for left in tmp_path.glob("*.npy"):
        np.save(left, good[:0])
    for left in tmp_path.glob("*.parquet"):
        left.unlink()
    with pytest.raises(ValueError, match=r"empty, shape \(0, 7\)"):
        open_pool(tmp_path)


def write_lists(path, rows, kind=None):
    kind = kind or pa.list_(pa.float32())
    pq.write_table(pa.table({"v": pa.array(rows, kind)}), path, row_group_size=2)


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (
            [[1, 2], [3, 4], [5, 6], [7], [8, 9]],
            r"row 3 \(the first\) holds a list of 1.*others hold 2",
        ),
        ([[1, 2], [3, 4], [5, 6], None, [8, 9]], r"row 3 \(the first\) is missing"),
        ([[1, 2], [3, 4], [5, None], [1, 2]], r"row 2 \(the first\) is missing or holds a missing"),
        ([[1], None], r"row 1 \(the first\) is missing"),
        ([[1], []], r"row 1 \(the first\) holds a list of 0"),
        ([None, [1]], r"row 0 \(the first\) is missing"),
    ],
)
def test_ragged_parquet(tmp_path, rows, what):
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float64())):
        write_lists(tmp_path / "x.parquet", rows, kind)
        with pytest.raises(ValueError, match=rf"x\.parquet: {what}"):
            open_pool(tmp_path / "x.parquet")


def test_ragged_rows_that_only_reading_shows(tmp_path):
    """Opening looks at the first rows only."""
    write_lists(tmp_path / "x.parquet", [[1, 2]] * 20 + [[5, 6, 7], [8]])
    source = open_pool(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x\.parquet: row 20 \(the first\) holds a list of 3"):
        source.read(0, 22)


def test_bad_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": [1.0], "b": ["x"], "c": [["x"]]}), path)
    with pytest.raises(ValueError, match=r"x\.parquet: no column holds lists.*a \(double\), b \("):
        open_pool(path)
    with pytest.raises(ValueError, match=r"x\.parquet: column 'a' holds double, expected lists"):
        open_pool(path, column="a")
    with pytest.raises(ValueError, match=r"x\.parquet: has no column 'z'"):
        open_pool(path, column="z")
    pq.write_table(bits_table(values("<f4"))[:0], path)
    with pytest.raises(ValueError, match=r"x\.parquet: empty"):
        open_pool(path)
    table = bits_table(values("<f4", 5000), names=range(5000))
    pq.write_table(table, path, use_dictionary=False, write_page_checksum=True)
    with pytest.raises(ValueError, match=r"x\.parquet: .*drop the key"):
        open_pool(path, key="x")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"x\.parquet: .*cut short or damaged"):
        open_pool(path).read(0, 5000)
    cut(path, 10000)
    with pytest.raises(ValueError, match=r"x\.parquet: .*cut short or damaged"):
        open_pool(path)
    path.unlink()
    (tmp_path / "y.parquet").write_text("no")
    with pytest.raises(ValueError, match=r"y\.parquet: .*cut short or damaged"):
        open_pool(tmp_path)


def test_bad_safetensors_and_zarr(tmp_path):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "x.safetensors"
    write_safetensors(path, "F32", values("<f4"))
    with pytest.raises(ValueError, match=r"x\.safetensors: holds several.*x \(211, 7\)"):
        open_pool(path)
    cut(path, path.stat().st_size - 1)
    with pytest.raises(ValueError, match=r"x\.safetensors: .*cut short"):
        open_pool(path, key="x")
    write_safetensors(path, "F8_E4M3", values("|u1"))
    with pytest.raises(ValueError, match=r"x\.safetensors: .*F8_E4M3, which is not supported"):
        open_pool(path, key="x")
    store = tmp_path / "x.zarr"
    array = zarr.create_array(store, shape=(N, D), chunks=(20, D), dtype="f4")
    array[:] = values("<f4")
    source = open_pool(store)
    chunk = next(path for path in (store / "c").rglob("*") if path.is_file())
    cut(chunk, 20)
    with pytest.raises(ValueError, match=r"x\.zarr: .*cut short or damaged"):
        source.read(0, N)
    (store / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match=r"x\.zarr: .*cut short or damaged"):
        open_pool(store)
    line = zarr.create_array(tmp_path / "line.zarr", shape=(5,), dtype="f4")
    line[:] = 1
    with pytest.raises(ValueError, match=r"line\.zarr: .*shape \(5,\)"):
        open_pool(tmp_path / "line.zarr")


@pytest.mark.parametrize("package", ["pyarrow", "safetensors", "zarr"])
def test_a_missing_library_is_named(tmp_path, monkeypatch, package):
    pq.write_table(bits_table(values("<f4")), tmp_path / "pyarrow.parquet")
    write_safetensors(tmp_path / "safetensors.safetensors", "F32", values("<f4"))
    (tmp_path / "zarr.zarr").mkdir()
    (tmp_path / "zarr.zarr/zarr.json").write_text("{}")
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
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
    command = [sys.executable, "-c", code, str(tmp_path / "x.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


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
