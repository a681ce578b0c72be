"""What all measurements of backend "cuda" share: pools, times, rows of results."""

from __future__ import annotations

import functools
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.support import record
from entroselect import _dispatch

# A first run that takes longer than this many seconds is the measurement, and is not repeated.
LONG = 15.0


class Wrong(Exception):
    """An answer that is not the exact one."""


def backend() -> Any:
    """Backend "cuda"; tests put its host build in its place."""
    return _dispatch.choose("cuda", "selection")


def wait() -> None:
    """Waits for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(run: Callable[[], Any], seconds: float, warm: bool = False) -> tuple[float, int]:
    """(median seconds, runs): one run to warm up, unless `warm`, then runs for that
    long, at most 9."""
    taken: list[float] = []
    began = time.perf_counter()
    if not warm:
        first = _seconds(run)
        if first > LONG:
            return first, 1
    while not taken or (time.perf_counter() - began < seconds and len(taken) < 9):
        taken.append(_seconds(run))
    return statistics.median(taken), len(taken)


def _seconds(run: Callable[[], Any]) -> float:
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


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


def row(case: str, shape: tuple[int, int, int], who: str, kind: str, **more: Any) -> record.Row:
    """A row of results: `shape` is (n, d, k), `who` the contestant, the rest columns by name."""
    n, d, k = shape
    version = record.version_of("entroselect") if kind == "ours" else torch.__version__
    return {
        "case": case, "n": n, "d": d, "k": k, "contestant": who, "kind": kind, "version": version,
        "instruction_set": machine(), **more, **record.provenance(),
    }  # fmt: skip


def line(row: record.Row) -> str:
    """A row of results for the terminal; indented if it is not ours."""
    facts = [f"{row['p50_s']} s" if row.get("p50_s") else ""]
    if row.get("matmul_ratio"):
        facts.append(f"{row['matmul_ratio']} x product")
    if row.get("ratio_to_ours"):
        facts.append(f"{row['ratio_to_ours']} x ours")
    facts += [str(row.get(name, "")) for name in ("note", "agreement")]
    who = "" if row["contestant"] == "entroselect" else f", {row['contestant']}"
    indent = "" if row["kind"] == "ours" else "  "
    return f"{indent}{row['case']}{who}: {', '.join(filter(None, facts))}"


def first_line(error: BaseException) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
