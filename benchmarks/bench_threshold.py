"""threshold_select against the matrix product of its picks and against plain loops."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.support import peers, products
from benchmarks.support.harness import Case, Contest, our_backends, ours, peer, verifying_backend
from benchmarks.support.pools import POOLS
from entroselect import reference, threshold_select

DECAY = 0.95
CASES = [Case("normal", 20_000, 384, 2_000), Case("clustered", 20_000, 384, 2_000)]


def verify(x: Any, k: int, answer: Any) -> None:
    """The whole list equals another backend's, and the textbook loop's on a cut."""
    other = verifying_backend()
    if other is not None:
        again = threshold_select(x, k, decay=DECAY, backend=other)
        np.testing.assert_array_equal(answer.indices, again.indices)
    cut, few = x[:1500], min(k, 150)
    expected = reference.threshold_select(cut, few, decay=DECAY).indices
    np.testing.assert_array_equal(threshold_select(cut, few, decay=DECAY).indices, expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def bench_threshold(case: Case, benchmark: Any, save: Any) -> None:
    """Decay from the widest distance, as when no threshold is given."""
    case = case.here()
    x = POOLS[case.pool](case.n, case.d)
    expected = threshold_select(x, case.k, decay=DECAY).indices

    def agreement(picks: Any) -> str:
        return f"{int(np.sum(np.asarray(picks) == expected))} of {len(expected)}"

    field: list[Any] = [
        ours(
            "entroselect",
            backend,
            partial(threshold_select, x, case.k, decay=DECAY, backend=backend),
            agreement=lambda answer: agreement(answer.indices),
        )
        for backend in our_backends()
    ]
    y = x[expected]
    field += [
        peer("product (NumPy)", "numpy", products.with_numpy, x, y, kind="product"),
        peer("product (torch)", "torch", products.with_torch, x, y, kind="product"),
        peer(
            "NumPy matrix-vector loop",
            "numpy",
            peers.numpy_threshold,
            x,
            case.k,
            DECAY,
            agreement=agreement,
        ),
    ]
    save("threshold", Contest(case, field, partial(verify, x, case.k)).run(benchmark))
