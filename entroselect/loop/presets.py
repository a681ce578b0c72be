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

# Two regimes of one network in seconds per iteration on a CPU. What decides between them is the
# number of steps over the number of images (Bonnaire et al. 2025, arXiv 2505.17638): "repeats"
# passes a thousand times over 128 images and copies them, "scatters" 28 times over 898 and makes
# images that are more scattered than real ones. Judged by images and an encoder kept apart.
_REGIME: dict[str, Any] = {
    "keep": 0.25,
    "model": {"network": "mlp"},
    "select": {"space": "encoder"},
    "measure": {
        "spaces": ("pixels", "judge"),
        "judge": "judge",
        "reference": "held-out",
        "draw": 2000,
    },
}
_REPEATS: dict[str, Any] = {
    **_REGIME,
    "iterations": 5,
    "data": {"source": "digits", "images": 128, "held_out": 899},
    "train": {"steps": 1000, "batch": 128, "learning_rate": 1e-2},
    "sample": {"sampler": "ddim", "steps": 20, "batch": 1000},
}
_SCATTERS: dict[str, Any] = {
    **_REGIME,
    "iterations": 3,
    "data": {"source": "digits", "images": 898, "held_out": 899},
    "model": {"network": "mlp", "width": 128},
    "train": {"steps": 400, "batch": 64, "learning_rate": 5e-3},
    "sample": {"steps": 10, "batch": 1000},
}

PRESETS: dict[str, dict[str, Any]] = {
    "digits": {"data": {"source": "digits", "images": 898, "held_out": 400}},
    "repeats": _REPEATS,
    "scatters": _SCATTERS,
    # The repeating regime without a network: copies of training images, moved a little.
    "no-network": {
        **_REGIME,
        "iterations": 8,
        "models": ("resample",),
        "data": {"source": "digits", "images": 128, "held_out": 899},
    },
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
