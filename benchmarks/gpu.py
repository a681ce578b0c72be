"""Measures backend "cuda" on a GPU: how far scores err, then time against the fp16 product of the
same shapes in the same run. `make gpu-check` runs it after the tests.

    python -m benchmarks.gpu [--seconds 300] [--results benchmarks/results] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import record
from entroselect import greedy_select, nearest_distances
from entroselect.results import on_host

PRODUCT = "torch.mm, fp16"


def timed(run: Callable[[], Any], seconds: float) -> tuple[float, int]:
    """(median seconds, runs): once to warm up, then for that long, at most 9 times."""
    run()
    taken: list[float] = []
    began = time.perf_counter()
    while not taken or (time.perf_counter() - began < seconds and len(taken) < 9):
        _wait()
        start = time.perf_counter()
        run()
        _wait()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), len(taken)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def normal(n: int, d: int, device: str) -> torch.Tensor:
    """A float32 pool."""
    return torch.randn((n, d), generator=torch.Generator(device).manual_seed(0), device=device)


def product(pool: torch.Tensor, k: int) -> Callable[[], None]:
    """(n, d) by (d, k) in fp16, in chunks of columns that reuse one output."""
    halves = pool.half() if pool.is_cuda else pool  # a CPU's fp16 product says nothing
    step = min(k, 4096)
    out = torch.empty((len(pool), step), dtype=halves.dtype, device=pool.device)

    def run() -> None:
        for start in range(0, k, step):
            part = halves[start % len(halves) :][: min(step, k - start)]
            torch.mm(halves, part.T, out=out[:, : len(part)])

    return run


def textbook_step(pool: torch.Tensor) -> Callable[[], None]:
    """Ten picks of the float32 loop."""
    nearest = torch.full((len(pool),), float("inf"), device=pool.device)

    def run() -> None:
        row = torch.zeros((), dtype=torch.int64, device=pool.device)
        for _ in range(10):
            torch.minimum(nearest, ((pool - pool[row]) ** 2).sum(dim=1), out=nearest)
            row = nearest.argmax()

    return run


def _row(case: str, shape: tuple[int, int, int], who: str, kind: str, **more: Any) -> record.Row:
    n, d, k = shape
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "case": case, "n": n, "d": d, "k": k, "contestant": who, "kind": kind,
        "version": "0.1.0" if kind == "ours" else torch.__version__,
        "instruction_set": f"cuda: {gpu}", **more, **record.provenance(),
    }  # fmt: skip


def greedy(n: int, d: int, k: int, device: str, seconds: float) -> list[record.Row]:
    """Selection against the product and, per pick, against the textbook loop."""
    pool = normal(n, d, device)
    rounds: list[Any] = []
    ours, runs = timed(lambda: rounds.append(greedy_select(pool, k, backend="cuda")), seconds)
    profile = rounds[-1].profile
    note = ", ".join(f"{name} {profile[name]:.3g}" for name in ("rounds", "share_of_pairs"))
    agreement = "not compared"
    few = min(k, 200)
    head = on_host(rounds[-1].indices[:few])
    if n * d <= 1 << 26:  # the CPU backend, itself held to float64, on the same pool
        expected = greedy_select(on_host(pool), few).indices
        agreement = f"{int(np.sum(head == expected))} of {few} as on the CPU"
    matmul, _ = timed(product(pool, k), seconds / 4)
    steps, _ = timed(textbook_step(pool), seconds / 4)
    case, shape = f"greedy normal {n} x {d}, k={k}", (n, d, k)
    per_pick = steps / 10 / (ours / k)
    return [
        _row(case, shape, "entroselect", "ours", rounds=runs, p50_s=f"{ours:.5g}",
             matmul_ratio=f"{ours / matmul:.4g}", agreement=agreement, note=note),
        _row(case, shape, PRODUCT, "product", p50_s=f"{matmul:.5g}",
             note=f"{2e-12 * n * d * k / matmul:.0f} TFLOP/s"),
        _row(case, shape, "torch loop, fp32, k picks at its rate", "exact",
             p50_s=f"{steps / 10 * k:.5g}", ratio_to_ours=f"{per_pick:.4g}"),
    ]  # fmt: skip


def nearest(n: int, d: int, device: str, seconds: float) -> list[record.Row]:
    """All pairs against the product of the set with itself."""
    pool = normal(n, d, device)
    found: list[Any] = []
    ours, runs = timed(lambda: found.append(nearest_distances(pool, backend="cuda")), seconds)
    matmul, _ = timed(product(pool, n), seconds / 4)
    few = min(n, 64)
    exact = on_host(pool).astype(np.float64)
    wrong = 0
    for row in range(few):
        squared = ((exact - exact[row]) ** 2).sum(axis=1)
        squared[row] = np.inf
        wrong += int(np.argmin(squared) != int(found[-1].indices[row, 0]))
    case, shape = f"nearest normal {n} x {d}", (n, d, 1)
    return [
        _row(case, shape, "entroselect", "ours", rounds=runs, p50_s=f"{ours:.5g}",
             matmul_ratio=f"{ours / matmul:.4g}",
             agreement=f"{few - wrong} of {few} as in float64",
             note=f"{100 * matmul / ours:.0f} % of the product's rate"),
        _row(case, shape, PRODUCT, "product", p50_s=f"{matmul:.5g}",
             note=f"{2e-12 * n * n * d / matmul:.0f} TFLOP/s"),
    ]  # fmt: skip


def certificate(cuda: Any) -> list[str]:
    """How much of the allowed accumulation error rows built for it reach; raises if all of it."""
    from tests.cuda_scores import hard_rows, measured

    lines, roundings = [], 0.0
    for d in (16, 64, 128, 384, 768, 1536, 4096):
        most = 0.0
        for seed in range(20):
            score, exact, allowed = measured(cuda, *hard_rows(d, seed))
            most = max(most, float(np.max(np.abs(score - exact) / allowed)))
        roundings = most * (2 * max(32, -(-d // 64) * 64) + 32)
        lines.append(f"d={d}: {most:.3f} of the bound, {roundings:.1f} roundings of 2^-23")
        if most > 1:
            raise SystemExit("WRONG: the accumulation term is broken\n" + "\n".join(lines))
    return lines


CASES: list[tuple[str, Callable[..., list[record.Row]], tuple[int, ...]]] = [
    ("greedy", greedy, (10_000, 64, 1_000)),
    ("greedy", greedy, (100_000, 3, 10_000)),
    ("greedy", greedy, (1_000_000, 768, 100_000)),
    ("nearest", nearest, (1_000_000, 128)),
    ("nearest", nearest, (1_000_000, 768)),
    ("greedy", greedy, (1_000_000, 384, 500_000)),
]


def run(device: str, seconds: float, results: Path, quick: bool) -> list[record.Row]:
    """Every case that still fits into the time; writes what was measured after each."""
    began = time.perf_counter()
    rows: dict[str, list[record.Row]] = {}
    for name, measure, shape in CASES:
        if time.perf_counter() - began > seconds:
            print(f"skipped, no time left: {name} {shape}")
            continue
        if quick:
            shape = (150, min(shape[1], 32), *(20,) * (len(shape) - 2))
        try:
            made = measure(*shape, device, 0.0 if quick else seconds / 60)
        except (torch.OutOfMemoryError, MemoryError) as error:
            print(f"skipped, too large for this GPU: {name} {shape}: {str(error).splitlines()[0]}")
            continue
        rows.setdefault(name, []).extend(made)
        record.write(results / f"gpu-{name}.csv", rows[name])
    return [row for part in rows.values() for row in part]


def table(rows: list[record.Row]) -> str:
    """What a reader wants first."""
    lines = [f"{'case':38} {'who':38} {'seconds':>10} {'/ product':>10}  remark"]
    for row in rows:
        remark = "; ".join(str(row[name]) for name in ("agreement", "note") if row.get(name))
        if row.get("ratio_to_ours"):
            remark = f"{row['ratio_to_ours']} times ours"
        lines.append(
            f"{row['case']:38} {row['contestant']:38} {row['p50_s']:>10} "
            f"{row.get('matmul_ratio', ''):>10}  {remark}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures backend 'cuda'.")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    from entroselect.cuda import Cuda

    print("accumulation of the filter's scores, largest error seen:")
    print("\n".join(certificate(Cuda())), flush=True)
    rows = run("cuda", arguments.seconds, arguments.results, arguments.quick)
    for peer in ("flashlib", "faiss"):
        probe = [sys.executable, "-c", f"import {peer}"]
        missing = subprocess.run(probe, capture_output=True, check=False).returncode
        print(f"skipped, {'not installed' if missing else 'no comparison written yet'}: {peer}")
    print(table(rows))


if __name__ == "__main__":
    main()
