"""`entroselect loop` and `entroselect report`."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entroselect import _files, _settings
from entroselect.cli.errors import UsageError, bad_use
from entroselect.cli.options import Json
from entroselect.cli.output import document, say, show, wants_progress
from entroselect.report.tables import duration

if TYPE_CHECKING:
    from entroselect.loop.config import Config
    from entroselect.loop.data import Images
    from entroselect.loop.estimate import Estimate

Text = str | None


def loop(
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder of the run.")] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="digits, repeats, scatters, no-network, mnist, mnist-cfg, cifar-small, "
            "paper-cifar or paper-ffhq."
        ),
    ] = "digits",
    paradigm: Annotated[
        Text,
        typer.Option(help="replace, accumulate, accumulate-subsample, fresh-data or multi-model."),
    ] = None,
    select: Annotated[
        Text,
        typer.Option(help="none, random, greedy, threshold, variance, anchored or moments."),
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="How many.")] = None,
    keep: Annotated[float | None, typer.Option(help="Share of the pool that is kept.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="For random draws.")] = None,
    data: Annotated[
        Text, typer.Option(help="Images: file or folder. Default: the preset's.")
    ] = None,
    generator: Annotated[
        list[str] | None,
        typer.Option(help="ddpm, edm, resample or your package.module:Class. Repeatable."),
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(help="Features of your own: name=package.module:function. Repeatable."),
    ] = None,
    weights: Annotated[
        Text, typer.Option(help="Local DINOv2 folder or Inception file, for those spaces.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with options.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any option: train.steps=300. Repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the configuration, time and disk; stop.")
    ] = False,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, help="Save and stop after this long.")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Of torch. Default: those of the first start, else measured."),
    ] = None,
    log_with: Annotated[
        Text, typer.Option(help="Losses and measures to tensorboard or wandb too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Trains, generates, selects, trains again: the loop.

    Started again on the same folder, it resumes where it was. Results are in OUT/iteration-NN;
    compare runs with `entroselect report`.
    """
    began = time.monotonic()
    _check_packages()
    from entroselect.loop import config as options

    if config is not None and not config.is_file():
        bad_use("--config", f"{config}: no such file")
    resolved = options.resolve(
        preset,
        config,
        settings or (),
        paradigm=paradigm,
        select__method=select,
        iterations=iterations,
        keep=keep,
        seed=seed,
        data__source=data,
        models=generator or None,
        features=space or None,
        measure__weights=weights,
    )
    if threads is not None:
        _settings.set_threads(threads)  # the engine's too
    with _plain():
        if dry_run:
            _estimate(resolved, threads, as_json)
        elif out is None:
            bad_use("--out", "give the folder of the run")
        else:
            limit = math.inf if max_seconds is None else max_seconds
            complete = _run(resolved, out, threads, began, limit, log_with)
            _show(out, complete, as_json)


def _run(
    config: Config,
    out: Path,
    threads: int | None,
    began: float,
    max_seconds: float,
    log_with: str | None,
) -> bool:
    """Runs the loop; whether it is complete."""
    from entroselect.loop import run
    from entroselect.loop.progress import Progress

    with Progress(wants_progress()) as progress:
        try:
            complete = run(
                config,
                out,
                max_seconds=max_seconds - (time.monotonic() - began),
                progress=progress,
                threads=threads,
                log_with=log_with,
            )
        except KeyboardInterrupt as error:
            error.args = (f"what was finished is in {out}; the same command resumes",)
            raise
    if not complete:
        say(
            f"stopped after {time.monotonic() - began:.0f} s, --max-seconds {max_seconds:g}, while "
            f"{progress.what}; the same command resumes"
        )
    else:
        page = f"entroselect report {shlex.quote(str(out))} -o report.html"
        say(f"done: {out}; look at it with: {page}")
    return complete


@contextmanager
def _plain() -> Iterator[None]:
    """Turns exceptions of other libraries into errors that cli/errors.py prints on one line."""
    try:
        yield
    except (typer.Exit, typer.Abort, UsageError, MemoryError):
        raise
    except (OSError, ValueError, TypeError, RuntimeError):
        raise
    except FloatingPointError as error:
        raise RuntimeError(str(error)) from None
    except Exception as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of `entroselect loop`.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="HTML file to write.")] = Path(
        "report.html"
    ),
    export: Annotated[
        Path | None, typer.Option(help="Folder for the paper's figures, each as SVG and CSV.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compares runs of the loop on one page."""
    _check_packages()
    if out.suffix.lower() not in (".html", ".htm"):
        bad_use("--out", f"{out}: a page is HTML; give a name that ends in .html")
    if not out.absolute().parent.is_dir():
        bad_use("--out", f"{out.absolute().parent}: no such folder")
    if export is not None and export.exists() and not export.is_dir():
        bad_use("--export", f"{export}: is a file; give a folder")
    from entroselect.loop.export import export as export_figures
    from entroselect.loop.report import page

    _files.write_text(out, page(runs))
    say(f"written: {out}")
    figures = [] if export is None else export_figures(runs, export)
    if export is not None:
        say(f"written: {len(figures)} files in {export}")
    if as_json:
        document({"out": str(out.resolve()), "figures": [str(f.resolve()) for f in figures]})


def _check_packages() -> None:
    try:
        import diffusers  # noqa: F401
        import pydantic  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise RuntimeError(
            f"the loop needs {error.name}: pip install 'entroselect[loop]'"
        ) from None


# Keys of an iteration in the document of --json -> the title of its column, where it is measured.
_MEASURES = {
    "entropy": ("entropy of G_n", ("generated", "entropy")),
    "generalization_score": ("generalisation score", ("generalization_score",)),
    "frechet_distance": ("Frechet distance", ("frechet_distance",)),
}


def _show(out: Path, complete: bool, as_json: bool) -> None:
    """Prints the measures of the run."""
    if as_json:
        measured = any(out.glob("iteration-*/metrics.json"))
        space, rows = _measures(out) if measured else (None, [])
        where = str(out.resolve())
        document({"out": where, "complete": complete, "space": space, "iterations": rows})
    elif complete:
        for line in _lines(*_measures(out)):
            show(line)


def _measures(out: Path) -> tuple[str, list[dict[str, float]]]:
    """(the space, the measures of every iteration in it)"""
    from entroselect.loop.runs import read_run

    run = read_run(out)
    columns = {name: run.series(run.judge, *where) for name, (_, where) in _MEASURES.items()}
    return run.judge, [
        {"iteration": m["iteration"], **{name: values[i] for name, values in columns.items()}}
        for i, m in enumerate(run.measured)
    ]


def _lines(space: str, rows: list[dict[str, float]]) -> list[str]:
    table = [["iteration", *(title for title, _ in _MEASURES.values())]]
    table += [[f"{value:.5g}" for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        f"measured in the space {space}",
        *("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in table),
    ]


def _estimate(config: Config, threads: int | None, as_json: bool) -> None:
    """Prints the configuration, and time and disk from a few steps on this machine."""
    import torch

    from entroselect.loop import config as options
    from entroselect.loop import plan
    from entroselect.loop.device import device_of, fastest_threads
    from entroselect.loop.estimate import estimate, training_step
    from entroselect.loop.models import models_of
    from entroselect.loop.trial import try_out

    config = plan.named(config)
    models, own = models_of(config), plan.own_spaces(config, None)
    real, held_out, stream = plan.split(config)
    config = plan.settled(config, real, None)
    if not as_json:
        show(options.to_json(config), end="")
    plan.check(config, real, stream)
    device, classes = device_of(config), plan.classes_of(config, real, stream)
    if threads is not None:
        torch.set_num_threads(threads)
    try_out(config, real, classes, held_out, device, own.values())
    found = None
    if plan.denoisers(config):
        if threads is None and device == "cpu":
            fastest_threads(
                lambda: training_step(config, real, classes, device, longest=0.5).seconds
            )
        found = estimate(config, real, classes, plan.training_steps(config, len(real)), device)
    if as_json:
        known = None if found is None else asdict(found)
        told = {"images": len(real), "device": device, "threads": torch.get_num_threads()}
        document({"config": asdict(config), **told, "estimate": known})
    elif found is None:
        show(f"{len(real):,} images; {models[0].name} tells no time before it runs")
    else:
        show(_in_words(found, real, device, torch.get_num_threads(), config.iterations))


def _in_words(found: Estimate, real: Images, device: str, threads: int, iterations: int) -> str:
    height, width, channels = real.pixels.shape[1:]
    return (
        f"{found.parameters:,} parameters, {len(real):,} images of {width} x {height} x "
        f"{channels}, {found.generated:,} generated per iteration, on {device}, "
        f"{threads} threads\n"
        f"a step of training {found.training.seconds:.2g} s on {found.training.images} images, of "
        f"sampling {found.sampling.seconds:.2g} s on {found.sampling.images}: measured here, now\n"
        f"about {duration(found.seconds * iterations)} ({duration(found.seconds)} per "
        f"iteration) and {found.megabytes:,.0f} MB; selecting and measuring come on top"
    )
