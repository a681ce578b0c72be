"""The files in a selection's result folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from entroselect import greedy_select

STEP = "entroselect.cli.select."


def report(out="out"):
    return json.loads(Path(out, "report.json").read_text())


def check_selection(out="out", k=5):
    """The selection of k rows of pool.npy stands in the folder, whole."""
    expected = greedy_select(np.load("pool.npy"), k)
    assert np.load(f"{out}/indices.npy").tolist() == expected.indices.tolist()
    with Path(out, "selection.csv").open(newline="") as file:
        assert [int(line["index"]) for line in csv.DictReader(file)] == expected.indices.tolist()
    assert report(out)["picked"] == k
    assert report(out)["radius"] == expected.radius
