"""What is measured at an iteration, and on which images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from entroselect.loop import data, features, metrics, plan
from entroselect.loop.config import Config
from entroselect.loop.data import Images
from entroselect.measures.diagnosis import Diagnosis, diagnose
from entroselect.results import on_host


@dataclass
class Measuring:
    """What an iteration is compared with.

    config: the run's options, with its spaces decided.
    spaces: functions from images to features, by name.
    real, held_out: the first training set, and the images no model is trained on.
    """

    config: Config
    spaces: Mapping[str, Any]
    real: Images
    held_out: Images | None
    known: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # see _fixed

    def iteration(
        self, iteration: int, training: Images, made: Images, extra: Images
    ) -> tuple[dict[str, Any], Diagnosis]:
        """The contents of metrics.json, and the diagnosis in them.

        Args:
            iteration: from 1.
            training: what the models were trained on.
            made: what they generated for the pool.
            extra: what they generated to be measured alone; may be empty.
        """
        config, kinds = self.config, training.origins[:, 0]
        drawn = data.stack([made, extra])
        # At most as many as there were real ones, where no number is asked for.
        judged = drawn.take(evenly(len(drawn), config.measure.draw or len(self.real)))
        measured: dict[str, Any] = {
            "iteration": iteration,
            "training_size": len(training),
            "generated_size": len(made),
            "origins": {name: float(np.mean(kinds == kind)) for kind, name in data.ORIGINS.items()},
            "judge": config.measure.judge,
            "warning": plan.judging(config),
            "spaces": {},
        }
        for name in config.measure.spaces or ():  # the judge is the last
            extract = self.spaces[name]
            d_n, g_n = (features.for_search(extract, images) for images in (training, judged))
            d_1, held_out = self._fixed(name)
            measured["spaces"][name] = self._measured(d_n, g_n, d_1, held_out)
        # Against held-out images: a network taught on the training images scatters all others.
        fair = d_1 if held_out is None or len(held_out) < 2 else held_out
        found = diagnose(on_host(g_n), on_host(fair), training=on_host(d_n))
        measured["diagnosis"] = {"text": str(found), **found.to_dict()}
        return measured, found

    def _fixed(self, name: str) -> tuple[Any, Any]:
        """Features of the real and the held-out images, which are the same at every iteration."""
        if name not in self.known:
            extract, held_out = self.spaces[name], self.held_out
            others = None if held_out is None else features.for_search(extract, held_out)
            self.known[name] = features.for_search(extract, self.real), others
        return self.known[name]

    def _measured(self, d_n: Any, g_n: Any, d_1: Any, held_out: Any) -> dict[str, Any]:
        """Everything that is measured in one space."""
        options = self.config.measure
        found = metrics.measure(
            d_n,
            g_n,
            d_1,
            held_out,
            neighbours=options.neighbours,
            memorised=options.memorised,
            reference=options.reference,
        )
        if len(g_n) > len(d_1):  # entropies compare only at equal sizes
            found["generated"] = metrics.spread(g_n[evenly(len(g_n), len(d_1))])
        return found


def evenly(count: int, wanted: int) -> Any:
    """At most `wanted` rows of `count`, evenly spaced, so that every model has its share."""
    wanted = min(count, wanted)
    return np.arange(wanted) * count // wanted
