"""`entroselect nearest`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import entroselect
from tests.support.commands import entries, fails, ok


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


def test_bits(folder):
    """By the metrics of bits, in every command that has them."""
    bits = np.packbits(np.random.default_rng(0).random((60, 130)) < 0.2, axis=1)
    np.save("bits.npy", bits)
    ok("nearest", "bits.npy", "-o", "near", "--metric", "hamming")
    found = entroselect.nearest_distances(bits, metric="hamming")
    assert np.array_equal(np.load("near/distances.npy"), found.distances)
    ok("deduplicate", "bits.npy", "--similarity", 0.3, "--metric", "tanimoto", "-o", "kept")
    kept = entroselect.deduplicate(bits, similarity=0.3, metric="tanimoto")
    assert np.array_equal(np.load("kept/indices.npy"), kept.indices)
    arguments = ("bits.npy", "-k", 45, "--metric", "tanimoto", "-o", "picked")
    ok("select", *arguments, "--report", "--parquet")
    picked = entroselect.greedy_select(bits, 45, metric="tanimoto")
    assert np.array_equal(np.load("picked/indices.npy"), picked.indices)
    report = json.loads(Path("picked/report.json").read_text())
    assert report["radius"] == picked.radius
    assert report["spread"]["after"]["entropy_nats"] is None
    assert "principal components" not in Path("picked/report.html").read_text()
    fails(1, "select", *arguments, "--force", "--start", "center", saying=["start: 'center'"])
    np.save("bools.npy", np.unpackbits(bits, axis=1).astype(bool))  # packed where they are compared
    np.save("owned.npy", bits[picked.indices[:5]])
    arguments = ("bools.npy", "-k", 9, "--metric", "tanimoto", "--selected", "owned.npy")
    ok("select", *arguments, "--parquet", "-o", "more")
    more = entroselect.greedy_select(bits, 9, selected=np.load("owned.npy"), metric="tanimoto")
    assert np.array_equal(np.load("more/indices.npy"), more.indices)
