"""Generators and functions that a user of the loop might write, good and bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


class Killed(BaseException):
    """As if the process had been killed."""


class Slow:
    """Learns the mean image step by step, and keeps each step in its checkpoint.

    It draws from NumPy's global generator: the loop seeds that.
    """

    kill_at: int | None = None  # the step of any training at which the next process dies
    steps_taken = 0

    def fit(self, images: Any, *, seed: int, checkpoint: Path) -> None:
        self.images = images
        done = sorted(checkpoint.glob("step-*.npy"))
        self.mean = np.load(done[-1]) if done else np.zeros(images.shape[1:])
        for step in range(len(done), 4):
            type(self).steps_taken += 1
            draw = np.random.default_rng([seed, step])
            some = images[draw.integers(len(images), size=8)].astype(np.float64)
            self.mean = (self.mean * step + some.mean(axis=0)) / (step + 1)
            np.save(checkpoint / f"step-{step}.npy", self.mean)
            if self.kill_at == step:
                raise Killed

    def sample(self, n: int, *, seed: int, labels: Any = None) -> Any:
        if self.kill_at == -1:
            raise Killed
        drawn = self.images[np.random.randint(len(self.images), size=n)]  # noqa: NPY002
        return np.round(0.9 * drawn + 0.1 * self.mean).astype(self.images.dtype)


class Labelled:
    """Copies of training rows of the classes that are asked for."""

    def fit(self, images: Any, *, seed: int, checkpoint: Any = None, labels: Any = None) -> None:
        self.images, self.labels = images, labels

    def sample(self, n: int, *, seed: int, labels: Any = None) -> Any:
        assert labels is not None
        assert len(labels) == n
        return np.stack([self.images[np.flatnonzero(self.labels == y)[0]] for y in labels])


class Scribbling(Labelled):
    """Writes into all it is given, once it has used it, and fills one buffer for all its copies."""

    buffer: Any = None

    def fit(self, images: Any, *, seed: int, checkpoint: Any = None, labels: Any = None) -> None:
        super().fit(images.copy(), seed=seed, labels=labels.copy())
        images[:] = labels[:] = 0

    def sample(self, n: int, *, seed: int, labels: Any = None) -> Any:
        made = super().sample(n, seed=seed, labels=labels)
        labels[:] = 0
        if Scribbling.buffer is None:
            Scribbling.buffer = np.empty_like(made)
        Scribbling.buffer[:] = made
        return Scribbling.buffer


class Shifted:
    """Returns the first rows, changed as it is told."""

    def __init__(self, change: Any = lambda rows: rows) -> None:
        self.change = change

    def fit(self, images: Any, *, seed: int, checkpoint: Any = None) -> None:
        self.images = images

    def sample(self, n: int, *, seed: int, labels: Any = None) -> Any:
        return self.change(np.resize(self.images, (n, *self.images.shape[1:])))


class Plain:
    """Takes no labels, and parameters by any means."""

    def fit(self, images: Any, seed: int, checkpoint: Any) -> None:
        self.images = images

    def sample(self, n: int, seed: int) -> Any:
        return np.resize(self.images, (n, *self.images.shape[1:]))


class Blind(Plain):
    """Learns labels and cannot be asked for them."""

    def fit(self, images: Any, seed: int, checkpoint: Any, labels: Any) -> None: ...


def halves(images: Any) -> Any:
    """Features: half of the values, as float32."""
    return images.reshape(len(images), -1)[:, ::2].astype(np.float32)
