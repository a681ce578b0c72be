"""The command line: results equal the library's, failures are plain, nothing partial stays."""

from __future__ import annotations

import csv
import json
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import entroselect
from entroselect import reference
from entroselect.cli import inputs, select
from entroselect.io.open import as_rows
from tests.support.commands import entries, fails, ok, run


def test_select_equals_greedy_select(folder):
    ok("select", "pool.npy", "-k", 12, "-o", "out")
    expected = entroselect.greedy_select(np.load("pool.npy"), 12)
    indices = np.load("out/indices.npy")
    assert indices.dtype == np.int64
    assert indices.tolist() == expected.indices.tolist()
    assert entries(folder / "out") == ["indices.npy", "report.json", "selection.csv"]
    with Path("out/selection.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["rank"]) for line in lines] == list(range(1, 13))
    assert [int(line["index"]) for line in lines] == expected.indices.tolist()
    assert [float(line["distance"]) for line in lines] == expected.distances.tolist()


def test_profile_prints_where_the_time_went(folder):
    printed = ok("select", "pool.npy", "-k", 12, "-o", "out", "--profile").stdout
    assert "picks a round" in printed
    assert "all of the selection (s)" in printed
    assert "picks a round" not in ok("select", "pool.npy", "-k", 12, "-o", "plain").stdout


def test_report_json_tells_what_was_done(folder):
    ok("select", "pool.npy", "--fraction", 0.2, "-o", "out", "--backend", "cpu:portable")
    report = json.loads(Path("out/report.json").read_text())
    pool = np.load("pool.npy")
    picked = np.load("out/indices.npy")
    assert report["input"] == {
        "path": "pool.npy",
        "format": "npy",
        "key": None,
        "shape": [60, 5],
        "dtype": "float32",
        "rows": 60,
        "columns": 5,
    }
    assert report["picked"] == len(picked) == 12
    assert report["options"]["fraction"] == 0.2
    assert report["backend"] == "cpu:portable"
    assert report["profile"]["pairs"] > 0
    assert report["radius"] == entroselect.greedy_select(pool, 12).radius
    for name, rows in (("before", pool), ("after", pool[picked])):
        spread, entropy = report["spread"][name], entroselect.kl_entropy(rows)
        assert spread["entropy_nats"] == float(entropy)
        assert spread["geometric_mean_distance"] == entropy.geometric_mean_distance
        assert spread["mean_nearest_distance"] == entroselect.mean_nearest_distance(rows)
        assert spread["rows_with_a_duplicate"] == 0
    assert report["versions"]["entroselect"] == entroselect.__version__
    assert report["seconds"]["select"] > 0
    assert report["threads"] >= 1


def test_select_passes_every_option_on(folder):
    pool = np.load("pool.npy")
    ok("select", "pool.npy", "-k", 9, "-o", "a", "--start", "random", "--seed", 5,
       "--metric", "cosine", "--min-distance", 0.1)  # fmt: skip
    expected = entroselect.greedy_select(
        pool, 9, start="random", seed=5, metric="cosine", min_distance=0.1
    )
    assert np.load("a/indices.npy").tolist() == expected.indices.tolist()

    ok("select", "pool.npy", "-k", 9, "-o", "b", "--start", "center")
    expected = entroselect.greedy_select(pool, 9, start="center")
    assert np.load("b/indices.npy").tolist() == expected.indices.tolist()

    ok("select", "pool.npy", "-k", 9, "-o", "c", "--method", "threshold", "--threshold", 3,
       "--decay", 0.5, "--seed", 1)  # fmt: skip
    expected = entroselect.threshold_select(pool, 9, threshold=3, decay=0.5, seed=1)
    assert np.load("c/indices.npy").tolist() == expected.indices.tolist()
    with Path("c/selection.csv").open(newline="") as file:
        thresholds = [float(line["threshold"]) for line in csv.DictReader(file)]
    assert thresholds == expected.thresholds.tolist()


def test_min_distance_may_end_early(folder):
    ok("select", "pool.npy", "-k", 60, "-o", "out", "--min-distance", 3)
    report = json.loads(Path("out/report.json").read_text())
    assert report["picked"] == len(np.load("out/indices.npy")) < 60


@pytest.mark.parametrize("vectors", [False, True])
def test_selected_continues(folder, vectors):
    pool = np.load("pool.npy")
    before = np.full((2, 5), 0.25) if vectors else np.array([3, 7, 11])
    np.save("before.npy", before)
    for method, library in (
        ("greedy", entroselect.greedy_select),
        ("threshold", entroselect.threshold_select),
    ):
        ok("select", "pool.npy", "-k", 8, "-o", method, "--method", method,
           "--selected", "before.npy", "--report")  # fmt: skip
        expected = library(pool, 8, selected=before)
        assert np.load(f"{method}/indices.npy").tolist() == expected.indices.tolist()
        report = json.loads(Path(method, "report.json").read_text())
        assert report["radius"] == expected.radius  # with --report it comes from the cover


def test_random_draws_by_seed(folder):
    for out, seed in (("a", 4), ("b", 4), ("c", 5)):
        ok("select", "pool.npy", "-k", 20, "-o", out, "--method", "random", "--seed", seed)
    first, again, other = (np.load(f"{out}/indices.npy") for out in "abc")
    assert first.tolist() == again.tolist() != other.tolist()
    assert first.tolist() == np.random.default_rng(4).choice(60, 20, replace=False).tolist()
    assert Path("a/selection.csv").read_text().startswith("rank,index\n1,")
    pool = np.load("pool.npy")
    radius = entroselect.nearest_distances(pool, pool[first]).distances.max()
    assert json.loads(Path("a/report.json").read_text())["radius"] == radius


def test_duplicates_do_not_fail_the_measures(folder):
    pool = np.load("pool.npy")
    np.save("twice.npy", np.concatenate([pool, pool[:4]]))
    ok("select", "twice.npy", "-k", 30, "-o", "out")
    before = json.loads(Path("out/report.json").read_text())["spread"]["before"]
    assert before["rows_with_a_duplicate"] == 8
    assert before["entropy_nats"] == float(entroselect.kl_entropy(pool))
    np.save("same.npy", np.ones((5, 2)))
    ok("select", "same.npy", "-k", 2, "-o", "same")
    after = json.loads(Path("same/report.json").read_text())["spread"]["after"]
    assert after["entropy_nats"] is None
    assert after["mean_nearest_distance"] == 0


def test_one_row_can_be_picked(folder):
    for method in ("greedy", "threshold", "random"):
        ok("select", "pool.npy", "-k", 1, "-o", method, "--method", method, "--report")
        after = json.loads(Path(method, "report.json").read_text())["spread"]["after"]
        assert after["mean_nearest_distance"] is None


def test_no_entropy_skips_the_measures(folder, monkeypatch):
    monkeypatch.setattr(select, "spread", None)
    ok("select", "pool.npy", "-k", 5, "-o", "out", "--no-entropy", "--report")
    assert json.loads(Path("out/report.json").read_text())["spread"] == {}


def test_images_are_flattened_and_it_says_so(folder):
    images = np.random.default_rng(1).integers(0, 256, size=(20, 4, 3), dtype=np.uint8)
    np.save("images.npy", images)
    result = ok("select", "images.npy", "-k", 5, "-o", "out")
    assert "images.npy: shape (20, 4, 3) flattened to (20, 12)" in result.stderr
    expected = entroselect.greedy_select(images.reshape(20, 12), 5)
    assert np.load("out/indices.npy").tolist() == expected.indices.tolist()


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


def cut(source, target, keep=0.6):
    content = Path(source).read_bytes()
    Path(target).write_bytes(content[: int(len(content) * keep)])


def test_unreadable_files_are_named(folder):
    from safetensors.numpy import save_file

    pool = np.load("pool.npy")
    np.savez("whole.npz", x=pool)
    save_file({"x": pool}, "whole.safetensors")
    cut("pool.npy", "cut.npy")
    cut("pool.npy", "header.npy", 0.02)
    cut("whole.npz", "cut.npz")
    cut("whole.safetensors", "cut.safetensors")
    for name in ("cut.npy", "header.npy", "cut.npz", "cut.safetensors"):
        fails(1, "entropy", name, saying=[name, "cut short", "again"])
    damaged = bytearray(Path("whole.npz").read_bytes())
    damaged[400] ^= 255
    Path("damaged.npz").write_bytes(damaged)
    fails(1, "entropy", "damaged.npz", saying=["damaged.npz", "damaged"])

    objects = np.array([[1, "a"], [2, None]], dtype=object)
    np.save("objects.npy", objects, allow_pickle=True)
    np.savez("objects.npz", x=objects, allow_pickle=True)
    Path("pickle.npy").write_bytes(pickle.dumps(pool))
    Path("pickle.npz").write_bytes(pickle.dumps({"x": pool}))
    fails(1, "entropy", "objects.npy", saying=["objects.npy", "pickled", "numpy.save"])
    fails(1, "entropy", "objects.npz", "--key", "x", saying=["objects.npz", "pickled"])
    fails(1, "entropy", "pickle.npy", saying=["pickle.npy", "never loaded", "numpy.save"])
    fails(1, "entropy", "pickle.npz", saying=["pickle.npz", "never loaded", "numpy.savez"])

    Path("empty.npy").write_bytes(b"")
    fails(1, "entropy", "empty.npy", saying=["empty.npy", "not a .npy file"])
    fails(1, "entropy", "missing.npy", saying=["missing.npy", "no such file"])
    fails(1, "entropy", "pool.txt", saying=["pool.txt", ".npy, .npz, .safetensors"])
    fails(1, "entropy", "pool.npy", "--key", "x", saying=["pool.npy", "drop the --key"])
    Path("folder.npy").mkdir()
    fails(1, "entropy", "folder.npy", saying=["folder.npy", "holds no .npy"])


def test_bad_data_is_named_and_leaves_nothing(folder):
    pool = np.load("pool.npy")
    pool[17, 3] = np.nan
    np.save("nan.npy", pool)
    np.save("none.npy", np.empty((0, 4)))
    np.save("complex.npy", np.ones((3, 3), dtype=complex))
    there = entries(folder)
    for method in ("greedy", "threshold", "random"):
        fails(1, "select", "nan.npy", "-k", 3, "-o", "out", "--method", method,
              saying=["nan.npy", "row 17", "column 3"])  # fmt: skip
        fails(1, "select", "pool.npy", "-k", 61, "-o", "out", "--method", method,
              saying=["-k: ", "60", "61"])  # fmt: skip
        fails(1, "select", "none.npy", "-k", 1, "-o", "out", "--method", method,
              saying=["none.npy", "empty"])  # fmt: skip
    fails(1, "select", "complex.npy", "-k", 1, "-o", "out", saying=["complex.npy", "complex128"])
    fails(1, "select", "pool.npy", "-k", 3, "-o", "out", "--start", 60, saying=["--start: ", "59"])
    fails(2, "select", "pool.npy", "-k", 3, "-o", "out", "--backend", "tpu",
          saying=["backend", "tpu"])  # fmt: skip
    fails(1, "select", "pool.npy", "-k", 3, "-o", "out", "--selected", "gone.npy",
          saying=["gone.npy", "no such file"])  # fmt: skip
    assert entries(folder) == there


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--fraction", 0.5, "-k", 3], "--fraction"),
        ([], "--fraction"),
        (["--fraction", 0], "--fraction"),
        (["--fraction", 1.5], "--fraction"),
        (["--fraction", "nan"], "--fraction"),
        (["-k", 0], "-k"),
        (["-k", "many"], "-k"),
        (["-k", 3, "--method", "best"], "--method"),
        (["-k", 3, "--metric", "l1"], "--metric"),
        (["-k", 3, "--colour", "red"], "--colour"),
        (["-k", 3, "--decay", 0.9], "--decay"),
        (["-k", 3, "--threshold", 1], "--threshold"),
        (["-k", 3, "--method", "threshold", "--start", 2], "--start"),
        (["-k", 3, "--method", "threshold", "--min-distance", 2], "--min-distance"),
        (["-k", 3, "--method", "random", "--selected", "pool.npy"], "--selected"),
        (["-k", 3, "--seed", 2], "--seed"),
        (["-k", 3, "--start", "first"], "--start"),
        (["-k", 3, "--start", "1", "--selected", "pool.npy"], "--start"),
    ],
)
def test_bad_use_ends_with_2(folder, arguments, option):
    result = fails(2, "select", "pool.npy", "-o", "out", *arguments, saying=[option])
    assert len(result.stderr.splitlines()) == 1
    assert entries(folder) == ["pool.npy"]


def test_other_bad_use(folder):
    fails(2, "select", "pool.npy", "-k", 3, saying=["--out"])
    fails(2, "chose", saying=["chose"])
    fails(2, "entropy", "pool.npy", "--floor", 1, saying=["--floor", "--duplicates floor"])
    fails(2, "nearest", "pool.npy", "-o", "out", "--points-key", "x", saying=["--points-key"])


def test_out_is_checked_before_the_work(folder, monkeypatch):
    monkeypatch.setattr(inputs, "read", None)  # would fail if the work started
    Path("file").write_text("")
    there = entries(folder)
    for out, words in (
        ("file/out", ["file", "is a file"]),
        ("no/such/out", ["no/such", "no such folder"]),
        ("file", ["file", "is a file"]),
    ):
        fails(1, "select", "pool.npy", "-k", 3, "-o", out, saying=[*words, "--out"])
        fails(1, "nearest", "pool.npy", "-o", out, saying=[*words, "--out"])
    assert entries(folder) == there


def test_existing_out_is_replaced_only_by_force(folder):
    ok("select", "pool.npy", "-k", 3, "-o", "out")
    fails(1, "select", "pool.npy", "-k", 4, "-o", "out", saying=["out", "--force"])
    assert len(np.load("out/indices.npy")) == 3
    ok("select", "pool.npy", "-k", 4, "-o", "out", "--force")
    assert len(np.load("out/indices.npy")) == 4
    fails(1, "select", "pool.npy", "-k", 61, "-o", "out", "--force", saying=["61"])
    assert len(np.load("out/indices.npy")) == 4
    Path("out/thesis.tex").write_text("years of work")
    fails(1, "select", "pool.npy", "-k", 5, "-o", "out", "--force", saying=["thesis.tex"])
    assert Path("out/thesis.tex").exists()
    assert entries(folder) == ["out", "pool.npy"]


@pytest.mark.parametrize("step", ["greedy_select", "_summary", "selection_files.write_indices"])
@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (RuntimeError("the engine broke"), 1, "error: the engine broke"),
        (MemoryError(), 1, "error: out of memory"),
        (OSError(28, "No space left on device"), 1, "No space left"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_nothing_partial_is_left(folder, monkeypatch, step, raised, code, said):
    def broken(*_, **__):
        raise raised

    monkeypatch.setattr(f"entroselect.cli.select.{step}", broken)
    result = run("select", "pool.npy", "-k", 3, "-o", "out")
    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert entries(folder) == ["pool.npy"]


def test_entropy_prints_and_dumps(folder):
    expected = entroselect.kl_entropy(np.load("pool.npy"), 2)
    found = json.loads(ok("entropy", "pool.npy", "-k", 2, "--json").stdout)
    assert found["entropy_nats"] == float(expected)
    assert (found["n"], found["d"], found["k"]) == (60, 5, 2)
    assert found["geometric_mean_distance"] == expected.geometric_mean_distance
    assert found["input"]["path"] == "pool.npy"
    text = ok("entropy", "pool.npy").stdout
    assert f"{float(entroselect.kl_entropy(np.load('pool.npy'))):.10g}" in text
    assert "geometric mean distance" in text


def test_within_a_memory_limit(folder, monkeypatch):
    """Files are read in pieces, some of them several times; answers are the same."""
    monkeypatch.setenv("ENTROSELECT_THREADS", "2")  # each has its share of the memory
    rows = np.random.default_rng(0).standard_normal((9000, 64)).astype(np.float32)
    np.save("large.npy", rows)
    whole = json.loads(ok("entropy", "large.npy", "--json").stdout)
    assert whole["bytes_read"] == rows.nbytes
    found = json.loads(ok("entropy", "large.npy", "--json", "--memory-limit", "6MB").stdout)
    assert found.pop("bytes_read") > whole.pop("bytes_read")
    assert found == whole
    ok("nearest", "large.npy", "-o", "out", "--memory-limit", "6MB")
    report = json.loads(Path("out/report.json").read_text())
    assert report["options"]["memory_limit"] == "6MB"
    assert report["bytes_read"] > rows.nbytes
    expected = entroselect.nearest_distances(rows)
    np.testing.assert_array_equal(np.load("out/indices.npy"), expected.indices)
    np.testing.assert_array_equal(np.load("out/distances.npy"), expected.distances)
    for command in (("entropy", "large.npy"), ("nearest", "large.npy", "-o", "other")):
        fails(2, *command, "--memory-limit", "much", saying=["--memory-limit", "8GiB", "much"])
        fails(
            1,
            *command,
            "--memory-limit",
            "1KB",
            saying=["--memory-limit: 1000", "smallest that works"],
        )


def test_entropy_of_duplicates(folder):
    pool = np.load("pool.npy")
    twice = np.concatenate([pool, pool[:1]])
    np.save("twice.npy", twice)
    fails(
        1,
        "entropy",
        "twice.npy",
        saying=["twice.npy", "2 of 61 rows", "--duplicates drop", "--floor"],
    )
    for arguments, options in (
        (["--duplicates", "drop"], {"duplicates": "drop"}),
        (["--duplicates", "floor"], {"duplicates": "floor"}),
        (["--duplicates", "floor", "--floor", 0.01], {"duplicates": "floor", "floor": 0.01}),
    ):
        found = json.loads(ok("entropy", "twice.npy", "--json", *arguments).stdout)
        assert found["entropy_nats"] == float(entroselect.kl_entropy(twice, **options))
        assert found["zero_distances"] == 2


def test_nearest_writes_what_the_library_finds(folder):
    pool = np.load("pool.npy")
    np.save("queries.npy", pool[:7] + np.float32(0.1))
    ok("nearest", "queries.npy", "pool.npy", "-k", 3, "-o", "two", "--metric", "cosine")
    expected = entroselect.nearest_distances(np.load("queries.npy"), pool, 3, metric="cosine")
    assert np.array_equal(np.load("two/indices.npy"), expected.indices)
    assert np.array_equal(np.load("two/distances.npy"), expected.distances)
    report = json.loads(Path("two/report.json").read_text())
    assert report["points"]["path"] == "pool.npy"
    assert report["mean_nearest_distance"] == expected.distances[:, 0].mean()

    ok("nearest", "pool.npy", "-o", "one")
    expected = entroselect.nearest_distances(pool)
    assert np.array_equal(np.load("one/indices.npy"), expected.indices)
    assert entries(folder / "one") == ["distances.npy", "indices.npy", "report.json"]

    np.savez("both.npz", x=pool[:9], y=pool[9:])
    ok("nearest", "both.npz", "both.npz", "--key", "x", "--points-key", "y", "-o", "keys")
    expected = entroselect.nearest_distances(pool[:9], pool[9:])
    assert np.array_equal(np.load("keys/indices.npy"), expected.indices)


def test_nearest_names_the_file_at_fault(folder):
    np.save("narrow.npy", np.ones((4, 3)))
    fails(1, "nearest", "pool.npy", "narrow.npy", "-o", "out", saying=["narrow.npy", "3", "5"])
    fails(1, "nearest", "pool.npy", "-k", 60, "-o", "out", saying=["-k: ", "59", "60"])
    assert entries(folder) == ["narrow.npy", "pool.npy"]


def test_info(folder, monkeypatch):
    known = json.loads(ok("info", "--json").stdout)
    assert known["version"] == entroselect.__version__
    assert known["backends"]["cpu:portable"] == ""
    assert known["backends"]["cuda"] != ""
    assert known["extras"]["cli"] == ""
    assert known["auto"].startswith("cpu:")
    text = ok("info").stdout
    assert "cpu:portable" in text
    assert known["backends"]["cuda"][:14] in text  # what follows may stand on another line
    monkeypatch.setattr("entroselect.cli.info._installed", lambda name: None)
    extras = json.loads(ok("info", "--json").stdout)["extras"]
    assert "typer" in extras["demo"]
    assert ("tomli" in extras["loop"]) == (sys.version_info < (3, 11))  # asked for there only


def test_help_and_version(folder):
    assert "select" in ok().stdout
    assert "--min-distance" in ok("select", "--help").stdout
    assert ok("--version").stdout == f"entroselect {entroselect.__version__}\n"


def test_without_the_extra_a_hint(monkeypatch, capsys):
    from entroselect.__main__ import main

    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "pip install 'entroselect[cli]'" in capsys.readouterr().err


def test_as_a_module(folder):
    command = [sys.executable, "-m", "entroselect"]
    done = subprocess.run(
        [*command, "select", "pool.npy", "-k", "4", "-o", "out"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "picked 4 of 60 rows" in done.stdout
    assert "greedy: 4 of 4" in done.stderr  # no terminal: plain lines
    done = subprocess.run([*command, "select", "pool.npy"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_leaves_nothing(folder):
    np.save("big.npy", np.random.default_rng(0).normal(size=(30_000, 256)).astype(np.float32))
    process = subprocess.Popen(
        [sys.executable, "-m", "entroselect", "select", "big.npy", "-k", "25000", "-o", "out",
         "--backend", "cpu:portable"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A test run in the background may itself have been told to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not list(folder.glob(".out.*.partial")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted: nothing was written"
    assert "Traceback" not in said
    assert entries(folder) == ["big.npy", "pool.npy"]


def test_selection_within_a_memory_limit_and_gone_on_with(folder, monkeypatch):
    monkeypatch.setattr("entroselect.scale.budget.LEAST_ROWS", 2)
    pool = np.load("pool.npy")
    ok("select", "pool.npy", "-k", 20, "-o", "a", "--memory-limit", 5000, "--checkpoint", "c")
    report = json.loads(Path("a/report.json").read_text())
    assert report["profile"]["bytes_read"] >= pool.nbytes
    assert report["spread"] == {}  # all pairs of a large pool are compared only when asked for
    ok("select", "pool.npy", "-k", 30, "-o", "b", "--checkpoint", "c", "--no-entropy")
    oracle = reference.greedy_select(pool, 30)
    assert np.load("b/indices.npy").tolist() == oracle.indices.tolist()
    assert np.load("a/indices.npy").tolist() == oracle.indices[:20].tolist()
    ok("select", "pool.npy", "-k", 20, "-o", "d", "--memory-limit", "6MB", "--entropy")
    report = json.loads(Path("d/report.json").read_text())
    kept = pool[oracle.indices[:20]]
    assert report["spread"]["before"]["entropy_nats"] == float(entroselect.kl_entropy(pool))
    assert report["spread"]["after"]["entropy_nats"] == float(entroselect.kl_entropy(kept))


@pytest.mark.parametrize(
    ("arguments", "code", "saying"),
    [
        (["--memory-limit", "much"], 2, ["--memory-limit", "8GiB"]),
        (["--memory-limit", "10"], 1, ["--memory-limit: 10", "smallest that works"]),
        (["--memory-limit", "1GB", "--report"], 2, ["--report"]),
        (["--memory-limit", "1GB", "--method", "random"], 2, ["--method"]),
        (["--method", "random", "--checkpoint", "c"], 2, ["--checkpoint"]),
        (["--checkpoint", "nowhere/c"], 1, ["--checkpoint: ", "nowhere"]),
        (["--checkpoint", "pool.npy"], 1, ["checkpoint", "not written by a selection"]),
    ],
)
def test_bad_limits_and_checkpoints(folder, arguments, code, saying):
    fails(code, "select", "pool.npy", "-k", 5, "-o", "out", *arguments, saying=saying)
    assert entries(folder) == ["pool.npy"]
