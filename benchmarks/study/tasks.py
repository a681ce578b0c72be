"""Pieces of the study that can be run one by one, in several processes, and resumed."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.record import PROVENANCE, Row, provenance, read, rounded, write_csv
from entroselect.cli.errors import describe
from entroselect.cli.output import say

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Given:
    """What the command line says.

    out: the folder for run folders and copies of data.
    mnist, cifar: files of images; "" without.
    seeds: of every arm, instead of SEEDS and what a part has by itself.
    extra: further options of every run of the loop.
    """

    out: Path
    mnist: str = ""
    cifar: str = ""
    seeds: tuple[int, ...] | None = None
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A piece of work that gives rows of a part's results.

    name: unique in its part.
    settings: all that its results depend on, as text; other settings, other results.
    function: of a module, so that another process can call it with `arguments`.
    """

    name: str
    settings: str
    function: Callable[..., list[Row]]
    arguments: dict[str, Any] = field(default_factory=dict)


def run(tasks: Sequence[Task], results: Path, columns: Sequence[str], jobs: int = 1) -> int:
    """Runs the tasks whose rows are missing and adds them to `results`, one task after the other.

    A task that fails is named, and the others are run; the number of failures is returned.
    """
    columns = ["task", *columns, "settings", *PROVENANCE]
    stamp, began = provenance(), time.monotonic()
    written = {(row["task"], row["settings"]) for row in read(results)}
    todo = [task for task in tasks if (task.name, task.settings) not in written]
    failed = 0
    for number, (task, found) in enumerate(_results(todo, jobs), 1):
        place = f"{number} of {len(todo)}, {time.monotonic() - began:.0f} s: {task.name}"
        if isinstance(found, Exception):
            failed += 1
            say(f"{place}: {describe(found)}")
            continue
        say(place)
        marks = {"task": task.name, "settings": task.settings, **stamp}
        rows = [rounded({**row, **marks}, 6) for row in found]
        kept = [row for row in read(results) if row["task"] != task.name]
        write_csv(results, columns, [*kept, *rows])
    return failed


def _results(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, list[Row] | Exception]]:
    """What each task gives, as it comes."""
    if jobs == 1:
        for task in tasks:
            yield task, _tried(task)
        return
    with _processes(jobs) as pool:
        waiting = {pool.submit(_tried, task): task for task in tasks}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _tried(task: Task) -> list[Row] | Exception:
    try:
        return task.function(**task.arguments)
    except Exception as error:  # one arm that diverges must not cost the others
        return error


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each, ended with this one."""
    before = dict(os.environ)
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    os.environ.update(one, ENTROSELECT_THREADS="1")  # read when they load their libraries
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))
    try:
        yield pool
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        os.environ.clear()
        os.environ.update(before)


def shrunk(source: str, out: Path, side: int) -> str:
    """A copy of MNIST of `side` x `side`, 8 or 14: means of 3 x 3 of its central 24 x 24 pixels, or
    of 2 x 2 of all. Returns its path."""
    from entroselect.loop import data

    target, edge, factor = out / f"mnist-{side}.npz", *{8: (2, 3), 14: (0, 2)}[side]
    if not target.exists():
        images = data.load(source)
        if images.pixels.shape[1:] != (28, 28, 1):
            raise ValueError(f"--mnist: {source}: expected grey images of 28 x 28")
        inside = images.pixels[:, edge : 28 - edge, edge : 28 - edge, 0]
        blocks = inside.reshape(-1, side, factor, side, factor)
        small = np.round(blocks.mean(axis=(2, 4))).astype(np.uint8)
        write_images(target, small, images.labels)
    return str(target)


def write_images(target: Path, pixels: Any, labels: Any) -> None:
    """An .npz that data.load reads; atomic."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f"partial-{os.getpid()}-{target.name}")
    np.savez(work, x=pixels, y=labels)
    work.replace(target)


def flattened(images: Any) -> Any:
    """(n, d) float32 of images."""
    return images.reshape(len(images), -1).astype(np.float32)
