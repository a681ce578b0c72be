"""Run folders with made-up images and measures, for what reads runs: nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from entroselect.loop import config, data
from entroselect.loop.config import Config


def value(run: Config, iteration: int, space: str, measure: str) -> float:
    """A measure that tells what it was of: runs, iterations, spaces and measures all differ."""
    words = f"{config.to_json(run)} {iteration} {space} {measure}"
    return float(np.random.default_rng(list(words.encode())).uniform(1, 2))


def measures(run: Config, iteration: int, space: str) -> dict[str, Any]:
    """What metrics.measure returns."""

    def of(measure: str) -> float:
        return value(run, iteration, space, measure)

    def spread(name: str) -> dict[str, Any]:
        names = ("entropy", "geometric_mean_distance", "variance")
        return {"n": 12, "duplicates": 0, **{n: of(f"{name}.{n}") for n in names}}

    plain = (
        "generalization_score", "generalization_score_mse", "mean_nearest_distance",
        "memorised_fraction", "frechet_distance", "kid", "precision", "recall", "density",
        "coverage", "vendi_score",
    )  # fmt: skip
    both = {name: spread(name) for name in ("training", "generated")}
    return {**both, **{name: of(name) for name in plain}, "fld": None}


def write_run(
    folder: Path,
    run: Config,
    *,
    real: tuple[float, ...] = (1.0, 0.0, 0.0),
    spaces: tuple[str, ...] = ("pixels", "encoder"),
    diagnosis: str | None = None,
) -> Path:
    """A folder as run.py leaves it, as far as reports read it.

    Args:
        folder: made.
        run: its options.
        real: share of real images in the training set of each iteration.
        spaces: those measured.
        diagnosis: text of the first iteration's.
    """
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config.to_json(run))
    draw = np.random.default_rng(run.seed)
    for iteration, share in enumerate(real, 1):
        here = folder / f"iteration-{iteration:02d}"
        here.mkdir()
        for name in ("training", "generated"):
            pixels = draw.integers(0, 256, (12, 4, 4, 1), dtype=np.uint8)
            data.write(here, name, data.Images(pixels, None, data.origins(data.REAL, 12)))
        measured: dict[str, Any] = {
            "iteration": iteration,
            "training_size": 12,
            "generated_size": 12,
            "origins": {"real": share, "synthetic": 1 - share, "fresh": 0.0},
            "spaces": {space: measures(run, iteration, space) for space in spaces},
        }
        if diagnosis is not None and iteration == 1:
            measured["diagnosis"] = {"text": diagnosis, "entropy_gap": 1.5}
        (here / "metrics.json").write_text(json.dumps(measured))
    return folder
