"""`entroselect diagnose`."""

from __future__ import annotations

import json

import numpy as np

import entroselect
from tests.support.commands import entries, fails, ok


def test_diagnose_prints_what_the_library_finds(folder):
    pool = np.load("pool.npy")
    np.save("real.npy", pool[::-1][:50] * 0.5)
    np.save("training.npy", pool[:9])
    expected = entroselect.diagnose(pool, np.load("real.npy"))
    assert ok("diagnose", "pool.npy", "real.npy").stdout == f"{expected}\n"
    expected = entroselect.diagnose(
        pool, np.load("real.npy"), training=pool[:9], k=7, neighbours=3, seed=4
    )
    found = json.loads(
        ok(
            "diagnose", "pool.npy", "real.npy", "--training", "training.npy", "-k", 7,
            "--neighbours", 3, "--seed", 4, "--json",
        ).stdout
    )  # fmt: skip
    paths = {name: found.pop(name)["path"] for name in ("features", "reference", "training")}
    assert paths == {
        "features": "pool.npy", "reference": "real.npy", "training": "training.npy"
    }  # fmt: skip
    assert found == json.loads(json.dumps(expected.to_dict()))


def test_diagnose_names_the_file_at_fault(folder):
    np.save("narrow.npy", np.ones((4, 3)))
    np.save("one.npy", np.ones((1, 5)))
    np.save("nan.npy", np.full((4, 5), np.nan))
    before = entries(folder)
    for file, said in (
        ("narrow.npy", "has 3 columns but pool.npy has 5"),
        ("one.npy", "at least 2 rows needed"),
        ("nan.npy", "values must be finite"),
        ("none.npy", "no such file"),
    ):
        fails(1, "diagnose", "pool.npy", file, saying=[file, said])
        fails(1, "diagnose", "pool.npy", "pool.npy", "--training", file, saying=[file, said])
    fails(1, "diagnose", "pool.npy", "pool.npy", "-k", 61, saying=["-k: must be", "61"])
    fails(2, "diagnose", "pool.npy", "pool.npy", "--backend", "no", saying=["--backend"])
    fails(2, "diagnose", "pool.npy", saying=["REAL"])
    assert entries(folder) == before
