"""Selections are written first and measured after; empty and smallest selections are results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from entroselect import kl_entropy, nearest_distances
from entroselect.cli.signals import Terminated
from tests.support.commands import entries, fails, ok, run
from tests.support.results import STEP, check_selection, report


@pytest.mark.parametrize(
    ("step", "options"),
    [
        ("spread", []),
        ("cover", ["--report"]),
        ("selection_files.table", ["--parquet"]),
        ("selection_files.write_parquet", ["--parquet"]),
    ],
)
@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (RuntimeError("the engine broke"), 1, "error: the engine broke; "),
        (MemoryError(), 1, "error: out of memory; "),
        (OSError(28, "No space left on device"), 1, "error: No space left on device; "),
        (IndexError("7"), 1, "error: internal error: IndexError: 7; "),
        (KeyboardInterrupt(), 130, "interrupted: "),
        (Terminated(), 143, "ended: "),
    ],
)
def test_a_selection_outlives_its_measures(folder, monkeypatch, step, options, raised, code, said):
    def broken(*_, **__):
        check_selection()  # before anything is measured
        assert not report()["finished"]
        raised.args = raised.args[:2]
        raise raised

    monkeypatch.setattr(STEP + step, broken)
    result = run("select", "pool.npy", "-k", 5, "-o", "out", *options)
    assert result.exit_code == code, result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith(said)
    assert last.endswith(f"the selection is in {folder / 'out'}; measuring it was not finished")
    check_selection()
    assert not report()["finished"]
    assert entries(folder) == ["out", "pool.npy"]
    assert entries(folder / "out") == ["indices.npy", "report.json", "selection.csv"]


def test_a_page_that_fails_leaves_the_measures(folder, monkeypatch):
    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("entroselect.report.selection.selection_page", broken)
    fails(1, "select", "pool.npy", "-k", 5, "-o", "out", "--report", saying=["the selection is in"])
    check_selection()
    assert report()["finished"]
    assert report()["spread"]["after"]["rows"] == 5


def test_report_json_gets_the_measures(folder):
    ok("select", "pool.npy", "-k", 5, "-o", "out")
    assert report()["finished"]
    assert set(report()["seconds"]) == {"select", "measure", "all"}
    ok("select", "pool.npy", "-k", 5, "-o", "none", "--no-entropy")
    assert report("none")["finished"]
    assert report("none")["spread"] == {}


def test_more_rows_than_are_compared_are_sampled(folder):
    rows = np.random.default_rng(3).normal(size=(20_100, 2))
    np.save("large.npy", rows)
    result = ok("select", "large.npy", "-k", 50, "-o", "out")
    assert "20,000 of 20,100 rows, drawn at random" in result.stderr
    assert "20,100" in result.stdout
    assert "measured rows" in result.stdout
    spread = report()["spread"]
    assert (spread["before"]["rows"], spread["before"]["measured_rows"]) == (20_100, 20_000)
    assert (spread["after"]["rows"], spread["after"]["measured_rows"]) == (50, 50)
    drawn = np.sort(np.random.default_rng(0).choice(20_100, 20_000, replace=False))
    assert spread["before"]["entropy_nats"] == float(kl_entropy(rows[drawn]))

    result = ok("select", "large.npy", "-k", 50, "-o", "all", "--entropy")
    assert "before: 20,100 rows, 2e+08 pairs, about " in result.stderr
    before = report("all")["spread"]["before"]
    assert before["measured_rows"] == 20_100
    assert before["entropy_nats"] == float(kl_entropy(rows))


def test_tables_say_which_distance(folder):
    printed = ok("select", "pool.npy", "-k", 9, "-o", "out", "--metric", "cosine").stdout
    assert "(cosine)" in printed.splitlines()[0]
    assert "entropy (euclidean, nats)" in printed
    assert "mean nearest distance (cosine)" in printed
    assert "compare with --method random" in printed  # 9 rows, of which fewer are farther apart
    assert "(cosine)" in ok("nearest", "pool.npy", "-o", "n", "--metric", "cosine").stdout
    assert max(len(line) for line in printed.splitlines()) <= 80


# Empty selections are results


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--no-entropy"],
        ["--parquet"],
        ["--report"],
        ["--report", "--parquet", "--metric", "cosine"],
        ["--report", "--no-entropy"],
        ["--entropy"],
        ["--memory-limit", "1GB", "--parquet"],
    ],
)
@pytest.mark.parametrize("vectors", [False, True])
def test_nothing_farther_than_min_distance(folder, options, vectors):
    pool = np.load("pool.npy")
    np.save("sel.npy", pool[:2] if vectors else [0, 1])
    ok("select", "pool.npy", "-k", 5, "--selected", "sel.npy", "--min-distance", 1000,
       "-o", "out", *options)  # fmt: skip
    indices = np.load("out/indices.npy")
    assert (indices.shape, indices.dtype) == ((0,), np.int64)
    assert Path("out/selection.csv").read_text() == "rank,index,distance\n"
    assert report()["picked"] == 0
    assert report()["finished"]
    metric = "cosine" if "cosine" in options else "euclidean"
    radius = nearest_distances(pool, pool[:2], metric=metric).distances.max()
    assert report()["radius"] == radius
    for name in ("report.html", "selection.parquet"):
        wanted = "--" + name.split(".")[1].replace("html", "report") in options
        assert (name in entries(folder / "out")) == wanted
    if "--parquet" in options:
        import pyarrow.parquet as pq

        table = pq.read_table("out/selection.parquet")
        assert table.num_rows == 0
        assert table.column_names[:3] == ["rank", "index", "id"]


def test_an_empty_selection_of_a_pool_with_ids(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = np.load("pool.npy")
    pq.write_table(pa.table({"id": list("abc"), "v": rows[:3].tolist()}), "pool.parquet")
    np.save("sel.npy", [0, 1])
    ok("select", "pool.parquet", "-k", 1, "--selected", "sel.npy", "--min-distance", 1000,
       "-o", "out")  # fmt: skip
    assert pq.read_table("out/selection.parquet").num_rows == 0


@pytest.mark.parametrize("none", [np.empty(0, np.int64), np.empty(0)])
def test_nothing_selected_before(folder, none):
    np.save("none.npy", none)
    ok("select", "pool.npy", "-k", 5, "-o", "out", "--selected", "none.npy", "--report")
    check_selection()


def test_the_smallest_sets(folder):
    np.save("one.npy", np.ones((1, 5)))
    ok("select", "one.npy", "-k", 1, "-o", "out", "--report", "--parquet")
    assert report()["spread"]["after"]["mean_nearest_distance"] is None
    ok("nearest", "pool.npy", "one.npy", "-o", "near")
    assert np.load("near/indices.npy").tolist() == [[0]] * 60
    fails(1, "nearest", "one.npy", "-o", "x", saying=["one.npy: at least 2 rows", "without POINTS"])
    fails(1, "entropy", "one.npy", saying=["-k: ", "one.npy has 1"])


@pytest.mark.parametrize(
    ("fraction", "rows", "k"),
    [
        ("0.575", 100, 58),  # 57.49999999999999 in floats; 57.5 is as near to 58, which is even
        ("0.145", 100, 14),
        ("0.29", 100, 29),
        ("0.07", 50, 4),  # 3.5
        ("0.5", 5, 2),
        ("0.001", 60, 1),
        ("1", 60, 60),
        ("1e-1", 60, 6),
    ],
)
def test_fractions_are_decimal_numbers(folder, fraction, rows, k):
    np.save("line.npy", np.arange(float(rows))[:, None])
    ok("select", "line.npy", "--fraction", fraction, "-o", "out", "--no-entropy")
    assert len(np.load("out/indices.npy")) == k
