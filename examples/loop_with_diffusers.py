"""A diffusers pipeline in the loop: any UNet, scheduler and training loop of your own.

`fit` writes the pipeline into `checkpoint`, a folder that the loop keeps for each iteration, and
finds it there when a run that was killed is started again. The pipelines stay usable afterwards:
DDIMPipeline.from_pretrained(FOLDER / "iteration-02" / "Diffusers").

    python examples/loop_with_diffusers.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

from entroselect.loop import resolve, run
from entroselect.loop.runs import read_run

STEPS, BATCH, SAMPLING = 60, 64, 5


def network() -> UNet2DModel:
    return UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(16, 32),
        layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip


class Diffusers:
    def fit(self, images: np.ndarray, *, seed: int, checkpoint: Path) -> None:
        if (checkpoint / "model_index.json").exists():  # trained before the run was killed
            self.pipeline = DDIMPipeline.from_pretrained(checkpoint)
            return
        unet, scheduler = network(), DDIMScheduler(num_train_timesteps=100)
        optimiser = torch.optim.AdamW(unet.parameters(), 2e-3)
        clean = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        for _ in range(STEPS):
            some = clean[torch.randint(len(clean), (BATCH,))]
            noise, times = torch.randn_like(some), torch.randint(100, (BATCH,))
            guess = unet(scheduler.add_noise(some, noise, times), times).sample
            optimiser.zero_grad()
            torch.nn.functional.mse_loss(guess, noise).backward()
            optimiser.step()
        self.pipeline = DDIMPipeline(unet, scheduler)
        self.pipeline.save_pretrained(checkpoint)

    def sample(self, n: int, *, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
        self.pipeline.set_progress_bar_config(disable=True)
        draw = torch.Generator().manual_seed(seed)
        made = self.pipeline(n, draw, num_inference_steps=SAMPLING, output_type="np").images
        return (made * 255).round().astype(np.uint8)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    settings = [
        "data.images=128", "data.held_out=128", "iterations=2",
        "select.method=greedy", "select.space=pixels", "measure.spaces=['pixels']",
    ]  # fmt: skip
    run(resolve("digits", settings=settings), folder, generator=Diffusers)
    entropies = read_run(folder).series("pixels", "generated", "entropy")
    for iteration, entropy in enumerate(entropies, 1):
        print(f"iteration {iteration}: entropy {entropy:.1f} nats")
    for path in sorted(folder.glob("iteration-*/Diffusers/model_index.json")):
        print(f"pipeline: {path.parent.relative_to(folder)}")


if __name__ == "__main__":
    main()
