"""kl_entropy against the same estimate on every neighbour peer."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.bench_nearest import neighbour_peers
from benchmarks.support import memory, products
from benchmarks.support.harness import Case, Contest, our_backends, ours, peer, verifying_backend
from benchmarks.support.pools import POOLS
from entroselect import kl_entropy

CASES = [
    Case("normal", 20_000, 3),
    Case("normal", 20_000, 64),
    Case("offset 1000", 20_000, 64),
    Case("normal", 20_000, 384),
    Case("normal", 100_000, 3),
    Case("normal", 50_000, 384, share_s=12.0),
]


def estimate(d: int, distances: Any, _indices: Any) -> float:
    """The Kozachenko-Leonenko formula (first neighbours) on given distances, in nats."""
    from scipy.special import digamma

    ball = 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d + 1)
    with np.errstate(divide="ignore"):  # a distance rounded to 0 makes -inf
        logs = np.log(np.asarray(distances, dtype=np.float64))
    return float(digamma(len(logs)) - digamma(1) + ball + d * logs.mean())


def verify(x: Any, answer: Any) -> None:
    """Equal on another backend, bit by bit; and on a cut to the textbook loop's."""
    other = verifying_backend()
    if other is not None:
        assert float(answer) == float(kl_entropy(x, backend=other))
    assert float(kl_entropy(x[:1500])) == float(kl_entropy(x[:1500], backend="reference"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def bench_entropy(case: Case, benchmark: Any, save: Any) -> None:
    """First neighbours of a set within itself, as one number."""
    case = case.here()
    x = POOLS[case.pool](case.n, case.d)
    expected = float(kl_entropy(x))

    def agreement(nats: Any) -> str:
        error = abs(float(nats) - expected)
        return f"off by {error:.1g} nats" if math.isfinite(error) else f"{float(nats)} nats"

    field: list[Any] = [
        ours("entroselect", backend, partial(kl_entropy, x, backend=backend), agreement=agreement)
        for backend in our_backends(())
    ]
    if case.d >= 16:
        field += [
            peer("product (NumPy)", "numpy", products.with_numpy, x, x, kind="product"),
            peer("product (torch)", "torch", products.with_torch, x, x, kind="product"),
        ]
    field += neighbour_peers(x, partial(estimate, case.d), agreement=agreement)
    rows = Contest(case, field, partial(verify, x)).run(benchmark)
    if case.n == 50_000:
        rows[0]["peak_extra_mib"] = memory.peak_extra_mib("entropy", case)
    save("entropy", rows)
