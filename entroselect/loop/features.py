"""Spaces in which distances between images are taken."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from entroselect import _settings
from entroselect._dispatch import why_not_cuda
from entroselect.loop import files, pretrained, seeds
from entroselect.loop.batches import scaled, to_device
from entroselect.loop.config import SpaceName
from entroselect.loop.data import Images
from entroselect.loop.diffusion import load_weights
from entroselect.loop.stop import Stopped
from entroselect.loop.train import optimiser_tensors, set_optimiser

Extract = Callable[[Images], NDArray[Any]]

BATCH = 512  # images at once
ENCODERS: tuple[SpaceName, ...] = ("encoder", "judge")  # spaces that are taught in a run


def spaces(
    wanted: Iterable[SpaceName],
    real: Images,
    *,
    folder: Path,
    held_out: Images | None = None,
    weights: str | None = None,
    device: str = "cpu",
    key: tuple[int | str, ...] = (0,),
    report: Callable[[int], None] | None = None,
    deadline: float = math.inf,
) -> dict[SpaceName, Extract]:
    """A function from images to (n, d) float32 features, for each space.

    pixels: values as they are, 0 to 255, d = h w channels.
    encoder: 64 features of a small network that is trained on the real images first, to tell
        their labels apart or, without labels, which way they are turned. Kept in
        folder/encoder.safetensors.
    judge: the same network, taught on `held_out` instead and kept in folder/judge.safetensors: a
        space in which nothing was selected and that no generated image comes from.
    efficientnet: 1280 pooled features of EfficientNet-Lite0, taught on ImageNet, of the images at
        96 x 96; about 7 ms per image on one CPU thread. Needs the extra `features`.
    dinov2: the class token of a DINOv2 model in the local folder `weights` (transformers).
    inception: pooled features of an Inception v3 in the local .safetensors file `weights`, whose
        names are timm's.

    `report` is called with the steps of training that an encoder has done, of ENCODER_STEPS. On the
    CPU, features are the same bits on every run with one thread.

    Raises:
        ValueError: weights that are missing or do not fit, a missing package, no held-out images.
        Stopped: at the deadline, time.monotonic(); the encoder's training resumes there.
    """
    made: dict[SpaceName, Extract] = {}
    for name in wanted:
        if name == "pixels":
            made[name] = pixels
        elif name in ENCODERS:
            taught = real if name == "encoder" else held_out
            if taught is None:
                raise ValueError(
                    "measure.spaces: judge is an encoder taught on the held-out images, and there "
                    "are none; set data.held_out"
                )
            encoder = _encoder(name, taught, folder, device, key, report, deadline)
            made[name] = _Batches(encoder, scaled, device)
        else:
            made[name] = _pretrained(name, weights, device)
    return made


def _pretrained(name: SpaceName, weights: str | None, device: str) -> _Batches:
    if name == "efficientnet":
        prepare = pretrained.Upright(pretrained.SIDE, pretrained.IMAGENET)
        return _Batches(pretrained.efficientnet(), prepare, device, 64)
    if name == "dinov2":
        prepare = pretrained.Upright(224, pretrained.IMAGENET)
        return _Batches(pretrained.dinov2(weights), prepare, device, 64)
    prepare = pretrained.Upright(299, pretrained.HALVES)
    return _Batches(pretrained.inception(weights), prepare, device, 64)


def pixels(images: Images) -> NDArray[Any]:
    """(n, h w channels), 0 to 255; of rows their values, and their dtype if it is a float's."""
    rows = images.pixels.reshape(len(images), -1)
    return rows if rows.dtype.kind == "f" else rows.astype(np.float32)


def for_search(extract: Extract, images: Images) -> Any:
    """Features where selection and the search for neighbours are fastest: those of a network stay
    on its GPU if backend "cuda" can run and is not excluded."""
    asked = _settings.backend()
    stays = isinstance(extract, _Batches) and extract.device != "cpu" and asked in ("auto", "cuda")
    if stays and not why_not_cuda():
        return extract.tensor(images)  # type: ignore[attr-defined]
    return extract(images)


class _Batches:
    """A network applied to many images."""

    def __init__(
        self,
        net: nn.Module,
        prepare: Callable[..., torch.Tensor],
        device: str,
        batch: int = BATCH,
    ) -> None:
        self.net, self.prepare, self.device = net.to(device).eval(), prepare, device
        self.batch = batch

    @torch.no_grad()
    def tensor(self, images: Images) -> torch.Tensor:
        """Features on the network's device."""
        parts = []
        for first in range(0, len(images), self.batch):
            rows = np.arange(first, min(first + self.batch, len(images)))
            prepared = to_device(self.prepare(images, rows), self.device)
            parts.append(self.net(prepared).float())
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


def _encoder(
    name: str,
    taught: Images,
    folder: Path,
    device: str,
    key: tuple[int | str, ...],
    report: Callable[[int], None] | None,
    deadline: float,
) -> Encoder:
    """The encoder of folder/name.safetensors, taught on those images if it is not there yet."""
    path, state = folder / f"{name}.safetensors", folder / f"{name}.state.safetensors"
    classes = taught.classes if taught.classes > 1 else 4
    key = (*key, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.noise(*key).initial_seed())
        net = Encoder(taught.pixels.shape[-1], classes)
    if path.exists():
        load_weights(net, path)
    else:
        _teach(net.to(device).train(), taught, device, key, state, report, deadline)
        files.write_tensors(path, net.state_dict())
    state.unlink(missing_ok=True)
    return net.cpu()


ENCODER_STEPS = 600
_RATE, _BATCH = 2e-3, 128


def _teach(
    net: Encoder,
    real: Images,
    device: str,
    key: tuple[int | str, ...],
    state: Path,
    report: Callable[[int], None] | None,
    deadline: float,
) -> None:
    optimiser = torch.optim.AdamW(net.parameters(), _RATE, weight_decay=1e-2, fused=True)
    for step in range(_resumed(net, optimiser, state), ENCODER_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * (1 - step / ENCODER_STEPS)
        draw = seeds.noise(*key, step)
        rows = torch.randint(len(real), (_BATCH,), generator=draw).numpy()
        images = scaled(real, rows)
        if real.labels is not None and real.classes > 1:
            target = torch.from_numpy(real.labels[rows])
        else:
            target = torch.arange(_BATCH) % 4
            turned = torch.empty(_BATCH, images.shape[1], *[max(images.shape[2:])] * 2).fill_(-1)
            turned[:, :, : images.shape[2], : images.shape[3]] = images
            images = torch.stack(
                [torch.rot90(x, int(n), (1, 2)) for x, n in zip(turned, target, strict=True)]
            )
        images = images + 0.1 * torch.randn(images.shape, generator=draw)
        scores = net.head(net(images.to(device)))
        optimiser.zero_grad()
        nn.functional.cross_entropy(scores, target.to(device)).backward()
        optimiser.step()
        if report:
            report(step + 1)
        if time.monotonic() > deadline:
            tensors = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
            tensors |= optimiser_tensors(net, optimiser)
            files.write_state(state, tensors, step=str(step + 1))
            raise Stopped


def _resumed(net: Encoder, optimiser: torch.optim.Optimizer, state: Path) -> int:
    """Steps that a stopped training has done; 0 if there is none, or its state is damaged."""
    if not state.exists():
        return 0
    try:
        held, notes = files.read_tensors(state)
        step = int(notes["step"])
        net.load_state_dict({name: held[f"net.{name}"] for name in net.state_dict()})
    except (files.Damaged, KeyError, ValueError, RuntimeError):
        return 0
    set_optimiser(net, optimiser, held)
    return step
