"""Measures backend "cuda" on a GPU, in order: how far scores err, the filter pass at five widths,
the settling of picks, then whole calls against the fp16 product of the same shapes and against the
other libraries that are installed, all in the same run. `make gpu-check` runs it after the tests.

    python -m benchmarks.gpu.measure [--seconds 300] [--results benchmarks/results] [--quick]
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.peers import (
    NEIGHBOURS,
    SELECTIONS,
    Peer,
    product,
    textbook_step,
    wrong_neighbours,
)
from benchmarks.support import record
from entroselect import _dispatch, greedy_select, nearest_distances
from entroselect.backends.cuda import autotune
from entroselect.backends.cuda.filter import Filter, Task
from entroselect.io.open import as_rows
from entroselect.results import on_host

PRODUCT = "torch.mm, fp16"

# What a run is given unless told otherwise, and the share of it that one measurement may take.
SECONDS, SHARE = 240.0, 1 / 60


def timed(run: Callable[[], Any], seconds: float, warm: bool = False) -> tuple[float, int]:
    """(median seconds, runs): one run to warm up, unless `warm`, then runs for that
    long, at most 9."""
    if not warm:
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


@functools.cache
def machine() -> str:
    """Card, driver and Triton; rows have torch in a column of its own."""
    if not torch.cuda.is_available():
        return "cuda: no GPU"
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    except FileNotFoundError:
        told = []
    driver, triton = told[0] if told else "unknown", record.version_of("triton")
    return f"cuda: {torch.cuda.get_device_name()}, driver {driver}, triton {triton}"


def _row(case: str, shape: tuple[int, int, int], who: str, kind: str, **more: Any) -> record.Row:
    n, d, k = shape
    version = record.version_of("entroselect") if kind == "ours" else torch.__version__
    return {
        "case": case, "n": n, "d": d, "k": k, "contestant": who, "kind": kind, "version": version,
        "instruction_set": machine(), **more, **record.provenance(),
    }  # fmt: skip


def filter_pass(n: int, d: int, rows: int, device: str, seconds: float) -> list[record.Row]:
    """The filter kernel alone, by the device's clock, in every shape of tiles there is for this
    GPU: some rows against n columns of which none but itself is within reach. Against the product
    of the same shape."""
    pool = normal(n, d, device)
    held = _backend()._hold(as_rows("pool", pool), "euclidean")
    case, shape = f"filter {rows} rows, {n} x {d}", (n, d, rows)
    made = []
    with held.on_device():
        place = torch.arange(rows, device=held.device)
        reach = torch.zeros(n, dtype=torch.float32, device=held.device)
        matmul, _ = timed(product(pool, rows), seconds)
        given = _backend().tile
        for tile in autotune.table(held.device) if given is None else (given,):
            filter = Filter(held, tile)
            coded = filter.frame.code(held, None, 0, n)
            task = Task(
                held, coded, coded, lambda part: reach[part], lambda found: None, tighten=True
            )
            try:
                if held.device.type == "cuda":
                    taken, runs = filter.milliseconds(tile, coded, rows) / 1e3, 3
                else:  # there is no other clock
                    taken, runs = timed(functools.partial(filter.run, task, place, 0, n), seconds)
            except Exception as error:
                print(f"skipped, failed: {case}, {tile}: {_first_line(error)}")
                continue
            rate = 2e-12 * n * d * rows / taken
            made.append(
                _row(case, shape, f"filter, {tile}", "ours", rounds=runs, p50_s=f"{taken:.5g}",
                     matmul_ratio=f"{taken / matmul:.4g}",
                     note=f"{rate:.0f} TFLOP/s, {100 * matmul / taken:.0f} % of the product's rate")
            )  # fmt: skip
    made.append(
        _row(case, shape, PRODUCT, "product", p50_s=f"{matmul:.5g}",
             note=f"{2e-12 * n * d * rows / matmul:.0f} TFLOP/s")
    )  # fmt: skip
    return made


def settle(n: int, d: int, k: int, device: str, seconds: float) -> list[record.Row]:
    """Settles k picks among n rows whose bounds are up to date."""
    block = _backend().new_pool(as_rows("pool", normal(n, d, device)), "euclidean")
    taken: list[float] = []
    began = time.perf_counter()
    met = np.zeros(n, np.int64)
    while len(taken) < 2 or (time.perf_counter() - began < seconds and len(taken) < 10):
        block.restart(np.full(n, np.inf), met)
        block.add_picks(np.zeros(1, np.int64))
        block.refresh()
        rows = torch.arange(n, device=device)
        _wait()
        start = time.perf_counter()
        found, _, _ = block.settle(rows, -1.0, n, k, 0.0)
        taken.append(time.perf_counter() - start)
    median = statistics.median(taken[1:])
    note = f"{1e9 * median / len(found):.0f} ns a pick"
    return [
        _row(f"settle {n} x {d}, k={k}", (n, d, k), "entroselect", "ours",
             rounds=len(taken) - 1, p50_s=f"{median:.5g}", note=note)
    ]  # fmt: skip


def _backend() -> Any:
    return _dispatch.choose("cuda", "selection")


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def against(
    peers: list[Peer],
    case: str, shape: tuple[int, int, int], work: float, ours: float, seconds: float,
    given: tuple[Any, ...], wrong: Callable[[Any], str],
) -> list[record.Row]:  # fmt: skip
    """A row for every peer that is installed and quick enough and does not fail; else a line."""
    made = []
    for name, package, peer, most in peers:
        if work > most:
            print(f"skipped, would take too long: {name} on {case}")
            continue
        try:
            run = peer(*given)
            answer = run()
            taken, runs = timed(run, seconds, warm=True)
        except ImportError:
            print(f"skipped, not installed: {package}")
            continue
        except Exception as error:  # another library's failure is no failure of this run
            print(f"skipped, failed: {name} on {case}: {_first_line(error)}")
            continue
        made.append(
            _row(case, shape, name, "other", rounds=runs, p50_s=f"{taken:.5g}",
                 ratio_to_ours=f"{taken / ours:.4g}", agreement=wrong(answer))
            | {"version": record.version_of(package)}
        )  # fmt: skip
    return made


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
    others = against(
        SELECTIONS, case, shape, float(n) * d * k, ours, seconds / 4, (pool, k), lambda picks: ""
    )
    return [
        _row(case, shape, "entroselect", "ours", rounds=runs, p50_s=f"{ours:.5g}",
             matmul_ratio=f"{ours / matmul:.4g}", agreement=agreement, note=note),
        _row(case, shape, PRODUCT, "product", p50_s=f"{matmul:.5g}",
             note=f"{2e-12 * n * d * k / matmul:.0f} TFLOP/s"),
        _row(case, shape, "torch loop, fp32, k picks at its rate", "exact",
             p50_s=f"{steps / 10 * k:.5g}", ratio_to_ours=f"{per_pick:.4g}"),
        *others,
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
    others = against(
        NEIGHBOURS, case, shape, float(n) * n * d, ours, seconds / 4, (pool,),
        lambda answer: wrong_neighbours(torch.as_tensor(found[-1].indices), answer),
    )  # fmt: skip
    return [
        _row(case, shape, "entroselect", "ours", rounds=runs, p50_s=f"{ours:.5g}",
             matmul_ratio=f"{ours / matmul:.4g}",
             agreement=f"{few - wrong} of {few} as in float64",
             note=f"{100 * matmul / ours:.0f} % of the product's rate"),
        _row(case, shape, PRODUCT, "product", p50_s=f"{matmul:.5g}",
             note=f"{2e-12 * n * n * d / matmul:.0f} TFLOP/s"),
        *others,
    ]  # fmt: skip


def certificate(
    cuda: Any, seeds: int = 20, widths: tuple[int, ...] = (16, 64, 128, 384, 768, 1536, 4096)
) -> list[record.Row]:
    """How much of the allowed accumulation error rows built for it reach; raises if all of it."""
    from tests.support.cuda_scores import hard_rows, measured

    rows = []
    for d in widths:
        most = 0.0
        for seed in range(seeds):
            score, exact, allowed = measured(cuda, *hard_rows(d, seed))
            most = max(most, float(np.max(np.abs(score - exact) / allowed)))
        roundings = most * (2 * max(32, -(-d // 64) * 64) + 32)
        share = f"{most:.3f} of the bound, {roundings:.1f} roundings of 2^-23"
        print(f"error of scores, d={d}: {share}", flush=True)
        if most > 1:
            raise SystemExit(f"WRONG: the accumulation term is broken at d={d}")
        rows.append(_row(f"error of scores, d={d}", (8, d, 8), "entroselect", "ours", note=share))
    return rows


CASES: list[tuple[str, Callable[..., list[record.Row]], tuple[int, ...]]] = [
    ("greedy", greedy, (10_000, 64, 1_000)),
    *(("filter", filter_pass, (131_072, d, 8192)) for d in (64, 128, 384, 768, 1536)),
    *(("settle", settle, (8192, d, 1024)) for d in (64, 768)),
    ("greedy", greedy, (100_000, 3, 10_000)),
    ("nearest", nearest, (100_000, 128)),
    ("greedy", greedy, (1_000_000, 768, 100_000)),
    ("nearest", nearest, (1_000_000, 128)),
    ("nearest", nearest, (1_000_000, 768)),
    ("greedy", greedy, (1_000_000, 384, 500_000)),
]


def run(device: str, seconds: float, results: Path, quick: bool) -> list[record.Row]:
    """Runs the cases until the time is over; writes the results after each."""
    began = time.perf_counter()
    rows: dict[str, list[record.Row]] = {}
    for name, measure, shape in CASES:
        if time.perf_counter() - began > seconds:
            print(f"skipped, no time left: {name} {shape}")
            continue
        if quick:
            shape = (150, min(shape[1], 32), *(20,) * (len(shape) - 2))
        try:
            made = measure(*shape, device, 0.0 if quick else seconds * SHARE)
        except (torch.OutOfMemoryError, MemoryError) as error:
            print(f"skipped, too large for this GPU: {name} {shape}: {str(error).splitlines()[0]}")
            continue
        rows.setdefault(name, []).extend(made)
        record.write(results / f"gpu-{name}.csv", rows[name])
        print(table(made), flush=True)  # before a later case can fail
    return [row for part in rows.values() for row in part]


def table(rows: list[record.Row]) -> str:
    """The rows as a table for the terminal."""
    lines = [f"{'case':38} {'who':38} {'seconds':>10} {'/ product':>10}  remark"]
    for row in rows:
        remark = "; ".join(str(row[name]) for name in ("agreement", "note") if row.get(name))
        if row.get("ratio_to_ours"):
            remark = "; ".join(filter(None, (f"{row['ratio_to_ours']} times ours", remark)))
        lines.append(
            f"{row['case']:38} {row['contestant']:38} {row.get('p50_s', ''):>10} "
            f"{row.get('matmul_ratio', ''):>10}  {remark}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures backend 'cuda'.")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    began = time.perf_counter()
    print(f"{machine()}, torch {torch.__version__}", flush=True)
    record.write(arguments.results / "gpu-certificate.csv", certificate(_backend()))
    left = arguments.seconds - (time.perf_counter() - began)
    run("cuda", left, arguments.results, arguments.quick)
    print(shapes_chosen())


def shapes_chosen() -> str:
    """The tile shape for each class of widths, and the times of all that were tried."""
    lines = []
    for (device, width), choice in autotune.CHOICES.items():
        lines.append(f"tiles for widths to {width} on {device}: {choice.tile}")
        for tile, taken in choice.timed.items():
            what = taken if isinstance(taken, str) else f"{taken:.3f} ms"
            lines.append(f"    {tile}: {what}")
    return "\n".join(lines) or "tiles: none timed, the first of the table everywhere"


if __name__ == "__main__":
    main()
