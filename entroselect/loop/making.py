"""The images of one model at one iteration: trained first, if it is not yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from entroselect.loop import data, plan, seeds
from entroselect.loop import folder as records
from entroselect.loop.config import Config, Kind
from entroselect.loop.data import Images
from entroselect.loop.denoiser import Denoiser
from entroselect.loop.models import Model, checked, seeded, takes_labels
from entroselect.loop.progress import Progress
from entroselect.loop.stop import until
from entroselect.loop.tracking import Tracking


@dataclass
class Making:
    """What models are made with.

    config: the run's options.
    folder: of the run.
    size: of the first training set.
    classes: labels that a conditional network must know.
    device, deadline, progress: where it computes, until when, and where it reports to.
    tracking: where losses go besides stats.jsonl.
    """

    config: Config
    folder: Path
    size: int
    classes: int
    device: str
    deadline: float
    progress: Progress
    tracking: Tracking

    def images(
        self, iteration: int, training: Images, model: Model, number: int, count: int
    ) -> Images:
        """`count` images or rows from the model of that number, trained on the training set.

        Args:
            iteration: from 1.
            training: what the model learns.
            model, number: of the run's models, from 0.
            count: how many.

        Raises:
            ValueError: the generator returned another number, shape or dtype.
            FloatingPointError: loss, weights or images are not finite.
            RuntimeError: a generator of the caller's failed.
            Stopped: at the deadline.
        """
        key = (self.config.seed, model.folder, iteration)
        labels = None
        if model.labelled and training.labels is not None:
            # The classes of the training set, each as often as there.
            labels = seeds.numbers(*key, "labels").choice(training.labels, count)
        try:
            if model.make is None:
                made = self._denoised(iteration, training, model, labels, count)
            else:
                made = self._supplied(iteration, training, model, labels, count)
        except FloatingPointError as error:
            raise FloatingPointError(f"iteration {iteration}, {model.folder}: {error}") from None
        return Images(made, labels, data.origins(data.SYNTHETIC, count, iteration, number))

    def _denoised(
        self,
        iteration: int,
        training: Images,
        model: Model,
        labels: Any,
        count: int,
    ) -> Any:
        """Images from a built-in diffusion model, which keeps its state."""
        stats, steps = self.folder / "stats.jsonl", plan.training_steps(self.config, self.size)

        def report(line: dict[str, Any]) -> None:
            records.add_stats(stats, line)
            self.tracking.trained(line, steps)

        denoiser = Denoiser(
            self.config,
            cast(Kind, model.name),
            iteration,
            self.classes,
            steps,
            self.device,
            report,
            lambda step: records.cut_stats(stats, iteration, model.name, step),
            self.progress,
            self.deadline,
        )
        place = records.of_iteration(self.folder, iteration) / model.folder
        denoiser.fit(training.pixels, seed=0, checkpoint=place, labels=training.labels)
        return denoiser.sample(count, seed=0, labels=labels)

    def _supplied(
        self,
        iteration: int,
        training: Images,
        model: Model,
        labels: Any,
        count: int,
    ) -> Any:
        """Images or rows from a generator that knows nothing of deadlines."""
        assert model.make is not None
        place = records.of_iteration(self.folder, iteration) / model.folder
        key = (self.config.seed, model.folder, iteration)
        fits, samples = (
            int(seeds.numbers(*key, what).integers(2**31)) for what in ("fit", "sample")
        )
        known = {"labels": _copy(training.labels)} if model.labelled else {}
        self.progress.start(f"iteration {iteration}: training ({model.folder})", None)
        with until(self.deadline):
            try:
                with seeded(fits):
                    generator = model.make()
                    place.mkdir(parents=True, exist_ok=True)
                    generator.fit(training.pixels.copy(), seed=fits, checkpoint=place, **known)
                self.progress.start(
                    f"iteration {iteration}: generating ({model.folder})", count, unit="images"
                )
                with seeded(samples):
                    asked = {"labels": _copy(labels)} if takes_labels(generator.sample) else {}
                    made = generator.sample(count, seed=samples, **asked)
            except Exception as error:  # whatever the caller's code raises
                raise RuntimeError(
                    f"iteration {iteration}, generator {model.name}: {type(error).__name__}: "
                    f"{error}"
                ) from error
        return checked(model.name, made, training.pixels, count)


def _copy(labels: Any) -> Any:
    """Of labels, because the caller's code may change them."""
    return None if labels is None else labels.copy()
