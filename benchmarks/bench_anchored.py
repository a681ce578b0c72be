"""anchored_select against what a user has without it, by time and by the objective that is
reached."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.support import peers
from benchmarks.support.harness import Case, Contest, our_backends, ours, peer, verifying_backend
from benchmarks.support.pools import POOLS
from entroselect import anchored_select, greedy_select

CASES = [Case("normal", 20_000, 64, 2_000)]


def verify(x: Any, real: Any, k: int, answer: Any) -> None:
    """The whole list equals another backend's, and the twin's on a cut."""
    other = verifying_backend()
    if other is not None:
        again = anchored_select(x, k, real, backend=other)
        np.testing.assert_array_equal(answer.indices, again.indices)
    cut, few, some = x[:120], min(k, 12), real[:120]
    expected = anchored_select(cut, few, some, backend="reference").indices
    np.testing.assert_array_equal(anchored_select(cut, few, some).indices, expected)


def reached(x: Any, real: Any, picks: Any) -> str:
    """What those picks are worth: no exchange is made."""
    found = anchored_select(x, len(picks), real, start=np.asarray(picks), max_exchanges=0)
    return f"objective {found.objective:.4g}, energy distance {found.energy_distance:.4g}"


@pytest.mark.filterwarnings("ignore:reference. too small:UserWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def bench_anchored(case: Case, benchmark: Any, save: Any) -> None:
    """A pool that scatters, 1.3 times as wide as the reference of half as many rows."""
    case = case.here()
    x = POOLS[case.pool](case.n, case.d) * np.float32(1.3)
    real = np.random.default_rng(1).standard_normal((case.n // 2, case.d), dtype=np.float32)
    told = partial(reached, x, real)
    field: list[Any] = [
        ours(
            "entroselect",
            backend,
            partial(anchored_select, x, case.k, real, backend=backend),
            agreement=lambda answer: told(answer.indices),
        )
        for backend in our_backends(())
    ]
    field += [
        peer(name, "numpy", adapter, x, case.k, *more, kind="heuristic", agreement=told)
        for name, adapter, more in (
            ("random rows", peers.numpy_random, ()),
            ("greedy_select", lambda x, k: lambda: greedy_select(x, k).indices, ()),
            ("NumPy herding", peers.numpy_herding, (real,)),
            ("NumPy exchange", peers.numpy_exchange, (real,)),
        )
    ]
    save("anchored", Contest(case, field, partial(verify, x, real, case.k)).run(benchmark))
