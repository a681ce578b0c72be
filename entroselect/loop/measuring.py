"""What is measured at an iteration, and on which images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from entroselect.loop import data, metrics, plan
from entroselect.loop.config import Config
from entroselect.loop.data import Images
from entroselect.measures.diagnosis import Diagnosis, diagnose


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
        found = self._diagnosis(training, judged)
        return {
            "iteration": iteration,
            "training_size": len(training),
            "generated_size": len(made),
            "origins": {name: float(np.mean(kinds == kind)) for kind, name in data.ORIGINS.items()},
            "judge": config.measure.judge,
            "warning": plan.judging(config),
            "spaces": {
                name: self._in(self.spaces[name], training, judged)
                for name in config.measure.spaces or ()
            },
            "diagnosis": {"text": str(found), **found.to_dict()},
        }, found

    def _diagnosis(self, training: Images, judged: Images) -> Diagnosis:
        # Against held-out images: a network taught on the training images scatters all others.
        fair = self.held_out if self.held_out and len(self.held_out) > 1 else self.real
        extract = self.spaces[str(self.config.measure.judge)]
        return diagnose(extract(judged), extract(fair), training=extract(training))

    def _in(self, extract: Any, training: Images, judged: Images) -> dict[str, Any]:
        """Everything that is measured in one space."""
        options, g_n, d_1 = self.config.measure, extract(judged), extract(self.real)
        found = metrics.measure(
            extract(training),
            g_n,
            d_1,
            None if self.held_out is None else extract(self.held_out),
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
