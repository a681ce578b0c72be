"""The engine's work on fixed pools, in counters: a lost optimisation shows without a timer.

Counters are the same on every machine for one instruction set and one thread. Where a change means
to alter them, the values here are set to what the failing test prints, in the same commit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import greedy_select, open_pool, threshold_select
from tests.conftest import BACKENDS

# (rounds, pairs in thousands, exact rechecks in thousands), or (rounds, pairs, MB read).
KNOWN = {
    "cpu:portable": {
        "normal": (23, 20060, 58.6),
        "half of it": (36, 8836, 17.6),
        "clusters": (30, 21670, 54.8),
        "threshold": (26, 21164, 55.1),
    },
    "cpu:avx2": {
        "normal": (21, 21426, 69.7),
        "half of it": (34, 9047, 21.2),
        "clusters": (33, 39038, 120.2),
        "threshold": (25, 23722, 66.1),
        "streamed": (13, 5407, 37.6),
    },
}
MORE = 1.1  # by this factor a counter may differ: float32 sums may be added in another order


@pytest.fixture(scope="module")
def pools() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((30_000, 32)).astype(np.float32)
    centres = rng.standard_normal((300, 48))[rng.integers(0, 300, 30_000)] * 3
    clusters = (centres + rng.standard_normal((30_000, 48)) * 0.3).astype(np.float32)
    return {"normal": normal, "clusters": clusters}


def counted(case: str, pools: dict[str, Any], backend: str, folder: Path) -> tuple[float, ...]:
    pool = pools.get(case, pools["normal"])
    if case == "streamed":
        np.save(folder / "pool.npy", pool)
        rows = open_pool(folder / "pool.npy")
        profile = greedy_select(rows, 1000, memory_limit="3MiB", backend=backend).profile
        return profile["rounds"], profile["pairs"] / 1e3, profile["bytes_read"] / 1e6
    if case == "half of it":
        found = greedy_select(pool[:6000], 3000, backend=backend)
    elif case == "threshold":
        found = threshold_select(pool, 3000, backend=backend)
    else:
        found = greedy_select(pool, 3000, backend=backend)
    return found.profile["rounds"], found.profile["pairs"] / 1e3, found.profile["rechecks"] / 1e3


@pytest.mark.parametrize("backend", [name for name in KNOWN if name in BACKENDS])
def test_the_work_is_what_it_was(
    backend: str, pools: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENTROSELECT_THREADS", "1")
    found = {case: counted(case, pools, backend, tmp_path) for case in KNOWN[backend]}
    told = {case: tuple(round(value, 1) for value in values) for case, values in found.items()}
    for case, known in KNOWN[backend].items():
        for was, now in zip(known, found[case], strict=True):
            assert was / MORE <= now <= was * MORE, (
                f"{case}: {told[case]}, was {known}; all: {told}"
            )
