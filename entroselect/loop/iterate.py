"""The self-consuming loop in a folder: train, generate, measure, select, and again.

    RUN/config.json              all options, and the names of what the caller supplied
    RUN/env.json                 versions, machine and threads of the first start
    RUN/classes.json             what the labels 0, 1, ... are called, where that is known
    RUN/fingerprints.json        SHA-256 of the data, the encoder, the weights, the caller's code
    RUN/stats.jsonl              loss and learning rate every 50 steps
    RUN/encoder.safetensors      the feature space "encoder", where used; so judge.safetensors
    RUN/iteration-01/
        training.npy             D_1: images (n, h, w, channels) uint8, or rows
        training_labels.npy      where images have labels
        training_origins.npy     (n, 4): kind, iteration, model, row; see data.Images
        indices.npy              rows of the pool that D_n took, in pick order (n >= 2)
        ddpm/unet, ddpm/scheduler   the model, as diffusers stores it
        Gan/                     what a generator of the caller's left in its `checkpoint`
        generated.npy ...        G_1, with labels and origins
        measured.npy ...         what was generated to be measured alone (measure.draw)
        metrics.json             measured in every space
        grid.png                 some of G_1, where they are images
        DONE
    RUN/DONE
    RUN/.lock                    held while a process writes here

Every file is complete or absent, and every random number depends only on what it is for: a run that
was killed resumes where it was and ends with the same bytes.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from entroselect import _files
from entroselect.loop import begin, data, features, files, paradigms, plan, tracking
from entroselect.loop import folder as folders
from entroselect.loop.config import Config, SpaceName
from entroselect.loop.data import Images
from entroselect.loop.device import device_of, environment, fastest_threads
from entroselect.loop.estimate import training_step
from entroselect.loop.given import Space
from entroselect.loop.making import Making
from entroselect.loop.measuring import Measuring
from entroselect.loop.models import Model, models_of
from entroselect.loop.progress import Progress
from entroselect.loop.selection import choose
from entroselect.loop.stop import Stopped, until
from entroselect.loop.trial import try_out
from entroselect.measures.diagnosis import WORDS


def run(
    config: Config,
    folder: Path | str,
    *,
    generator: Any = None,
    features: Mapping[str, Any] | None = None,
    real: Any = None,
    max_seconds: float = math.inf,
    progress: Progress | None = None,
    threads: int | None = None,
    begin_from: Iterable[Path | str] = (),
    log_with: str | None = None,
) -> bool:
    """Runs the loop in `folder`, or resumes it.

    Args:
        config: the options; those of an existing folder must be the same, but for a larger number
            of iterations.
        folder: made if needed; no other process may write there.
        generator: what generates, in the place of config.models: an object with the methods of
            models.Generator, `fit(images, *, seed, checkpoint=None)` and
            `sample(n, *, seed, labels=None)`; or a class or function without arguments that makes
            one; or a name, "edm" or "package.module:object"; or a list of these. An object is
            copied for each iteration, so that none starts from another's weights.
        features: feature spaces by name: functions from the images, (n, h, w, channels) uint8, or
            rows to (n, d) numbers. An image's features must not depend on the others in the call.
            Names go into config.select.space and config.measure.spaces.
        real: the real images (n, h, w[, channels]) uint8, or rows (n, ...) of any real dtype, or
            (either, labels), in the place of config.data.source.
        max_seconds: after this time the state is saved and the run stops. Loading, selecting and
            measuring save no state; they are broken off and start again next time, as a generator
            of the caller's is, which finds what it left in its checkpoint.
        progress: where to report to.
        threads: of torch. None: as many as at the first start, which takes OMP_NUM_THREADS or
            else measures what is fastest. Another number changes the last bits of what follows.
        begin_from: folders of other runs. Where one of them began with the same training, a new
            run copies it, and what was generated and measured as far as that is the same too.
        log_with: "tensorboard" or "wandb": where losses and measures go too, see tracking.Tracking.

    Returns:
        Whether the run is complete (otherwise it was stopped by max_seconds).

    Raises:
        ValueError: before any work, when options, data, functions or the folder do not fit, or the
            data, the encoder, measure.weights, or the files that define the generator and the
            features are not those that the run began with; later, when a generator or a function
            returns something else than it should, by name.
        files.Damaged: a ValueError too; a file of the folder is not what a run left there.
        FloatingPointError: loss, weights or images are not finite.
        RuntimeError: a generator of the caller's failed; its exception is the cause.

    Example:
        >>> import numpy as np, tempfile
        >>> from entroselect.loop import resolve, run
        >>> rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
        >>> options = resolve(None, iterations=2, select__method="greedy")
        >>> run(options, tempfile.mkdtemp(), generator="resample", real=rows)
        True
    """
    deadline = time.monotonic() + max_seconds
    before = torch.get_num_threads()
    progress = progress or Progress(False)
    try:
        config = plan.named(config, generator, features, real)
        tracking.check(log_with)
        supplied = _Supplied(generator, features, real, [Path(other) for other in begin_from])
        _run(config, Path(folder), supplied, deadline, progress, threads, log_with)
    except Stopped:
        return False
    finally:
        torch.set_num_threads(before)
    return True


@dataclass(frozen=True)
class _Supplied:
    """Arguments of `run` that stand for options."""

    generator: Any
    features: Mapping[str, Any] | None
    real: Any
    begin_from: list[Path]


def _run(
    config: Config,
    folder: Path,
    supplied: _Supplied,
    deadline: float,
    progress: Progress,
    threads: int | None,
    log_with: str | None,
) -> None:
    folders.check_ours(folder)
    models = models_of(config, supplied.generator)
    own = plan.own_spaces(config, supplied.features)
    with ExitStack() as held:
        if folder.exists():
            held.enter_context(_files.locked(folder))
        before = folders.recorded(folder)
        with until(deadline):
            progress.start("loading images", None)
            real, held_out, stream = plan.split(config, supplied.real)
            config = plan.settled(config, real, before)
            plan.check(config, real, stream)
            device, classes = device_of(config), plan.classes_of(config, real, stream)
            progress.start("trying the options on a few images", None)
            try_out(config, real, classes, held_out, device, own.values())
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(_files.locked(folder))
        before = before and plan.settled(before, real, None)
        folders.check_configuration(config, before, folder)
        _files.sweep(folder)
        with until(deadline):
            marks = {"data": folders.fingerprint([i for i in (real, held_out, stream) if i])}
            marks |= folders.of_code(models, own)
            if config.measure.weights and {"dinov2", "inception"} & {*plan.spaces_of(config)}:
                marks["weights"] = folders.of_weights(config.measure.weights)
            folders.check_fingerprints(folder, marks, progress.note)
            begin.copy_first(config, folder, len(real), supplied.begin_from)
            folders.keep_classes(folder, real)
            _set_threads(threads, config, folder, real, classes, device, progress)
        track = held.enter_context(tracking.Tracking(log_with, folder, config))
        making = Making(config, folder, len(real), classes, device, deadline, progress, track)
        _Loop(config, folder, real, held_out, stream, models, own, making, deadline, progress).run()


def _set_threads(
    given: int | None,
    config: Config,
    folder: Path,
    real: Images,
    classes: int,
    device: str,
    progress: Progress,
) -> None:
    """Sets torch's threads and writes env.json at the first start."""
    path = folder / "env.json"
    begun = files.read_json(path) if path.exists() else {}
    threads, told = begun.get("threads"), begun.get("device")
    if given is None and isinstance(threads, int) and 0 < threads <= 4096:
        torch.set_num_threads(threads)
    elif given is not None:
        torch.set_num_threads(given)
    elif device == "cpu" and plan.denoisers(config):
        progress.start("measuring how many threads are fastest", None)
        threads = fastest_threads(
            lambda: training_step(config, real, classes, device, longest=0.5).seconds
        )
        progress.note(f"torch takes {threads} of its threads; --threads N sets another number")
    now = environment(device)
    if not begun:
        _files.write_json(path, now)
    elif (threads, told) != (now["threads"], now["device"]):
        progress.note(
            f"begun on {threads} threads of {told}, goes on with {now['threads']} of "
            f"{now['device']}: the last bits may differ from an undisturbed run"
        )


@dataclass
class _Loop:
    config: Config
    folder: Path
    real: Images
    held_out: Images | None
    stream: Images
    models: Sequence[Model]
    own: Mapping[str, Space]
    making: Making
    deadline: float
    progress: Progress

    def run(self) -> None:
        config = self.config
        self.prepare()
        generated: list[Images] = []
        training = self.real
        counts = [len(self.real), *(n for _, n in paradigms.sizes(config, len(self.real)))]
        for iteration, count in enumerate(counts, 1):
            here = self.here(iteration)
            if not folders.has_images(here, "training"):
                if iteration > 1:
                    with until(self.deadline):
                        training = self.select(iteration, training, generated)
                data.write(here, "training", training)
            training = self.read(here, "training", count)
            made, extra = self.generate(iteration, training)
            generated.append(made)
            if not folders.has_metrics(here):
                with until(self.deadline):
                    self.measure(iteration, training, made, extra)
            folders.mark_done(here)
        folders.mark_done(self.folder)

    def prepare(self) -> None:
        """The feature spaces."""
        config, wanted = self.config, plan.spaces_of(self.config)
        encoders = {name: self.folder / f"{name}.safetensors" for name in features.ENCODERS}
        encoders = {name: path for name, path in encoders.items() if name in wanted}
        trains = not all(path.exists() for path in encoders.values())
        self.progress.start(
            "preparing feature spaces", features.ENCODER_STEPS if trains else None, unit="steps"
        )
        built_in = [space for space in wanted if space not in self.own and space != "rows"]
        made = features.spaces(
            cast(list[SpaceName], built_in),
            self.real,
            folder=self.folder,
            held_out=self.held_out,
            weights=config.measure.weights,
            device=self.making.device,
            key=(config.seed,),
            report=lambda done: self.progress.update(done),
            deadline=self.deadline,
        )
        self.spaces: dict[str, Any] = {"rows": features.pixels, **self.own}
        self.spaces.update(made.items())
        self.measuring = Measuring(config, self.spaces, self.real, self.held_out)
        marks: dict[str, str] = {name: files.digest([path]) for name, path in encoders.items()}
        folders.check_fingerprints(self.folder, marks, self.progress.note)
        if warning := plan.judging(config):
            self.progress.note(warning)

    def read(self, here: Path, name: str, count: int) -> Images:
        """Images of that iteration, checked."""
        labelled = plan.denoisers(self.config) and self.config.model.conditional
        classes, pixels = self.making.classes if labelled else 0, self.real.pixels
        return folders.read_images(here, name, count, pixels.shape[1:], classes, pixels.dtype)

    def here(self, iteration: int) -> Path:
        return folders.of_iteration(self.folder, iteration)

    def select(self, iteration: int, training: Images, generated: Sequence[Images]) -> Images:
        """The training set of that iteration."""
        config = self.config
        fresh = None
        if config.paradigm == "fresh-data":
            first = (iteration - 2) * config.fresh
            fresh = self.stream.take(np.arange(first, first + config.fresh))
        pool = paradigms.pool(config, self.real, training, generated, fresh)
        count = paradigms.wanted(config, len(self.real), len(pool))
        key = (config.seed, "select", iteration)
        method = config.select.method
        self.progress.start(f"iteration {iteration}: selecting {count} of {len(pool)}", None)
        if method == "none" and config.paradigm == "accumulate-subsample":
            rows = paradigms.quotas(key, [len(self.real), *map(len, generated)], count)
        else:
            space = features.pixels
            if plan.looks(config):
                space = self.spaces[str(config.select.space)]
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                rows = choose(
                    features.for_search(space, pool),
                    count,
                    method,
                    drop_outliers=config.select.drop_outliers,
                    drop_far=config.select.drop_far,
                    real=features.for_search(space, self.real),
                    diversity=config.select.diversity,
                    reference=config.select.reference,
                    key=key,
                )
            for warning in told:  # a reference that is too small, with "anchored"
                self.progress.note(f"iteration {iteration}: {warning.message}")
        files.write_array(self.here(iteration) / "indices.npy", rows)
        return pool.take(rows)

    def generate(self, iteration: int, training: Images) -> tuple[Images, Images]:
        """What the models of that iteration generate for the pool, and to be measured alone; the
        models are trained first, if they are not yet."""
        here, size = self.here(iteration), len(self.real)
        wanted = paradigms.to_generate(self.config, size)
        extra = paradigms.to_measure(self.config, size)
        models = list(enumerate(self.models))
        if self.config.model_order == "alternate":
            models = [models[(iteration - 1) % len(models)]]
        if not folders.has_images(here, "generated"):
            parts = [
                self.making.images(iteration, training, model, number, wanted + extra)
                for number, model in models
            ]
            beyond = np.arange(wanted, wanted + extra)
            if extra:
                data.write(here, "measured", data.stack([part.take(beyond) for part in parts]))
            data.write(here, "generated", data.stack([p.take(np.arange(wanted)) for p in parts]))
        for _, model in models:
            if model.make is None:
                folders.forget_parts(here, model.folder)
        made = self.read(here, "generated", wanted * len(models))
        if not extra:
            return made, made.take(np.arange(0))
        return made, self.read(here, "measured", extra * len(models))

    def measure(self, iteration: int, training: Images, made: Images, extra: Images) -> None:
        """Writes metrics.json and the grid."""
        here = self.here(iteration)
        self.progress.start(f"iteration {iteration}: measuring", None)
        measured, found = self.measuring.iteration(iteration, training, made, extra)
        self.progress.note(f"iteration {iteration}: {WORDS[found.verdict]} {found.advice}")
        if made.are_images:
            data.save_grid(here / "grid.png", made)
        _files.write_json(here / "metrics.json", measured)
        self.making.tracking.measured(measured)
