"""Checks of `benchmarks.gpu.smoke`: every kernel alone."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.gpu.bench import Bench, check, equal


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
        assert ((found >= norm) & (found <= norm * (1 + 1e-6))).all(), f"{what}: norm"
        found = coded.residual.double().cpu().numpy()
        assert (found >= residual).all(), f"{what}: residual too small"
        assert (found <= residual * 1.0001 + norm * 1e-12 + 1e-9).all(), f"{what}: residual"


# (codes kept, rows without themselves, only the nearest): what selection and neighbours ask for.
FORMS: tuple[tuple[bool, int | None, bool], ...] = (
    (True, None, True), (False, 0, True), (False, None, False), (True, 0, False)
)  # fmt: skip


@check("kernel filter_pairs, every tile", "kernels/triton/filter.py, the tile named")
def _filter(bench: Bench) -> str:
    from entroselect.backends.cuda.filter import Filter

    told = []
    for tile in bench.all_tiles():
        began = time.perf_counter()
        for d in (96, 300):  # one depth of tiles, so that each form is compiled once
            given, values = bench.rows(900 // bench.scale, d, "float32")
            held = bench.hold(given, tile=tile)
            filter = Filter(held, tile)
            for kept, skip, tighten in FORMS:
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
        listed = _listed(filter, rows, known, lambda known, keep: Task(
            held, coded if kept else None, coded, known, keep, tighten, skip=skip
        ))[places]  # fmt: skip
        if skip is not None:
            assert not listed[np.arange(len(places)), places].any(), f"{what}: a row with itself"
        wanted = squared <= limit
        if tighten:
            wanted &= squared == squared.min(axis=1, keepdims=True)
        wanted &= np.isfinite(squared)
        missed = wanted & (listed == 0)
        assert not missed.any(), f"{what}: {missed.sum()} of {wanted.sum()} wanted pairs not listed"
        assert listed.max() <= 1, f"{what}: a pair was listed {listed.max()} times"


def _listed(filter: Any, rows: Any, known: Any, task_of: Any) -> Any:
    """(n, n): how often a pass lists each pair."""
    n = filter.rows.n
    listed = np.zeros((n, n), np.int64)

    def keep(given: Any) -> None:
        found = given.rows[given.slot.long()].cpu().numpy(), given.column.cpu().numpy()
        assert bool(given.score.isfinite().all()), "a score is not finite"
        np.add.at(listed, found, 1)

    filter.run(task_of(known, keep), rows, 0, n)
    return listed
