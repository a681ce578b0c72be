"""Shared by all tests: which backends can run here, and whole-answer comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from entroselect import _dispatch
from entroselect.results import Neighbours, Selection

# Every instruction set this machine can run; each must give the same answer.
BACKENDS = [name for name, reason in _dispatch.why_not().items() if not reason]


# Those that code rows in bytes do so by themselves; their other form is asked for.
FORMS = [
    *((name, "") for name in BACKENDS),
    *((name, "bf16") for name in BACKENDS if name in ("cpu:avx512bf16", "cpu:avx512", "cpu:avx2")),
    # Narrow rows are left to a tree unless the filter is asked for.
    *((name, "int8") for name in BACKENDS if name in ("cpu:avx512bf16", "cpu:avx2")),
]


@pytest.fixture(autouse=True)
def _default_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKEND", "BLOCK", "CELLS", "FILTER", "THREADS"):
        monkeypatch.delenv(f"ENTROSELECT_{name}", raising=False)


@pytest.fixture(params=FORMS, ids="-".join)
def backend(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    _default_environment: None,
) -> str:
    """An instruction set, with the environment that makes its filter code rows in one form."""
    name, form = request.param
    if form:
        monkeypatch.setenv("ENTROSELECT_FILTER", form)
    return str(name)


def same_selection(ours: Selection, oracle: Selection) -> None:
    """Every index, every distance to the last bit, the radius and the thresholds."""
    np.testing.assert_array_equal(ours.indices, oracle.indices)
    np.testing.assert_array_equal(ours.distances, oracle.distances)
    assert ours.radius == oracle.radius
    assert (ours.thresholds is None) == (oracle.thresholds is None)
    if oracle.thresholds is not None:
        np.testing.assert_array_equal(ours.thresholds, oracle.thresholds)
    assert ours.indices.dtype == np.int64
    assert ours.distances.dtype == np.float64


def same_neighbours(ours: Neighbours, oracle: Neighbours) -> None:
    np.testing.assert_array_equal(ours.indices, oracle.indices)
    np.testing.assert_array_equal(ours.distances, oracle.distances)
    assert ours.indices.dtype == np.int64
    assert ours.distances.dtype == np.float64


def normal(n: int, d: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)
