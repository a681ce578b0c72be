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
from entroselect.cli.errors import plain_failures
from entroselect.cli.output import say, show

METHODS = ("none", "greedy", "anchored")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Setting:
    """A regime: its title and text on the page, and what changes in its preset."""

    title: str
    text: str
    settings: tuple[str, ...]


# Each is the preset of its name: selected in one space, judged in another and against images that
# no model was trained on.
REGIMES = {
    "repeats": Setting(
        "A model that repeats its training images",
        "Few images and a long training: 128 digits, 1,000 passes over each. The network has "
        "learned them by heart, and most of what it makes is one of them again. It makes 512 "
        "images, of which 128 train the next one.",
        ("iterations=4", "measure.draw=1000"),
    ),
    "scatters": Setting(
        "A model that scatters",
        "Many images and a short training: the same kind of network, half as wide, and 898 "
        "digits, 28 passes over each. Much of what it makes lies between and beyond the digits "
        "and is none. It makes 3,592 images, of which 898 train the next one.",
        ("measure.draw=none",),
    ),
}

TITLE = "When does a selection help a model that learns from its own images?"
LEAD = (
    "A model is trained on real images and makes new ones; the next model is trained on those, and "
    "so on. Each is worse than the one before: model collapse. Making more images than are needed "
    "and choosing which to keep can slow this down or speed it up. Greedy selection keeps "
    "images that are far from each other. Anchored selection does the same while it matches the "
    "distribution of the real images. Which one helps depends on how the model fails, and that can "
    "be seen before anything is selected: a model that repeats itself makes images that are less "
    "varied than real ones, a model that scatters makes images that are more varied.",
    "Small digits, minutes on a laptop, three seeds: enough to see the two regimes, not a "
    "benchmark. All measures are in repeats.html and scatters.html beside this page.",
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
        for page in [pool.submit(_page, out / r, _folders(out, r, SEEDS)) for r in REGIMES]:
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

    own = [*REGIMES[regime].settings, *settings]
    config = resolve(regime, settings=own, select__method=method, seed=seed)
    others = _folders(out, regime, [seed])
    loop(config, others[METHODS.index(method)], threads=1, begin_from=others)


def _folders(out: Path, regime: str, seeds: Sequence[int]) -> list[Path]:
    return [out / regime / f"{method}-{seed}" for method in METHODS for seed in seeds]


def _page(regime: Path, folders: list[Path]) -> None:
    """The report of a regime, with all measures, in a process of the pool."""
    from entroselect.loop.report import page

    _files.write_text(regime.with_suffix(".html"), page(folders))


def _report(out: Path) -> None:
    from entroselect.loop import regimes

    shown = [
        regimes.Regime(setting.title, setting.text, _folders(out, name, SEEDS))
        for name, setting in REGIMES.items()
    ]
    _files.write_text(out / "report.html", regimes.page(shown, TITLE, LEAD))
    for regime in shown:
        show(f"{regime.title}:")
        for sentence in regimes.findings_of(regime):
            for number, line in enumerate(sentence.splitlines()):
                first = "  " if number else "- "
                show(textwrap.fill(line, 79, initial_indent=first, subsequent_indent="  "))
    say(f"written: {out / 'report.html'}")


if __name__ == "__main__":
    main()
