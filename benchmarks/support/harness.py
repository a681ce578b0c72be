"""How the benchmarks take time.

Contestants of one case run in one process and in turns: A, B, C, A, B, C, ... so that a machine
that slows down slows all of them. The figure reported for a pair is the median of the ratios within
each turn. pytest-benchmark drives the turns: it times entroselect's call, and its setup runs the
other contestants.

A contestant that needs more than half of the case's share of time runs once, with a run of
entroselect right after it; one that would need more than LIMIT_S is skipped, and its row says so.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

import entroselect
from entroselect import _dispatch
from entroselect.backends.cpu import threads as our_threads

QUICK = os.environ.get("ENTROSELECT_BENCH_QUICK") == "1"
THREADS = int(os.environ.get("ENTROSELECT_BENCH_THREADS") or our_threads())

SHARE_S = 0.05 if QUICK else 4.0  # seconds of turns per contestant and case
LIMIT_S = 60.0  # predicted seconds beyond which a contestant is skipped
MOST_ROUNDS = 9
SETTLE_S = 0.15  # OpenBLAS threads spin for 0.1 s after a call, on the cores of the next one


@dataclass(frozen=True)
class Case:
    """One pool and one size. `share_s` overrides SHARE_S."""

    pool: str
    n: int
    d: int
    k: int = 1
    share_s: float = SHARE_S

    @property
    def name(self) -> str:
        """Names the case in CSV files; sizes have their own columns."""
        return f"{self.pool} {self.n} x {self.d}, k={self.k}"

    @property
    def label(self) -> str:
        """Names the case in pytest, in a form that -k takes."""
        return f"{self.pool}-{self.n}x{self.d}-k{self.k}".replace(" ", "-")

    def here(self) -> Case:
        """The case itself, or its miniature in quick mode."""
        if not QUICK:
            return self
        return Case(self.pool, max(200, self.n // 100), min(self.d, 64), max(1, self.k // 100))


@dataclass(frozen=True)
class Contestant:
    """One implementation on one case.

    kind: "ours"; "product" (the matrix product); "exact"; "heuristic"; "other metric".
    run: the timed call. agreement: turns its answer into a remark about correctness.
    probe: a smaller call that takes about `probe_share` of the time of `run`.
    """

    name: str
    kind: str
    run: Callable[[], Any]
    version: str = ""
    threads: int = THREADS
    agreement: Callable[[Any], str] = lambda answer: ""
    probe: Callable[[], Any] | None = None
    probe_share: float = 1.0
    note: str = ""
    instruction_set: str = ""  # ours only


@dataclass(frozen=True)
class Skipped:
    """A contestant that does not take part, and why."""

    name: str
    kind: str
    why: str


@dataclass
class Entry:
    """A contestant's times, and ours of the same turns."""

    contestant: Contestant
    rounds: int = 0
    seconds: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    agreement: str = ""

    def ratio(self) -> float:
        """Median of its time over ours."""
        return float(np.median(np.divide(self.seconds, self.ours)))


class Contest:
    """The turns of one case. Ours is contestants[0]; `verify` checks its answer and raises."""

    def __init__(
        self,
        case: Case,
        contestants: Iterable[Contestant | Skipped],
        verify: Callable[[Any], None],
    ) -> None:
        first, *others = contestants
        assert isinstance(first, Contestant)
        self.case = case
        self.skipped = [other for other in others if isinstance(other, Skipped)]
        self.ours = Entry(first)
        self.others: list[Entry] = []
        self.turn = 0
        limit_threads()
        # Objects that exist by now are not examined again: collecting before a call is cheap.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        verify(first.run())
        seconds, self.answer = timed(first.run)
        self.ours.agreement = first.agreement(self.answer)
        self.ours.rounds = max(3, self._rounds(seconds))
        for other in others:
            if isinstance(other, Contestant):
                self._rehearse(other)

    def _rounds(self, seconds: float) -> int:
        return int(min(MOST_ROUNDS, max(1, self.case.share_s // seconds)))

    def _rehearse(self, contestant: Contestant) -> None:
        if contestant.probe is not None:
            predicted = timed(contestant.probe)[0] / contestant.probe_share
            if predicted > LIMIT_S:
                why = f"about {predicted:.0f} s, limit {LIMIT_S:.0f} s"
                self.skipped.append(Skipped(contestant.name, contestant.kind, why))
                return
        entry = Entry(contestant)
        seconds, answer = timed(contestant.run)
        entry.agreement = contestant.agreement(answer)
        if seconds > self.case.share_s / 2:
            entry.seconds.append(seconds)
            entry.ours.append(timed(self.ours.contestant.run)[0])
        else:
            entry.rounds = min(self._rounds(seconds), self.ours.rounds)
        self.others.append(entry)

    def take_others_turn(self) -> None:
        """Runs all contestants but ours."""
        for entry in self.others:
            if self.turn < entry.rounds:
                entry.seconds.append(timed(entry.contestant.run)[0])
        settle()

    def take_our_turn(self) -> None:
        """Runs ours, which ends the turn."""
        begin = time.perf_counter()
        self.ours.contestant.run()
        seconds = time.perf_counter() - begin
        self.ours.seconds.append(seconds)
        self.ours.ours.append(seconds)
        for entry in self.others:
            if self.turn < entry.rounds:
                entry.ours.append(seconds)
        self.turn += 1

    def run(self, benchmark: Any = None) -> list[dict[str, Any]]:
        """All rounds, under pytest-benchmark's clock if its fixture is given; the CSV rows."""
        if benchmark is None:
            for _ in range(self.ours.rounds):
                self.take_others_turn()
                self.take_our_turn()
        else:
            benchmark.extra_info["case"] = self.case.name
            benchmark.pedantic(
                self.take_our_turn,
                setup=self.take_others_turn,
                rounds=self.ours.rounds,
                iterations=1,
            )
        return self.rows()

    def rows(self) -> list[dict[str, Any]]:
        """One row per contestant."""
        products = [entry for entry in self.others if entry.contestant.kind == "product"]
        # Times over ours: the smallest belongs to the fastest product.
        fastest = min((entry.ratio() for entry in products), default=None)
        rows = [self._row(entry, fastest) for entry in (self.ours, *self.others)]
        sizes = {"case": self.case.name, "n": self.case.n, "d": self.case.d, "k": self.case.k}
        for other in self.skipped:
            note = f"skipped: {other.why}"
            rows.append({**sizes, "contestant": other.name, "kind": other.kind, "note": note})
        return rows

    def _row(self, entry: Entry, fastest: float | None) -> dict[str, Any]:
        contestant, ratio = entry.contestant, entry.ratio()
        p20, p50, p80 = np.percentile(entry.seconds, (20, 50, 80))
        of_product = (
            "" if fastest is None or contestant.kind != "ours" else f"{ratio / fastest:.3f}"
        )
        return {
            "case": self.case.name,
            "n": self.case.n,
            "d": self.case.d,
            "k": self.case.k,
            "contestant": contestant.name,
            "kind": contestant.kind,
            "version": contestant.version,
            "threads": contestant.threads,
            "rounds": len(entry.seconds),
            "p20_s": f"{p20:.5g}",
            "p50_s": f"{p50:.5g}",
            "p80_s": f"{p80:.5g}",
            "ratio_to_ours": f"{ratio:.4g}",
            "matmul_ratio": of_product,
            "agreement": entry.agreement,
            "note": contestant.note,
            "instruction_set": contestant.instruction_set,
        }


def settle() -> None:
    """Collects garbage and waits, so that the next contestant has a quiet machine."""
    gc.collect()
    time.sleep(0.0 if QUICK else SETTLE_S)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds of one call, and its answer."""
    settle()
    begin = time.perf_counter()
    answer = run()
    return time.perf_counter() - begin, answer


def limit_threads() -> None:
    """Gives all libraries THREADS threads; called when those of a case are loaded."""
    os.environ["ENTROSELECT_THREADS"] = str(THREADS)
    threadpool_limits(THREADS)
    import torch

    torch.set_num_threads(THREADS)


WIDE = ("cpu:avx2", "cpu:neon")  # what most machines without AVX-512 run


def our_backends(others: tuple[str, ...] = (*WIDE, "cpu:portable")) -> list[str]:
    """The automatic backend, then those of `others` that can run here."""
    automatic = _dispatch.name_of("auto")
    reasons = _dispatch.why_not()
    return ["auto", *(name for name in others if name != automatic and reasons.get(name) == "")]


def verifying_backend() -> str | None:
    """The fastest CPU backend that is not the automatic one; None if there is none."""
    automatic = _dispatch.name_of("auto")
    usable = [name for name, reason in _dispatch.why_not().items() if not reason]
    return next(
        (name for name in usable if name.split(":")[0] == "cpu" and name != automatic), None
    )


def ours(name: str, backend: str, run: Callable[[], Any], **more: Any) -> Contestant:
    """entroselect itself under one backend."""
    label = name if backend == "auto" else f"{name} ({backend})"
    isa = _dispatch.name_of(backend)
    return Contestant(
        label, "ours", run, version=entroselect.__version__, instruction_set=isa, **more
    )


def version_of(distribution: str) -> str:
    """Its version, with the OpenBLAS kernels it brings; PackageNotFoundError if not installed."""
    version = metadata.version(distribution)
    for info in threadpool_info():
        folder = info["filepath"].replace("\\", "/").split("/")[-2]
        if info["internal_api"] == "openblas" and folder.startswith(distribution.split("-")[0]):
            version += f" (OpenBLAS {info['version']} {info.get('architecture', '')})"
    return version


def peer(
    name: str,
    distribution: str,
    adapter: Callable[..., Callable[[], Any]],
    *arguments: Any,
    kind: str = "exact",
    probe_arguments: tuple[Any, ...] | None = None,
    **more: Any,
) -> Contestant | Skipped:
    """A contestant from an adapter of peers.py or products.py."""
    try:
        run = adapter(*arguments)
    except ImportError:
        return Skipped(name, kind, f"{distribution} is not installed")
    probe = None if probe_arguments is None else adapter(*probe_arguments)
    version = version_of(distribution)
    return Contestant(name, kind, run, version=version, probe=probe, **more)
