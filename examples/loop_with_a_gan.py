"""A GAN of your own in the loop: train, generate, select half, train again, on digits of 8 x 8.

A generator is any class with `fit` and `sample`. The loop seeds torch before it calls either, so a
run that was killed and is started again ends with the same images.

    python examples/loop_with_a_gan.py [FOLDER]
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

NOISE, STEPS, BATCH = 16, 300, 64


class Gan:
    """Two small networks; images (n, h, w, channels) uint8 become rows on -1 to 1."""

    def fit(self, images: np.ndarray, *, seed: int, checkpoint: Path | None = None) -> None:
        self.shape = images.shape[1:]
        real = torch.from_numpy(images).reshape(len(images), -1).float() / 127.5 - 1
        width = real.shape[1]
        self.maker = nn.Sequential(
            nn.Linear(NOISE, 128), nn.LeakyReLU(0.2), nn.Linear(128, width), nn.Tanh()
        )
        judge = nn.Sequential(nn.Linear(width, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))
        makes = torch.optim.Adam(self.maker.parameters(), 1e-3, betas=(0.5, 0.99))
        judges = torch.optim.Adam(judge.parameters(), 1e-3, betas=(0.5, 0.99))
        loss = nn.functional.softplus  # of a score that should be low
        for _ in range(STEPS):
            some = real[torch.randint(len(real), (BATCH,))]
            made = self.maker(torch.randn(BATCH, NOISE))
            judges.zero_grad()
            (loss(-judge(some)) + loss(judge(made.detach()))).mean().backward()
            judges.step()
            makes.zero_grad()
            loss(-judge(made)).mean().backward()
            makes.step()
        if checkpoint is not None:  # a folder of this training's own; what is left there is kept
            torch.save(self.maker.state_dict(), checkpoint / "maker.pt")

    @torch.no_grad()
    def sample(self, n: int, *, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
        rows = self.maker(torch.randn(n, NOISE)) * 127.5 + 127.5
        return rows.round().to(torch.uint8).reshape(n, *self.shape).numpy()


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    options = ["data.images=256", "data.held_out=256", "iterations=3"]
    options += ["measure.spaces=['pixels']", "select.space=pixels"]
    print("Frechet distance to the real digits (pixels), by iteration")
    for method in ("none", "greedy"):
        run(
            resolve("digits", settings=[*options, f"select.method={method}"]),
            folder / method,
            generator=Gan,
        )
        found = read_run(folder / method).series("pixels", "frechet_distance")
        print(f"{method:>7}:", *(f"{distance:>9,.0f}" for distance in found))
    print(f"in {folder}; compare with: entroselect report {folder}/*")


if __name__ == "__main__":
    main()
