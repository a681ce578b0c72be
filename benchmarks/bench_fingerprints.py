"""greedy_select by Tanimoto distance, against RDKit's lazy picker of bit vectors."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.support import peers
from benchmarks.support.harness import Case, Contest, our_backends, ours, peer, verifying_backend
from benchmarks.support.pools import POOLS
from entroselect import greedy_select, reference

CASES = [Case("fingerprints", 20_000, 2_048, 2_000)]


def verify(packed: Any, k: int, answer: Any) -> None:
    """Equals another backend's, and on the first rows the textbook loop's."""
    other = verifying_backend()
    if other is not None:
        again = greedy_select(packed, k, metric="tanimoto", backend=other)
        np.testing.assert_array_equal(answer.indices, again.indices)
    few = packed[:1_500]
    ours_of_few = greedy_select(few, 100, metric="tanimoto").indices
    expected = reference.greedy_select(few, 100, metric="tanimoto").indices
    np.testing.assert_array_equal(ours_of_few, expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def bench_fingerprints(case: Case, benchmark: Any, save: Any) -> None:
    """The same picks, from row 0."""
    case = case.here()
    bits = POOLS[case.pool](case.n, case.d)
    packed = np.packbits(bits, axis=1)
    expected = greedy_select(packed, case.k, metric="tanimoto").indices

    def agreement(picks: Any) -> str:
        return f"{int(np.sum(np.asarray(picks) == expected))} of {case.k}"

    field: list[Any] = [
        ours(
            "entroselect",
            backend,
            partial(greedy_select, packed, case.k, metric="tanimoto", backend=backend),
            agreement=lambda answer: agreement(answer.indices),
        )
        for backend in our_backends(("cpu:avx2", "cpu:portable"))
    ]
    field.append(
        peer(
            "RDKit LazyBitVectorPick",
            "rdkit",
            peers.rdkit_bits,
            bits,
            case.k,
            agreement=agreement,
            threads=1,
        )
    )
    save("fingerprints", Contest(case, field, partial(verify, packed, case.k)).run(benchmark))
