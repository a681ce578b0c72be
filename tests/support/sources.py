"""Rows that use a dtype's range, files of them, and the check that a source gives them back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from entroselect.io.open import as_rows

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


X = np.random.default_rng(0).standard_normal((50, 3)).astype("f4")


def lists(rows, kind=None):
    return pa.array(list(rows), kind or pa.list_(pa.float32()))


def write_lists_of(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path
