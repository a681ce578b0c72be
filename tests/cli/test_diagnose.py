"""`entroselect diagnose`."""

from __future__ import annotations

import json
import shlex

import numpy as np

import entroselect
from tests.support.commands import entries, fails, ok


def test_diagnose_prints_what_the_library_finds(folder):
    pool = np.load("pool.npy")
    np.save("real.npy", pool[::-1][:50] * 0.5)
    np.save("training.npy", pool[:9])
    expected = entroselect.diagnose(pool, np.load("real.npy"))
    said = ok("diagnose", "pool.npy", "real.npy").stdout
    assert said.startswith(f"{expected}\n\nentroselect select pool.npy ")
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


def test_diagnose_ends_with_the_command_that_follows_its_advice(folder):
    """Pools that scatter and that repeat, and references that are large enough and too small."""
    draw = np.random.default_rng(0)
    real = draw.standard_normal((300, 4))
    np.save("real ones.npy", real)
    np.save("few.npy", real[:3])
    np.save("wide.npy", 2 * draw.standard_normal((300, 4)))
    np.save("near.npy", real + 1e-3)
    np.save("same.npy", real[:30].repeat(9, axis=0))
    for pool, reference, expected in (
        ("wide.npy", "real ones.npy", "-k 150 --anchor 'real ones.npy'"),
        ("same.npy", "real ones.npy", "-k 135 --anchor 'real ones.npy' --diversity 0.01"),
        ("same.npy", "few.npy", "-k 135 --method greedy"),
        ("near.npy", "few.npy", "-k 150 --method random"),
    ):
        said = ok("diagnose", pool, reference).stdout.splitlines()[-1]
        assert said == f"entroselect select {pool} {expected} -o chosen"
    ok(*shlex.split(said)[1:])
    assert len(np.load("chosen/indices.npy")) == 150


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
