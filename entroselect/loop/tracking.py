"""A run's losses and measures, sent to a tracker of accelerate while it runs."""

from __future__ import annotations

import math
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from entroselect.loop.config import Config
from entroselect.loop.naming import nearest
from entroselect.loop.nested import flat

TRACKERS = ("tensorboard", "wandb")


def check(log_with: str | None) -> None:
    """ValueError if there is no such tracker, or it or accelerate is not installed."""
    if log_with is None:
        return
    if log_with not in TRACKERS:
        raise ValueError(f"log_with: {log_with!r} is unknown{nearest(log_with, TRACKERS)}")
    for package in ("accelerate", log_with):
        if find_spec(package) is None:
            extra = "'entroselect[track]'" if package == "accelerate" else package
            raise ValueError(f"log_with: {log_with} needs {package}: pip install {extra}")


class Tracking:
    """Where a run reports to besides its folder. A context manager.

    TensorBoard's files are in RUN/tensorboard. Losses are at the step of training, counted through
    all iterations, measures at the iteration. wandb counts steps by itself, so there both are
    values of their own; each start of a run is a run there, in one group.

    Args:
        log_with: "tensorboard", "wandb", or None, which reports nowhere.
        folder: the run's.
        config: its options, shown beside the figures.

    Raises:
        ValueError: as `check`.
    """

    def __init__(self, log_with: str | None, folder: Path, config: Config) -> None:
        check(log_with)
        self.name, self.tracker = log_with, None
        if log_with is None:
            return
        from accelerate import PartialState
        from accelerate.tracking import TensorBoardTracker, WandBTracker

        PartialState()  # accelerate's trackers ask it which process they are in
        if log_with == "tensorboard":
            self.tracker = TensorBoardTracker("tensorboard", str(folder))
        else:
            names = {"name": folder.name, "group": folder.name}
            self.tracker = WandBTracker("entroselect", dir=str(folder), **names)
        self.tracker.start()
        plain = (bool, int, float, str)
        options = flat(asdict(config))
        self.tracker.store_init_configuration(
            {n: value if isinstance(value, plain) else str(value) for n, value in options.items()}
        )

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, *_: object) -> None:
        if self.tracker is not None:
            self.tracker.finish()

    def trained(self, line: dict[str, Any], steps: int) -> None:
        """A line of stats.jsonl, of a model that takes `steps` at each iteration."""
        model, iteration = line["model"], line["iteration"]
        values = {f"{model}/{name}": line[name] for name in ("loss", "learning_rate")}
        self._log(values, iteration, (iteration - 1) * steps + line["step"])

    def measured(self, measures: dict[str, Any]) -> None:
        """What metrics.json says of an iteration; measures that are missing are left out."""
        values = {
            f"{space}/{name}": float(value)
            for space, found in measures["spaces"].items()
            for name, value in flat(found).items()
            if isinstance(value, (int, float)) and math.isfinite(value)
        }
        values["real_share"] = measures["origins"]["real"]
        self._log(values, measures["iteration"], measures["iteration"])

    def _log(self, values: dict[str, float], iteration: int, step: int) -> None:
        if self.tracker is None:
            return
        if self.name == "wandb":  # a step lower than the last one would be dropped
            self.tracker.log({**values, "iteration": iteration, "step": step})
        else:
            self.tracker.log(values, step=step)
