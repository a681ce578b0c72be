"""`entroselect loop` and `entroselect report`."""

from __future__ import annotations

import math
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entroselect.cli.errors import bad_use, say

if TYPE_CHECKING:
    from entroselect.loop.config import Config

Text = str | None


def loop(
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder of the run.")] = None,
    preset: Annotated[
        str,
        typer.Option(help="digits, mnist, mnist-cfg, cifar-small, paper-cifar or paper-ffhq."),
    ] = "digits",
    paradigm: Annotated[
        Text,
        typer.Option(help="replace, accumulate, accumulate-subsample, fresh-data or multi-model."),
    ] = None,
    select: Annotated[
        Text, typer.Option(help="none, random, greedy, threshold or variance.")
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="How many.")] = None,
    keep: Annotated[float | None, typer.Option(help="Share of the pool that is kept.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="For whatever is drawn.")] = None,
    data: Annotated[
        Text, typer.Option(help="Images: file or folder. Default: the preset's.")
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
) -> None:
    """Train, generate, select, train again: the self-consuming loop.

    Started again on the same folder, it goes on where it was. Results stand in OUT/iteration-NN;
    compare runs with `entroselect report`.
    """
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
        measure__weights=weights,
    )
    if dry_run:
        _estimate(resolved)
        return
    if out is None:
        bad_use("--out", "give the folder of the run")
    from entroselect.loop.progress import Progress
    from entroselect.loop.run import run

    with Progress() as progress:
        try:
            complete = run(
                resolved,
                out,
                max_seconds=math.inf if max_seconds is None else max_seconds,
                progress=progress,
            )
        except KeyboardInterrupt:
            say(f"interrupted: what was finished is in {out}; the same command goes on with it")
            raise typer.Exit(130) from None
        except FloatingPointError as error:
            raise RuntimeError(str(error)) from None
    if not complete:
        say(f"stopped after {max_seconds:g} s; the same command goes on with it")
        return
    say(f"done: {out}; look at it with: entroselect report {shlex.quote(str(out))} -o report.html")
    for line in _lines(out):
        print(line)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of `entroselect loop`.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="HTML file to write.")] = Path(
        "report.html"
    ),
) -> None:
    """Compare runs of the loop on one page."""
    _check_packages()
    if out.suffix.lower() not in (".html", ".htm"):
        bad_use("--out", f"{out}: a page is HTML; give a name that ends in .html")
    if not out.absolute().parent.is_dir():
        bad_use("--out", f"{out.absolute().parent}: no such folder")
    from entroselect.loop import files
    from entroselect.loop.report import page

    files.write_text(out, page(runs))
    say(f"written: {out}")


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
    from entroselect.loop.compared import read

    run = read(out)
    space = list(run.measured[0]["spaces"])[-1]
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


def _estimate(config: Config) -> None:
    """Prints the configuration, and time and disk from a few steps on this machine."""
    from dataclasses import asdict, replace

    import numpy as np

    from entroselect.loop import config as options
    from entroselect.loop import diffusion, paradigms, seeds
    from entroselect.loop.device import device_of
    from entroselect.loop.run import check, split, training_steps
    from entroselect.loop.sample import generate
    from entroselect.loop.train import train

    print(options.to_json(config), end="")
    real, _, stream = split(config)
    check(config, real, stream)
    device, size = device_of(config), len(real)
    shape: Any = real.pixels.shape[1:]
    net = diffusion.network(config.model, shape, real.classes, seeds.noise(0))
    parameters = sum(p.numel() for p in net.parameters())
    for steps in (2, 8):  # the first steps of a process are slow
        began = time.perf_counter()
        short = asdict(replace(config.train, steps=steps, warmup=1))
        train(real, net, config.diffusion, **short, device=device)
    a_step = (time.perf_counter() - began) / 8
    few = min(config.sample.batch, 64)
    labels = None if real.labels is None else np.resize(real.labels, few)
    began = time.perf_counter()
    generate(
        net,
        config.diffusion,
        few,
        labels if config.model.conditional else None,
        **asdict(replace(config.sample, steps=2, batch=few)),
        device=device,
    )
    an_image = (time.perf_counter() - began) / (2 * few)
    models = len(paradigms.kinds(config))
    made = paradigms.to_generate(config, size)
    seconds = models * (
        training_steps(config, size) * a_step + made * config.sample.steps * an_image
    )
    pixels = math.prod(real.pixels.shape[1:])
    grown = config.iterations if config.paradigm == "accumulate" else 1
    disk = models * 4 * parameters + (made * models + size * grown) * (pixels + 24)
    print(
        f"{parameters:,} parameters, {size:,} images of {shape[1]} x {shape[0]} x {shape[2]}, "
        f"{made * models:,} generated an iteration, on {device}"
    )
    print(
        f"about {_duration(seconds * config.iterations)} ({_duration(seconds)} an iteration), "
        f"{disk * config.iterations / 1e6:,.0f} MB"
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
