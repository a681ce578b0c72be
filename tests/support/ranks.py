"""Runs cases of tests/support/ranks_run.py in several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from entroselect import reference
from tests.support.processes import ROOT, python


def run(size: int, folder: Path, *cases: str, **environment: str) -> list[list[Any]]:
    """For every case what each process found: a dict, or the text of its error."""
    folder.mkdir(exist_ok=True)
    python(
        "-m",
        "tests.support.ranks_run",
        size,
        folder,
        *cases,
        cwd=ROOT,
        seconds=300,
        environment={"ENTROSELECT_THREADS": "1", "OMP_NUM_THREADS": "1", **environment},
    )
    found: list[list[Any]] = []
    for case in cases:
        found.append([])
        for rank in range(size):
            out = folder / f"{case.replace('/', '_')}.{rank}"
            if Path(f"{out}.npz").exists():
                with np.load(f"{out}.npz") as arrays:
                    found[-1].append(dict(arrays))
            else:
                text = Path(f"{out}.txt")
                found[-1].append(text.read_text() if text.exists() else None)
    return found


def same(found: Any, oracle: reference.Selection, prefix: str = "") -> None:
    assert isinstance(found, dict), found
    assert found[f"{prefix}indices"].tolist() == oracle.indices.tolist()
    assert found[f"{prefix}distances"].tolist() == oracle.distances.tolist()
    assert float(found[f"{prefix}radius"]) == oracle.radius
    if oracle.thresholds is not None:
        assert found[f"{prefix}thresholds"].tolist() == oracle.thresholds.tolist()
