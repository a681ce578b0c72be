"""The self-consuming loop in a folder: train, generate, measure, select, and again.

    RUN/config.json              all options
    RUN/env.json                 versions, machine and threads of the first start
    RUN/classes.json             what the labels 0, 1, ... are called, where that is known
    RUN/fingerprints.json        SHA-256 of the images and labels, the encoder, the weights
    RUN/stats.jsonl              loss and learning rate every 50 steps
    RUN/encoder.safetensors      the feature space "encoder", where used
    RUN/iteration-01/
        training.npy             D_1: images (n, h, w, channels) uint8
        training_labels.npy      where images have labels
        training_origins.npy     (n, 4): kind, iteration, model, row; see data.Images
        indices.npy              rows of the pool that D_n took, in pick order (n >= 2)
        ddpm/unet, ddpm/scheduler   the model, as diffusers stores it
        generated.npy ...        G_1, with labels and origins
        metrics.json             measured in every space
        grid.png                 some of G_1
        DONE
    RUN/DONE
    RUN/.lock                    held while a process writes here

Every file is complete or absent, and every random number depends only on what it is for: a run that
was killed resumes where it was and ends with the same bytes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from entroselect import _files
from entroselect.loop import config as options
from entroselect.loop import data, diffusion, features, files, metrics, paradigms, seeds
from entroselect.loop import folder as folders
from entroselect.loop.choose import choose
from entroselect.loop.config import Config, Kind
from entroselect.loop.data import Images
from entroselect.loop.device import device_of, environment, fastest_threads
from entroselect.loop.estimate import training_step
from entroselect.loop.plan import check, classes_of, split, training_steps
from entroselect.loop.progress import Progress
from entroselect.loop.sample import generate
from entroselect.loop.stop import Stopped, until
from entroselect.loop.train import saved_step, train
from entroselect.loop.trial import try_out


def run(
    config: Config,
    folder: Path,
    *,
    max_seconds: float = math.inf,
    progress: Progress | None = None,
    threads: int | None = None,
) -> bool:
    """Runs the loop in `folder`, or resumes it.

    Args:
        config: the options; those of an existing folder must be the same, but for a larger number
            of iterations.
        folder: made if needed; no other process may write there.
        max_seconds: after this time the state is saved and the run stops. Loading, selecting and
            measuring save no state; they are broken off and start again next time.
        progress: where to report to.
        threads: of torch. None: as many as at the first start, which takes OMP_NUM_THREADS or
            else measures what is fastest. Another number changes the last bits of what follows.

    Returns:
        Whether the run is complete (otherwise it was stopped by max_seconds).

    Raises:
        ValueError: before any work, when options, data or the folder do not fit, or the data,
            the encoder or measure.weights are not those that the run began with.
        files.Damaged: a ValueError too; a file of the folder is not what a run left there.
        FloatingPointError: loss, weights or images are not finite.
    """
    deadline = time.monotonic() + max_seconds
    before = torch.get_num_threads()
    try:
        _run(options.complete(config), folder, deadline, progress or Progress(False), threads)
    except Stopped:
        return False
    finally:
        torch.set_num_threads(before)
    return True


def _run(
    config: Config, folder: Path, deadline: float, progress: Progress, threads: int | None
) -> None:
    folders.check_ours(folder)
    with ExitStack() as held:
        if folder.exists():
            held.enter_context(_files.locked(folder))
        with until(deadline):
            progress.start("loading images", None)
            real, held_out, stream = split(config)
            check(config, real, stream)
            device, classes = device_of(config), classes_of(config, real, stream)
            progress.start("trying the options on two images", None)
            try_out(config, real, classes, held_out, device)
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(_files.locked(folder))
        folders.check_configuration(config, folder)
        _files.sweep(folder)
        marks = {"data": folders.fingerprint([i for i in (real, held_out, stream) if i])}
        with until(deadline):
            if config.measure.weights and {"dinov2", "inception"} & {*_spaces(config)}:
                marks["weights"] = folders.of_weights(config.measure.weights)
            folders.check_fingerprints(folder, marks, progress.note)
            folders.keep_classes(folder, real)
            _set_threads(threads, config, folder, real, classes, device, progress)
        _Loop(config, folder, real, held_out, stream, deadline, progress).run()


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
    elif device == "cpu":
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


class _Loop:
    def __init__(
        self,
        config: Config,
        folder: Path,
        real: Images,
        held_out: Images | None,
        stream: Images,
        deadline: float,
        progress: Progress,
    ) -> None:
        self.config, self.folder, self.real, self.held_out = config, folder, real, held_out
        self.stream, self.deadline, self.progress = stream, deadline, progress
        self.device = device_of(config)
        self.classes = classes_of(config, real, stream)
        self.size = real.pixels.shape[1:]

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
            generated.append(self.generate(iteration, training))
            if not folders.has_metrics(here):
                with until(self.deadline):
                    self.measure(iteration, training, generated[-1])
            folders.mark_done(here)
        folders.mark_done(self.folder)

    def prepare(self) -> None:
        """The feature spaces."""
        config, wanted = self.config, _spaces(self.config)
        trains = "encoder" in wanted and not (self.folder / "encoder.safetensors").exists()
        self.progress.start(
            "preparing feature spaces", features.ENCODER_STEPS if trains else None, unit="steps"
        )
        self.spaces = features.spaces(
            wanted,
            self.real,
            folder=self.folder,
            held_out=self.held_out,
            weights=config.measure.weights,
            device=self.device,
            key=(config.seed,),
            report=lambda done: self.progress.update(done),
            deadline=self.deadline,
        )
        if "encoder" in wanted:
            mark = files.digest([self.folder / "encoder.safetensors"])
            folders.check_fingerprints(self.folder, {"encoder": mark}, self.progress.note)

    def read(self, here: Path, name: str, count: int) -> Images:
        """Images of that iteration, checked."""
        classes = self.classes if self.config.model.conditional else 0
        return folders.read_images(here, name, count, self.size, classes)

    def here(self, iteration: int) -> Path:
        return self.folder / f"iteration-{iteration:02d}"

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
            if _looks(config):
                space = self.spaces[config.select.space]  # type: ignore[assignment]
            rows = choose(
                features.for_selection(space, pool),
                count,
                method,
                drop_outliers=config.select.drop_outliers,
                drop_far=config.select.drop_far,
                real=features.for_selection(space, self.real),
                key=key,
            )
        files.write_array(self.here(iteration) / "indices.npy", rows)
        return pool.take(rows)

    def generate(self, iteration: int, training: Images) -> Images:
        """The images that the models of that iteration generate; the models are trained first, if
        they are not yet."""
        here, kinds = self.here(iteration), paradigms.kinds(self.config)
        if not folders.has_images(here, "generated"):
            parts = []
            for number, kind in enumerate(kinds):
                parts.append(self.generate_one(iteration, training, kind, number))
            data.write(here, "generated", data.stack(parts))
        for kind in kinds:
            folders.forget_parts(here, kind)
        count = paradigms.to_generate(self.config, len(self.real)) * len(kinds)
        return self.read(here, "generated", count)

    def generate_one(self, iteration: int, training: Images, kind: Kind, number: int) -> Images:
        config = self.config
        here = self.here(iteration) / kind
        noise = replace(config.diffusion, kind=kind)
        key = (config.seed, kind, iteration)
        if not (here / "unet" / "diffusion_pytorch_model.safetensors").exists():
            net = self.train(iteration, training, noise, here, key)
            diffusion.save(net, diffusion.noise_schedule(noise), here)
        (here / "state.safetensors").unlink(missing_ok=True)
        net = diffusion.load(here)
        count = paradigms.to_generate(config, len(self.real))
        labels = None
        if config.model.conditional and training.labels is not None:
            # The classes of the training set, each as often as there.
            labels = seeds.numbers(*key, "labels").choice(training.labels, count)
        self.progress.start(f"iteration {iteration}: generating ({kind})", count, unit="images")
        try:
            made = generate(
                net,
                noise,
                count,
                labels,
                **asdict(config.sample),
                key=key,
                device=self.device,
                parts=here / "parts",
                report=lambda done: self.progress.update(done),
                deadline=self.deadline,
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"iteration {iteration}, {kind}: {error}") from None
        return Images(made, labels, data.origins(data.SYNTHETIC, count, iteration, number))

    def train(
        self,
        iteration: int,
        training: Images,
        noise: options.Diffusion,
        here: Path,
        key: tuple[int | str, ...],
    ) -> Any:
        config, state = self.config, here / "state.safetensors"
        steps = training_steps(config, len(self.real))
        stats = self.folder / "stats.jsonl"
        self.progress.start(f"iteration {iteration}: training ({noise.kind})", steps, unit="steps")

        def report(step: int, loss: float, rate: float) -> None:
            line = {"iteration": iteration, "model": noise.kind, "step": step}
            with stats.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**line, "loss": loss, "learning_rate": rate}) + "\n")
            self.progress.update(
                step, note=f"loss {loss:.4f}", rate=(config.train.batch, "images/s")
            )

        def resumed() -> Any:
            folders.cut_stats(stats, iteration, noise.kind, saved_step(state))
            self.progress.update(saved_step(state))
            fresh = seeds.noise(*key, "weights")
            return train(
                training,
                diffusion.network(config.model, self.size, self.classes, fresh),
                noise,
                **{**asdict(config.train), "steps": steps},
                key=key,
                device=self.device,
                state=state,
                report=report,
                deadline=self.deadline,
            )

        try:
            try:
                return resumed()
            except files.Damaged as error:  # without a state the same steps are taken again
                self.progress.note(f"{error.path}: damaged ({error.why}); training begins again")
                state.unlink(missing_ok=True)
                return resumed()
        except FloatingPointError as error:
            raise FloatingPointError(
                f"iteration {iteration}, {noise.kind}: {error}; step {saved_step(state)} is kept"
            ) from None

    def measure(self, iteration: int, training: Images, generated: Images) -> None:
        config, here = self.config, self.here(iteration)
        self.progress.start(f"iteration {iteration}: measuring", None)
        kinds = training.origins[:, 0]
        measured: dict[str, Any] = {
            "iteration": iteration,
            "training_size": len(training),
            "generated_size": len(generated),
            "origins": {name: float(np.mean(kinds == kind)) for kind, name in data.ORIGINS.items()},
            "spaces": {},
        }
        # At most as many as there were real ones: entropies compare only at equal sizes.
        judged = generated.take(evenly(len(generated), len(self.real)))
        for name in config.measure.spaces:
            extract = self.spaces[name]
            measured["spaces"][name] = metrics.measure(
                extract(training),
                extract(judged),
                extract(self.real),
                None if self.held_out is None else extract(self.held_out),
                neighbours=config.measure.neighbours,
                memorised=config.measure.memorised,
            )
        data.save_grid(here / "grid.png", generated)
        _files.write_json(here / "metrics.json", measured)


def _looks(config: Config) -> bool:
    """Whether the selection takes distances, and so needs its space."""
    select = config.select
    return select.method not in ("none", "random") or bool(select.drop_outliers + select.drop_far)


def _spaces(config: Config) -> list[options.SpaceName]:
    """The feature spaces that the run needs."""
    wanted = (*config.measure.spaces, *([config.select.space] if _looks(config) else []))
    return list(dict.fromkeys(wanted))


def evenly(count: int, wanted: int) -> Any:
    """At most `wanted` rows of `count`, evenly spaced, so that every model has its share."""
    wanted = min(count, wanted)
    return np.arange(wanted) * count // wanted
