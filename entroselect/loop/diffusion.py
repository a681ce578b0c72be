"""The network, its noise schedule, and how both are stored; all are parts of diffusers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    UNet2DModel,
)

from entroselect import _files
from entroselect.loop import files
from entroselect.loop.config import Diffusion, Model
from entroselect.loop.mlp import MLPModel

Shape = tuple[int, int, int]  # height, width, channels

# What is trained: called with images, noise levels and labels, it returns an object with `sample`.
Net: TypeAlias = UNet2DModel | MLPModel
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (UNet2DModel, MLPModel)}


def network(model: Model, shape: Shape, classes: int, seed: torch.Generator) -> Net:
    """A network with fresh weights.

    Args:
        model: its size.
        shape: (height, width, channels) of the images; for a UNet the sides must be divisible by
            2 ** (resolutions - 1).
        classes: labels of a conditional model; one more, the last, means "no label".
        seed: where the weights come from.

    Raises:
        ValueError: images whose sides do not divide, conditional without labels.
    """
    if model.conditional and classes == 0:
        raise ValueError("model.conditional: the images have no labels")
    labels = classes + 1 if model.conditional else None
    with torch.random.fork_rng(devices=[]):  # layers draw their weights from the global generator
        torch.manual_seed(seed.initial_seed())
        if model.network == "unet":
            return _unet(model, shape, labels)
        return MLPModel(
            sample_size=shape[:2],
            in_channels=shape[2],
            width=model.width,
            blocks=model.blocks,
            dropout=model.dropout,
            num_class_embeds=labels,
        )


def _unet(model: Model, shape: Shape, labels: int | None) -> UNet2DModel:
    halved = 2 ** (len(model.channels) - 1)
    if shape[0] % halved or shape[1] % halved:
        raise ValueError(
            f"model.channels: {len(model.channels)} resolutions need image sides divisible by "
            f"{halved}, got {shape[1]} x {shape[0]}; model.network=mlp takes any"
        )
    attends = [level in model.attention for level in range(len(model.channels))]
    return UNet2DModel(
        sample_size=shape[:2],
        in_channels=shape[2],
        out_channels=shape[2],
        block_out_channels=model.channels,
        layers_per_block=model.layers,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]),
        norm_num_groups=model.groups,
        dropout=model.dropout,
        add_attention=bool(model.attention),
        num_class_embeds=labels,
    )


def noise_schedule(diffusion: Diffusion, sampler: str = "ddpm", steps: int = 0) -> Any:
    """The diffusers scheduler that trains ("ddpm"), or samples in the given number of steps."""
    if diffusion.kind == "edm":
        kind = EDMDPMSolverMultistepScheduler if sampler == "dpmpp" else EDMEulerScheduler
        return kind(sigma_data=diffusion.sigma_data)
    options: dict[str, Any] = {
        "num_train_timesteps": diffusion.steps,
        "beta_schedule": "squaredcos_cap_v2" if diffusion.schedule == "cosine" else "linear",
        "prediction_type": "v_prediction" if diffusion.prediction == "v" else "epsilon",
    }
    if sampler == "dpmpp":
        # The scheduler takes steps + 1 places from 0 to T - 1 and leaves the last out. With T steps
        # one place comes twice, and the distance of 0 between the two makes NaN.
        spacing = "trailing" if steps == diffusion.steps else "linspace"
        return DPMSolverMultistepScheduler(**options, timestep_spacing=spacing)
    return (DDIMScheduler if sampler == "ddim" else DDPMScheduler)(**options)


def save(net: Net, schedule: Any, folder: Path) -> None:
    """unet/ and scheduler/ as diffusers' pipelines have them, read by `from_pretrained`; the
    network is in unet/ whatever its kind."""
    _files.write_json(folder / "scheduler" / "scheduler_config.json", _plain(schedule))
    _files.write_json(folder / "unet" / "config.json", _plain(net))
    files.write_tensors(
        folder / "unet" / "diffusion_pytorch_model.safetensors", net.state_dict(), format="pt"
    )


def load(folder: Path) -> Net:
    """Reads what `save` wrote; files.Damaged if anything is missing."""
    path = folder / "unet" / "config.json"
    held = files.read_json(path)
    kind = _KINDS.get(str(held.get("_class_name")))
    if kind is None:
        raise files.Damaged(path, f"_class_name is none of {', '.join(_KINDS)}")
    try:
        net: Net = kind.from_config(held)
    except Exception as error:  # its layers raise many types for strange sizes
        raise files.Damaged(path, f"not of a network: {error}") from None
    load_weights(net, folder / "unet" / "diffusion_pytorch_model.safetensors")
    return net


def load_weights(net: torch.nn.Module, path: Path) -> None:
    """Fills a network from a .safetensors file; files.Damaged unless it is this network's."""
    tensors, _ = files.read_tensors(path)
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise files.Damaged(path, f"weights of another network: {error}") from None
    if not finite(net.state_dict().values()):
        raise files.Damaged(path, "weights that are not finite")


def finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether there is no NaN and no infinity in them."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _plain(part: Any) -> dict[str, Any]:
    held = {k: v for k, v in dict(part.config).items() if not k.startswith("_")}
    held["_class_name"] = type(part).__name__
    plain: dict[str, Any] = json.loads(json.dumps(held, default=list))
    return plain
