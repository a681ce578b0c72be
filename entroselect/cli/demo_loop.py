"""`python -m entroselect.cli.demo_loop`: selections compared in two regimes of the loop.

In one the model copies its training images cleanly, in the other it scatters around them. In both,
the loop runs without a selection, with the greedy and with the anchored one, with three seeds: 18
runs on all cores, a few minutes. Started again, it resumes. The page says what the figures say,
for or against a selection.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import textwrap
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from entroselect import _files, _settings
from entroselect.cli.errors import plain_failures, say, show

METHODS = ("none", "greedy", "anchored")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Setting:
    """A regime: its title and text on the page, its options, and its part of the time."""

    title: str
    text: str
    settings: tuple[str, ...]


# Select in one space, judge in another and against images that no model was trained on.
COMMON = ("data.held_out=899", "select.space=encoder", "measure.reference=held-out")
REGIMES = {
    "scatters": Setting(
        "A model that scatters",
        "A small diffusion network, trained briefly on 898 digits: much of what it makes lies "
        "between and beyond the real digits. Each model makes 1,796 images; 898 of them, or all "
        "that a model without a selection makes, train the next one.",
        (
            "data.images=898", "train.steps=800", "train.warmup=80", "sample.steps=10",
            "iterations=2",
        ),
    ),
    "repeats": Setting(
        "A model that copies cleanly",
        "Not a network, but what a network does that has learned its images by heart: each image "
        "it makes is a training image, moved by a quarter of the distance between neighbours. "
        "From 256 digits it makes 512, of which 256 train the next one.",
        ("models=['resample']", "data.images=256", "iterations=6", "measure.draw=1000"),
    ),
}  # fmt: skip

TITLE = "When does a selection help a model that learns from its own images?"
LEAD = (
    "A model is trained on real images and makes new ones; the next model is trained on those, and "
    "so on. Each is worse than the one before: model collapse. Making twice as many images as are "
    "needed and choosing which to keep can slow this down or speed it up. Greedy selection keeps "
    "images that are far from each other. Anchored selection does the same while it matches the "
    "distribution of the real images. Which one helps depends on how the model fails, and that can "
    "be seen before anything is selected: a model that repeats itself makes images that are less "
    "varied than real ones, a model that scatters makes images that are more varied.",
    "Small digits, minutes on a laptop, three seeds: enough to see the two regimes, not a "
    "benchmark. All measures are in scatters.html and repeats.html beside this page.",
)


def main(arguments: list[str] | None = None) -> None:
    """Runs the demo; failures as in entroselect/cli/errors.py."""
    parser = argparse.ArgumentParser(
        prog="python -m entroselect.cli.demo_loop", description=__doc__
    )
    parser.add_argument("--out", type=Path, default=Path("demo-loop"), help="folder to make")
    parser.add_argument("--set", action="append", default=[], help="further options of all runs")
    options = parser.parse_args(arguments)
    with plain_failures():
        processes = min(_settings.threads(), len(REGIMES) * len(SEEDS))
        # Of those processes, before they load a BLAS: each run has one thread.
        os.environ.update(OMP_NUM_THREADS="1", ENTROSELECT_THREADS="1")
        run(options.out, options.set, processes)


def run(out: Path, settings: Sequence[str], processes: int) -> None:
    """Runs the arms in out/REGIME/METHOD-SEED, writes out/report.html and prints findings."""
    out.mkdir(parents=True, exist_ok=True)
    # A first training is shared by the arms of a seed, so those that others begin from are first.
    todo = [(r, method, seed) for method in METHODS for r in REGIMES for seed in SEEDS]
    began = time.monotonic()
    say(f"{len(todo)} runs, {processes} at a time")
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
    try:
        waiting = {pool.submit(_run, out, *task, settings): task for task in todo}
        for number, done in enumerate(as_completed(waiting), 1):
            regime, method, seed = waiting[done]
            done.result()
            say(
                f"{number:2} of {len(todo)}, {time.monotonic() - began:3.0f} s: {regime}, "
                f"{method}, seed {seed}"
            )
        for page in [pool.submit(_page, out, regime) for regime in REGIMES]:
            page.result()
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    _report(out)


def _run(out: Path, regime: str, method: str, seed: int, settings: Sequence[str]) -> None:
    """One run, in a process of the pool."""
    from entroselect.loop import resolve
    from entroselect.loop import run as loop

    own = [*COMMON, *REGIMES[regime].settings, *settings]
    config = resolve("digits", settings=own, select__method=method, seed=seed)
    others = _folders(out, regime, seeds=[seed])
    loop(config, others[METHODS.index(method)], threads=1, begin_from=others)


def _folders(out: Path, regime: str, seeds: Sequence[int] = SEEDS) -> list[Path]:
    return [out / regime / f"{method}-{seed}" for method in METHODS for seed in seeds]


def _page(out: Path, regime: str) -> None:
    """The report of a regime, with all measures, in a process of the pool."""
    from entroselect.loop.report import page

    _files.write_text(out / f"{regime}.html", page(_folders(out, regime)))


def _report(out: Path) -> None:
    from entroselect.loop import regimes

    shown = [
        regimes.Regime(setting.title, setting.text, _folders(out, name))
        for name, setting in REGIMES.items()
    ]
    _files.write_text(out / "report.html", regimes.page(shown, TITLE, LEAD))
    for regime in shown:
        show(f"{regime.title}:")
        for sentence in regimes.findings_of(regime):
            show(textwrap.fill(sentence, 79, initial_indent="- ", subsequent_indent="  "))
    say(f"written: {out / 'report.html'}")


if __name__ == "__main__":
    main()
