"""The built-in diffusion models "ddpm" and "edm" as a generator of the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.loop import data, diffusion, files, seeds
from entroselect.loop.config import Config, Kind
from entroselect.loop.data import Images
from entroselect.loop.progress import Progress
from entroselect.loop.sample import generate
from entroselect.loop.train import saved_step, train


@dataclass
class Denoiser:
    """A diffusion model of one iteration. It saves its state and stops at the deadline.

    config: the run's options.
    kind: "ddpm" or "edm".
    iteration: from 1.
    classes: labels that a conditional network must know.
    steps: of training.
    device: where it computes.
    stats: called with each line for stats.jsonl; `cut` with the step after which lines are dropped.
    progress, deadline: of the run; time.monotonic().
    """

    config: Config
    kind: Kind
    iteration: int
    classes: int
    steps: int
    device: str
    stats: Callable[[dict[str, Any]], None]
    cut: Callable[[int], None]
    progress: Progress
    deadline: float

    def __post_init__(self) -> None:
        self.noise = replace(self.config.diffusion, kind=self.kind)
        self.key = (self.config.seed, self.kind, self.iteration)  # of all random numbers

    def fit(
        self,
        images: NDArray[Any],
        *,
        seed: int,
        checkpoint: Path | None = None,
        labels: NDArray[np.int64] | None = None,
    ) -> None:
        """Trains the network, or loads what was trained before; random numbers depend on the run's
        seed, kind and iteration, not on `seed`."""
        assert checkpoint is not None
        self.checkpoint = checkpoint
        state = checkpoint / "state.safetensors"
        if not (checkpoint / "unet" / "diffusion_pytorch_model.safetensors").exists():
            rows = Images(images, labels, data.origins(data.REAL, len(images)))
            net = self._trained(rows, state)
            diffusion.save(net, diffusion.noise_schedule(self.noise), checkpoint)
        state.unlink(missing_ok=True)
        self.net = diffusion.load(checkpoint)

    def sample(
        self, n: int, *, seed: int, labels: NDArray[np.int64] | None = None
    ) -> NDArray[np.uint8]:
        """n images, in batches that a run which was stopped finds again."""
        what = f"iteration {self.iteration}: generating ({self.kind})"
        self.progress.start(what, n, unit="images")
        return generate(
            self.net,
            self.noise,
            n,
            labels,
            **asdict(self.config.sample),
            key=self.key,
            device=self.device,
            parts=self.checkpoint / "parts",
            report=lambda done: self.progress.update(done),
            deadline=self.deadline,
        )

    def _trained(self, images: Images, state: Path) -> Any:
        try:
            try:
                return self._resumed(images, state)
            except files.Damaged as error:  # without a state the same steps are taken again
                self.progress.note(f"{error.path}: damaged ({error.why}); training begins again")
                state.unlink(missing_ok=True)
                return self._resumed(images, state)
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}; step {saved_step(state)} is kept") from None

    def _resumed(self, images: Images, state: Path) -> Any:
        config, progress = self.config, self.progress
        what = f"iteration {self.iteration}: training ({self.kind})"
        progress.start(what, self.steps, unit="steps")

        def report(step: int, loss: float, rate: float) -> None:
            line = {"iteration": self.iteration, "model": self.kind, "step": step}
            self.stats({**line, "loss": loss, "learning_rate": rate})
            progress.update(step, note=f"loss {loss:.4f}", rate=(config.train.batch, "images/s"))

        self.cut(saved_step(state))
        progress.update(saved_step(state))
        shape: Any = images.pixels.shape[1:]
        return train(
            images,
            diffusion.network(config.model, shape, self.classes, seeds.noise(*self.key, "weights")),
            self.noise,
            **(asdict(config.train) | {"steps": self.steps}),
            key=self.key,
            device=self.device,
            state=state,
            report=report,
            deadline=self.deadline,
        )
