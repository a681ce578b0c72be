"""Files that are cut or hold something else: refused with their name and what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from entroselect import open_pool
from tests.support.sources import D, N, bits_table, values, write_safetensors

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


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
