"""`entroselect loop` and `entroselect report`."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entroselect import _files, _settings
from entroselect.cli.errors import UsageError, bad_use, say, show
from entroselect.report.tables import duration

if TYPE_CHECKING:
    from entroselect.loop.config import Config

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
) -> None:
    """Train, generate, select, train again: the self-consuming loop.

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
            _estimate(resolved, threads)
        elif out is None:
            bad_use("--out", "give the folder of the run")
        else:
            limit = math.inf if max_seconds is None else max_seconds
            _run(resolved, out, threads, began, limit, log_with)


def _run(
    config: Config,
    out: Path,
    threads: int | None,
    began: float,
    max_seconds: float,
    log_with: str | None,
) -> None:
    from entroselect.loop import run
    from entroselect.loop.progress import Progress

    with Progress() as progress:
        try:
            complete = run(
                config,
                out,
                max_seconds=max_seconds - (time.monotonic() - began),
                progress=progress,
                threads=threads,
                log_with=log_with,
            )
        except KeyboardInterrupt:
            say(f"interrupted: what was finished is in {out}; the same command goes on with it")
            raise typer.Exit(130) from None
    if not complete:
        say(
            f"stopped after {time.monotonic() - began:.0f} s, --max-seconds {max_seconds:g}, while "
            f"{progress.what}; the same command goes on with it"
        )
        return
    say(f"done: {out}; look at it with: entroselect report {shlex.quote(str(out))} -o report.html")
    for line in _lines(out):
        show(line)


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
) -> None:
    """Compare runs of the loop on one page, and perhaps export the paper's figures of them."""
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
    if export is not None:
        say(f"written: {len(export_figures(runs, export))} files in {export}")


def _check_packages() -> None:
    try:
        import diffusers  # noqa: F401
        import pydantic  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise RuntimeError(
            f"the loop needs {error.name}: pip install 'entroselect[loop]'"
        ) from None


def _lines(out: Path) -> list[str]:
    from entroselect.loop.runs import read_run

    run = read_run(out)
    space = run.judge
    head = ["iteration", "entropy of G_n", "generalisation score", "Frechet distance"]
    columns = [
        [str(m["iteration"]) for m in run.measured],
        *(
            [f"{value:.5g}" for value in run.series(space, *names)]
            for names in (
                ("generated", "entropy"),
                ("generalization_score",),
                ("frechet_distance",),
            )
        ),
    ]
    rows = [head, *zip(*columns, strict=True)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return [
        f"measured in the space {space}",
        *("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows),
    ]


def _estimate(config: Config, threads: int | None) -> None:
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
    show(options.to_json(config), end="")
    plan.check(config, real, stream)
    device, classes = device_of(config), plan.classes_of(config, real, stream)
    if threads is not None:
        torch.set_num_threads(threads)
    try_out(config, real, classes, held_out, device, own.values())
    if not plan.denoisers(config):
        show(f"{len(real):,} images; {models[0].name} tells no time before it runs")
        return
    if threads is None and device == "cpu":
        fastest_threads(lambda: training_step(config, real, classes, device, longest=0.5).seconds)
    found = estimate(config, real, classes, plan.training_steps(config, len(real)), device)
    height, width, channels = real.pixels.shape[1:]
    show(
        f"{found.parameters:,} parameters, {len(real):,} images of {width} x {height} x "
        f"{channels}, {found.generated:,} generated an iteration, on {device}, "
        f"{torch.get_num_threads()} threads"
    )
    show(
        f"a step of training {found.training.seconds:.2g} s on {found.training.images} images, of "
        f"sampling {found.sampling.seconds:.2g} s on {found.sampling.images}: measured here, now"
    )
    show(
        f"about {duration(found.seconds * config.iterations)} ({duration(found.seconds)} an "
        f"iteration) and {found.megabytes:,.0f} MB; selecting and measuring come on top"
    )
