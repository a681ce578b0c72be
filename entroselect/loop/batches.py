"""What a step of training sees: images in shuffled epochs, with noise, and the loss on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import mse_loss

from entroselect.loop import diffusion as diffusers_parts
from entroselect.loop import seeds
from entroselect.loop.config import Diffusion, Train
from entroselect.loop.data import Images
from entroselect.loop.diffusion import Net


@dataclass(frozen=True)
class Batch:
    """Tensors with a row per image, on the device that trains."""

    clean: torch.Tensor  # (n, channels, h, w) on -1 to 1
    noise: torch.Tensor  # the same shape, normal
    level: torch.Tensor  # ddpm: (n,) int64 time; edm: (n, 1, 1, 1) sigma
    labels: torch.Tensor | None  # (n,) int64

    def parts(self, count: int) -> Iterator[tuple[float, Batch]]:
        """`count` batches of sizes that differ by at most 1, each with its share of the whole."""
        labels = [None] * count if self.labels is None else self.labels.tensor_split(count)
        cut = (x.tensor_split(count) for x in (self.clean, self.noise, self.level))
        for clean, noise, level, label in zip(*cut, labels, strict=True):
            yield len(clean) / len(self.clean), Batch(clean, noise, level, label)


@dataclass(frozen=True)
class Batches:
    """The batches of one training.

    Attributes:
        images: what is learnt.
        diffusion: the noise.
        options: batch size, label_dropout, flip.
        no_label: the label that means none; None: the network takes no labels.
        key: what the random numbers depend on.
        device: where batches are put.
    """

    images: Images
    diffusion: Diffusion
    options: Train
    no_label: int | None
    key: tuple[int | str, ...]
    device: str

    def at(self, step: int, draw: torch.Generator) -> Batch:
        """The batch of that step; dropped labels, noise and its levels come from `draw`."""
        size = self.options.batch
        rows = rows_of(self.key, len(self.images), step * size, size)
        clean = scaled(self.images, rows)
        if self.options.flip:
            coins = torch.rand(size, generator=seeds.noise(*self.key, "flip", step)) < 0.5
            clean = torch.where(coins[:, None, None, None], clean.flip(-1), clean)
        labels = self._labels(rows, draw)
        noise = torch.randn(clean.shape, generator=draw)
        if self.diffusion.kind == "ddpm":
            level = torch.randint(self.diffusion.steps, (size,), generator=draw)
        else:  # Karras et al. 2022, table 1
            normal = torch.randn((size, 1, 1, 1), generator=draw)
            level = (self.diffusion.log_sigma_mean + self.diffusion.log_sigma_std * normal).exp()
        parts = (clean, noise, level, labels)
        put = (x if x is None else to_device(x, self.device) for x in parts)
        return Batch(*put)  # type: ignore[arg-type]

    def _labels(self, rows: Any, draw: torch.Generator) -> torch.Tensor | None:
        if self.no_label is None or self.images.labels is None:
            return None
        labels = torch.from_numpy(self.images.labels[rows])
        dropped = torch.rand(len(labels), generator=draw) < self.options.label_dropout
        return torch.where(dropped, self.no_label, labels)


class Loss:
    """The loss of a network on a batch."""

    def __init__(self, diffusion: Diffusion) -> None:
        self.diffusion, self.schedule = diffusion, diffusers_parts.noise_schedule(diffusion)

    def __call__(self, net: Net, batch: Batch) -> torch.Tensor:
        """The mean over the batch, a float32 scalar."""
        clean, noise, level, schedule = batch.clean, batch.noise, batch.level, self.schedule
        if self.diffusion.kind == "ddpm":
            guess = net(schedule.add_noise(clean, noise, level), level, batch.labels).sample
            target = noise
            if self.diffusion.prediction == "v":
                target = schedule.get_velocity(clean, noise, level)
            return mse_loss(guess.float(), target)
        # Karras et al. 2022, equations 7 and 8.
        noisy = clean + level * noise
        entering = schedule.precondition_inputs(noisy, level)
        times = schedule.precondition_noise(level).flatten()
        guess = net(entering, times, batch.labels).sample
        denoised = schedule.precondition_outputs(noisy, guess.float(), level)
        data = self.diffusion.sigma_data
        weight = (level**2 + data**2) / (level * data) ** 2
        return (weight * (denoised - clean) ** 2).mean()


def to_device(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """The tensor there. On a GPU from pinned memory, so that the host does not wait for what the
    GPU has been given before."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def scaled(images: Images, rows: Any) -> torch.Tensor:
    """(n, channels, h, w) float32 on -1 to 1."""
    pixels = torch.from_numpy(images.pixels[rows]).permute(0, 3, 1, 2)
    return pixels.float() / 127.5 - 1


def rows_of(key: tuple[int | str, ...], count: int, first: int, batch: int) -> Any:
    """The batch that begins at place `first` of an endless sequence of shuffled epochs."""
    places = torch.arange(first, first + batch)
    epochs = torch.div(places, count, rounding_mode="floor")
    rows = torch.empty(batch, dtype=torch.long)
    for epoch in epochs.unique().tolist():
        inside = epochs == epoch
        rows[inside] = _shuffled(key, count, epoch)[places[inside] % count]
    return rows.numpy()


@lru_cache(maxsize=4)
def _shuffled(key: tuple[int | str, ...], count: int, epoch: int) -> torch.Tensor:
    return torch.randperm(count, generator=seeds.noise(*key, "epoch", epoch))
