"""Several processes that work on one pool, each with its own rows, over torch.distributed.

They exchange small arrays: the best row outside a frontier, the rows of a block, picks. Python
objects are never sent, so nothing is unpickled. An exchange waits for the slowest process, so each
carries what it can: whether a process failed travels with the records or sizes of an exchange that
there is anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from entroselect.results import Int64

# Types that an error of another process keeps here; any other becomes a RuntimeError.
_ERRORS = (RuntimeError, ValueError, TypeError, MemoryError, OSError)

_BOUND = np.dtype([("value", np.float64), ("index", np.int64)])


class ProcessGroup:
    """The processes of a torch.distributed group, with the rows of all of them in rank order.

    Attributes:
        rank, size: which of how many.
        bytes_sent, bytes_received: by this process through this object, without what the
            transport adds.
        exchanges: how often the processes waited for each other.

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
        self._torch, self._distributed = torch, distributed
        self._group: Any = group
        self.rank = distributed.get_rank(group)
        self.size = distributed.get_world_size(group)
        if self.rank < 0:
            raise ValueError("group: this process is not a member of it")
        self._device = (
            torch.device("cuda", torch.cuda.current_device())
            if distributed.get_backend(group) == "nccl"
            else torch.device("cpu")
        )
        self.bytes_sent = self.bytes_received = self.exchanges = 0

    def close(self) -> None:
        """Lets go of the group, so that it can be destroyed."""
        self._group = None

    def wait(self) -> None:
        """Waits until all processes have called this."""
        self._call(lambda: self._distributed.barrier(group=self._group))

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

    def gather(
        self, array: NDArray[Any], root: int, sizes: Int64 | None = None
    ) -> NDArray[Any] | None:
        """The arrays of all processes one after another, on one process; None on the others.
        `sizes`: their lengths, if every process knows them."""
        sizes = self._sizes(array) if sizes is None else sizes
        self.exchanges += 1
        if self.rank != root:
            if len(array):
                self._send(array, root)
            return None
        every = np.empty((int(sizes.sum()), *array.shape[1:]), dtype=array.dtype)
        for rank, part in enumerate(np.split(every, np.cumsum(sizes)[:-1])):
            if rank == root:
                part[...] = array
            elif len(part):
                self._receive(part, rank)
        return every

    def broadcast(self, array: NDArray[Any], root: int, length: int | None = None) -> NDArray[Any]:
        """The array of one process on all of them. The others give one of the same dtype and
        trailing dimensions, of any length. `length`: the sent one, if every process knows it."""
        if length is None:
            length = int(self._sizes(array)[root])
        room = array if self.rank == root else np.empty((length, *array.shape[1:]), array.dtype)
        if room.nbytes:
            self.exchanges += 1
            tensor = self._tensor(room)
            source = self._global(root)
            self._call(lambda: self._distributed.broadcast(tensor, source, group=self._group))
            self._count(room.nbytes if self.rank == root else 0, 0)
            if self.rank != root:
                self._count(0, room.nbytes)
                room = self._array(tensor, room)
        return room

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
        mine = self._tensor(array)
        every = [self._torch.empty_like(mine) for _ in range(self.size)]
        self._call(lambda: self._distributed.all_gather(every, mine, group=self._group))
        others = array.nbytes * (self.size - 1)
        self._count(others, others)
        return np.stack([self._array(tensor, array) for tensor in every])

    def _send(self, array: NDArray[Any], to: int) -> None:
        tensor, to = self._tensor(array), self._global(to)
        self._call(lambda: self._distributed.send(tensor, to, group=self._group))
        self._count(array.nbytes, 0)

    def _receive(self, room: NDArray[Any], source: int) -> None:
        tensor, source = self._tensor(room), self._global(source)
        self._call(lambda: self._distributed.recv(tensor, source, group=self._group))
        self._count(0, room.nbytes)
        room[...] = self._array(tensor, room)

    def _global(self, rank: int) -> int:
        return int(self._distributed.get_global_rank(self._group, rank))

    def _tensor(self, array: NDArray[Any]) -> Any:
        raw = _raw(array)
        if not raw.flags.writeable:
            raw = raw.copy()
        return self._torch.from_numpy(raw).to(self._device)

    def _array(self, tensor: Any, like: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = tensor.cpu().numpy().view(like.dtype).reshape(like.shape)
        return found

    def _count(self, sent: int, received: int) -> None:
        self.bytes_sent += sent
        self.bytes_received += received

    def _call(self, exchange: Callable[[], Any]) -> None:
        try:
            exchange()
        except RuntimeError as error:
            raise LostRank(
                f"rank {self.rank}: another process has stopped answering; start all of them "
                "again, with a checkpoint a selection goes on where it was"
            ) from error


class LostRank(RuntimeError):
    """Another process of the group died or cannot be reached."""


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
