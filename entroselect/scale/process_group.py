"""Several processes that work on one pool, each with its own rows, over torch.distributed.

They exchange small arrays: the best row outside a frontier, the rows of a block, picks. Python
objects are never sent, so nothing is unpickled. An exchange waits for the slowest process, so each
carries what it can: whether a process failed travels with the records or sizes of an exchange that
there is anyway.

Arrays go over gloo, which notices at once that a process has ended. NCCL does not, and moves
tensors of GPUs alone: beside a group of NCCL there is one of gloo, and only the rows of a block and
of picks go over NCCL.
"""

from __future__ import annotations

import hashlib
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from entroselect.results import Int64

# Types that an error of another process keeps here; any other becomes a RuntimeError.
_ERRORS = (RuntimeError, ValueError, TypeError, MemoryError, OSError)

_BOUND = np.dtype([("value", np.float64), ("index", np.int64)])

# The longest that a tensor takes once all processes are about to exchange it, and NCCL to start.
SECONDS_TO_SEND = 50.0

# The longest wait for another process that is computing, in a group made here.
_WORK = timedelta(days=30)

_Data = TypeVar("_Data")  # an array, or a tensor of a GPU

# The group of gloo beside each one of NCCL. torch refers to both until they are destroyed; nothing
# else may, or their threads would outlive them.
_beside: Any = weakref.WeakKeyDictionary()


class ProcessGroup:
    """The processes of a torch.distributed group, with the rows of all of them in rank order.

    Attributes:
        rank, size: which of how many.
        bytes_sent, bytes_received: by this process through this object, without what the
            transport adds.
        exchanges: how often the processes waited for each other.
        takes_tensors: `gather` and `broadcast` take tensors of GPUs too.

    Raises:
        ValueError: `group` is not one, or torch.distributed has not been initialised.
    """

    def __init__(self, group: Any) -> None:
        try:
            import torch
            import torch.distributed as distributed
        except ImportError as error:
            raise ValueError(
                "group: needs torch.distributed: pip install 'entroselect[gpu]'"
            ) from error
        if not distributed.is_available() or not distributed.is_initialized():
            raise ValueError(
                "group: torch.distributed is not initialised; start with torchrun and call "
                "torch.distributed.init_process_group() first"
            )
        if group is True:
            group = distributed.group.WORLD
        if not isinstance(group, distributed.ProcessGroup):
            raise TypeError(
                f"group: expected a torch.distributed process group or True, got {group!r}"
            )
        if distributed.get_rank(group) < 0:
            raise ValueError("group: this process is not a member of it")
        self._torch, self._distributed = torch, distributed
        self.takes_tensors = _is_nccl(distributed, group)
        self._tensors: Any = group  # the group that tensors go over, and that of arrays
        self._group: Any = _of_gloo(distributed, group) if self.takes_tensors else group
        self.rank = distributed.get_rank(self._group)
        self.size = distributed.get_world_size(self._group)
        self.bytes_sent = self.bytes_received = self.exchanges = 0

    def close(self) -> None:
        """Lets go of the group, so that it can be destroyed."""
        self._group = self._tensors = None

    def wait(self) -> None:
        """Waits until all processes have called this."""
        self._call(self._group, lambda: self._distributed.barrier(group=self._group, async_op=True))

    def share(self, record: NDArray[Any], error: Exception | None = None) -> NDArray[Any]:
        """The records of all processes, (processes, *record.shape), on each of them; they have one
        dtype and shape. An error that one process gives is raised on all."""
        flagged = np.append(np.uint8(error is not None), _raw(record))
        every = self._same_size(flagged)
        if every[:, 0].any():
            self._raise(error, np.flatnonzero(every[:, 0]))
        records: NDArray[Any] = np.ascontiguousarray(every[:, 1:]).view(record.dtype)
        return records.reshape(self.size, *record.shape)

    def all_gather(self, array: NDArray[Any], error: Exception | None = None) -> list[NDArray[Any]]:
        """The arrays of all processes, on each of them; they may differ in length alone. `error`
        as in `share`."""
        sizes = self._sizes(array, error)
        most = int(sizes.max())
        if most == 0:
            return [array] * self.size
        padded = np.zeros((most, *array.shape[1:]), dtype=array.dtype)
        padded[: len(array)] = array
        every = self._same_size(padded)
        return [every[rank][: sizes[rank]] for rank in range(self.size)]

    def gather(self, array: _Data, root: int, sizes: Int64 | None = None) -> _Data | None:
        """The arrays of all processes one after another, on one process; None on the others.
        `sizes`: their lengths, if every process knows them."""
        own: Any = array
        sizes = self._sizes(own) if sizes is None else sizes
        self.exchanges += 1
        if self.rank != root:
            if len(own):
                self._send(own, root)
            return None
        every, end = _room(own, int(sizes.sum())), 0
        for rank, size in enumerate(sizes):
            part, end = every[end : end + size], end + size
            if rank == root:
                part[...] = own
            elif size:
                self._receive(part, rank)
        return every  # type: ignore[no-any-return]

    def broadcast(self, array: _Data, root: int, length: int | None = None) -> _Data:
        """The array of one process on all of them. The others give one of the same dtype and
        trailing dimensions, of any length. `length`: the sent one, if every process knows it."""
        own: Any = array
        if length is None:
            length = int(self._sizes(own)[root])
        room = own if self.rank == root else _room(own, length)
        if room.nbytes:
            self.exchanges += 1
            tensor, group = self._sent(room)
            source = self._global(root)
            self._call(
                group,
                lambda: self._distributed.broadcast(tensor, source, group=group, async_op=True),
            )
            self._count(room.nbytes if self.rank == root else 0, 0)
            if self.rank != root:
                self._count(0, room.nbytes)
                self._take(tensor, room)
        return room  # type: ignore[no-any-return]

    def max_with_index(
        self, value: float, index: int, error: Exception | None = None
    ) -> tuple[float, int]:
        """The largest of all processes' values, with its index; among equals, the lowest index.
        `error` as in `share`."""
        every = self.share(np.array((value, index), dtype=_BOUND), error)
        best = float(every["value"].max())
        return best, int(every["index"][every["value"] == best].min())

    def check_agreement(self, what: str) -> None:
        """Raises ValueError on every process unless all of them passed the same text, made of
        "name=value" parts separated by "; ". The message says what differs."""
        texts = self._texts(what)
        if len(set(texts)) == 1:
            return
        ours = [text.split("; ") for text in texts]
        for parts in zip(*ours, strict=False):
            for rank, part in enumerate(parts):
                if part != parts[0]:
                    raise ValueError(
                        f"group: the processes disagree: {parts[0]} on rank 0, {part} on rank "
                        f"{rank}; call with the same arguments everywhere"
                    )
        raise ValueError("group: the processes disagree on their arguments")

    @contextmanager
    def shared_errors(self) -> Iterator[None]:
        """Runs the block on every process; an exception on one of them becomes one on all."""
        caught: Exception | None = None
        try:
            yield
        except LostRank:
            raise
        except Exception as error:
            caught = error
        self.share(np.empty(0), caught)

    def _raise(self, error: Exception | None, failed: Int64) -> NoReturn:
        """Raises this process's error, or, where it has none, that of the first that failed."""
        kind = next((t.__name__ for t in _ERRORS[1:] if isinstance(error, t)), "RuntimeError")
        texts = self._texts("" if error is None else f"{kind}\n{error or kind}")
        if error is not None:
            raise error
        rank = int(failed[0])
        name, _, message = texts[rank].partition("\n")
        types: dict[str, type[Exception]] = {t.__name__: t for t in _ERRORS}
        raise types[name](f"{message} (on rank {rank})")

    def _texts(self, text: str) -> list[str]:
        raw = np.frombuffer(text.encode(), dtype=np.uint8)
        return [bytes(part).decode() for part in self.all_gather(raw)]

    def _sizes(self, array: NDArray[Any], error: Exception | None = None) -> Int64:
        """How long the arrays of all processes are."""
        return self.share(np.array(len(array), dtype=np.int64), error)

    def _same_size(self, array: NDArray[Any]) -> NDArray[Any]:
        """Stacked arrays of all processes; of equal shape on all of them."""
        self.exchanges += 1
        mine, group = self._sent(array)
        every = [self._torch.empty_like(mine) for _ in range(self.size)]
        self._call(
            group, lambda: self._distributed.all_gather(every, mine, group=group, async_op=True)
        )
        others = array.nbytes * (self.size - 1)
        self._count(others, others)
        return np.stack([t.numpy().view(array.dtype).reshape(array.shape) for t in every])

    def _send(self, array: Any, to: int) -> None:
        (tensor, group), to = self._sent(array), self._global(to)
        self._call(group, lambda: self._distributed.isend(tensor, to, group=group))
        self._count(array.nbytes, 0)

    def _receive(self, room: Any, source: int) -> None:
        (tensor, group), source = self._sent(room), self._global(source)
        self._call(group, lambda: self._distributed.irecv(tensor, source, group=group))
        self._count(0, room.nbytes)
        self._take(tensor, room)

    def _global(self, rank: int) -> int:
        return int(self._distributed.get_global_rank(self._group, rank))

    def _sent(self, array: Any) -> tuple[Any, Any]:
        """An array's bytes as a tensor, and the group that these go over."""
        if not isinstance(array, np.ndarray):
            return array, self._tensors
        raw = _raw(array)
        return self._torch.from_numpy(raw if raw.flags.writeable else raw.copy()), self._group

    def _take(self, tensor: Any, room: Any) -> None:
        """What was received, into the array whose bytes `tensor` has, or a copy of them."""
        if isinstance(room, np.ndarray):
            room[...] = tensor.numpy().view(room.dtype).reshape(room.shape)

    def _count(self, sent: int, received: int) -> None:
        self.bytes_sent += sent
        self.bytes_received += received

    def _call(self, group: Any, begin: Callable[[], Any]) -> None:
        try:
            _finish(begin(), group is not self._group)
        except RuntimeError as error:
            raise LostRank(
                f"rank {self.rank}: another process has stopped answering; start all of them "
                "again, with a checkpoint a selection goes on where it was"
            ) from error


class LostRank(RuntimeError):
    """Another process of the group died or cannot be reached."""


def _is_nccl(distributed: Any, group: Any) -> bool:
    return bool(distributed.get_backend(group) == "nccl")


def _of_gloo(distributed: Any, group: Any) -> Any:
    """The group of gloo with the same processes; it is made once."""
    found = _beside[group]() if group in _beside else None
    if found is None:
        found = distributed.new_group(
            distributed.get_process_group_ranks(group),
            timeout=_WORK,
            backend="gloo",
            use_local_synchronization=True,  # processes outside the group need not call this
        )
        _beside[group] = weakref.ref(found)
    return found


def _finish(work: Any, over_nccl: bool) -> None:
    """Waits for an exchange that has begun.

    Raises:
        RuntimeError: another process has ended; over NCCL, which does not tell, after a time.
    """
    if over_nccl:
        until = time.monotonic() + SECONDS_TO_SEND
        while not work.is_completed():
            if time.monotonic() > until:
                raise RuntimeError(f"no answer for {SECONDS_TO_SEND:.0f} s")
            time.sleep(1e-4)
    work.wait()


def _room(like: Any, n: int) -> Any:
    """An array or tensor of that length, for what is received."""
    shape = (n, *like.shape[1:])
    return np.empty(shape, like.dtype) if isinstance(like, np.ndarray) else like.new_empty(shape)


def process_group_of(group: Any) -> ProcessGroup | None:
    """The argument `group` as a ProcessGroup; None stays None."""
    return group if group is None or isinstance(group, ProcessGroup) else ProcessGroup(group)


def shared_errors(ranks: ProcessGroup | None) -> AbstractContextManager[None]:
    """Runs a block; an error on one process becomes one on all."""
    return nullcontext() if ranks is None else ranks.shared_errors()


def _raw(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def digest(array: NDArray[Any]) -> str:
    """A short text that differs where the arrays do."""
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()
