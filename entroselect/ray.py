"""Selections from the rows of a Ray Dataset, by workers in a Ray cluster.

Each worker is an actor with consecutive rows of the dataset. Together they form a
torch.distributed group, over which the ordinary selection runs (`group=`); Ray starts them, hands
them their rows and notices when one dies.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entroselect import _checks, greedy, threshold
from entroselect.io.arrow import id_column_of, vector_column
from entroselect.results import Selection
from entroselect.scale.process_group import LostRank

try:
    import ray
    import ray.data

    from entroselect.scale.ray_worker import RayWorker
except ImportError as error:
    raise ImportError("entroselect.ray needs Ray: pip install 'entroselect[ray]'") from error

# The time in which all workers must get their CPUs.
_SECONDS_TO_PLACE = 60.0
# When a worker fails, the others notice and end by themselves, which closes their checkpoint. Those
# that have not done so after this time are killed.
_SECONDS_TO_END = 5.0


def greedy_select(
    dataset: ray.data.Dataset,
    k: int,
    *,
    workers: int,
    column: str | None = None,
    id_column: str | None = None,
    cpus: int = 1,
    gpus: int = 0,
    **options: Any,
) -> ray.data.Dataset:
    """`entroselect.greedy_select` of the rows of a Ray Dataset, by several workers.

    Row i is the i-th row of the dataset in its order, which is kept while it is executed. The
    picks are those of one process with the same rows, for every number of workers.

    Args:
        dataset: its rows may lie in any number of blocks. Only the named columns are read.
        k: how many rows, 1 <= k <= n less those in `selected`.
        workers: how many processes share the rows; at most n are started. Start one for each
            machine or GPU. All are placed at the same time, on different nodes where possible.
        column: the column of vectors: lists of numbers of one length, or tensors. None: the only
            one.
        id_column: a column of strings or integers that names the rows in the result. None: rows
            are named by their number, 0 to n - 1.
        cpus: CPUs that Ray reserves for each worker, which computes with that many threads.
        gpus: GPUs for each worker, 0 or 1. With 1 its rows lie on the GPU, and workers exchange
            picks by NCCL instead of gloo.
        options: as in `entroselect.greedy_select`: start, seed, selected, metric, min_distance,
            backend, progress, memory_limit, checkpoint, candidates, groups, quotas (as arrays or
            lists). They are pickled and sent to the workers.
            `memory_limit` is for each worker and does not count blocks in Ray's object store. The
            file `checkpoint` must be one that every worker sees; a later call may resume from it
            with another number of workers.

    Returns:
        A Ray Dataset with a row for each pick, in pick order: "id", string or int64; "order",
        int64, 0 to k - 1; "distance", float64, to all picks before it.

    Raises:
        ValueError, TypeError: naming the argument, before any work; values are checked when they
            are read.
        ValueError: the nodes of the cluster have no room for so many workers.
        RuntimeError: other work holds the CPUs or GPUs for more than a minute, or a worker died.
            No worker is left then, and no result.
        ImportError: Ray is not installed.

    Complexity: as `entroselect.greedy_select` with `group`. Each worker copies its rows from
    Ray's object store, except that with a `memory_limit` too small for them they stay there.
    docs/scale.md says what is exchanged.

    Source: the selection is that of Gonzalez 1985; see `entroselect.greedy_select`.

    Example:
        >>> import numpy as np, ray, entroselect.ray
        >>> _ = ray.init(num_cpus=2, include_dashboard=False)
        >>> line = ray.data.from_numpy(np.array([[0.0], [1.0], [2.0], [10.0]]))
        >>> picked = entroselect.ray.greedy_select(line, 3, workers=2)
        >>> [(row["id"], row["order"], row["distance"]) for row in picked.take_all()]
        [(0, 0, inf), (3, 1, 10.0), (2, 2, 2.0)]
        >>> ray.shutdown()
    """
    given = (column, id_column, workers, cpus, gpus)
    return _select(greedy.greedy_select, dataset, k, *given, options)


def threshold_select(
    dataset: ray.data.Dataset,
    k: int,
    *,
    workers: int,
    column: str | None = None,
    id_column: str | None = None,
    cpus: int = 1,
    gpus: int = 0,
    **options: Any,
) -> ray.data.Dataset:
    """`entroselect.threshold_select` of the rows of a Ray Dataset, by several workers.

    Args:
        dataset, k, workers, column, id_column, cpus, gpus: as in `greedy_select`.
        options: as in `entroselect.threshold_select`: threshold, decay, order, seed, selected,
            metric, backend, progress, memory_limit, checkpoint.

    Returns:
        As `greedy_select`, in the order of acceptance, with a column "threshold", float64: the
        threshold in force at each acceptance.

    Raises:
        As `greedy_select`.

    Complexity: as `entroselect.threshold_select` with `group`.

    Source: Algorithm 2 of Shi et al. 2025; see `entroselect.threshold_select`.

    Example:
        >>> import numpy as np, ray, entroselect.ray
        >>> _ = ray.init(num_cpus=2, include_dashboard=False)
        >>> line = ray.data.from_numpy(np.array([[0.0], [1.0], [2.0], [10.0]]))
        >>> options = {"threshold": 4.0, "decay": 0.5}
        >>> picked = entroselect.ray.threshold_select(line, 3, workers=2, **options)
        >>> [(row["id"], row["distance"], row["threshold"]) for row in picked.take_all()]
        [(0, inf, 4.0), (3, 10.0, 4.0), (2, 2.0, 1.0)]
        >>> ray.shutdown()
    """
    given = (column, id_column, workers, cpus, gpus)
    return _select(threshold.threshold_select, dataset, k, *given, options)


def _select(
    operation: Callable[..., Selection],
    dataset: Any,
    k: int,
    column: str | None,
    id_column: str | None,
    workers: int,
    cpus: int,
    gpus: int,
    options: dict[str, Any],
) -> Any:
    import pyarrow as pa

    workers = _checks.integer("workers", workers, 1)
    each = {"CPU": _checks.integer("cpus", cpus, 1), "GPU": _checks.integer("gpus", gpus, 0, 1)}
    k = _checks.integer("k", k, 1)
    if "group" in options:
        raise TypeError("group: the workers form it; drop it")
    try:
        inspect.signature(operation).bind(None, k, **options)
    except TypeError as error:
        raise TypeError(f"options: {error}; see entroselect.{operation.__name__}") from None
    if isinstance(options.get("checkpoint"), (str, os.PathLike)):
        # Workers may have another current folder.
        options = {**options, "checkpoint": str(Path(options["checkpoint"]).absolute())}
    column, id_column = _columns(dataset, column, id_column)
    _check_room(workers, each)
    parts = _parts(dataset, [column] if id_column is None else [column, id_column], workers)
    found = _run(operation, parts, column, id_column, each, {"k": k, **options})
    return ray.data.from_arrow(pa.concat_tables(found).sort_by("order"))


def _columns(dataset: Any, column: str | None, id_column: str | None) -> tuple[str, str | None]:
    """The names of the column of vectors and of that of ids, if there is one."""
    if not isinstance(dataset, ray.data.Dataset):
        raise TypeError(f"dataset: expected a ray.data.Dataset, got {type(dataset).__name__}")
    import pyarrow as pa

    schema = dataset.schema()
    if schema is None:
        raise ValueError("dataset: empty; at least 1 row needed")
    schema = schema.base_schema
    if not isinstance(schema, pa.Schema):  # blocks of pandas: one row shows what Arrow makes of it
        first, *_ = dataset.limit(1).to_arrow_refs()
        schema = ray.get(first).schema
    column = vector_column("dataset", schema, column)
    return column, None if id_column is None else id_column_of("dataset", schema, id_column)


def _check_room(workers: int, each: dict[str, int]) -> None:
    """Raises ValueError if the cluster can never hold all workers at once: Ray would wait for ever
    for another node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(
        min(int(node.get(kind, 0) // count) for kind, count in each.items() if count)
        for node in nodes
    )
    if room < workers:
        there = ", ".join(f"{sum(node.get(kind, 0) for node in nodes):g} {kind}s" for kind in each)
        raise ValueError(
            f"workers: the cluster has room for {room} workers of {_named(each)}, not for "
            f"{workers} (nodes: {len(nodes)}, with {there}); pass fewer workers or cpus, or start "
            "more nodes first"
        )


def _parts(dataset: Any, columns: list[str], workers: int) -> list[tuple[int, list[Any]]]:
    """For each worker the number of its first row, and its rows as references to Arrow tables."""
    if set(dataset.columns()) != set(columns):
        dataset = dataset.select_columns(columns)
    options = dataset.context.execution_options
    kept = options.preserve_order
    options.preserve_order = True  # else blocks come in the order in which they are finished
    try:
        dataset = dataset.materialize()
    finally:
        options.preserve_order = kept
    n = dataset.count()
    if n == 0:
        raise ValueError("dataset: empty; at least 1 row needed")
    workers = min(workers, n)
    firsts = [rank * n // workers for rank in range(workers)]
    parts = dataset.split_at_indices(firsts[1:]) if workers > 1 else [dataset]
    return [(first, part.to_arrow_refs()) for first, part in zip(firsts, parts, strict=True)]


def _run(
    operation: Callable[..., Selection],
    parts: list[tuple[int, list[Any]]],
    column: str,
    id_column: str | None,
    each: dict[str, int],
    options: dict[str, Any],
) -> list[Any]:
    """Runs the selection in as many workers as there are parts; what each of them returns."""
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    size = len(parts)
    places = placement_group([each] * size, strategy="SPREAD")
    try:
        if not places.wait(_SECONDS_TO_PLACE):
            raise RuntimeError(
                f"workers: other work holds the cluster's CPUs or GPUs: {size} workers of "
                f"{_named(each)} found no place within {_SECONDS_TO_PLACE:.0f} s; wait for "
                "it, or pass fewer workers"
            )
        worker = ray.remote(num_cpus=each["CPU"], num_gpus=each["GPU"], max_restarts=0)(RayWorker)
        members = [
            worker.options(
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    places, placement_group_bundle_index=rank
                )
            ).remote(rank, size, each)
            for rank in range(size)
        ]
        shared = ray.put((operation, column, id_column, options))
        address = members[0].listen.remote()
        return _results(
            [
                member.select.remote(address, first, tables, shared)
                for member, (first, tables) in zip(members, parts, strict=True)
            ],
            "checkpoint" in options,
        )
    finally:
        remove_placement_group(places)  # kills those of its workers that are left


def _results(calls: list[Any], has_checkpoint: bool) -> list[Any]:
    """What the calls return; raises the cause if one fails."""
    left = calls
    try:
        while left:
            (done,), left = ray.wait(left)
            ray.get(done)
        return list(ray.get(calls))
    except ray.exceptions.RayError:
        ray.wait(calls, num_returns=len(calls), timeout=_SECONDS_TO_END)
    again = "call again with the same checkpoint to resume" if has_checkpoint else "call again"
    raise _cause(calls, again)


def _cause(calls: list[Any], again: str) -> Exception:
    """Why the calls failed: a worker died, else an error of one, else one lost another."""
    died: list[Exception] = []
    failed: list[Exception] = []
    lost: list[Exception] = []
    for rank, call in enumerate(calls):
        which = f"workers: worker {rank} of {len(calls)}"
        try:
            ray.get(call, timeout=0)
        except ray.exceptions.GetTimeoutError:  # it did not notice, and will be killed
            pass
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, LostRank):
                lost.append(RuntimeError(f"{which} lost another one; {again}"))
            else:
                failed.append(error.cause)
        except ray.exceptions.RayError as error:
            death = RuntimeError(f"{which} died, and all were ended; {again}")
            death.__cause__ = error  # which says how
            died.append(death)
    return (died + failed + lost)[0]


def _named(each: dict[str, int]) -> str:
    return " and ".join(f"{count} {kind}" for kind, count in each.items() if count)
