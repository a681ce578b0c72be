"""A torch module as the space in which images are selected or judged.

Features are a function from images (n, h, w, channels) uint8 to (n, d) numbers. Put the network
into eval mode: an image's features must not depend on the others in the call, and the loop refuses
such a space before it begins. Here a network that has never seen digits, a random convolution, is
the space of the selection, and pixels that of judging.

    python examples/loop_with_own_features.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from entroselect.loop import resolve, run
from entroselect.loop.runs import read_run


class Extractor:
    """Any torch module as features; here one with fixed random weights."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = nn.Sequential(
                nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
                nn.Linear(512, 64),
            ).eval()  # fmt: skip

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        return self.network(pixels).numpy()


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    settings = [
        "data.images=128", "data.held_out=256", "iterations=5",
        "select.space=random_conv", "measure.spaces=['random_conv']", "measure.judge=pixels",
    ]  # fmt: skip
    print("in pixels:  entropy of what was generated     Frechet distance")
    arms = {}
    for method in ("none", "greedy"):
        # "resample" copies training images and moves the copies a little: it needs no network
        run(
            resolve("digits", settings=[*settings, f"select.method={method}"]),
            folder / method,
            generator="resample",
            features={"random_conv": Extractor()},
        )
        arms[method] = read_run(folder / method)
    print("iteration          none         greedy           none         greedy")
    columns = [
        arm.series("pixels", *measure)
        for measure in (("generated", "entropy"), ("frechet_distance",))
        for arm in arms.values()
    ]
    for iteration, values in enumerate(zip(*columns, strict=True), 1):
        print(f"{iteration:>9}", *(f"{value:>14,.1f}" for value in values))


if __name__ == "__main__":
    main()
