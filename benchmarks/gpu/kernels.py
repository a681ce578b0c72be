"""Kernels of backend "cuda" one by one: each primitive of selection alone, its seconds as the host
sees them, and the kernels in it as the profiler sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.common import backend, first_line, normal, row, timed
from benchmarks.gpu.peers import product
from benchmarks.gpu.watch import Seen, watch
from benchmarks.support import record
from entroselect.backends.cuda import autotune
from entroselect.backends.cuda.filter import Filter, Task
from entroselect.backends.cuda.frame import Frame
from entroselect.io.open import as_rows

# Kernels that a row of results names.
NAMED = 6

# Rows whose nearest is within reach of this many columns in a pass: on refreshes of real pools
# five to nine pairs a row were left open.
WITHIN_REACH = 8


@dataclass(frozen=True)
class Primitive:
    """`run` is what is measured, after `prepare`; `told` makes a remark of what it returns, its
    seconds, and those that the device was busy."""

    name: str
    run: Callable[[], Any]
    prepare: Callable[[], Any] = lambda: None
    told: Callable[[Any, float, float], str] = lambda answer, seconds, busy: ""


def _on_rows(pool: torch.Tensor) -> Iterator[Primitive]:
    """Primitives that need rows only."""
    cuda = backend()
    held, one = (cuda._hold(as_rows("pool", rows), "euclidean") for rows in (pool, pool[:1]))
    frame, size = Frame(held), pool.numel() * pool.element_size()
    vector = pool[0].double().contiguous()

    def rate(answer: Any, seconds: float, busy: float) -> str:
        return f"{1e-9 * size / busy:.0f} GB/s of rows"

    yield Primitive("encode", lambda: frame.code(held, None, 0, held.n), told=rate)
    yield Primitive("distances to one row", lambda: held.distances_to(vector), told=rate)
    yield Primitive("one exact distance", lambda: one.distances_to(vector))


def _on_pool(pool: torch.Tensor, block: int) -> Iterator[Primitive]:
    """Primitives that selection calls in its rounds; the frontier has about `block` rows."""
    made = backend().new_pool(as_rows("pool", pool), "euclidean", sub=True)
    n = made.n
    state: dict[str, Any] = {}

    def start(*picks: int) -> None:
        """Refreshes all rows after each number of picks but the last."""
        made.restart(np.full(n, np.inf), np.zeros(n, np.int64))
        for done, more in zip((0, *picks), picks, strict=False):
            if done:
                made.refresh()
            made.add_picks(np.arange(done, done + more))

    def frontier(*picks: int) -> None:
        start(*picks)
        made.refresh()
        rows, state["rival"], state["best"] = made.frontier(block)
        made.refresh(rows, state["rival"])
        state["rows"] = rows

    def from_one_pick() -> None:
        start(1)
        made.refresh()

    def per_pick(answer: Any, seconds: float, busy: float) -> str:
        return f"{len(answer[0])} picks, {1e9 * seconds / max(1, len(answer[0])):.0f} ns each"

    def settle() -> Any:
        return made.settle(state["rows"], state["rival"], state["best"], block, 0.0)

    many = block // 4
    yield Primitive("refresh, 1 new pick", made.refresh, lambda: start(1, 1))
    yield Primitive(f"refresh, {many} new picks", made.refresh, lambda: start(1, many))
    yield Primitive(f"frontier of {block}", lambda: made.frontier(block))
    yield Primitive(f"settle, frontier of {block}", settle, lambda: frontier(1, many), per_pick)
    everything = torch.arange(n, device=pool.device)[:block]
    yield Primitive(
        f"settle {many} of {block}, nothing known",
        lambda: made.settle(everything, -1.0, n, many, 0.0),
        from_one_pick,
        per_pick,
    )
    yield Primitive(
        f"settle {many} in order",
        lambda: made.settle_in_order(everything, many, 0.0),
        from_one_pick,
        per_pick,
    )


def primitives(n: int, d: int, block: int, device: str, seconds: float) -> Iterator[record.Row]:
    """A row for each primitive."""
    pool = normal(n, d, device)
    for source in (_on_rows(pool), _on_pool(pool, block)):
        for primitive in source:
            primitive.prepare()
            primitive.run()
            primitive.prepare()
            answers: list[Any] = []
            taken, _ = timed(lambda: answers.append(primitive.run()), 0.0, warm=True)  # noqa: B023
            primitive.prepare()
            seen = watch(primitive.run)
            told = primitive.told(answers[0], taken, seen.busy or taken)
            busy = f"device {1e6 * seen.busy:.4g} us" if seen.busy else ""
            facts = filter(None, (told, busy, seen.most(NAMED)))
            case = f"{primitive.name}, {n} x {d}"
            yield row(case, (n, d, block), "entroselect", "ours", p50_s=f"{taken:.4g}",
                      note=", ".join(facts))  # fmt: skip


def filter_pass(
    rows: int, d: int, columns: int, device: str, seconds: float
) -> Iterator[record.Row]:
    """The filter's pass in every shape of tiles, as a refresh makes it: every row of a pool against
    new columns, a few of which are within its reach. Against the product of the same shape.

    Raises:
        RuntimeError: a shape of tiles failed; the others have been measured.
    """
    pool = normal(rows + columns, d, device)
    held = backend()._hold(as_rows("pool", pool), "euclidean")
    case, shape = f"filter {rows} rows, {columns} x {d}", (columns, d, rows)
    matmul, _ = timed(product(pool[columns:], columns), seconds)
    yield row(case, shape, "torch.mm, fp16", "product", p50_s=f"{matmul:.4g}",
              note=f"{2e-12 * columns * d * rows / matmul:.0f} TFLOP/s")  # fmt: skip
    given, failed = backend().tile, []
    for tile in autotune.table(held.device) if given is None else (given,):
        try:
            with held.on_device():
                taken, runs, seen, listed = _one_tile(held, tile, pool, columns, seconds)
        except Exception as error:
            failed.append(f"{tile}: {first_line(error)}")
            continue
        busy = seen.busy or taken
        note = [
            f"{2e-12 * columns * d * rows / busy:.0f} TFLOP/s",
            f"{listed / rows:.2f} pairs a row left open",
            *filter(None, [seen.most(3)]),
        ]
        yield row(case, shape, f"filter, {tile}", "ours", rounds=runs, p50_s=f"{taken:.4g}",
                  matmul_ratio=f"{busy / matmul:.3g}", note=", ".join(note))  # fmt: skip
    if failed:
        raise RuntimeError("; ".join(failed))


def _one_tile(
    held: Any, tile: Any, pool: torch.Tensor, columns: int, seconds: float
) -> tuple[float, int, Seen, int]:
    """(median seconds, runs, what the profiler saw, pairs left open) of the pass."""
    passes = Filter(held, tile)
    coded = passes.frame.code(held, None, 0, held.n)
    squared = _reaches(pool, columns)
    place = torch.arange(columns, held.n, device=held.device)
    listed: list[int] = []
    task = Task(
        held, coded, coded.part(0, columns), squared,
        lambda found: listed.append(len(found.slot)), tighten=True,
    )  # fmt: skip
    taken, runs = timed(lambda: passes.run(task, place, 0, columns), seconds)
    listed.clear()
    seen = watch(lambda: passes.run(task, place, 0, columns))
    return taken, runs, seen, sum(listed)


def _reaches(pool: torch.Tensor, columns: int) -> torch.Tensor:
    """(n,) float64: squared distance of each row to the nearest of the pool's last rows, an eighth
    as many as there are columns."""
    known = pool[-max(1, columns // WITHIN_REACH) :]
    norms, parts = (known * known).sum(dim=1), []
    for part in pool.split(1 << 16):
        squared = torch.addmm(norms, part, known.T, alpha=-2)
        squared += (part * part).sum(dim=1)[:, None]
        squared.masked_fill_(squared < 1e-3, torch.inf)  # a row and itself
        parts.append(squared.amin(dim=1))
    return torch.cat(parts).double()
