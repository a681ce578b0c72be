"""A run that begins with the first training of another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from entroselect import _files
from entroselect.loop import config as options
from entroselect.loop import files, folder, paradigms, plan
from entroselect.loop.config import Config

# Options that the encoder and the first training do not depend on, by name or group.
LATER = {"paradigm", "iterations", "keep", "generate", "fresh", "select", "sample", "measure"}
LATER |= {"equal_compute"}  # only through the number of training steps, which is compared


def copy_first(config: Config, run: Path, size: int, others: Sequence[Path]) -> None:
    """Copies the first iteration of another run into a new one, as far as both have the same.

    Arms of one seed differ in what follows their first training: data, network and random numbers
    are the same, and so are the weights. Of runs that share the training, one that shares what was
    generated is preferred.

    Args:
        config: the options of the new run, its spaces decided.
        run: its folder, with fingerprints; nothing happens if it has begun.
        size: of the first training set.
        others: folders of runs, complete or not; what is no run is passed over.
    """
    first = folder.of_iteration(run, 1)
    if first.exists():
        return
    found = {}
    for other in others:
        if folder.has_images(folder.of_iteration(other, 1), "generated"):
            begun = folder.recorded(other)
            if begun and _same_training(config, begun, size) and _same_sources(run, other):
                found[other] = begun
    if not found:
        return
    same = [other for other, begun in found.items() if _same_images(config, begun, size)]
    other = (same or list(found))[0]
    left = []
    if not same:
        left = ["DONE", "generated*", "measured*", "metrics.json", "grid.png"]
        left += [name for name in paradigms.models(config) if name not in ("ddpm", "edm")]
    elif not _same_measures(config, found[other]):
        left = ["DONE", "metrics.json"]
    for path in other.glob("*.safetensors"):  # encoders
        if not path.name.endswith(".state.safetensors"):
            shutil.copy(path, run)
    begun_with = files.read_json(other / folder.FINGERPRINTS)
    _files.write_json(run / folder.FINGERPRINTS, begun_with)
    _copy_stats(other / "stats.jsonl", run / "stats.jsonl")
    work = first.with_name(first.name + ".partial")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(
        folder.of_iteration(other, 1), work, ignore=shutil.ignore_patterns("parts", *left)
    )
    work.rename(first)


def _same_training(one: Config, other: Config, size: int) -> bool:
    changed = options.differences(one, other)
    if one.model.conditional and "fresh" in changed:  # fresh images may bring new labels
        return False
    steps = [plan.training_steps(config, size) for config in (one, other)]
    return steps[0] == steps[1] and {name.partition(".")[0] for name in changed} <= LATER


def _same_sources(one: Path, other: Path) -> bool:
    """Whether data and the caller's code are the same, as far as both runs have their marks."""
    marks = [
        files.read_json(run / folder.FINGERPRINTS)
        for run in (one, other)
        if (run / folder.FINGERPRINTS).exists()
    ]
    return len(marks) == 2 and all(marks[1].get(n) == mark for n, mark in marks[0].items())


def _same_images(one: Config, other: Config, size: int) -> bool:
    counts = [(paradigms.to_generate(c, size), paradigms.to_measure(c, size)) for c in (one, other)]
    return counts[0] == counts[1] and one.sample == other.sample


def _same_measures(one: Config, other: Config) -> bool:
    return (
        one.measure == other.measure
        and one.select.space == other.select.space
        and plan.judging(one) == plan.judging(other)
    )


def _copy_stats(stats: Path, to: Path) -> None:
    if not stats.exists():
        return
    lines = stats.read_text(encoding="utf-8").splitlines(keepends=True)
    _files.write_text(to, "".join(line for line in lines if json.loads(line)["iteration"] == 1))
