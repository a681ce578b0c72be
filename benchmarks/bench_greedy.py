"""greedy_select against the matrix product and every selection peer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.support import memory, peers, products
from benchmarks.support.harness import (
    QUICK,
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
from entroselect import greedy_select, reference

PEER_CASES = [
    Case("normal", 20_000, 3, 2_000),
    Case("normal", 20_000, 64, 2_000),
    Case("normal", 20_000, 384, 2_000),
    Case("clustered", 20_000, 384, 2_000),
    Case("normal", 2_000, 64, 200),
    Case("normal", 1_000, 64, 100),
]
LARGE_CASES = [
    Case("normal", 100_000, 3, 10_000),
    Case("normal", 100_000, 64, 10_000, 8.0),
    Case("normal", 100_000, 384, 10_000, 15.0),
    Case("clustered", 100_000, 384, 10_000, 15.0),
    Case("spectrum", 100_000, 768, 10_000, 15.0),
    Case("mnist", 60_000, 784, 30_000, 20.0),
]
WEIGHTED_CASES = [Case("normal", 20_000, 64, 2_000), Case("clustered", 20_000, 384, 2_000)]
SWEEP_N = [Case("normal", n, 64, n // 10, 1.0) for n in (5_000, 10_000, 20_000, 40_000, 80_000)]
SWEEP_K = [Case("normal", 20_000, 64, k, 1.0) for k in (200, 500, 1_000, 4_000, 8_000)]
MEMORY_CASES = {(20_000, 384), (100_000, 3), (100_000, 64), (100_000, 384), (100_000, 768)}

Adapter = Callable[[Any, int], Callable[[], Any]]


def verify(x: Any, k: int, answer: Any) -> None:
    """The whole list equals another backend's, and the textbook loop's on a cut."""
    other = verifying_backend()
    if other is not None:
        np.testing.assert_array_equal(answer.indices, greedy_select(x, k, backend=other).indices)
    cut, few = x[:1500], min(k, 150)
    expected = reference.greedy_select(cut, few).indices
    np.testing.assert_array_equal(greedy_select(cut, few).indices, expected)


def agreement(x: Any, expected: Any, picks: Any) -> str:
    """How many positions of a peer's list hold our pick; ours starts where the peer did."""
    picks = np.asarray(picks, dtype=np.int64)
    where = ""
    if picks[0] != expected[0]:
        where = f", started at row {picks[0]}"
        expected = greedy_select(x, len(picks), start=int(picks[0])).indices
    return f"{int(np.sum(picks == expected))} of {len(picks)}{where}"


def contestants(
    case: Case, x: Any, *, all_peers: bool, backends: tuple[str, ...]
) -> list[Contestant | Skipped]:
    """Ours first, then the products, then the peers that apply."""
    k = case.k
    expected = greedy_select(x, k).indices
    agrees = partial(agreement, x, expected)

    def select(backend: str) -> Contestant:
        return ours(
            "entroselect",
            backend,
            lambda: greedy_select(x, k, backend=backend),
            agreement=lambda answer: agrees(answer.indices),
        )

    def other(name: str, package: str, adapter: Adapter, **more: Any) -> Contestant | Skipped:
        few = max(2, k // 50)
        probe = {"probe_arguments": (x, few), "probe_share": few / k} if k >= 500 else {}
        return peer(name, package, adapter, x, k, agreement=agrees, **probe, **more)

    field = [select(backend) for backend in our_backends(backends)]
    if case.d >= 16 and case.pool != "fingerprints":
        y = x[expected]
        for name, package, product in (
            ("product (NumPy)", "numpy", products.with_numpy),
            ("product (torch)", "torch", products.with_torch),
        ):
            field.append(peer(name, package, product, x, y, kind="product"))
    if all_peers:
        field += [
            other("NumPy textbook loop", "numpy", peers.numpy_textbook, threads=1),
            other("NumPy matrix-vector loop", "numpy", peers.numpy_matrix_vector),
            other("torch textbook loop", "torch", peers.torch_textbook),
            other("scikit-matter FPS", "skmatter", peers.skmatter_fps),
            other("scikit-matter VoronoiFPS", "skmatter", peers.skmatter_voronoi),
        ]
    if all_peers or case.d <= 8:
        field.append(other("fpsample vanilla", "fpsample", peers.fpsample_vanilla, threads=1))
    if case.d <= 8:
        field += [
            other("fpsample bucket, h=7", "fpsample", partial(peers.fpsample_bucket, 7), threads=1),
            other("fpsample bucket, h=9", "fpsample", partial(peers.fpsample_bucket, 9), threads=1),
            other("fpsample npdu", "fpsample", peers.fpsample_npdu, kind="heuristic", threads=1),
        ]
    if case.n <= 2_000:
        field.append(other("RDKit LazyPick", "rdkit", peers.rdkit_lazy, threads=1))
    return field


def compare(case: Case, benchmark: Any, **which: Any) -> list[dict[str, Any]]:
    """Runs one case; raises FileNotFoundError if its data is not here."""
    case = case.here()
    x = POOLS[case.pool](case.n, case.d)
    field = contestants(case, x, **which)
    return Contest(case, field, partial(verify, x, case.k)).run(benchmark)


@pytest.mark.parametrize("case", PEER_CASES, ids=lambda case: case.label)
def bench_against_peers(case: Case, benchmark: Any, save: Any) -> None:
    """Every peer that applies."""
    rows = compare(case, benchmark, all_peers=True, backends=(*WIDE, "cpu:portable"))
    _add_memory(case, rows)
    save("greedy", rows)


@pytest.mark.parametrize("case", LARGE_CASES, ids=lambda case: case.label)
def bench_large(case: Case, benchmark: Any, save: Any) -> None:
    """Ours, the products, and fpsample in three dimensions."""
    try:
        rows = compare(case, benchmark, all_peers=False, backends=WIDE)
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    _add_memory(case, rows)
    save("greedy", rows)


def bench_fingerprints(benchmark: Any, save: Any) -> None:
    """Bits: ours by Euclidean distance, RDKit by Tanimoto, so the picks are not the same."""
    case = Case("fingerprints", 20_000, 1024, 2_000).here()
    x = POOLS[case.pool](case.n, case.d)
    field = contestants(case, x, all_peers=False, backends=())
    field.append(
        peer(
            "RDKit LazyBitVectorPick",
            "rdkit",
            peers.rdkit_bits,
            x,
            case.k,
            kind="other metric",
            threads=1,
            note="Tanimoto distance",
        )
    )
    save("greedy", Contest(case, field, partial(verify, x, case.k)).run(benchmark))


@pytest.mark.parametrize("case", WEIGHTED_CASES, ids=lambda case: case.label)
def bench_weights(case: Case, benchmark: Any, save: Any) -> None:
    """Weighted farthest-first beside plain: `ratio_to_ours` of plain is below 1 by what weights
    cost."""
    case = case.here()
    x = POOLS[case.pool](case.n, case.d)
    weights = np.random.default_rng(0).uniform(0.5, 1.5, case.n)

    def check(answer: Any) -> None:
        cut, few = x[:1500], min(case.k, 150)
        expected = reference.greedy_select(cut, few, weights=weights[:1500]).indices
        found = greedy_select(cut, few, weights=weights[:1500]).indices
        np.testing.assert_array_equal(found, expected)

    field = [
        ours("entroselect, weights", "auto", lambda: greedy_select(x, case.k, weights=weights)),
        ours("entroselect", "auto", lambda: greedy_select(x, case.k)),
    ]
    save("weights", Contest(case, field, check).run(benchmark))


@pytest.mark.parametrize("case", SWEEP_N + SWEEP_K, ids=lambda case: case.label)
def bench_sweep(case: Case, benchmark: Any, save: Any) -> None:
    """Time against n and against k, for the picture."""
    case = case.here()
    x = POOLS[case.pool](case.n, case.d)
    field = contestants(case, x, all_peers=True, backends=())
    slow = ("NumPy textbook loop", "torch textbook loop", "scikit-matter FPS", "fpsample vanilla")
    kept = [contestant for contestant in field if contestant.name not in slow]
    save("greedy_sweep", Contest(case, kept, partial(verify, x, case.k)).run(benchmark))


def _add_memory(case: Case, rows: list[dict[str, Any]]) -> None:
    if case.pool != "mnist" and (case.n, case.d) in MEMORY_CASES and not QUICK:
        rows[0]["peak_extra_mib"] = memory.peak_extra_mib("greedy", case)
