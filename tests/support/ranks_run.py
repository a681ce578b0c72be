"""Runs cases on several processes; tests/scale/test_sharded_pool.py compares what comes out.

`python -m tests.support.ranks_run P FOLDER CASES...`: imports once, forks P processes that talk
over gloo, and leaves FOLDER/CASE.RANK.npz, or .txt with the error.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as distributed
from numpy.typing import NDArray

from entroselect import _dispatch, greedy_select, open_pool, threshold_select
from entroselect.cli import torchrun
from entroselect.io.rows import Rows
from entroselect.scale import budget, checkpoint, process_group, sharded_pool
from entroselect.scale.process_group import ProcessGroup
from tests.support.pools import POOLS


def pool_of(name: str) -> NDArray[Any]:
    """A pool by name, cut so that the oracle is quick."""
    return POOLS[name]()[:400]


def cuts(n: int, size: int, split: str) -> list[int]:
    """Where shards begin and end."""
    if split == "even":
        return [rank * n // size for rank in range(size + 1)]
    if split == "first":  # everything with the first, nothing with the others
        return [0] + [n] * size
    rng = np.random.default_rng(size)
    return [0, *sorted(rng.integers(0, n + 1, size - 1).tolist()), n]


def shard(pool: NDArray[Any], split: str = "even") -> NDArray[Any]:
    rank, size = distributed.get_rank(), distributed.get_world_size()
    ends = cuts(len(pool), size, split)
    return pool[ends[rank] : ends[rank + 1]]


def selected(found: Any) -> dict[str, Any]:
    kept = {"indices": found.indices, "distances": found.distances, "radius": found.radius}
    if found.thresholds is not None:
        kept["thresholds"] = found.thresholds
    names = ("bytes_sent", "bytes_received", "exchanges", "rounds")
    profile = {name: found.profile[name] for name in names}
    return {**kept, **profile}


def greedy(name: str, split: str, limit: str, k: str = "2", **options: Any) -> dict[str, Any]:
    pool = pool_of(name)
    return selected(
        greedy_select(
            shard(pool, split),
            max(1, len(pool) // int(k)),
            group=True,
            memory_limit=None if limit == "-" else int(limit),
            **options,
        )
    )


def threshold(name: str, split: str, limit: str, k: str = "2", **options: Any) -> dict[str, Any]:
    pool = pool_of(name)
    return selected(
        threshold_select(
            shard(pool, split),
            max(1, len(pool) // int(k)),
            decay=0.7,
            group=True,
            memory_limit=None if limit == "-" else int(limit),
            **options,
        )
    )


def options(name: str, split: str, limit: str) -> dict[str, Any]:
    """What else there is, on one pool."""
    n = len(pool_of(name))
    found = {}
    for number, given in enumerate(
        (
            {"start": "center"},
            {"start": "random", "seed": 5},
            {"selected": [3, 11, n - 1]},
            {"selected": np.ones((2, pool_of(name).shape[1])), "metric": "cosine"},
            {"min_distance": 3.0, "start": "farthest-from-center"},
        )
    ):
        for key, value in greedy(name, split, limit, "5", **given).items():
            found[f"{number}.{key}"] = value
    for number, given in enumerate(({"seed": 4}, {"selected": [5, 7]}), start=5):
        for key, value in threshold(name, split, limit, "5", **given).items():
            found[f"{number}.{key}"] = value
    for number, select, given in constrained(n):
        for key, value in select(name, split, limit, "5", **given).items():
            found[f"{number}.{key}"] = value
    return found


def constrained(n: int) -> list[tuple[int, Any, dict[str, Any]]]:
    """(number, the case's function, arguments) with candidates and quotas, for n rows."""
    some = {"candidates": np.arange(0, n, 2), "groups": np.arange(n) % 7}
    return [
        (7, greedy, {**some, "quotas": "proportional", "start": "center"}),
        (8, greedy, {**some, "quotas": {0: 3, 1: 0}, "start": "random", "seed": 2}),
        (9, threshold, {**some, "quotas": "equal"}),
    ]


def disagree(what: str) -> dict[str, Any]:
    """Processes that were called with different things."""
    rank = distributed.get_rank()
    rows = shard(pool_of("offset_1e6"))
    k = 5
    given: dict[str, Any] = {}
    if what == "k":
        k += rank
    if what == "metric" and rank == 1:
        given["metric"] = "cosine"
    if what == "columns" and rank == 1:
        rows = rows[:, 1:]
    if what == "dtype" and rank == 1:
        rows = rows.astype(np.float64)
    if what == "nan" and rank == 1:
        rows = rows.copy()
        rows[3, 2] = np.nan
    if what == "limit" and rank == 1:
        given["memory_limit"] = 100
    return selected(greedy_select(rows, k, group=True, **given))


def saving(name: str, method: str, path: str, k: str, die: str) -> dict[str, Any]:
    """Saves after every round; with `die` = "RANK.ROUND" that process is killed at that time."""
    checkpoint.SECONDS_BETWEEN = 0.0
    checkpoint._SHARE = 1e9
    if die != "-":
        victim, number = map(int, die.split("."))
        if distributed.get_rank() == victim:
            rounds = [0]
            settle = sharded_pool.ShardedPool._settle

            def counted(self: Any, *arguments: Any) -> Any:
                rounds[0] += 1
                if rounds[0] == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return settle(self, *arguments)

            sharded_pool.ShardedPool._settle = counted  # type: ignore[method-assign]
    run = greedy if method == "greedy" else threshold
    return run(name, "even", "-", k, checkpoint=path)


def on_disk(path: str, k: str, limit: str) -> dict[str, Any]:
    """Each process reads its share of one file."""
    source = open_pool(path)
    ends = cuts(source.n, distributed.get_world_size(), "even")
    rank = distributed.get_rank()
    part = source.part(ends[rank], ends[rank + 1])
    return selected(greedy_select(part, int(k), group=True, memory_limit=int(limit)))


def share(folder: str, what: str) -> dict[str, Any]:
    """Commands of which every process was given a file of its own."""
    rank = distributed.get_rank()
    part = torchrun.own_part(open_pool(f"{folder}/{what}{rank}.npy"), ProcessGroup(True))
    return selected(greedy_select(part, 5, group=True))


def replaced(path: str) -> dict[str, Any]:
    """Another file takes the place of the one that all read."""

    def replace(*_: Any) -> None:
        Path(f"{path}.other").replace(path)

    source = open_pool(path)
    part = torchrun.own_part(source, ProcessGroup(True))
    given = {"progress": replace} if distributed.get_rank() == 0 else {}
    return selected(greedy_select(part, 200, group=True, memory_limit=25_000, **given))


def exchanges() -> dict[str, Any]:
    """What ProcessGroup does, by itself."""
    ranks = ProcessGroup(True)
    own = np.full((ranks.rank, 2), ranks.rank, dtype=np.float16)
    at_one = ranks.gather(own, 1)
    os.environ["ENTROSELECT_BLOCK"] = "8"
    less, more = (greedy("offset_1e6", "even", "-", k) for k in ("8", "4"))
    del os.environ["ENTROSELECT_BLOCK"]
    return {
        "in_rounds": np.array([more[name] - less[name] for name in ("exchanges", "rounds")]),
        "largest": np.array(ranks.max_with_index(float(ranks.rank > 0), 10 - ranks.rank)),
        "gathered": np.concatenate(ranks.all_gather(own)),
        "at_one": at_one if at_one is not None else own[:0],
        "broadcast": ranks.broadcast(own, ranks.size - 1),
        "nothing": np.concatenate(ranks.all_gather(own[:0])),
    }


def tensors(name: str, method: str, module: str) -> dict[str, Any]:
    """Rows as on GPUs that NCCL connects: the host build and another group of gloo stand in."""
    from entroselect.backends.cuda import Cuda
    from entroselect.backends.cuda.autotune import Tile

    spec = importlib.util.spec_from_file_location("_cuda_host", module)
    assert spec is not None
    assert spec.loader is not None
    kernels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kernels)
    backend = Cuda(kernels, "cpu", Tile(32, 32, 32, 4, 1))
    over_nccl = []

    def finish(work: Any, nccl: bool) -> None:
        work.wait()
        over_nccl.append(nccl)

    own = torch.from_numpy(shard(POOLS[name]()[:40], "uneven").copy())
    call = greedy_select if method == "greedy" else threshold_select
    with (
        patch.object(process_group, "_is_nccl", lambda *_: True),
        patch.object(process_group, "_finish", finish),
        patch.dict(_dispatch.BACKENDS, cuda=lambda _: backend),
    ):
        found = call(Rows(own, str(own.dtype).removeprefix("torch.")), 16, group=True)
        same = ProcessGroup(True)._group is ProcessGroup(True)._group
    assert found.indices.device == own.device
    return {**selected(found), "over_nccl": np.array(over_nccl), "one_group": np.array(same)}


CASES = {
    function.__name__: function
    for function in (
        exchanges,
        greedy,
        threshold,
        options,
        disagree,
        saving,
        on_disk,
        share,
        replaced,
        tensors,
    )
}


def run(rank: int, size: int, folder: Path, cases: list[str]) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size
    )
    budget.LEAST_ROWS = 3
    if os.environ.get("FLUSH_TO_ZERO"):
        assert torch.set_flush_denormal(True)
    for case in cases:
        name, *arguments = case.split(",")
        out = folder / f"{case.replace('/', '_')}.{rank}"
        try:
            np.savez(f"{out}.npz", **CASES[name](*arguments))
        except Exception as error:
            text = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
            Path(f"{out}.txt").write_text(text)
            if "has stopped answering" in text:
                return


def main() -> None:
    size, folder, cases = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            run(rank, size, folder, cases)
            os._exit(0)
        children.append(child)
    began = time.monotonic()
    for child in children:
        os.waitpid(child, 0)
    (folder / "seconds").write_text(str(time.monotonic() - began))


if __name__ == "__main__":
    main()
