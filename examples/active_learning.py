"""Active learning: which 40 of 4,000 unlabelled points to label.

Ten classes, two of them rare. A label is bought for each selected point, and the nearest labelled
point predicts all others. Farthest-first reaches every class; a random draw misses rare ones.

    python examples/active_learning.py
"""

from __future__ import annotations

import numpy as np

from entroselect import greedy_select, nearest_distances

CLASSES, RARE, COLUMNS, BUDGET, TRIALS = 10, (8, 9), 16, 40, 5


def points(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Points around ten centres, and their classes; a rare one has 1 point in 200."""
    share = np.full(CLASSES, (1 - len(RARE) * 0.005) / (CLASSES - len(RARE)))
    share[list(RARE)] = 0.005
    labels = rng.choice(CLASSES, size=n, p=share)
    centres = 6 * np.eye(COLUMNS)[:CLASSES]
    spread = rng.standard_normal((n, COLUMNS))
    return (centres[labels] + spread).astype(np.float32), labels


def accuracy(pool: np.ndarray, labels: np.ndarray, picked: np.ndarray) -> float:
    """Mean over classes of the share that is predicted right from the picked labels."""
    nearest = nearest_distances(pool, pool[picked]).indices[:, 0]
    right = labels[picked][nearest] == labels
    return float(np.mean([right[labels == label].mean() for label in range(CLASSES)]))


def main() -> None:
    scores: dict[str, list[float]] = {"random": [], "greedy": []}
    reached: dict[str, list[int]] = {"random": [], "greedy": []}
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        pool, labels = points(rng, 4_000)
        for name, picked in (
            ("random", rng.choice(len(pool), BUDGET, replace=False)),
            ("greedy", greedy_select(pool, BUDGET, start="center").indices),
        ):
            scores[name].append(accuracy(pool, labels, picked))
            reached[name].append(len(np.unique(labels[picked])))
    print(f"{BUDGET} labels of 4,000 points, {CLASSES} classes, mean of {TRIALS} pools:")
    for name in scores:
        print(f"  {name}: {np.mean(reached[name]):.1f} classes seen, "
              f"accuracy per class {np.mean(scores[name]):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
