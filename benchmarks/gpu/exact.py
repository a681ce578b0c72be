"""Answers on a GPU checked against float64 arithmetic on the same device, a part of the rows at a
time. Sums are added in torch's order and not the contract's, so equal means equal but for
roundings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch

# Relative difference of two squared distances that roundings explain: of differences summed up,
# and of products, which lose digits where rows are near each other.
SUMS, PRODUCTS = 1e-12, 1e-9

# Numbers of a pool that are widened at a time.
AT_ONCE = 1 << 26

# Picks and rows drawn for `checked`, and picks that rows are compared with at a time.
DRAWN, PICKS_AT_ONCE = 256, 1 << 14


def _parts(n: int, d: int) -> Iterator[slice]:
    step = max(1, AT_ONCE // d)
    return (slice(start, start + step) for start in range(0, n, step))


def squared_distances(pool: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    """(n,) float64: of every row of the pool to one."""
    row = row.double()
    parts = [(pool[part].double() - row).square_().sum(dim=1) for part in _parts(*pool.shape)]
    return torch.cat(parts)


def farthest(pool: torch.Tensor, picks: torch.Tensor) -> int:
    """How many of the picks are farthest from those before them; the first must be row 0.
    O(n d) for each."""
    nearest = torch.full((len(pool),), torch.inf, dtype=torch.float64, device=pool.device)
    right = int(picks[0] == 0)
    for pick, following in itertools.pairwise(picks.tolist()):
        torch.minimum(nearest, squared_distances(pool, pool[pick]), out=nearest)
        right += bool(nearest[following] >= nearest.max() * (1 - SUMS))
    return right


def checked(pool: torch.Tensor, found: Any) -> tuple[int, int, int]:
    """(wrong distances of picks, rows farther from all picks than the last one was, drawn of
    each), for a selection's picks and for rows, each drawn at random. O(k d) for each."""
    device, k = pool.device, len(found.indices)
    picks = torch.as_tensor(found.indices, device=device)
    distances = torch.as_tensor(found.distances, device=device).double()
    drawn = min(DRAWN, k - 1, len(pool))
    random = torch.Generator().manual_seed(1)
    drawn_places = 1 + torch.randperm(k - 2, generator=random)[: drawn - 1]
    places = torch.cat([drawn_places, torch.tensor([k - 1])]).to(device)
    own = _nearest(pool, picks[places], picks, places)
    # Absolute where distances are 0: products lose digits relative to the rows' lengths.
    slack = PRODUCTS * (1 + float(pool[picks[places]].double().square().sum(dim=1).max()))
    wrong = int(((own - distances[places].square()).abs() > slack).sum())
    rows = torch.randperm(len(pool), generator=random)[:drawn].to(device)
    uncovered = _nearest(pool, rows, picks, None) > distances[-1].square() + slack
    return wrong, int(uncovered.sum()), drawn


def _nearest(
    pool: torch.Tensor, rows: torch.Tensor, picks: torch.Tensor, before: torch.Tensor | None
) -> torch.Tensor:
    """Squared distance of each row to the nearest of the picks, or of those before a place."""
    values = pool[rows].double()
    norms = values.square().sum(dim=1)
    nearest = torch.full_like(norms, math.inf)
    for start in range(0, len(picks), PICKS_AT_ONCE):
        columns = pool[picks[start : start + PICKS_AT_ONCE]].double()
        squared = norms[:, None] + columns.square().sum(dim=1) - 2 * values @ columns.T
        if before is not None:
            place = start + torch.arange(len(columns), device=pool.device)
            squared.masked_fill_(place >= before[:, None], math.inf)
        torch.minimum(nearest, squared.amin(dim=1), out=nearest)
    return nearest


def nearest_right(pool: torch.Tensor, indices: torch.Tensor, few: int) -> int:
    """How many of the first rows have the nearest other row as their neighbour. O(n d) for each."""
    right = 0
    for row in range(few):
        squared = squared_distances(pool, pool[row])
        squared[row] = math.inf
        right += bool(squared[int(indices[row])] <= squared.min() * (1 + SUMS))
    return right
