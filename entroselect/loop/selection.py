"""The next training set: rows of the pool, picked by entroselect's public functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import (
    anchored_select,
    frechet_select,
    greedy_select,
    kl_entropy,
    nearest_distances,
    threshold_select,
)
from entroselect.loop import seeds, shares
from entroselect.loop.config import Method
from entroselect.results import on_host


def choose(
    features: Any,
    k: int,
    method: Method,
    *,
    drop_outliers: float = 0.0,
    drop_far: float = 0.0,
    real: Any = None,
    diversity: float = 0.003,
    reference: int | None = None,
    key: tuple[int | str, ...] = (0,),
) -> NDArray[np.int64]:
    """k rows of the pool, in pick order.

    Args:
        features: (n, d) of the pool, an array or a tensor on a CUDA device.
        k: how many, at most n.
        method: "none", the first k; "random"; "greedy", farthest first from a random row
            (algorithm 1 of Shi et al. 2025); "threshold", decaying (algorithm 2); "variance",
            the k farthest from the pool's mean, which have the largest sum of variances;
            "anchored", distributed like `real` and spread out, as far as `diversity` asks;
            "moments", mean and covariance of `real`, with at least the entropy of k random rows.
        drop_outliers: this share of the pool, the rows with the largest distance to their 5th
            nearest other row, cannot be picked. Farthest first tends to pick outliers, and in a
            generated pool these are often failures.
        drop_far: this share of the pool, the rows farthest from any of `real`, cannot be picked.
        real: (m, d) of the real images, for `drop_far`, "anchored" and "moments".
        diversity: w of `anchored_select`; 0: matching alone.
        reference: match so many of `real`, drawn at random; None: all.
        key: what the random numbers depend on.

    Raises:
        ValueError: fewer than k rows are left, or `real` is needed and missing.

    Example:
        >>> import numpy as np
        >>> from entroselect.loop.selection import choose
        >>> sorted(choose(np.array([[0.0], [1.0], [9.0], [10.0]]), 2, "variance").tolist())
        [0, 3]
    """
    barred = np.zeros(len(features), bool)
    if drop_outliers and method != "none":
        neighbours = min(5, len(features) - 1)
        lonely = on_host(nearest_distances(features, k=neighbours).distances)[:, -1]
        barred[_largest(lonely, drop_outliers)] = True
    if drop_far and method != "none":
        if real is None:
            raise ValueError("drop_far: needs real, the images that distances are taken to")
        far = on_host(nearest_distances(features, real).distances)[:, 0]
        barred[_largest(far, drop_far)] = True
    rows = np.flatnonzero(~barred)
    if k > len(rows):
        raise ValueError(
            f"select.{'drop_outliers' if drop_outliers else 'drop_far'}: leaves {len(rows)} of "
            f"{len(features)} images, {k} are wanted"
        )
    usable = features[rows]
    seed = int(seeds.numbers(*key, "seed").integers(2**32))
    if method == "none":
        chosen = np.arange(k)
    elif method == "random":
        chosen = np.sort(seeds.numbers(*key, "random").choice(len(rows), k, replace=False))
    elif method == "greedy":
        chosen = on_host(greedy_select(usable, k, start="random", seed=seed).indices)
    elif method == "threshold":
        chosen = on_host(threshold_select(usable, k, seed=seed).indices)
    elif method in ("anchored", "moments"):
        weight = diversity if method == "anchored" else None
        target = None if real is None else on_host(real)
        chosen = _matched(on_host(usable), k, target, weight, reference, seed, key)
    else:
        values = on_host(usable)
        centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
        chosen = np.argsort(-(centred**2).sum(axis=1), kind="stable")[:k]
    return rows[chosen]


def _matched(
    pool: NDArray[Any],
    k: int,
    real: NDArray[Any] | None,
    diversity: float | None,
    reference: int | None,
    seed: int,
    key: tuple[int | str, ...],
) -> NDArray[np.int64]:
    """ "anchored" with that diversity, "moments" with None."""
    if real is None:
        raise ValueError("anchored, moments: need real, the images that are matched")
    if reference is not None:
        drawn = seeds.numbers(*key, "reference").choice(len(real), reference, replace=False)
        real = real[np.sort(drawn)]
    if diversity is not None:
        return anchored_select(pool, k, real, diversity=diversity).indices
    if len(np.unique(pool, axis=0)) < k:  # then some picks are equal, and have no entropy
        return frechet_select(pool, k, real, start="random", seed=seed).indices
    start = np.sort(greedy_select(pool, k, start="random", seed=seed).indices)
    drawn = np.sort(seeds.numbers(*key, "random").choice(len(pool), k, replace=False))
    least = min(float(kl_entropy(pool[rows], duplicates="drop")) for rows in (drawn, start))
    return frechet_select(pool, k, real, min_entropy=least, start=start).indices


def _largest(distances: NDArray[Any], share: float) -> NDArray[np.int64]:
    """Rows of that share with the largest distances; of equal ones the last."""
    left = len(distances) - shares.part(share, len(distances))
    return np.argsort(distances, kind="stable")[left:]
