"""nearest_distances of a set within itself against the matrix product and its peers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.support import peers, products
from benchmarks.support.harness import (
    WIDE,
    Case,
    Contest,
    Contestant,
    Skipped,
    our_backends,
    ours,
    peer,
    verifying_backend,
)
from benchmarks.support.pools import POOLS
from entroselect import nearest_distances, reference

CASES = [
    Case("normal", 20_000, 3),
    Case("normal", 100_000, 3),
    Case("normal", 20_000, 64),
    Case("offset 1000", 20_000, 64),
    Case("normal", 20_000, 384),
    Case("normal", 50_000, 384, share_s=12.0),
]
PROBE = 10  # a tenth of the rows takes a hundredth of the time


def verify(x: Any, answer: Any) -> None:
    """Everything equals another backend's, and the textbook loop's on a cut."""
    other = verifying_backend()
    if other is not None:
        again = nearest_distances(x, backend=other)
        np.testing.assert_array_equal(answer.indices, again.indices)
        np.testing.assert_array_equal(answer.distances, again.distances)
    cut = x[:1500]
    expected = reference.nearest_distances(cut)
    np.testing.assert_array_equal(nearest_distances(cut).indices, expected.indices)


def agreement(expected: Any, answer: Any) -> str:
    """Share of rows whose nearest row is another than in float64."""
    wrong = float(np.mean(np.asarray(answer[1]) != expected.indices[:, 0]))
    return "all right" if wrong == 0 else f"{100 * wrong:.2g} % wrong"


def other(
    name: str, package: str, adapter: Any, x: Any, finish: Any = None, **more: Any
) -> Contestant | Skipped:
    """A neighbour peer; `finish` turns its answer into something else within the timed call."""

    def adapted(rows: Any) -> Any:
        run = adapter(rows)
        return run if finish is None else lambda: finish(*run())

    few = x[: max(100, len(x) // PROBE)]
    share = (len(few) / len(x)) ** 2
    return peer(name, package, adapted, x, probe_arguments=(few,), probe_share=share, **more)


def neighbour_peers(x: Any, finish: Any = None, **more: Any) -> list[Contestant | Skipped]:
    """All neighbour peers that apply to the rows."""
    field = [
        other("faiss IndexFlatL2", "faiss-cpu", peers.faiss_flat, x, finish, **more),
        other("scikit-learn brute", "scikit-learn", peers.sklearn_brute, x, finish, **more),
        other("torch chunks", "torch", peers.torch_chunks, x, finish, **more),
    ]
    if x.shape[1] <= 8:
        field.append(other("SciPy cKDTree", "scipy", peers.scipy_tree, x, finish, **more))
    return field


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def bench_nearest(case: Case, benchmark: Any, save: Any) -> None:
    """The nearest other row of every row."""
    case = case.here()
    x = POOLS[case.pool](case.n, case.d)
    expected = nearest_distances(x)
    agrees = partial(agreement, expected)
    field: list[Any] = [
        ours(
            "entroselect",
            backend,
            partial(nearest_distances, x, backend=backend),
            agreement=lambda answer: agrees((answer.distances[:, 0], answer.indices[:, 0])),
        )
        for backend in our_backends((*WIDE, "cpu:portable") if case.n <= 20_000 else ())
    ]
    if case.d >= 16:
        field += [
            peer("product (NumPy)", "numpy", products.with_numpy, x, x, kind="product"),
            peer("product (torch)", "torch", products.with_torch, x, x, kind="product"),
        ]
    field += neighbour_peers(x, agreement=agrees)
    save("nearest", Contest(case, field, partial(verify, x)).run(benchmark))
