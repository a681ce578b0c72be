"""`entroselect deduplicate`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import entroselect
from tests.support.commands import entries, fails, ok

FILES = ["distances.npy", "duplicate_of.npy", "indices.npy", "report.json", "selection.csv"]


def written(out: str) -> list[np.ndarray]:
    return [np.load(f"{out}/{name}.npy") for name in ("indices", "duplicate_of", "distances")]


def test_it_writes_what_the_library_finds(folder):
    pool = np.load("pool.npy")
    scores = np.arange(60) % 7
    np.save("scores.npy", scores)
    done = ok("deduplicate", "pool.npy", "--distance", 2, "--scores", "scores.npy", "-o", "out")
    expected = entroselect.deduplicate(pool, 2.0, scores=scores)
    for found, name in zip(written("out"), ("indices", "duplicate_of", "distances"), strict=True):
        assert np.array_equal(found, getattr(expected, name))
    kept = len(expected.indices)
    assert 1 < kept < 60
    assert f"{kept} of 60 rows kept" in done.stdout
    assert entries(folder / "out") == FILES
    rows = list(csv.DictReader(Path("out/selection.csv").read_text().splitlines()))
    assert [int(row["rows"]) for row in rows] == expected.sizes.tolist()
    assert [int(row["index"]) for row in rows] == expected.indices.tolist()
    report = json.loads(Path("out/report.json").read_text())
    assert (report["kept"], report["rows"]) == (kept, 60)
    assert report["largest_distance"] == expected.distances.max()

    ok("deduplicate", "pool.npy", "--similarity", 0.6, "-o", "out", "--force")
    expected = entroselect.deduplicate(pool, similarity=0.6)
    assert np.array_equal(np.load("out/indices.npy"), expected.indices)


def test_scores_and_ids_of_a_parquet_file(folder):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pool = np.load("pool.npy")
    columns = {
        "id": [f"row {row}" for row in range(60)],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(pool.ravel()), 5),
        "quality": pa.array(np.arange(60)),
    }
    pq.write_table(pa.table(columns), "pool.parquet")
    arguments = ["deduplicate", "pool.parquet", "--column", "vector", "--distance", 2, "-o", "out"]
    ok(*arguments, "--scores", "pool.parquet:quality", "--memory-limit", "1GB")
    expected = entroselect.deduplicate(pool, 2.0, order=range(59, -1, -1))
    assert np.array_equal(np.load("out/indices.npy"), expected.indices)
    rows = list(csv.DictReader(Path("out/selection.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == [f"row {row}" for row in expected.indices]
    arguments = [*arguments, "--force", "--scores"]
    fails(1, *arguments, "pool.parquet", saying=["--scores: pool.parquet", "FILE:COLUMN"])
    fails(1, *arguments, "pool.parquet:q", saying=["--scores: pool.parquet", "'q'", "quality"])
    fails(1, *arguments, "none.npy", saying=["none.npy", "No such file"])


def test_bad_use(folder):
    base = ["deduplicate", "pool.npy", "-o", "out"]
    fails(2, *base, saying=["--distance / --similarity", "pass one of the two"])
    fails(2, *base, "--distance", 1, "--similarity", 1, saying=["pass one of the two"])
    fails(2, *base, "--distance", -1, saying=["--distance"])
    fails(2, *base, "--similarity", 1, "--metric", "euclidean", saying=["--metric"])
    np.save("short.npy", np.ones(3))
    fails(1, *base, "--distance", 1, "--scores", "short.npy", saying=["--scores: short.npy", "60"])
    np.save("bad.npy", np.full(60, np.nan))
    fails(1, *base, "--distance", 1, "--scores", "bad.npy", saying=["bad.npy", "row 0", "NaN"])
    assert entries(folder) == ["bad.npy", "pool.npy", "short.npy"]
