"""`entroselect select`: options, reports and measures are the library's; limits and checkpoints."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import entroselect
from entroselect import reference
from entroselect.cli import select
from tests.support.commands import entries, fails, ok
from tests.support.processes import python


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
    assert report["profile"]["refreshed"] > 0
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    done = python("-m", "entroselect", "select", "pool.npy", "-k", "4", "-o", "out")
    assert "picked 4 of 60 rows" in done.stdout
    assert "greedy: 4 of 4" in done.stderr  # no terminal: plain lines
    done = python("-m", "entroselect", "select", "pool.npy", code=2)
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""


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


def test_anchored_equals_anchored_select(folder):
    pool = np.load("pool.npy")
    np.save("real.npy", pool[::2] + 1)
    result = ok("select", "pool.npy", "-k", "9", "--anchor", "real.npy", "-o", "out")
    assert "warning: reference: too small" not in result.stderr
    expected = entroselect.anchored_select(pool, 9, pool[::2] + 1)
    assert np.load("out/indices.npy").tolist() == expected.indices.tolist()
    reached = json.loads(Path("out/report.json").read_text())["anchored"]
    assert reached["energy_distance"] == expected.energy_distance
    assert f"{expected.energy_distance:.3g} to the anchor" in result.stdout
    more = ["--diversity", "0.5", "--start", "random", "--seed", "3", "-o", "more", "--report"]
    ok("select", "pool.npy", "-k", "9", "--anchor", "real.npy", *more)
    options = {"diversity": 0.5, "start": "random", "seed": 3}
    expected = entroselect.anchored_select(pool, 9, pool[::2] + 1, **options)
    assert np.load("more/indices.npy").tolist() == expected.indices.tolist()
    alone = ok("select", "pool.npy", "-k", "9", "--method", "anchored", "-o", "alone")
    assert (
        np.load("alone/indices.npy").tolist()
        == entroselect.anchored_select(pool, 9).indices.tolist()
    )
    assert "to the pool" in alone.stdout


def test_a_small_anchor_is_said(folder):
    np.save("real.npy", np.random.default_rng(3).standard_normal((4, 5)))
    result = ok("select", "pool.npy", "-k", "9", "--anchor", "real.npy", "-o", "out")
    assert "warning: reference: too small to steer by: it has 4 rows" in result.stderr
