"""What type checkers see of the public functions: `mypy --strict` and pyright read this file as
they read the script of a user, and it runs too. A test looks for every public name in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import entroselect
from entroselect import (
    AnchoredSelection,
    BatchSelection,
    Cover,
    Diagnosis,
    Entropy,
    FrechetSelection,
    Neighbourhoods,
    Neighbours,
    Selection,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

draw = np.random.default_rng(0)
rows: NDArray[np.float32] = draw.normal(size=(60, 4)).astype(np.float32)
real = draw.normal(size=(60, 4))
points = draw.normal(size=(2, 30, 3))


def selections() -> None:
    picked = entroselect.greedy_select(rows, 5, start="center", metric="cosine", quotas=None)
    assert_type(picked, Selection)
    assert_type(picked.indices, Ints)
    assert_type(picked.distances, Floats)
    assert_type(picked.radius, float)
    assert_type(picked.backend, str)
    assert_type(picked.thresholds, Floats | None)
    assert_type(picked.profile, dict[str, Any])
    assert_type(picked.counts, dict[Any, int] | None)
    assert_type(len(picked), int)
    accepted = entroselect.threshold_select(rows, 0.1, selected=picked.indices, decay=0.9)
    assert_type(accepted, Selection)
    anchored = entroselect.anchored_select(rows, 6, real[:40], start="random", seed=0)
    assert_type(anchored, AnchoredSelection)
    assert_type(anchored.energy_distance, float)
    matched = entroselect.frechet_select(rows, 20, real, seed=0)
    assert_type(matched, FrechetSelection)
    assert_type(matched.frechet_distance, float)
    clouds = entroselect.greedy_select_batch(points, 3)
    assert_type(clouds, BatchSelection)
    assert_type(clouds.indices, Ints)


def neighbours() -> None:
    nearest = entroselect.nearest_distances(rows, real.astype(np.float32), 2)
    assert_type(nearest, Neighbours)
    assert_type(nearest.distances, Floats)
    assert_type(nearest.indices, Ints)
    assert_type(nearest.recall, float | None)
    within = entroselect.neighbours_within(rows, distance=0.5)
    assert_type(within, Neighbourhoods)
    assert_type(within.indptr, Ints)
    kept = entroselect.deduplicate(rows, similarity=0.9, memory_limit="1GiB")
    assert_type(kept, Cover)
    assert_type(kept.duplicate_of, Ints)
    assert_type(kept.sizes, Ints)


def measures() -> None:
    entropy = entroselect.kl_entropy(rows, duplicates="drop")
    assert_type(entropy, Entropy)
    assert_type(entropy.zero_distances, int)
    assert_type(entropy + 1, float)
    found = entroselect.diagnose(rows, real.astype(np.float32), training=rows[:10])
    assert_type(found, Diagnosis)
    assert_type(found.entropy, float | None)
    assert_type(found.size.enough, bool)
    assert_type(entroselect.energy_distance(rows, real), float)
    assert_type(entroselect.frechet_distance(rows, real), float)
    assert_type(entroselect.generalization_score(rows, real, kind="mse"), float)
    assert_type(entroselect.mean_nearest_distance(rows), float)
    assert_type(entroselect.mmd(rows, real, kernel="laplacian"), float)


def files(path: str) -> None:
    np.save(path, rows)
    pool = entroselect.open_pool(path, key=None)
    assert_type(pool.shape, tuple[int, int])
    assert_type(pool.dtype, str)
    assert_type(pool.read(0, 2), NDArray[Any])
    assert_type(pool.ids(np.arange(2)), NDArray[Any] | None)
    picked = entroselect.greedy_select(pool, 3)
    assert_type(entroselect.take(rows, picked), Any)


def mistakes() -> None:
    """What a checker has to refuse: --strict complains of an "ignore" where there is no error."""
    entroselect.greedy_select(rows, "5")  # type: ignore[arg-type]
    entroselect.greedy_select(rows, 5, metric="l1")  # type: ignore[arg-type]
    entroselect.kl_entropy(rows, duplicates="keep")  # type: ignore[arg-type]
    entroselect.nearest_distances(rows, neighbours=3)  # type: ignore[call-arg]
