"""The first stage of `make gpu-check`: every kernel alone at small sizes, then every operation,
against entroselect.reference. Stops at the first check that fails and says what to look at.

    CUDA_LAUNCH_BLOCKING=1 python -m benchmarks.gpu.smoke           on a GPU, at most 90 seconds
    python -m benchmarks.gpu.smoke --host FOLDER                    with the sources built for the host
                                                                    (_cuda_host in FOLDER)

Errors of a kernel surface in the check that ran it, because each check waits for the device.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

# A name, the files to look at when it fails, and what to run.
Check = tuple[str, str, Callable[["Bench"], str | None]]
CHECKS: list[Check] = []

DTYPES = ("float64", "float32", "float16", "bfloat16", "uint8")
WIDTHS = (1, 7, 8, 33, 100)


def check(name: str, look_at: str) -> Callable[[Any], Any]:
    """Registers a check; checks run in the order of this file."""

    def add(run: Callable[[Bench], str | None]) -> Callable[[Bench], str | None]:
        CHECKS.append((name, look_at, run))
        return run

    return add


class Bench:
    """The backend under test, and rows of every kind on its device."""

    def __init__(self, host: Path | None) -> None:
        self.host = host
        if host is None:
            self.device, self.tiles, self.scale = "cuda", None, 1
            return
        os.environ["TRITON_INTERPRET"] = "1"
        from entroselect.backends.cuda.autotune import Tile

        found = next(host.glob("_cuda_host*.so"))
        spec = importlib.util.spec_from_file_location("_cuda_host", found)
        assert spec is not None and spec.loader is not None
        self.kernels = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.kernels)
        self.device, self.scale = "cpu", 8
        self.tiles = (Tile(32, 32, 32, 4, 1), Tile(32, 32, 32, 4, 1, None, True))

    def backend(self, tile: Any = None) -> Any:
        """Backend "cuda" with that shape of tiles; None: the one it chooses."""
        from entroselect.backends.cuda import Cuda

        if self.tiles is None:
            return Cuda(tile=tile)
        return Cuda(self.kernels, "cpu", tile or self.tiles[0])

    def all_tiles(self) -> tuple[Any, ...]:
        """Every shape that is tried on this device."""
        import torch

        from entroselect.backends.cuda import autotune

        if self.tiles is not None:
            return self.tiles
        return tuple(autotune.table(torch.device("cuda", torch.cuda.current_device())))

    def rows(self, n: int, d: int, dtype: str, seed: int = 0) -> tuple[Any, Any]:
        """(tensor on the device, the same values on the host as float64): many ties, no row of
        zeros."""
        import torch

        rng = np.random.default_rng(seed)
        values = rng.integers(1, 12, (n, d)) if dtype == "uint8" else rng.normal(size=(n, d))
        values = np.round(values, 1) + (0 if dtype == "uint8" else 3)
        given = torch.from_numpy(values).to(getattr(torch, dtype))
        return given.to(self.device), given.double().numpy()

    def hold(self, given: Any, metric: str = "euclidean", tile: Any = None) -> Any:
        """Device rows of a tensor."""
        return self.backend(tile)._hold(self.as_rows(given), metric)

    def as_rows(self, given: Any) -> Any:
        """What the package makes of a caller's tensor."""
        from entroselect.io.open import as_rows

        return as_rows("rows", given)

    def kinds(self, n: int) -> Iterator[tuple[str, Any, Any]]:
        """Rows of every dtype and several widths, then rows that are part of wider ones."""
        for dtype in DTYPES:
            for d in WIDTHS:
                yield f"{dtype}, d = {d}", *self.rows(n, d, dtype)
            wide, values = self.rows(n, 40, dtype)
            yield f"{dtype}, strided", wide[:, 3:36], values[:, 3:36]


def equal(what: str, found: Any, expected: Any) -> None:
    """Raises where two arrays differ in any bit that counts."""
    found = found.cpu().numpy() if hasattr(found, "cpu") else np.asarray(found)
    expected = np.asarray(expected)
    if found.shape == expected.shape and np.array_equal(found, expected):
        return
    if found.shape != expected.shape:
        raise AssertionError(f"{what}: shape {found.shape}, expected {expected.shape}")
    wrong = np.argwhere(found != expected)
    at = tuple(wrong[0])
    raise AssertionError(
        f"{what}: {len(wrong)} of {found.size} differ, the first at {at}: {found[at]!r}, "
        f"expected {expected[at]!r}"
    )


@check("versions and module", "the build's output; entroselect/_dispatch.py")
def _versions(bench: Bench) -> str:
    import torch
    import triton

    told = f"torch {torch.__version__}, triton {triton.__version__}, numpy {np.__version__}"
    if bench.host is not None:
        return f"{told}, host build"
    from entroselect import _dispatch

    reason = _dispatch.why_not_cuda()
    assert not reason, reason
    card = torch.cuda.get_device_properties(0)
    return f"{told}, {card.name}, {card.multi_processor_count} multiprocessors"


@check("kernel Widen (rows to float64)", "kernels/cuda/row_passes.cu, rows.cuh: types, strides")
def _widen(bench: Bench) -> None:
    import torch

    for what, given, values in bench.kinds(70):
        held = bench.hold(given)
        places = torch.arange(held.n - 1, -1, -1, device=held.device)
        equal(what, held.float64(places), values[::-1])


@check("kernel Lengths (cosine)", "kernels/cuda/row_passes.cu, rows.cuh: sum_of_squares")
def _lengths(bench: Bench) -> None:
    import torch

    from entroselect import reference

    for what, given, values in bench.kinds(70):
        held = bench.hold(given, "cosine")
        unit = held.float64(torch.arange(held.n, device=held.device))
        equal(what, unit, reference.unit_rows(values))


@check("kernel DistancesTo", "kernels/cuda/row_passes.cu, rows.cuh: distance, order of lanes")
def _distances(bench: Bench) -> None:
    import torch

    from entroselect import reference

    for what, given, values in bench.kinds(70):
        for metric in ("euclidean", "cosine"):
            rows = values if metric == "euclidean" else reference.unit_rows(values)
            held = bench.hold(given, metric)
            vector = torch.from_numpy(rows[5] * 1.1).to(held.device)
            expected = reference.squared_distances(rows, rows[5] * 1.1)
            squared = held.distances_to(vector)
            equal(f"{what}, {metric}", squared, expected)
            equal(f"{what}, {metric}, roots", held.roots(squared), np.sqrt(expected))


@check("kernel MeanRow", "kernels/cuda/row_passes.cu")
def _mean(bench: Bench) -> None:
    from entroselect import reference

    for what, given, _ in bench.kinds(300):
        rows = bench.as_rows(given)
        host = bench.as_rows(given.cpu())
        expected = reference.first_pick(host, "center", None, "euclidean")
        equal(what, bench.backend().center(rows, "euclidean"), expected)


@check("kernel CodeRows (fp16 codes)", "kernels/cuda/encode.cu; docs/exactness.md, On a GPU")
def _code(bench: Bench) -> None:
    from entroselect.backends.cuda.frame import Frame

    for what, given, values in bench.kinds(70):
        held = bench.hold(given)
        frame = Frame(held)
        coded = frame.code(held, None, 0, held.n)
        exact = (values - frame.centre.cpu().numpy()) * frame.scale
        equal(what, coded.codes[:, : held.d].double(), exact.astype(np.float16).astype(np.float64))
        assert not coded.codes[:, held.d :].any(), f"{what}: padding is not 0"
        kept = coded.codes.double().cpu().numpy()
        norm = np.sqrt((kept**2).sum(axis=1))
        residual = np.sqrt(((kept[:, : held.d] - exact) ** 2).sum(axis=1))
        found = coded.norm.double().cpu().numpy()
        assert (found >= norm).all() and (found <= norm * (1 + 1e-6)).all(), f"{what}: norm"
        found = coded.residual.double().cpu().numpy()
        assert (found >= residual).all(), f"{what}: residual too small"
        assert (found <= residual * 1.0001 + norm * 1e-12 + 1e-9).all(), f"{what}: residual"


@check("kernel filter_pairs, every tile", "kernels/triton/filter.py, the tile named")
def _filter(bench: Bench) -> str:
    from entroselect.backends.cuda.filter import Filter

    told = []
    for tile in bench.all_tiles():
        began = time.perf_counter()
        for d in (7, 96, 300):
            given, values = bench.rows(900 // bench.scale, d, "float32")
            held = bench.hold(given, tile=tile)
            filter = Filter(held, tile)
            for kept in (True, False):
                for skip in (None, 0):
                    for tighten in (True, False):
                        what = f"{tile}, d = {d}, codes kept: {kept}, skip: {skip}, {tighten=}"
                        _left_open(filter, held, values, kept, skip, tighten, what)
        told.append(f"{time.perf_counter() - began:.1f}")
    return f"{', '.join(told)} s, compiling included"


def _left_open(
    filter: Any, held: Any, values: Any, kept: bool, skip: int | None, tighten: bool, what: str
) -> None:
    """The pass leaves open every pair that it must, at most once."""
    import torch

    from entroselect import reference
    from entroselect.backends.cuda.filter import Task

    coded = filter.frame.code(held, None, 0, held.n)
    n = held.n
    rows = torch.arange(n - 1, -1, -2, device=held.device)
    places = rows.cpu().numpy()
    squared = reference.squared_distances(values[places][:, None], values[None])
    if skip is not None:
        squared[np.arange(len(places)), places] = np.inf
    for share in (None, 0.01):
        limit = np.inf if share is None else float(np.quantile(squared, share))
        known = torch.full((n,), limit, dtype=torch.float64, device=held.device)
        found: list[Any] = []

        def keep(given: Any) -> None:
            assert bool(torch.isfinite(given.score[given.column >= 0]).all()), f"{what}: scores"
            found.append((given.rows[given.slot.long()].cpu(), given.column.cpu()))

        task = Task(
            held, coded if kept else None, coded,
            reach=lambda part: filter.frame.reach(known[part]),
            recheck=keep, tighten=tighten, skip=skip,
        )  # fmt: skip
        filter.run(task, rows, 0, n)
        listed = np.zeros((n, n), np.int64)
        for row, column in found:
            np.add.at(listed, (row.numpy(), column.numpy()), 1)
        listed = listed[places]
        if skip is not None:
            assert not listed[np.arange(len(places)), places].any(), f"{what}: a row with itself"
        wanted = squared <= limit
        if tighten:
            wanted &= squared == squared.min(axis=1, keepdims=True)
        wanted &= np.isfinite(squared)
        missed = wanted & (listed == 0)
        assert not missed.any(), f"{what}: {missed.sum()} of {wanted.sum()} wanted pairs not listed"
        assert listed.max() <= 1, f"{what}: a pair was listed {listed.max()} times"


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

    n = 20_000 if bench.device == "cuda" else 600
    host = np.random.default_rng(3).normal(size=(n, 64)).astype(np.float32)
    given = torch.from_numpy(host).to(bench.device)
    began = time.perf_counter()
    found = greedy_select(given, n // 10)
    taken = time.perf_counter() - began
    _same("greedy_select", found, greedy_select(host, n // 10, backend="cpu"))
    _same("nearest_distances", nearest_distances(given), nearest_distances(host, backend="cpu"))
    return f"greedy_select took {taken:.3f} s, {found.profile['rounds']} rounds"


def main() -> int:
    """Runs the checks in order; 0 if all passed, else 1, by default at the first that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", type=Path, help="folder with _cuda_host, for use without a GPU")
    parser.add_argument(
        "--keep-going", action="store_true", help="run the checks after a failure too"
    )
    arguments = parser.parse_args()
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
