"""Commands that run in several processes, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from entroselect.cli.output import Folder, new_folder
from entroselect.io import Source
from entroselect.ranks import LostRank, Ranks, together


@contextmanager
def started(backend: str) -> Iterator[Ranks | None]:
    """The processes that torchrun started, joined into a group; None for a command of its own."""
    if "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
        yield None
        return
    try:
        import torch
        import torch.distributed as distributed
    except ImportError as error:
        raise RuntimeError(
            "several processes need torch: pip install 'entroselect[gpu]'"
        ) from error
    on_gpus = backend == "cuda"
    if on_gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if on_gpus else "gloo")
    try:
        yield Ranks(True)
    except LostRank:
        raise  # nobody is left to say goodbye to
    except BaseException:
        distributed.destroy_process_group()
        raise
    else:
        distributed.barrier()
        distributed.destroy_process_group()


def leads(ranks: Ranks | None) -> bool:
    """Whether this process reads, writes and says what only one has to."""
    return ranks is None or ranks.rank == 0


@contextmanager
def results(out: Path, force: bool, ranks: Ranks | None) -> Iterator[Folder | None]:
    """The folder to fill, on the process that leads; see `new_folder`."""
    folder = new_folder(out, force) if leads(ranks) else nullcontext(None)
    with together(ranks):
        path = folder.__enter__()
    try:
        yield path
    except BaseException as error:
        folder.__exit__(type(error), error, error.__traceback__)
        raise
    with together(ranks):
        folder.__exit__(None, None, None)


def share(source: Source, ranks: Ranks | None) -> Any:
    """This process's part of a pool."""
    if ranks is None:
        return source
    ends = [rank * source.n // ranks.size for rank in (ranks.rank, ranks.rank + 1)]
    return source.part(*ends)
