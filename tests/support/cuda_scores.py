"""Scores of the filter pass and what its certificate allows, for rows built to make sums err."""

from __future__ import annotations

from typing import Any

import numpy as np

from entroselect.io.rows import Rows


def hard_rows(d: int, seed: int = 0) -> tuple[Any, Any]:
    """(rows, columns), float16, that make truncated sums lose what they can."""
    rng = np.random.default_rng(seed)
    # A leading 1, then products just below the last place of a sum that holds it.
    leading = np.full(d, 2.0**-12), np.full(d, 2.0**-11 * (1 - 2.0**-10))
    late = leading[0].copy(), leading[1].copy()
    leading[0][0] = leading[1][0] = late[0][-1] = late[1][-1] = 1
    cancelling = leading[0].copy(), leading[1].copy()
    cancelling[0][-1], cancelling[1][-1] = 1, -1
    # Full mantissas of one sign; sizes that fall and grow; sums that wander about 0.
    full = 1 + rng.integers(900, 1024, (2, d)) / 1024
    falling = full * 2.0 ** -(np.arange(d) * 12 // d)
    normal = rng.standard_normal((2, d))
    mixed = normal * 2.0 ** rng.integers(-12, 4, (2, d))
    pairs = [leading, late, cancelling, full, falling, falling[:, ::-1], normal, mixed]
    rows, columns = (np.stack([pair[side] for pair in pairs]) for side in (0, 1))
    return rows.astype(np.float16), columns.astype(np.float16)


def measured(cuda: Any, rows: Any, columns: Any, kept: bool = False) -> tuple[Any, Any, Any]:
    """(scores of the filter pass, exact scores, allowed errors), each (rows, columns), for rows
    that are their own codes, which are `kept` or made by the pass."""
    import torch

    from entroselect.backends.cuda.filter import Filter, Task

    held, targets = (cuda._hold(Rows(part, "float16"), "euclidean") for part in (rows, columns))
    with held.on_device():
        filter = Filter(targets, cuda.tile)
        filter.frame.centre.zero_()
        filter.frame.scale = 1.0
        coded = filter.frame.code(targets, None, 0, targets.n)
        scores = np.full((len(rows), len(columns)), np.nan, np.float32)

        def keep(found: Any) -> None:
            places = found.rows[found.slot.long()].cpu().numpy(), found.column.cpu().numpy()
            scores[places] = found.score.cpu().numpy()

        # With nothing known every pair is left open.
        everything = torch.full((held.n,), np.inf, dtype=torch.float64, device=held.device)
        codes = filter.frame.code(held, None, 0, held.n) if kept else None
        task = Task(held, codes, coded, everything, keep, tighten=False)
        # A pair has the best score of its row in a tile: here its own.
        for column in range(len(columns)):
            filter.run(task, torch.arange(held.n, device=held.device), column, column + 1)
    x, y = rows.astype(np.longdouble), columns.astype(np.longdouble)
    exact = x @ y.T - (y**2).sum(axis=1) / 2
    x_norm, y_norm = (np.sqrt((part**2).sum(axis=1)) for part in (x, y))
    allowed = filter.frame.gamma * (x_norm[:, None] * y_norm + y_norm**2 / 2)
    return scores, exact, allowed


def tensor_core_product(a: Any, b: Any, sums: Any, block: int) -> Any:
    """sums + a @ b as tensor cores of the least careful kind are known to compute it (Fasi et al.
    2021): products of `block` columns and the sum so far are cut to 24 bits below the largest of
    them, added exactly, and cut to float32."""

    def cut(values: Any, largest: Any) -> Any:
        with np.errstate(divide="ignore"):
            unit = 2.0 ** (np.floor(np.log2(np.abs(largest))) - 23)
        return np.trunc(values / unit) * unit

    a, b, sums = (np.asarray(part, np.float64) for part in (a, b, sums))
    for k in range(0, a.shape[1], block):
        terms = a[:, k : k + block, None] * b[None, k : k + block]
        terms = np.concatenate([sums[:, None], terms], axis=1)
        largest = np.abs(terms).max(axis=1)
        largest[largest == 0] = 1
        total = cut(terms, largest[:, None]).sum(axis=1)
        sums = np.where(total == 0, 0, cut(total, np.where(total == 0, 1, total)))
    return sums.astype(np.float32)
