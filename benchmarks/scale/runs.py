"""Runs on pools larger than memory and in several processes. Every run is a process of its own
(several for `processes`), whose peak of memory is watched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.support.harness import THREADS
from benchmarks.support.pools import POOLS
from benchmarks.support.record import ROOT, Row

MIB = 1 << 20
MEASURED = (
    "part",
    "pool",
    "n",
    "d",
    "k",
    "way",
    "processes",
    "threads",
    "limit_mib",
    "seconds",
    "seconds_in_memory",
    "read_seconds",
    "rounds",
    "share_of_pairs",
    "rechecks_per_row",
    "reads_per_row",
    "gb_read",
    "gb_from_disk",
    "kb_sent_per_round",
    "kb_received_per_round",
    "base_mib",
    "peak_mib",
    "peak_own_mib",
    "same_indices",
    "load",
)

# Rows written at a time.
PIECE = 65536


def write_pool(path: Path, n: int, d: int) -> None:
    """Normal rows as float32 .npy, piece by piece; a piece depends on its number alone."""
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, d)}
        np.lib.format.write_array_header_1_0(file, header)
        with ThreadPoolExecutor(THREADS) as makers:
            starts = range(0, n, PIECE)
            coming = [
                makers.submit(normal, start, min(n - start, PIECE), d) for start in starts[:4]
            ]
            for number in range(len(starts)):
                coming.pop(0).result().tofile(file)
                if number + 4 < len(starts):
                    start = starts[number + 4]
                    coming.append(makers.submit(normal, start, min(n - start, PIECE), d))


def normal(start: int, rows: int, d: int) -> NDArray[np.float32]:
    """The piece that begins at row `start`."""
    return np.random.default_rng(start).standard_normal((rows, d), dtype=np.float32)


def select(path: str, n: int, k: int, limit: int, meeting: str, rank: int, size: int) -> Row:
    """One selection from the first n rows of a file, in this process; limit 0: all in memory."""
    from entroselect import greedy_select, open_pool

    first, last = rank * n // size, (rank + 1) * n // size
    rows: Any = open_pool(path).part(first, last)
    if not limit:
        rows = rows.rows("pool").values
    given: Row = {"memory_limit": limit} if limit else {}
    greedy_select(np.eye(300, 8), 5)  # so that libraries and threads are not measured
    if meeting:
        import torch.distributed as distributed

        distributed.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=size
        )
        distributed.barrier()
        given["group"] = True
    base, from_disk = status("VmRSS"), io_bytes()
    began = time.perf_counter()
    found = greedy_select(rows, k, **given)
    seconds = time.perf_counter() - began
    profile, rounds = found.profile, found.profile["rounds"]
    measured = {
        "seconds": seconds,
        "rounds": rounds,
        "base_mib": base / MIB,
        "peak_mib": status("VmHWM") / MIB,
        "gb_from_disk": (io_bytes() - from_disk) / 1e9,
        "indices": found.indices.tolist(),
    }
    for name in ("share_of_pairs", "rechecks_per_row", "reads_per_row", "read_seconds"):
        measured[name] = profile.get(name, "")
    if "bytes_read" in profile:
        measured["gb_read"] = profile["bytes_read"] / 1e9
    if meeting:
        measured["kb_sent_per_round"] = profile["bytes_sent"] / 1e3 / max(1, rounds)
        measured["kb_received_per_round"] = profile["bytes_received"] / 1e3 / max(1, rounds)
    return measured


def status(field: str, process: str = "self") -> int:
    """Bytes of memory as Linux counts them."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise KeyError(field)


def io_bytes() -> int:
    """Bytes that this process read from disks, and not from the system's cache."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("read_bytes"):
            return int(line.split()[1])
    raise KeyError("read_bytes")


def run(path: Path, n: int, k: int, limit: int = 0, size: int = 0, threads: int = THREADS) -> Row:
    """`select` in processes of its own, whose memory is watched. size 0: one, without a group.

    Figures are rank 0's; memory is the largest of any.
    """
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder) / f"{rank}.json" for rank in range(max(1, size))]
        children = []
        for rank, out in enumerate(outs):
            given = [str(path), n, k, limit, f"{folder}/meeting" if size else "", rank, len(outs)]
            command = [sys.executable, "-m", "benchmarks.scale", "select", "--given"]
            command += [json.dumps([*given, str(out)])]
            environment = {"ENTROSELECT_THREADS": str(threads), "OMP_NUM_THREADS": "1"}
            children.append(subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}))
        own = 0
        while any(child.poll() is None for child in children):
            for child in children:
                with suppress(OSError, KeyError):  # it has just ended
                    own = max(own, status("RssAnon", str(child.pid)))
            time.sleep(0.02)
        if any(child.returncode for child in children):
            raise RuntimeError(f"a run failed: {[child.returncode for child in children]}")
        found = [json.loads(out.read_text()) for out in outs]
    for other in found[1:]:
        if other["indices"] != found[0]["indices"]:
            raise AssertionError("processes disagree on their picks")
    measured: Row = found[0]
    for name in ("base_mib", "peak_mib", "reads_per_row"):
        values = [row[name] for row in found if row.get(name, "") != ""]
        if values:
            measured[name] = max(values)
    return {
        **measured,
        "n": n,
        "k": k,
        "way": "streamed" if limit else "in memory",
        "processes": size or 1,
        "threads": threads,
        "limit_mib": f"{limit / MIB:.0f}" if limit else "",
        "peak_own_mib": own / MIB,
        "load": load,
    }


def compared(row: Row, whole: Row) -> Row:
    """The row, if its picks are those of the run in memory; AssertionError otherwise."""
    if row["indices"] != whole["indices"]:
        raise AssertionError(f"another selection than in memory: {row['n']} rows, k={row['k']}")
    return {**row, "same_indices": "yes", "seconds_in_memory": whole["seconds"]}


def disk(folder: Path, n: int = 6_500_000, d: int = 768, k: int = 2000) -> Iterator[Row]:
    """20 GB under 2 GiB; then its first 500,000 rows, of which a tenth fits."""
    with scratch(folder, n, d) as path:
        common = {"part": "disk", "pool": "normal", "d": d}
        yield {**common, **run(path, n, k, 2 << 30)}
        part = n // 13
        whole = run(path, part, k)
        yield {**common, **compared(run(path, part, k, part * d * 4 // 10), whole)}
        yield {**common, **compared(whole, whole)}


def processes(folder: Path, n: int = 200_000, d: int = 128, k: int = 5000) -> Iterator[Row]:
    """The same pool with 1 to 4 processes of one thread each, in memory and read piece by piece."""
    with scratch(folder, n, d) as path:
        common = {"part": "processes", "pool": "normal", "d": d}
        whole = run(path, n, k, threads=1)
        yield {**common, **compared(whole, whole), "way": "in memory, no group"}
        for size in (1, 2, 3, 4):
            yield {**common, **compared(run(path, n, k, size=size, threads=1), whole)}
        for size in (1, 2, 4):
            limit = n * d * 4 // 5 // size
            yield {**common, **compared(run(path, n, k, limit, size, 1), whole)}


def growth(folder: Path, d: int = 32, most: int = 320_000) -> Iterator[Row]:
    """Twice as many rows each time; the shares picked and held in memory stay the same."""
    for name in ("normal", "clustered"):
        for share in (50, 10):
            n = 20_000
            while n <= most:
                path = folder / "growth.npy"
                np.save(path, POOLS[name](n, d))
                try:
                    common = {"part": "growth", "pool": name, "d": d}
                    whole = run(path, n, n // share)
                    yield {**common, **compared(whole, whole)}
                    yield {**common, **compared(run(path, n, n // share, 60 * n), whole)}
                finally:
                    path.unlink()
                n *= 2


@contextmanager
def scratch(folder: Path, n: int, d: int) -> Iterator[Path]:
    """A pool on disk, deleted when the block ends."""
    path = folder / f"entroselect-scale-{n}-{d}.npy"
    try:
        write_pool(path, n, d)
        yield path
    finally:
        path.unlink(missing_ok=True)


PARTS = {"disk": disk, "processes": processes, "growth": growth}
