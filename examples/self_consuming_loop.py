"""A self-consuming loop in NumPy: each model is trained on what the one before it generated.

The model stands in for an image generator that memorises: it draws a training point and moves it
part of the way towards one of its near neighbours, so what it makes is never more diverse than what
it was trained on. Each generation makes twice as many points as it was trained on, and half of them
are kept: at random, or by farthest-first. The generalisation score (GS) is the mean distance of a
generated point to the nearest training point.

    python examples/self_consuming_loop.py
"""

from __future__ import annotations

import numpy as np

from entroselect import generalization_score, greedy_select, kl_entropy, nearest_distances

N, COLUMNS, GENERATIONS, NEIGHBOURS = 500, 4, 8, 5


def generate(training: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n points, each between a training point and one of its nearest neighbours."""
    drawn = rng.integers(len(training), size=n)
    near = nearest_distances(training, k=NEIGHBOURS).indices
    other = near[drawn, rng.integers(NEIGHBOURS, size=n)]
    part = rng.random((n, 1))
    return (1 - part) * training[drawn] + part * training[other]


def run(select: str, seed: int) -> list[tuple[float, float]]:
    """(entropy, GS) of what each generation makes."""
    rng = np.random.default_rng(seed)
    training = rng.standard_normal((N, COLUMNS))
    measured = []
    for _ in range(GENERATIONS):
        made = generate(training, 2 * N, rng)
        sample = made[:N]  # what was drawn, before any selection
        measured.append((float(kl_entropy(sample)), generalization_score(sample, training)))
        kept = greedy_select(made, N).indices if select == "greedy" else np.arange(N)
        training = made[kept]
    return measured


def main() -> None:
    rows = {select: run(select, seed=0) for select in ("random", "greedy")}
    print("generation   entropy, nats      GS")
    print("             random  greedy     random  greedy")
    for number in range(GENERATIONS):
        (entropy, score), (entropy_greedy, score_greedy) = (rows[s][number] for s in rows)
        print(f"{number + 1:>10} {entropy:>8.2f}{entropy_greedy:>8.2f}"
              f"   {score:>8.3f}{score_greedy:>8.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
