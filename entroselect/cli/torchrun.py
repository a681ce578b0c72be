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

# The time in which all processes must find each other; torch may take twice as long. If one of
# them ends before that, because of bad use for example, the others end after this time.
SECONDS_TO_START = 25.0

# The longest wait for another process that is computing; the end of a process is noticed at once.
_WORK = timedelta(days=30)

# Rows of a pool that processes compare, to find out whether they were given different pools.
_SAMPLE = 64


def started() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ


@contextmanager
def joined(backend: str) -> Iterator[ProcessGroup | None]:
    """The processes that torchrun started, joined into a group; None without
    torchrun.

    Raises:
        RuntimeError: not all of them started.
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
    """Clears the frames that an error, its causes and its contexts refer to: they have ended, and
    may still refer to the group."""
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
    """Ends the group. No reference to it may be left: its threads would outlive it and abort the
    process."""
    import torch.distributed as distributed

    ranks.close()
    gc.collect()
    distributed.destroy_process_group()


def is_main_process(ranks: ProcessGroup | None) -> bool:
    """Whether this is the process that writes results and reports them."""
    return ranks is None or ranks.rank == 0


@contextmanager
def results(out: Path, force: bool, ranks: ProcessGroup | None) -> Iterator[Folder | None]:
    """The folder to fill on the main process, None on the others; see `new_folder`."""
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
    """The rows of a pool that this process takes.

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
