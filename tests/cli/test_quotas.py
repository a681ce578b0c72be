"""`entroselect select` with --candidates, --groups, --quota and --weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import entroselect
from tests.support.commands import fails, ok

LABELS = np.array(["red", "green", "blue"])[np.arange(60) % 3]


def test_groups_of_a_parquet_column(folder):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pool = np.load("pool.npy")
    rows = pa.FixedSizeListArray.from_arrays(pool.ravel(), pool.shape[1])
    pq.write_table(pa.table({"vector": rows, "colour": LABELS}), "pool.parquet")
    for given, quotas in (
        (["equal"], "equal"),
        (["proportional"], "proportional"),
        (["red=2", "blue=0"], {"red": 2, "blue": 0}),
    ):
        options = [part for text in given for part in ("--quota", text)]
        ok("select", "pool.parquet", "-k", 12, "--groups", "pool.parquet:colour", *options, "-o",
           "out", "--force", "--no-entropy")  # fmt: skip
        expected = entroselect.greedy_select(pool, 12, groups=LABELS, quotas=quotas)
        assert np.load("out/indices.npy").tolist() == expected.indices.tolist()
        report = json.loads(Path("out/report.json").read_text())
        assert report["counts"] == expected.counts
        assert report["options"]["quota"] == given


def test_candidates_and_integer_labels(folder):
    pool, groups = np.load("pool.npy"), np.arange(60) // 20 - 1
    np.save("groups.npy", groups)
    np.save("may.npy", np.arange(60) % 2 == 0)
    ok("select", "pool.npy", "-k", 9, "--method", "threshold", "--groups", "groups.npy",
       "--quota", "-1=2", "--quota", "1=3", "--candidates", "may.npy", "-o", "out")  # fmt: skip
    expected = entroselect.threshold_select(
        pool, 9, groups=groups, quotas={-1: 2, 1: 3}, candidates=np.arange(0, 60, 2)
    )
    assert np.load("out/indices.npy").tolist() == expected.indices.tolist()
    np.save("bools.npy", groups > 0)
    ok("select", "pool.npy", "-k", 9, "--groups", "bools.npy", "--quota", "True=2", "-o", "two")
    expected = entroselect.greedy_select(pool, 9, groups=groups > 0, quotas={True: 2})
    assert np.load("two/indices.npy").tolist() == expected.indices.tolist()


def test_weights_of_a_file(folder, monkeypatch):
    """The radius that is shown is then the largest weight x distance, but the report's curve and
    its radius are of distances."""
    pytest.importorskip("matplotlib")
    from entroselect.report import figures

    curves, draw = [], figures.radius_curves
    monkeypatch.setattr(figures, "radius_curves", lambda of: curves.append(of) or draw(of))
    pool, weights = np.load("pool.npy"), np.arange(60) % 7 + 1
    np.save("weights.npy", weights)
    of = ["select", "pool.npy", "-k", 12, "--weights", "weights.npy", "--force", "--no-entropy"]
    shown = ok(*of, "-o", "out").stdout
    expected = entroselect.greedy_select(pool, 12, weights=weights)
    assert np.load("out/indices.npy").tolist() == expected.indices.tolist()
    report = json.loads(Path("out/report.json").read_text())
    assert (report["radius"], report["weighted_radius"]) == (None, expected.radius)
    assert f"largest weight x distance left {expected.radius:.6g}" in shown
    ok(*of, "-o", "out", "--report")
    report = json.loads(Path("out/report.json").read_text())
    assert report["radius"] == expected.assign(pool).distances.max()
    assert report["weighted_radius"] == expected.radius
    radii = curves[0]["greedy"][1]
    assert (np.diff(expected.distances[1:]) > 0).any()
    assert (np.diff(radii) <= 0).all()
    assert radii[-1] == report["radius"]


def test_bad_quotas_name_the_option(folder):
    np.save("zeros.npy", np.arange(60))
    np.save("groups.npy", np.arange(60) % 2)
    np.save("few.npy", np.arange(9))
    Path("labels.txt").write_text("red\n" * 60)
    np.save("none.npy", np.zeros(60, bool))
    of = ["select", "pool.npy", "-k", 5, "-o", "out"]
    for code, options, said in (
        (2, ["--quota", "equal"], "needs --groups, a label for every row"),
        (1, ["--groups", "few.npy"], "--groups: expected one label per row"),
        (1, ["--groups", "labels.txt"], "labels.txt: is neither a .npy file"),
        (
            2,
            ["--groups", "groups.npy", "--quota", "half"],
            "expected equal, proportional, or LABEL=N",
        ),
        (
            1,
            ["--groups", "groups.npy", "--quota", "a=1"],
            "--quota: the labels are integers, got 'a'",
        ),
        (1, ["--groups", "none.npy", "--quota", "yes=1"], "labels are True and False, got 'yes'"),
        (1, ["--groups", "groups.npy", "--quota", "1=1", "--quota", "1=2"], "'1' is given twice"),
        (1, ["--groups", "groups.npy", "--quota", "7=1"], "--quota: 7 is no label of"),
        (1, ["--groups", "groups.npy", "--quota", "0=1", "--quota", "1=1"], "together they let 2"),
        (1, ["--weights", "few.npy"], "--weights: expected one number per row"),
        (1, ["--weights", "zeros.npy"], "--weights: row 0 (the first) has 0"),
        (1, ["--weights", "gone.npy"], "gone.npy"),
        (
            2,
            ["--weights", "few.npy", "--method", "threshold"],
            "no meaning with --method threshold",
        ),
        (1, ["--candidates", "none.npy"], "--candidates: the mask is False everywhere"),
        (1, ["--candidates", "gone.npy"], "gone.npy"),
        (
            2,
            ["--candidates", "few.npy", "--method", "random"],
            "has no meaning with --method random",
        ),
    ):
        fails(code, *of, *options, saying=[said])
        assert not Path("out").exists()
