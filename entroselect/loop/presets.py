"""The presets: options of config.Config, those that differ from their defaults."""

from __future__ import annotations

from typing import Any

# The paper's network and training (section 3 and appendix; its code on diffusers).
_PAPER: dict[str, Any] = {
    "iterations": 8,
    "model": {
        "channels": (48, 48, 96, 96, 192, 192),
        "layers": 2,
        "attention": (4,),
        "groups": 16,
    },
    "diffusion": {"prediction": "epsilon", "schedule": "linear"},
    "train": {
        "steps": 128_000,
        "batch": 128,
        "learning_rate": 1e-4,
        "precision": "fp16",
    },
    "sample": {"sampler": "ddpm", "steps": 1000, "batch": 1024},
    "select": {"space": "dinov2"},
    "measure": {"spaces": ("pixels", "dinov2")},
}

_MNIST: dict[str, Any] = {
    "data": {"source": "mnist.npz", "images": 4096, "held_out": 1024},
    "model": {"channels": (16, 32, 64), "layers": 1},
    "train": {"steps": 4000, "learning_rate": 2e-3},
}

PRESETS: dict[str, dict[str, Any]] = {
    "digits": {"data": {"source": "digits", "images": 898, "held_out": 400}},
    "mnist": _MNIST,
    "mnist-cfg": {
        **_MNIST,
        "paradigm": "accumulate",
        "iterations": 8,
        "data": {"source": "mnist.npz", "images": 12_000, "held_out": 2000},
        "model": {"channels": (32, 64, 128), "layers": 1, "conditional": True},
        "train": {"steps": 20_000, "batch": 128, "learning_rate": 1e-3},
        "sample": {"guidance": 2.0, "steps": 50},
    },
    "cifar-small": {
        "data": {"source": "cifar10.zip", "images": 8192, "held_out": 2000},
        "model": {"channels": (32, 64, 128), "layers": 2, "attention": (2,)},
        "train": {"steps": 40_000, "batch": 128, "learning_rate": 5e-4},
        "sample": {"steps": 50},
    },
    "paper-cifar": {**_PAPER, "data": {"source": "cifar10", "images": 32_768}},
    "paper-ffhq": {**_PAPER, "data": {"source": "ffhq32", "images": 8192}},
}
