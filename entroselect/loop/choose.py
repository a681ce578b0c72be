"""The next training set: rows of the pool, chosen by the engine's public functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import greedy_select, nearest_distances, threshold_select
from entroselect.loop import seeds
from entroselect.loop.config import Method
from entroselect.results import on_host


def choose(
    features: Any,
    k: int,
    method: Method,
    *,
    drop_outliers: float = 0.0,
    key: tuple[int | str, ...] = (0,),
) -> NDArray[np.int64]:
    """k rows of the pool, in the order of choice.

    Args:
        features: (n, d) of the pool, an array or a tensor on a CUDA device.
        k: how many, at most n.
        method: "none", the first k; "random"; "greedy", farthest first from a random row
            (algorithm 1 of Shi et al. 2025); "threshold", decaying (algorithm 2); "variance",
            the k farthest from the pool's mean, which have the largest sum of variances.
        drop_outliers: this share of the pool, the rows with the largest distance to their 5th
            nearest other row, cannot be chosen. Farthest first likes outliers, and in a generated
            pool these are often failures.
        key: what the random numbers depend on.

    Raises:
        ValueError: fewer than k rows are left.

    Example:
        >>> import numpy as np
        >>> from entroselect.loop.choose import choose
        >>> sorted(choose(np.array([[0.0], [1.0], [9.0], [10.0]]), 2, "variance").tolist())
        [0, 3]
    """
    rows = np.arange(len(features))
    if drop_outliers and method != "none":
        neighbours = min(5, len(features) - 1)
        lonely = on_host(nearest_distances(features, k=neighbours).distances)[:, -1]
        left = len(features) - int(drop_outliers * len(features))
        rows = np.sort(np.argsort(lonely, kind="stable")[:left])
    if k > len(rows):
        raise ValueError(
            f"select.drop_outliers: leaves {len(rows)} of {len(features)} images, {k} are wanted"
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
    else:
        values = on_host(usable)
        centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
        chosen = np.argsort(-(centred**2).sum(axis=1), kind="stable")[:k]
    return rows[chosen]
