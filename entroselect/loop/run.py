"""The self-consuming loop in a folder: train, generate, measure, select, and again.

    RUN/config.json              all options
    RUN/env.json                 versions and machine of the first start
    RUN/stats.jsonl              loss and learning rate every 50 steps
    RUN/encoder.safetensors      the feature space "encoder", where used
    RUN/iteration-01/
        training.npy             D_1: images (n, h, w, channels) uint8
        training_labels.npy      where images have labels
        training_origins.npy     (n, 4): kind, iteration, model, row; see data.Images
        indices.npy              rows of the pool that D_n took, in the order of choice (n >= 2)
        ddpm/unet, ddpm/scheduler   the model, as diffusers stores it
        generated.npy ...        G_1, with labels and origins
        metrics.json             measured in every space
        grid.png                 some of G_1
        DONE
    RUN/DONE

Every file is complete or not there, every random number depends only on what it is for: a run that
was killed goes on where it was and ends with the same bytes.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from entroselect.loop import config as options
from entroselect.loop import data, diffusion, features, files, metrics, paradigms, seeds
from entroselect.loop.choose import choose
from entroselect.loop.config import Config, Kind
from entroselect.loop.data import Images
from entroselect.loop.device import device_of, environment
from entroselect.loop.progress import Progress
from entroselect.loop.sample import generate
from entroselect.loop.train import Stopped, saved_step, train


def run(
    config: Config,
    folder: Path,
    *,
    max_seconds: float = math.inf,
    progress: Progress | None = None,
) -> bool:
    """Runs the loop in `folder`, or goes on with it.

    Args:
        config: the options; those of an existing folder must be the same, but for a larger number
            of iterations.
        folder: made if needed.
        max_seconds: after this long the state is saved and the run stops.
        progress: where to report to.

    Returns:
        Whether the run is complete (otherwise it was stopped by max_seconds).

    Raises:
        ValueError: before any work, when options, data or the folder do not fit.
        FloatingPointError: the loss is not finite.
    """
    deadline = time.monotonic() + max_seconds
    real, held_out, stream = split(config)
    check(config, real, stream)
    folder.mkdir(parents=True, exist_ok=True)
    _same_configuration(config, folder)
    loop = _Loop(config, folder, real, held_out, stream, deadline, progress or Progress(False))
    try:
        loop.run()
    except Stopped:
        return False
    return True


def split(config: Config) -> tuple[Images, Images | None, Images]:
    """The first training set, images nobody trains on, and the rest: the stream of fresh ones."""
    given = config.data
    every = data.load(
        given.source,
        split=given.split,
        image_column=given.image_column,
        label_column=given.label_column,
    )
    order = seeds.numbers(config.seed, "split").permutation(len(every))
    held = config.data.held_out
    size = len(every) - held if config.data.images is None else config.data.images
    if size < 2 or size + held > len(every):
        raise ValueError(
            f"data.images: {size} to train on and {held} held out, but {config.data.source} has "
            f"{len(every)} images"
        )
    real = every.take(np.sort(order[:size]))
    apart = every.take(np.sort(order[size : size + held])) if held else None
    rest = every.take(order[size + held :])
    fresh = rest.origins.copy()
    fresh[:, 0] = data.FRESH
    return real, apart, replace(rest, origins=fresh)


def check(config: Config, real: Images, stream: Images) -> None:
    """Everything that can be known to fail before training."""
    size, made = len(real), paradigms.to_generate(config, len(real))
    if config.model.conditional and real.labels is None:
        raise ValueError(
            f"model.conditional: {config.data.source} has no labels; give labels, or set "
            "model.conditional=false"
        )
    diffusion.network(config.model, real.pixels.shape[1:], real.classes, seeds.noise(0))
    if config.paradigm == "fresh-data" and config.fresh * (config.iterations - 1) > len(stream):
        raise ValueError(
            f"fresh: {config.fresh} images for each of {config.iterations - 1} iterations, but "
            f"only {len(stream)} real images are left over"
        )
    together = made * len(paradigms.kinds(config))
    selects = config.select.method != "none"
    if selects and config.paradigm in ("replace", "multi-model") and together < size:
        raise ValueError(
            f"generate: {together} images an iteration, but {size} are to be selected from them"
        )
    if selects:
        many = config.paradigm in ("replace", "multi-model")
        pool = together if many else size + together + config.fresh
        floors = config.select.drop_outliers, config.select.drop_far
        left = pool - sum(int(share * pool) for share in floors)
        if left < paradigms.wanted(config, size, pool):
            raise ValueError(
                f"select.drop_outliers, select.drop_far: {floors[0]} and {floors[1]} may leave "
                f"{left} of {pool} images, {paradigms.wanted(config, size, pool)} are wanted; "
                "set them, or keep, lower"
            )
    device_of(config)


def training_steps(config: Config, size: int) -> int:
    """train.steps; with equal_compute, longer by what size / keep more images would have cost.

    A training step costs about three passes of the network over its batch, a generated image one
    pass for each sampling step (two with guidance).
    """
    if not config.equal_compute:
        return config.train.steps
    extra = math.ceil(size / config.keep) - size
    passes = config.sample.steps * (2 if config.sample.guidance != 1 else 1)
    return config.train.steps + math.ceil(extra * passes / (3 * config.train.batch))


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

    def run(self) -> None:
        config = self.config
        if not (self.folder / "env.json").exists():
            files.write_json(self.folder / "env.json", environment(self.device))
        wanted = dict.fromkeys((*config.measure.spaces, config.select.space))
        if not _looks(config):
            wanted = dict.fromkeys(config.measure.spaces)
        self.progress.start("preparing feature spaces", None)
        self.spaces = features.spaces(
            wanted,
            self.real,
            folder=self.folder,
            weights=config.measure.weights,
            device=self.device,
            key=(config.seed,),
        )
        generated: list[Images] = []
        training = self.real
        for iteration in range(1, config.iterations + 1):
            here = self.here(iteration)
            if not (here / "training.npy").exists():
                if iteration > 1:
                    training = self.select(iteration, training, generated)
                data.write(here, "training", training)
            training = data.read(here, "training")
            generated.append(self.generate(iteration, training))
            if not (here / "metrics.json").exists():
                self.measure(iteration, training, generated[-1])
            _mark_done(here)
        _mark_done(self.folder)

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
        """What the models of that iteration make, training them if that is not done."""
        here = self.here(iteration)
        if not (here / "generated.npy").exists():
            parts = []
            for number, kind in enumerate(paradigms.kinds(self.config)):
                parts.append(self.generate_one(iteration, training, kind, number))
            data.write(here, "generated", data.stack(parts))
        for kind in paradigms.kinds(self.config):
            shutil.rmtree(here / kind / "parts", ignore_errors=True)
        return data.read(here, "generated")

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
        _cut_stats(stats, iteration, noise.kind, saved_step(state))
        self.progress.start(f"iteration {iteration}: training ({noise.kind})", steps, unit="steps")
        self.progress.update(saved_step(state))

        def report(step: int, loss: float, rate: float) -> None:
            line = {"iteration": iteration, "model": noise.kind, "step": step}
            with stats.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**line, "loss": loss, "learning_rate": rate}) + "\n")
            self.progress.update(
                step, note=f"loss {loss:.4f}", rate=(config.train.batch, "images/s")
            )

        net = diffusion.network(
            config.model,
            training.pixels.shape[1:],
            self.real.classes,
            seeds.noise(*key, "weights"),
        )
        try:
            return train(
                training,
                net,
                noise,
                **{**asdict(config.train), "steps": steps},
                key=key,
                device=self.device,
                state=state,
                report=report,
                deadline=self.deadline,
            )
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
        # As many as there were real ones, whatever was generated: entropy compares at one size.
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
        files.write_json(here / "metrics.json", measured)


def _looks(config: Config) -> bool:
    """Whether the selection takes distances, and so needs its space."""
    select = config.select
    return select.method not in ("none", "random") or bool(select.drop_outliers + select.drop_far)


def evenly(count: int, wanted: int) -> Any:
    """At most `wanted` rows of `count`, evenly spaced, so that every model has its share."""
    wanted = min(count, wanted)
    return np.arange(wanted) * count // wanted


def _same_configuration(config: Config, folder: Path) -> None:
    path = folder / "config.json"
    if not path.exists():
        strange = [p.name for p in folder.iterdir() if not p.name.endswith(".partial")]
        if strange:
            raise ValueError(
                f"{folder}: holds files that are not a run ({sorted(strange)[0]}); choose another "
                "--out"
            )
    else:
        before = options.from_json(path)
        changed = options.differences(before, config)
        grown = config.iterations > before.iterations
        if grown:
            changed.pop("iterations", None)
            (folder / "DONE").unlink(missing_ok=True)
        if changed:
            told = ", ".join(f"{name} is {a!r}, not {b!r}" for name, (a, b) in changed.items())
            raise ValueError(
                f"{folder}: holds a run of another configuration: there, {told}; choose another "
                "--out, or the same options to go on with it"
            )
        if not grown:
            return
    files.write_text(path, options.to_json(config))


def _mark_done(folder: Path) -> None:
    if not (folder / "DONE").exists():
        files.write_text(folder / "DONE", "")


def _cut_stats(stats: Path, iteration: int, kind: str, step: int) -> None:
    """Drops the lines of steps that will be taken again."""
    if not stats.exists():
        return
    kept = []
    for line in stats.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            held = json.loads(line)
        except json.JSONDecodeError:
            continue  # cut off by a kill
        again = held["iteration"] == iteration and held["model"] == kind and held["step"] > step
        if not again and line.endswith("\n"):
            kept.append(line)
    files.write_text(stats, "".join(kept))
