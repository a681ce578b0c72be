"""Spaces in which distances between images are taken."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from entroselect._dispatch import why_not_cuda
from entroselect.loop import files, seeds
from entroselect.loop.config import SpaceName
from entroselect.loop.data import Images
from entroselect.loop.train import scaled

Extract = Callable[[Images], NDArray[np.float32]]

BATCH = 512


def spaces(
    wanted: Iterable[SpaceName],
    real: Images,
    *,
    folder: Path,
    weights: str | None = None,
    device: str = "cpu",
    key: tuple[int | str, ...] = (0,),
) -> dict[SpaceName, Extract]:
    """A function from images to (n, d) float32 features, for each space.

    pixels: values as they are, 0 to 255, d = h w channels.
    encoder: 64 features of a small network that is trained on the real images first, to tell
        their labels apart or, without labels, which way they are turned. Kept in
        folder/encoder.safetensors.
    dinov2: the class token of a DINOv2 model in the local folder `weights` (transformers).
    inception: pooled features of an Inception v3 in the local file `weights` (timm).

    Raises:
        ValueError: weights that are missing or do not fit, a missing package.
    """
    made: dict[SpaceName, Extract] = {}
    for name in wanted:
        if name == "pixels":
            made[name] = pixels
        elif name == "encoder":
            made[name] = _Batches(_encoder(real, folder, device, key), scaled, device)
        elif name == "dinov2":
            made[name] = _Batches(_dinov2(weights), _upright(224, _IMAGENET), device)
        else:
            made[name] = _Batches(_inception(weights), _upright(299, ((0.5,) * 3,) * 2), device)
    return made


def pixels(images: Images) -> NDArray[np.float32]:
    """(n, h w channels), 0 to 255."""
    return images.pixels.reshape(len(images), -1).astype(np.float32)


def for_selection(extract: Extract, images: Images) -> Any:
    """Features where selection is fastest: a network's stay on its GPU if backend "cuda" runs and
    no other was asked for."""
    asked = os.environ.get("ENTROSELECT_BACKEND") or "auto"
    stays = isinstance(extract, _Batches) and extract.device != "cpu" and asked in ("auto", "cuda")
    if stays and not why_not_cuda():
        return extract.tensor(images)  # type: ignore[attr-defined]
    return extract(images)


class _Batches:
    """A network applied to many images."""

    def __init__(self, net: nn.Module, prepare: Callable[..., torch.Tensor], device: str) -> None:
        self.net, self.prepare, self.device = net.to(device).eval(), prepare, device

    @torch.no_grad()
    def tensor(self, images: Images) -> torch.Tensor:
        """Features on the network's device."""
        parts = []
        for first in range(0, len(images), BATCH):
            rows = np.arange(first, min(first + BATCH, len(images)))
            parts.append(self.net(self.prepare(images, rows).to(self.device)).float())
        return torch.cat(parts)

    def __call__(self, images: Images) -> NDArray[np.float32]:
        return np.asarray(self.tensor(images).cpu())


class Encoder(nn.Module):
    """Three convolutions, their mean over the image, and a linear layer that is cut off later."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.GroupNorm(8, 32),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.SiLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 64),
        )
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(64, classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 64) features."""
        features: torch.Tensor = self.body(images)
        return features


def _encoder(real: Images, folder: Path, device: str, key: tuple[int | str, ...]) -> Encoder:
    path = folder / "encoder.safetensors"
    classes = real.classes if real.classes > 1 else 4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.noise(*key, "encoder").initial_seed())
        net = Encoder(real.pixels.shape[-1], classes)
    if path.exists():
        net.load_state_dict(load_file(path))
        return net
    _teach(net.to(device).train(), real, device, key)
    files.write_tensors(path, net.state_dict())
    return net.cpu()


def _teach(net: Encoder, real: Images, device: str, key: tuple[int | str, ...]) -> None:
    steps, batch = 600, 128
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-2, foreach=False)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        draw = seeds.noise(*key, "encoder", step)
        rows = torch.randint(len(real), (batch,), generator=draw).numpy()
        images = scaled(real, rows)
        if real.labels is not None and real.classes > 1:
            target = torch.from_numpy(real.labels[rows])
        else:
            target = torch.arange(batch) % 4
            turned = torch.empty(batch, images.shape[1], *[max(images.shape[2:])] * 2).fill_(-1)
            turned[:, :, : images.shape[2], : images.shape[3]] = images
            images = torch.stack(
                [torch.rot90(x, int(n), (1, 2)) for x, n in zip(turned, target, strict=True)]
            )
        images = images + 0.1 * torch.randn(images.shape, generator=draw)
        scores = net.head(net(images.to(device)))
        optimiser.zero_grad()
        nn.functional.cross_entropy(scores, target.to(device)).backward()
        optimiser.step()


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _upright(
    side: int, normal: tuple[tuple[float, ...], tuple[float, ...]]
) -> Callable[..., torch.Tensor]:
    def prepare(images: Images, rows: Any) -> torch.Tensor:
        pixels = (scaled(images, rows) + 1) / 2
        pixels = pixels.expand(-1, 3, -1, -1)
        pixels = nn.functional.interpolate(
            pixels, (side, side), mode="bicubic", antialias=True, align_corners=False
        ).clamp(0, 1)
        mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in normal)
        return (pixels - mean) / std

    return prepare


def _dinov2(weights: str | None) -> nn.Module:
    try:
        from transformers import Dinov2Model
    except ImportError:
        raise ValueError(
            "measure.spaces: dinov2 needs transformers: pip install transformers"
        ) from None
    if weights is None or not (Path(weights) / "config.json").is_file():
        raise ValueError(
            f"measure.weights: {weights}: expected a folder with DINOv2's config.json and "
            "model.safetensors, as downloaded from its page"
        )
    try:
        model = Dinov2Model.from_pretrained(weights, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"measure.weights: {weights}: {error}") from None

    class ClassToken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            token: torch.Tensor = self.model(images).last_hidden_state[:, 0]
            return token

    return ClassToken()


def _inception(weights: str | None) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise ValueError("measure.spaces: inception needs timm: pip install timm") from None
    if weights is None or not Path(weights).is_file():
        raise ValueError(f"measure.weights: {weights}: expected a file with Inception v3 weights")
    try:
        model: nn.Module = timm.create_model("inception_v3", num_classes=0, checkpoint_path=weights)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"measure.weights: {weights}: {error}") from None
    return model
