"""`entroselect entropy`."""

from __future__ import annotations

import json

import numpy as np

import entroselect
from tests.support.commands import fails, ok


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
