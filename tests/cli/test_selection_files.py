"""Formats that are read, and selection.parquet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import entroselect
from entroselect import reference
from entroselect.cli import inputs
from entroselect.io.open import as_rows
from tests.support.commands import entries, fails, ok


def write_bfloat16(path, values):
    """A safetensors file with the tensor "x", whose values must be exact in bfloat16."""
    bits = (values.astype(np.float32).view(np.uint32) >> 16).astype("<u2")
    entry = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [0, bits.nbytes]}
    header = json.dumps({"x": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bits.tobytes())


def test_pools_from_safetensors(folder):
    from safetensors.numpy import save_file

    pool = np.load("pool.npy")
    save_file({"a": pool, "b": pool[::-1].copy()}, "pool.safetensors")
    assert np.array_equal(inputs.read(Path("pool.safetensors"), "b").rows, pool[::-1])
    fails(1, "entropy", "pool.safetensors", saying=["--key", "a (60, 5)", "b (60, 5)"])

    values = (np.random.default_rng(2).integers(-9, 9, size=(30, 4)) / 8).astype(np.float32)
    write_bfloat16(folder / "half.safetensors", values)
    source = inputs.read(Path("half.safetensors"))
    assert source.dtype == "bfloat16"
    assert np.array_equal(source.rows, values)
    ok("select", "half.safetensors", "-k", 7, "-o", "out")
    expected = entroselect.greedy_select(values, 7)
    assert np.load("out/indices.npy").tolist() == expected.indices.tolist()


def test_pools_from_npz(folder):
    pool = np.load("pool.npy")
    np.savez("one.npz", x=pool)
    np.savez_compressed("two.npz", x=pool, y=np.arange(60))
    assert inputs.read(Path("one.npz")).key == "x"
    assert np.array_equal(inputs.read(Path("two.npz"), "x").rows, pool)
    fails(1, "entropy", "two.npz", saying=["two.npz", "--key", "x (60, 5)", "y (60,)"])
    fails(1, "entropy", "two.npz", "--key", "z", saying=["'z'", "x (60, 5)"])
    fails(1, "entropy", "two.npz", "--key", "y", saying=["two.npz", "(60,)", "(rows, columns)"])


def write_parquet(path, pool, **columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(pool.ravel()), pool.shape[1])
    pq.write_table(pa.table({**columns, "vector": vectors}), path, row_group_size=17)


def nearest_earlier(pool, chosen, metric):
    """For each of the chosen rows the nearest one before it, the textbook way."""
    rows = reference.canonical_rows(as_rows("pool", pool), metric)[chosen]
    found = []
    for position in range(len(chosen)):
        before = reference.squared_distances(rows[:position], rows[position])
        found.append(int(before.argmin()) if position else -1)
    return found


@pytest.mark.parametrize("method", ["greedy", "threshold"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_selection_parquet_says_what_each_pick_was_far_from(folder, method, metric, monkeypatch):
    import pyarrow.parquet as pq

    monkeypatch.setattr("entroselect.cli.nearest_before._BLOCK", 4)
    pool = np.random.default_rng(5).integers(1, 5, size=(90, 3)).astype(np.float32)  # ties
    write_parquet("pool.parquet", pool, id=[f"image {row}" for row in range(90)])
    ok("select", "pool.parquet", "-k", 50, "-o", "out", "--method", method, "--metric", metric)
    assert entries(folder / "out") == [
        "indices.npy", "report.json", "selection.csv", "selection.parquet",
    ]  # fmt: skip
    library = entroselect.greedy_select if method == "greedy" else entroselect.threshold_select
    expected = library(pool, 50, metric=metric)
    assert np.load("out/indices.npy").tolist() == expected.indices.tolist()
    table = pq.read_table("out/selection.parquet").to_pydict()
    assert list(table) == ["rank", "index", "id", "distance", "nearest_index", "nearest_id"]
    assert table["rank"] == list(range(1, 51))
    assert table["index"] == expected.indices.tolist()
    assert table["id"] == [f"image {row}" for row in expected.indices]
    assert table["distance"] == [None, *expected.distances[1:].tolist()]
    nearest = expected.indices[nearest_earlier(pool, expected.indices, metric)].tolist()
    assert table["nearest_index"] == [None, *nearest[1:]]
    assert table["nearest_id"] == [None, *(f"image {row}" for row in nearest[1:])]
    ok("select", "pool.parquet", "-k", 5, "-o", "out", "--force")  # the file is known as ours


@pytest.mark.parametrize("vectors", [False, True])
def test_selection_parquet_counts_what_was_selected_before(folder, vectors):
    import pyarrow.parquet as pq

    pool = np.load("pool.npy")
    before = pool[[3, 7, 11]] + np.float32(0.5) if vectors else np.array([3, 7, 11])
    np.save("before.npy", before)
    ok("select", "pool.npy", "-k", 40, "-o", "out", "--selected", "before.npy", "--parquet")
    expected = entroselect.greedy_select(pool, 40, selected=before)
    table = pq.read_table("out/selection.parquet").to_pydict()
    assert table["distance"] == expected.distances.tolist()
    assert table["id"] == table["nearest_id"] == [None] * 40  # .npy files have none
    rows = np.concatenate([before if vectors else pool[before], pool[expected.indices]])
    known = [None] * 3 if vectors else [3, 7, 11]
    index = [*known, *expected.indices.tolist()]
    assert table["nearest_index"] == [
        index[nearest] for nearest in nearest_earlier(rows, np.arange(43), "euclidean")[3:]
    ]
    assert any(nearest is None for nearest in table["nearest_index"]) == vectors


def test_selection_parquet_of_a_random_draw_and_of_one_row(folder):
    import pyarrow.parquet as pq

    write_parquet("pool.parquet", np.load("pool.npy"), number=range(100, 160))
    ok("select", "pool.parquet", "-k", 9, "-o", "a", "--id-column", "number", "--method", "random")
    table = pq.read_table("a/selection.parquet").to_pydict()
    assert list(table) == ["rank", "index", "id"]
    assert table["id"] == [100 + row for row in np.load("a/indices.npy")]
    ok("select", "pool.parquet", "-k", 1, "-o", "b", "--id-column", "number")
    table = pq.read_table("b/selection.parquet").to_pydict()
    assert {name: values[0] for name, values in table.items()} == {
        "rank": 1, "index": 0, "id": 100, "distance": None, "nearest_index": None,
        "nearest_id": None,
    }  # fmt: skip
    ok("select", "pool.parquet", "-k", 9, "-o", "c")
    assert "selection.parquet" not in entries(folder / "c")


@pytest.mark.slow
def test_every_format_serves_every_command(folder):
    pool = np.load("pool.npy")
    write_parquet("pool.parquet", pool, other=[[1.0]] * 60)
    Path("shards").mkdir()
    np.save("shards/a.npy", pool[:31])
    np.save("shards/b.npy", pool[31:])
    expected = float(entroselect.kl_entropy(pool))
    neighbours = entroselect.nearest_distances(pool).indices
    for name, options in (("pool.parquet", ["--column", "vector"]), ("shards", [])):
        found = json.loads(ok("entropy", name, "--json", *options).stdout)
        assert found["entropy_nats"] == expected
        assert found["input"]["path"] == name
        ok("nearest", name, "-o", f"{name}-out", *options)
        assert np.array_equal(np.load(f"{name}-out/indices.npy"), neighbours)
        ok("nearest", name, name, "-o", f"{name}-self", *options)
        assert np.load(f"{name}-self/indices.npy").ravel().tolist() == list(range(60))
        ok("select", name, "-k", 5, "-o", f"{name}-picked", "--report", *options)
    fails(1, "entropy", "pool.parquet", saying=["pool.parquet", "--column", "other", "vector"])
    fails(1, "select", "pool.parquet", "-k", 3, "-o", "out", "--column", "vector", "--id-column",
          "nope", saying=["pool.parquet", "nope"])  # fmt: skip
    fails(2, "nearest", "pool.npy", "-o", "out", "--points-column", "x", saying=["--points-column"])


def test_parquet_without_pyarrow_is_refused_before_the_work(folder, monkeypatch):
    monkeypatch.setattr(inputs, "read", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    fails(1, "select", "pool.npy", "-k", 3, "-o", "out", "--parquet",
          saying=["--parquet", "pyarrow", "entroselect[io]"])  # fmt: skip
