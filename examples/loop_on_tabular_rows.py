"""The loop on rows of a table: scikit-learn's Gaussian mixture, refitted to its own samples.

Nothing in the loop asks for images. Rows are (n, d) floats; the spaces "rows" are their values.
Ten iterations of a mixture fitted to what the last one drew, without real rows in between: with
nothing selected its entropy falls; spread out by farthest-first it rises instead, and the outliers
that are picked pull the mixture apart.

    python examples/loop_on_tabular_rows.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_wine
from sklearn.mixture import GaussianMixture

from entroselect.loop import resolve, run
from entroselect.loop.runs import read_run


class Mixture:
    def fit(self, images: np.ndarray, *, seed: int, checkpoint: Path | None = None) -> None:
        self.mixture = GaussianMixture(3, covariance_type="diag", random_state=seed, reg_covar=1e-3)
        self.mixture.fit(images)

    def sample(self, n: int, *, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
        self.mixture.set_params(random_state=seed)
        rows, _ = self.mixture.sample(n)
        return np.random.default_rng(seed).permutation(rows)  # they come component by component


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    rows = load_wine().data
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)  # (178, 13) float64
    print("            entropy, nats          Frechet distance")
    print("iteration   none      greedy       none      greedy")
    arms = {}
    for method in ("none", "greedy"):
        options = resolve(None, iterations=10, select__method=method)
        run(options, folder / method, generator=Mixture, real=rows)
        arms[method] = read_run(folder / method)
    columns = [
        arm.series("rows", *measure)
        for measure in (("generated", "entropy"), ("frechet_distance",))
        for arm in arms.values()
    ]
    for iteration, values in enumerate(zip(*columns, strict=True), 1):
        print(f"{iteration:>9}", *(f"{value:>11.2f}" for value in values))


if __name__ == "__main__":
    main()
