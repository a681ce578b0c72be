"""The first stage of `make gpu-check`: every kernel alone at small sizes, then every operation,
against entroselect.reference. Stops at the first check that fails and says what to look at.

    CUDA_LAUNCH_BLOCKING=1 python -m benchmarks.gpu.smoke           on a GPU, at most 90 seconds
    python -m benchmarks.gpu.smoke --host FOLDER                    without: FOLDER has _cuda_host

Errors of a kernel surface in the check that ran it, because each check waits for the device.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu import smoke_kernels  # noqa: F401  its checks come first
from benchmarks.gpu.bench import CHECKS, DTYPES, Bench, check, equal


@check("pool: rechecks, catch up, frontier, settle", "kernels/cuda/{recheck,catch_up,greedy}.cu*")
def _pool(bench: Bench) -> str:
    from tests.support.pool_model import Model, check, check_frontier, check_settle

    made = 0
    for metric in ("euclidean", "cosine"):
        for dtype, d in (("float32", 33), ("float64", 8), ("uint8", 64), ("bfloat16", 50)):
            given, _ = bench.rows(700 // bench.scale, d, dtype, seed=d)
            pool = bench.backend().new_pool(bench.as_rows(given), metric, sub=True)
            model = Model(given.cpu() if dtype == "bfloat16" else given.cpu().numpy(), metric)
            everything = np.arange(pool.n)
            for picks in (3, 40):
                new = model.available[:picks]
                pool.add_picks(new)
                model.add_picks(new)
                pool.refresh()
                check(pool, model, everything)
            for size, limit in ((30, 10), (200, 60), (pool.n, 25)):
                check_frontier(pool, model, size)
                made += check_settle(pool, model, size, limit, 0.0)
    return f"{made} picks"


@check("pool: picks in order", "kernels/cuda/threshold.cu, settle.cuh")
def _in_order(bench: Bench) -> None:
    from tests.support.pool_model import Model, check_in_order

    for dtype, d in (("float32", 33), ("uint8", 64)):
        given, _ = bench.rows(700 // bench.scale, d, dtype, seed=d)
        pool = bench.backend().new_pool(bench.as_rows(given), "euclidean", sub=True)
        model = Model(given.cpu().numpy(), "euclidean")
        pool.add_picks(np.array([3]))
        model.add_picks(np.array([3]))
        order = np.random.default_rng(1).permutation(pool.n)
        floor = float(np.median(model.nearest())) / 2
        start = 0
        for _ in range(3):
            start = check_in_order(pool, model, order, start, 150 // bench.scale + 1, 50, floor)


def _same(what: str, found: Any, oracle: Any) -> None:
    equal(f"{what}: indices", found.indices, oracle.indices)
    equal(f"{what}: distances", found.distances, oracle.distances)


@check("operations, every dtype", "the operation named, with ENTROSELECT_BLOCK=64")
def _operations(bench: Bench) -> None:
    from entroselect import greedy_select, nearest_distances, reference, threshold_select

    n = 600 // bench.scale
    for dtype in DTYPES:
        for metric in ("euclidean", "cosine"):
            given, _ = bench.rows(n, 37, dtype, seed=4)
            host, what = given.cpu(), f"{dtype}, {metric}"
            options = {"metric": metric}
            found = greedy_select(given, n // 2, **options)
            _same(f"greedy_select, {what}", found, reference.greedy_select(host, n // 2, **options))
            found = threshold_select(given, n // 2, decay=0.8, **options)
            oracle = reference.threshold_select(host, n // 2, decay=0.8, **options)
            _same(f"threshold_select, {what}", found, oracle)
            for k in (1, 4):
                found = nearest_distances(given, k=k, **options)
                oracle = reference.nearest_distances(host, k=k, **options)
                _same(f"nearest_distances, {k=}, {what}", found, oracle)


@check("pools that are hard to get right", "tests/support/pools.py, the pool named")
def _hard_pools(bench: Bench) -> None:
    import torch

    from entroselect import greedy_select, nearest_distances, reference
    from tests.support.pools import POOLS

    for name, make in POOLS.items():
        pool = make()[: 400 // bench.scale]
        given = torch.from_numpy(pool).to(bench.device)
        _same(f"greedy_select, {name}", greedy_select(given, len(pool)),
              reference.greedy_select(pool, len(pool)))  # fmt: skip
        if len(pool) > 1:
            _same(f"nearest_distances, {name}", nearest_distances(given),
                  reference.nearest_distances(pool))  # fmt: skip


@check("greedy_select, every tile", "entroselect/backends/cuda/filter.py, the tile named")
def _greedy_tiles(bench: Bench) -> None:
    from entroselect import _dispatch, greedy_select, reference

    given, _ = bench.rows(2400 // bench.scale, 72, "float32", seed=9)
    k = len(given) // 3
    oracle = reference.greedy_select(given.cpu(), k)
    before = _dispatch.BACKENDS["cuda"]
    for tile in bench.all_tiles():
        _dispatch.BACKENDS["cuda"] = lambda name, tile=tile: bench.backend(tile)  # type: ignore[misc]
        _same(f"greedy_select, {tile}", greedy_select(given, k), oracle)
    _dispatch.BACKENDS["cuda"] = before


@check("streams, host rows, odd alignment", "entroselect/backends/cuda/device_rows.py")
def _callers(bench: Bench) -> None:
    import torch

    from entroselect import greedy_select, reference

    given, _ = bench.rows(500 // bench.scale, 41, "float32", seed=2)
    host = given.cpu().numpy()
    k = len(given) // 2
    oracle = reference.greedy_select(host[:, 1:], k)
    _same("rows that start at an odd place", greedy_select(given[:, 1:], k), oracle)
    _same("rows in host memory", greedy_select(host[:, 1:], k, backend="cuda"), oracle)
    if bench.device != "cuda":
        return
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = torch.zeros_like(given)
        torch.cuda._sleep(20_000_000)  # the rows come only when this is over
        late.copy_(given)
        found = greedy_select(late[:, 1:], k)
    stream.synchronize()
    _same("another stream than the first", found, oracle)


@check(
    "20,000 x 64 against the CPU", "what differs between this and the small sizes: rounds, splits"
)
def _larger(bench: Bench) -> str:
    import torch

    from entroselect import greedy_select, nearest_distances

    n = 20_000 if bench.device == "cuda" else 300
    host = np.random.default_rng(3).normal(size=(n, 64)).astype(np.float32)
    given = torch.from_numpy(host).to(bench.device)
    began = time.perf_counter()
    found = greedy_select(given, n // 10)
    taken = time.perf_counter() - began
    _same("greedy_select", found, greedy_select(host, n // 10, backend="cpu"))
    _same("nearest_distances", nearest_distances(given), nearest_distances(host, backend="cpu"))
    return f"greedy_select took {taken:.3f} s, {found.profile['rounds']} rounds"


def main(given: list[str] | None = None) -> int:
    """Runs the checks in order; 0 if all passed, else 1, by default at the first that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", type=Path, help="folder with _cuda_host, for use without a GPU")
    parser.add_argument(
        "--keep-going", action="store_true", help="run the checks after a failure too"
    )
    arguments = parser.parse_args(given)
    os.environ["ENTROSELECT_BLOCK"] = "64"  # many rounds in small pools
    began = time.perf_counter()
    bench = Bench(arguments.host)
    if bench.host is not None:
        from entroselect import _dispatch

        _dispatch.BACKENDS["cuda"] = lambda name: bench.backend()
        os.environ["ENTROSELECT_BACKEND"] = "cuda"
    failed: list[str] = []
    for place, (name, look_at, run) in enumerate(CHECKS, 1):
        if place == len(CHECKS):
            del os.environ["ENTROSELECT_BLOCK"]
        start = time.perf_counter()
        try:
            told = run(bench)
            if bench.device == "cuda":
                import torch

                torch.cuda.synchronize()
        except Exception as error:
            traceback.print_exc()
            print(f"\nsmoke: FAILED at check {place} of {len(CHECKS)}: {name}\n  {error}")
            print(f"  look at: {look_at}", flush=True)
            failed.append(name)
            if not arguments.keep_going:
                return 1
            continue
        took = time.perf_counter() - start
        print(f"{took:6.2f} s  {name}{f': {told}' if told else ''}", flush=True)
    told = f"FAILED: {', '.join(failed)}" if failed else f"all {len(CHECKS)} checks passed"
    print(f"smoke: {told} in {time.perf_counter() - began:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
