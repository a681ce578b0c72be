"""The folder of a run: whether it is a run's, what the run was made from, which files are
undamaged."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entroselect import _files
from entroselect.loop import config as options
from entroselect.loop import data, files, given
from entroselect.loop.config import Config
from entroselect.loop.data import Images
from entroselect.loop.given import Space
from entroselect.loop.models import Model

FINGERPRINTS = "fingerprints.json"
_TOLD = {
    "data": "the images or labels of data.source",
    "weights": "the file or folder measure.weights",
    "encoder": "encoder.safetensors",
    "judge": "judge.safetensors",
}


def _told(name: str) -> str:
    return _TOLD.get(name, f"the file that defines {name}")


def of_iteration(folder: Path, iteration: int) -> Path:
    """The folder of an iteration, from 1."""
    return folder / f"iteration-{iteration:02d}"


def check_ours(folder: Path) -> None:
    """Raises ValueError if the folder holds anything that is not a run's."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder}: is a file; choose another --out")
    if (folder / "config.json").exists():
        return
    ours = (_files.LOCK, FINGERPRINTS)
    strange = [p.name for p in folder.iterdir() if p.name not in ours and p.suffix != ".partial"]
    if strange:
        raise ValueError(
            f"{folder}: holds files that are not a run ({sorted(strange)[0]}); choose another --out"
        )


def check_configuration(config: Config, before: Config | None, folder: Path) -> None:
    """Writes config.json; ValueError if the run there has, from `before`, other options."""
    path = folder / "config.json"
    if before is not None:
        changed = options.differences(before, config)
        grown = config.iterations > before.iterations
        if grown:
            changed.pop("iterations", None)
        if changed:
            told = ", ".join(f"{name} is {a!r}, not {b!r}" for name, (a, b) in changed.items())
            raise ValueError(
                f"{folder}: holds a run of another configuration: there, {told}; choose another "
                "--out, or the same options to go on with it"
            )
        if grown:
            (folder / "DONE").unlink(missing_ok=True)
    if before is None or path.read_text(encoding="utf-8") != options.to_json(config):
        _files.write_text(path, options.to_json(config))


def recorded(folder: Path) -> Config | None:
    """The configuration that a run in that folder began with; None where there is none.

    Raises:
        ValueError: config.json is damaged, or of an older version and means something else now.
    """
    path = folder / "config.json"
    if not path.exists():
        return None
    before = options.from_json(path)
    if before.paradigm == "multi-model":  # this version writes what that stands for
        raise ValueError(
            f"{folder}: begun by an older version, whose multi-model pool had no real images; "
            "choose another --out"
        )
    return options.complete(before)


def fingerprint(parts: list[Images]) -> str:
    """SHA-256 of pixels, their shape, and labels, in order."""
    found = hashlib.sha256()
    for images in parts:
        for array in (images.pixels, images.labels):
            if array is not None:
                found.update(f"{array.dtype} {array.shape}".encode())
                found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def of_weights(weights: str) -> str:
    """SHA-256 of a file, or of what a folder of weights is loaded from."""
    path = Path(weights)
    if not path.is_dir():
        return files.digest([path])
    return files.digest(sorted([*path.glob("*.json"), *path.glob("*.safetensors")]))


def of_code(models: Iterable[Model], own: Mapping[str, Space]) -> dict[str, str]:
    """SHA-256 of the files that define the caller's generators and functions, by what they are."""
    sources = {f"generator {model.name}": model.source for model in models}
    sources |= {f"space {name}": given.file_of(space.function) for name, space in own.items()}
    return {name: files.digest([path]) for name, path in sources.items() if path is not None}


def check_fingerprints(folder: Path, found: dict[str, str], note: Callable[[str], None]) -> None:
    """Writes what a run is made from; ValueError if it began with something else."""
    path = folder / FINGERPRINTS
    before = files.read_json(path) if path.exists() else {}
    if not (folder / "iteration-01" / "generated.npy").exists():  # code may still be mended
        before = {name: mark for name, mark in before.items() if name in _TOLD}
    changed = [_told(name) for name in found if before.get(name, found[name]) != found[name]]
    if changed:
        raise ValueError(
            f"{folder}: {' and '.join(changed)} changed since this run was begun; bring back what "
            "was there, or choose another --out"
        )
    new = {name: mark for name, mark in found.items() if name not in before}
    if new and (folder / "iteration-01" / "training.npy").exists():
        note(
            f"{folder} was begun without fingerprints of {', '.join(map(_told, new))}, so "
            "whether they changed is not known"
        )
    if new:
        _files.write_json(path, before | new)


def keep_classes(folder: Path, real: Images) -> None:
    """classes.json: what the labels 0, 1, ... of training and generated images are called."""
    path = folder / "classes.json"
    if real.labels is not None and real.names and not path.exists():
        _files.write_json(path, list(real.names))


def has_images(here: Path, name: str) -> bool:
    """Whether data.write was complete."""
    return all((here / f"{name}{end}.npy").exists() for end in ("", "_origins"))


def read_images(
    here: Path,
    name: str,
    count: int,
    size: tuple[int, ...],
    classes: int = 0,
    dtype: Any = np.uint8,
) -> Images:
    """As `data.read`, with checks of what was read.

    Args:
        here: folder of an iteration.
        name: "training", "generated" or "measured".
        count, size, dtype: there must be `count` images of `size` (h, w, channels), or rows.
        classes: there must be labels, below this; 0: labels do not matter.

    Raises:
        files.Damaged: a file does not hold what a run writes.
    """
    images = data.read(here, name)
    path, marks = here / f"{name}.npy", here / f"{name}_origins.npy"
    expected = (count, *size)
    if images.pixels.shape != expected or images.pixels.dtype != dtype:
        raise files.Damaged(
            path, f"{images.pixels.shape} {images.pixels.dtype}, not {expected} {np.dtype(dtype)}"
        )
    if images.pixels.dtype.kind == "f" and not np.isfinite(images.pixels).all():
        raise files.Damaged(path, "values that are not finite")
    if images.origins.shape != (count, 4) or images.origins.dtype != np.int32:
        raise files.Damaged(
            marks, f"{images.origins.shape} {images.origins.dtype}, not {(count, 4)} int32"
        )
    if not np.isin(images.origins[:, 0], list(data.ORIGINS)).all():
        raise files.Damaged(marks, "an origin that is unknown")
    labels, found = here / f"{name}_labels.npy", images.labels
    if found is None and classes:
        raise files.Damaged(path, f"{labels.name} is missing")
    if found is not None and (found.shape != (count,) or found.dtype != np.int64):
        raise files.Damaged(labels, f"{found.shape} {found.dtype}, not {(count,)} int64")
    if classes and found is not None and not 0 <= found.min() <= found.max() < classes:
        raise files.Damaged(labels, f"a label that is not one of {classes} classes")
    return images


def forget_parts(here: Path, kind: str) -> None:
    """Removes finished batches once all images are written."""
    parts = here / kind / "parts"
    if not parts.is_symlink():
        shutil.rmtree(parts, ignore_errors=True)


def mark_done(folder: Path) -> None:
    """Writes DONE."""
    if not (folder / "DONE").exists():
        _files.write_text(folder / "DONE", "")


def has_metrics(here: Path) -> bool:
    """Whether an iteration was measured; what is damaged is measured again."""
    path = here / "metrics.json"
    try:
        return path.exists() and "spaces" in files.read_json(path)
    except files.Damaged:
        return False


def add_stats(stats: Path, line: dict[str, Any]) -> None:
    """Appends a line to stats.jsonl."""
    with stats.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def cut_stats(stats: Path, iteration: int, kind: str, step: int) -> None:
    """Drops the lines of steps that will be taken again, and lines that a run does not write."""
    if not stats.exists():
        return
    kept = []
    for line in stats.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            held: dict[str, Any] = json.loads(line)
            place = int(held["iteration"]), str(held["model"]), int(held["step"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # cut off by a kill, or damaged
        again = place[:2] == (iteration, kind) and place[2] > step
        if not again and line.endswith("\n"):
            kept.append(line)
    _files.write_text(stats, "".join(kept))
