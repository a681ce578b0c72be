"""Whole calls of backend "cuda" against the fp16 product of the same shapes and against the other
libraries that are installed, all in the same run; answers checked on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.common import Wrong, first_line, normal, row, timed
from benchmarks.gpu.exact import checked, farthest, nearest_right
from benchmarks.gpu.peers import (
    NEIGHBOURS,
    SELECTIONS,
    Peer,
    product,
    textbook_step,
    wrong_neighbours,
)
from benchmarks.gpu.watch import watch
from benchmarks.support import record
from entroselect import greedy_select, nearest_distances
from entroselect.results import on_host

PRODUCT = "torch.mm, fp16"

# Picks and rows whose answers are checked one by one; pools of up to this many numbers are given to
# the CPU backend too, which is itself held to float64.
FEW_PICKS, FEW_ROWS, SMALL = 200, 64, 1 << 20


def greedy(n: int, d: int, k: int, device: str, seconds: float) -> Iterator[record.Row]:
    """Selection against the product and, per pick, against the textbook loop.

    Raises:
        Wrong: some of the picks that were checked are not those of the definition.
    """
    pool = normal(n, d, device)
    case, shape = f"greedy normal {n} x {d}, k={k}", (n, d, k)
    matmul, _ = timed(product(pool, k), seconds / 4)
    calls: list[Any] = []
    ours, runs = timed(lambda: calls.append(greedy_select(pool, k, backend="cuda")), seconds)
    found = calls[-1]
    right, agreement = _agreement(pool, found)
    indices = np.ascontiguousarray(on_host(found.indices), dtype="<i8")
    digest = hashlib.sha256(indices.tobytes()).hexdigest()[:8]
    profile = found.profile
    note = f"{profile['rounds']} rounds, {profile['share_of_pairs']:.3f} of pairs, picks {digest}"
    yield row(case, shape, "entroselect", "ours", rounds=runs, p50_s=f"{ours:.5g}",
              matmul_ratio=f"{ours / matmul:.4g}", agreement=agreement,
              note=f"{1e6 * ours / k:.3g} us a pick, {note}")  # fmt: skip
    if not right:
        raise Wrong(f"{case}: {agreement}")
    yield row(case, shape, PRODUCT, "product", p50_s=f"{matmul:.5g}",
              note=f"{2e-12 * n * d * k / matmul:.0f} TFLOP/s")  # fmt: skip
    steps, _ = timed(textbook_step(pool), seconds / 4)
    loop = steps / 10 * k
    yield row(case, shape, "torch loop, fp32, k picks at its rate", "exact",
              p50_s=f"{loop:.5g}", ratio_to_ours=f"{loop / ours:.4g}")  # fmt: skip
    yield from against(
        SELECTIONS, case, shape, float(n) * d * k, ours, seconds / 4, (pool, k), lambda picks: ""
    )


def _agreement(pool: torch.Tensor, found: Any) -> tuple[bool, str]:
    """Whether a selection is right as far as it is checked, and how it was."""
    k = len(found.indices)
    if pool.numel() <= SMALL:
        expected = greedy_select(on_host(pool), k, backend="cpu")
        same = int(np.sum(on_host(found.indices) == expected.indices))
        same_distances = np.array_equal(on_host(found.distances), expected.distances)
        return same == k and same_distances, f"{same} of {k} as on the CPU"
    few = min(k, FEW_PICKS)
    first = farthest(pool, torch.as_tensor(found.indices[:few]))
    wrong, uncovered, drawn = checked(pool, found)
    return first == few and wrong == uncovered == 0, (
        f"{first} of {few} first picks as in float64, {wrong} of {drawn} distances wrong, "
        f"{uncovered} of {drawn} rows too far"
    )


def nearest(n: int, d: int, device: str, seconds: float) -> Iterator[record.Row]:
    """All pairs against the product of the set with itself.

    Raises:
        Wrong: a row that was checked has another neighbour than in float64.
    """
    pool = normal(n, d, device)
    case, shape = f"nearest normal {n} x {d}", (n, d, 1)
    matmul, _ = timed(product(pool, n), seconds / 4)
    calls: list[Any] = []
    ours, runs = timed(lambda: calls.append(nearest_distances(pool, backend="cuda")), seconds)
    indices = torch.as_tensor(calls[-1].indices)
    few = min(n, FEW_ROWS)
    right = nearest_right(pool, indices[:, 0], few)
    agreement = f"{right} of {few} as in float64"
    yield row(case, shape, "entroselect", "ours", rounds=runs, p50_s=f"{ours:.5g}",
              matmul_ratio=f"{ours / matmul:.4g}", agreement=agreement,
              note=f"{100 * matmul / ours:.0f} % of the product's rate")  # fmt: skip
    if right < few:
        raise Wrong(f"{case}: {agreement}")
    yield row(case, shape, PRODUCT, "product", p50_s=f"{matmul:.5g}",
              note=f"{2e-12 * n * n * d / matmul:.0f} TFLOP/s")  # fmt: skip
    yield from against(
        NEIGHBOURS, case, shape, float(n) * n * d, ours, seconds / 4, (pool,),
        lambda answer: wrong_neighbours(indices, answer),
    )  # fmt: skip


def against(
    peers: list[Peer],
    case: str, shape: tuple[int, int, int], work: float, ours: float, seconds: float,
    given: tuple[Any, ...], wrong: Callable[[Any], str],
) -> Iterator[record.Row]:  # fmt: skip
    """A row for every peer that is installed and quick enough and does not fail; else a line."""
    for name, package, peer, most in peers:
        if work > most:
            print(f"  skipped, would take too long: {name} on {case}")
            continue
        try:
            run = peer(*given)
            answer = run()
            taken, runs = timed(run, seconds, warm=True)
        except ImportError:
            print(f"  skipped, not installed: {package}")
            continue
        except Exception as error:  # another library's failure is no failure of this run
            print(f"  skipped, failed: {name} on {case}: {first_line(error)}")
            continue
        made = row(case, shape, name, "other", rounds=runs, p50_s=f"{taken:.5g}",
                   ratio_to_ours=f"{taken / ours:.4g}", agreement=wrong(answer))  # fmt: skip
        yield made | {"version": record.version_of(package)}


def profiled(n: int, d: int, k: int, device: str, seconds: float) -> Iterator[record.Row]:
    """Where the time of one selection goes: a table of kernels, and how often the host waits."""
    pool = normal(n, d, device)
    taken, _ = timed(lambda: greedy_select(pool, k, backend="cuda"), 0.0)
    calls: list[Any] = []
    seen = watch(lambda: calls.append(greedy_select(pool, k, backend="cuda")))
    rounds = calls[0].profile["rounds"]
    case = f"profile of greedy normal {n} x {d}, k={k}"
    waits = sum(map(len, seen.waits.values()))
    table = [
        f"{case}: {taken:.4g} s without the profiler, {rounds} rounds",
        *seen.table(),
        str(calls[0].profile),
    ]
    yield row(case, (n, d, k), "entroselect", "ours", p50_s=f"{taken:.5g}",
              note=f"{rounds} rounds, {waits} waits, device busy {seen.busy:.4g} of "
                   f"{seen.wall:.4g} s under the profiler") | {"table": table}  # fmt: skip
