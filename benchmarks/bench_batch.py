"""greedy_select_batch against what selects from a batch of point clouds otherwise."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.support import peers
from benchmarks.support.harness import (
    QUICK,
    WIDE,
    Case,
    Contest,
    our_backends,
    ours,
    peer,
    verifying_backend,
)
from benchmarks.support.pools import POOLS
from entroselect import greedy_select_batch, reference

CLOUDS = 16 if QUICK else 1024
CASES = [Case("normal", 2_048, 3, 512)]


def verify(clouds: Any, k: int, answer: Any) -> None:
    """Every cloud equals another backend's, and the first the textbook loop's."""
    other = verifying_backend()
    if other is not None:
        again = greedy_select_batch(clouds, k, backend=other)
        np.testing.assert_array_equal(answer.indices, again.indices)
    expected = reference.greedy_select(clouds[0], k).indices
    np.testing.assert_array_equal(answer.indices[0], expected)


def agreement(clouds: Any, picks: Any) -> str:
    """How many clouds' lists are ours; ours start where the peer did."""
    expected = greedy_select_batch(clouds, picks.shape[1], start=picks[:, 0]).indices
    return f"{int(np.sum(np.all(picks == expected, axis=1)))} of {len(picks)} clouds"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def bench_batch(case: Case, benchmark: Any, save: Any) -> None:
    """Many small clouds at once."""
    case = case.here()
    clouds = POOLS[case.pool](CLOUDS * case.n, case.d).reshape(CLOUDS, case.n, case.d)
    case = Case(f"{CLOUDS} {case.pool} clouds of", case.n, case.d, case.k)
    agrees = partial(agreement, clouds)
    field: list[Any] = [
        ours(
            "entroselect",
            backend,
            partial(greedy_select_batch, clouds, case.k, backend=backend),
            agreement=lambda answer: agrees(answer.indices),
        )
        for backend in our_backends((*WIDE, "cpu:portable"))
    ]
    for height in (3, 4, 7):
        name, adapter = f"fpsample bucket, h={height}", partial(peers.fpsample_batch, height)
        field.append(peer(name, "fpsample", adapter, clouds, case.k, agreement=agrees, threads=1))
    probe = {"probe_arguments": (clouds[:8], case.k), "probe_share": 8 / CLOUDS}
    field.append(
        peer(
            "torch_cluster fps",
            "torch-cluster",
            peers.torch_cluster_batch,
            clouds,
            case.k,
            agreement=agrees,
            **probe,
        )
    )
    save("batch", Contest(case, field, partial(verify, clouds, case.k)).run(benchmark))
