"""Commands that run in several processes, as torchrun starts them."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from entroselect.cli.result_folder import Folder, new_folder
from entroselect.io import Source
from entroselect.scale.process_group import ProcessGroup, digest, shared_errors

# Until all processes have found each other; torch may take twice as long. One that ends before
# that, for bad use say, ends the others so.
SECONDS_TO_START = 25.0

# What a process waits for another that is at work; one that dies is noticed at once.
_WORK = timedelta(days=30)

# Rows of a pool by which processes find out that theirs are different ones.
_SAMPLE = 64


def started() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ


@contextmanager
def joined(backend: str) -> Iterator[ProcessGroup | None]:
    """The processes that torchrun started, joined into a group; None for a command of its own.

    Raises:
        RuntimeError: they did not all start.
    """
    if not started() or "MASTER_ADDR" not in os.environ:
        yield None
        return
    ranks = _joined(backend)
    try:
        yield ranks
        ranks.wait()
    except BaseException as error:
        _clear(error)
        raise
    finally:
        _leave(ranks)


def _clear(error: BaseException) -> None:
    """Empties the frames that an error holds, and those that it came of or came up in: they have
    ended, and may still hold the group."""
    left, seen = [error], set()
    while left:
        error = left.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        left += [other for other in (error.__cause__, error.__context__) if other is not None]


def _joined(backend: str) -> ProcessGroup:
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
    try:
        wait = timedelta(seconds=SECONDS_TO_START)
        distributed.init_process_group("nccl" if on_gpus else "gloo", timeout=wait)
        # Another group, since the time until a first answer is for the start alone.
        return ProcessGroup(distributed.new_group(timeout=_WORK))
    except RuntimeError as error:  # torch's own errors are kinds of it
        if distributed.is_initialized():
            distributed.destroy_process_group()
        raise RuntimeError(
            f"the processes did not find each other within {SECONDS_TO_START:.0f} s; one of them "
            f"ended or was not started, see what it says ({str(error).splitlines()[0]})"
        ) from None


def _leave(ranks: ProcessGroup) -> None:
    """Ends the group. Nothing may hold it then: its threads would outlive it, and end the process
    with an abort."""
    import torch.distributed as distributed

    ranks.close()
    gc.collect()
    distributed.destroy_process_group()


def is_main_process(ranks: ProcessGroup | None) -> bool:
    """Whether this process reads, writes and says what only one has to."""
    return ranks is None or ranks.rank == 0


@contextmanager
def results(out: Path, force: bool, ranks: ProcessGroup | None) -> Iterator[Folder | None]:
    """The folder to fill, on the process that leads; see `new_folder`."""
    folder = new_folder(out, force) if is_main_process(ranks) else nullcontext(None)
    with shared_errors(ranks):
        path = folder.__enter__()
    try:
        yield path
    except BaseException as error:
        folder.__exit__(type(error), error, error.__traceback__)
        raise
    with shared_errors(ranks):
        folder.__exit__(None, None, None)


def own_part(source: Source, ranks: ProcessGroup | None) -> Any:
    """This process's part of a pool.

    Raises:
        ValueError: the processes were given different pools.
    """
    if ranks is None:
        return source
    with shared_errors(ranks):
        rows = np.unique(np.linspace(0, source.n - 1, _SAMPLE).astype(np.int64))
        sample = digest(source.take(rows))
    ranks.check_agreement(
        f"rows={source.n}; columns={source.d}; dtype={source.stored}; digest of some rows={sample}"
    )
    ends = [rank * source.n // ranks.size for rank in (ranks.rank, ranks.rank + 1)]
    return source.part(*ends)
