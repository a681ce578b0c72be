"""Nearest neighbours: exact, but for backend="faiss"."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from entroselect import _checks, _dispatch
from entroselect._float_environment import in_default_float_environment
from entroselect._memory import memory_limit as bytes_of
from entroselect._progress import reporter
from entroselect.results import AnyMetric, Neighbours
from entroselect.scale import budget, tiled_nearest
from entroselect.scale.batches import Batches
from entroselect.scale.process_group import ProcessGroup, process_group_of, shared_errors


@in_default_float_environment
def nearest_distances(
    queries: Any,
    points: Any = None,
    k: int = 1,
    *,
    metric: AnyMetric = "euclidean",
    backend: str = "auto",
    memory_limit: int | str | None = None,
    group: Any = None,
    progress: Any = None,
) -> Neighbours:
    """The k nearest points of every query: exact distances and indices.

    Args:
        queries: (Nq, d) rows; any real dtype, NumPy, memmap, DLPack on the CPU or `__array__`, or
            a tensor on a CUDA device, or a Source (see `open_pool`).
        points: (Np, d) rows of any such kind; None means the queries themselves, each against
            the others (a row is not its own neighbour; an equal row is).
        k: neighbours per query, at most Np (Np - 1 without `points`).
        metric: "euclidean"; "cosine": Euclidean after dividing each row by its length, so
            the distance is sqrt(2 - 2 cos); or of rows of bits, "tanimoto" or "hamming", as in
            `greedy_select`.
        backend: "auto", "cpu", "cpu:<instruction set>", "cuda" or "reference"; see
            `entroselect info`. "auto" is "cuda" for a tensor on a CUDA device, otherwise "cpu".
            "faiss", never chosen by "auto", takes candidates from an approximate index;
            "faiss:FACTORY" or "faiss:FACTORY:PARAMETERS" says from which, as in
            "faiss:IVF1024,Flat:nprobe=16". Needs the extra `faiss`.
            It takes neither `memory_limit` nor `group`.
        memory_limit: bytes, or text such as "8GiB": the most that this call may allocate, besides
            the caller's arrays and the result: for rows of Sources, their codes and the search.
            Where that does not hold everything, one side is read in blocks, and the other in tiles
            for each block. None: no limit.
        group: a torch.distributed process group, or True for the default one. Every process passes
            its own shard of the queries and of the points (None: the queries of all), of any size
            and even (0, d), and the same other arguments; it gets the neighbours of its own
            queries. Points are numbered through all shards, in rank order.
        progress: None, True (a bar on a terminal, lines elsewhere) or a function of (done, total).

    Returns:
        `Neighbours` with distances float64 (Nq, k), nearest first, and indices int64 (Nq, k):
        indices[i, m] = j means that points[j] is the m-th nearest of queries[i]. Ties, as float64
        sums in the order of docs/exactness.md: lowest index. Differences below 1.6e-162 in every
        column, which float64 alone can hold, are distance 0. Identical on every exact backend,
        for every thread count, memory limit and number of processes. With "faiss", distances are
        those of the indices returned, to the last bit, but nearer points may be missing: `recall`
        says how many of the exact neighbours of 1,000 queries (all, if they are fewer; drawn with
        a fixed seed) were found.

    Raises:
        ValueError, TypeError: naming the argument, before any work; for a value that cannot be
            used in a Source, with its row, when it is first read.

    Complexity: Nq Np d in the filter's precision, about k exact rechecks per query. Extra memory:
    at most 2 d + 96 bytes per point (d less where codes are bytes; 18 d + 64 for a k-d tree),
    1.6 d + 8 more without `points` and for k = 1, the result, 16 k bytes per query, and about 2 MB
    per thread, more beyond k = 250. With `memory_limit`, Nq + Np Nq / B rows are read, without
    `points` Np**2 / (2 B), B being the rows that a block has room for: about limit / 3 d itemsize.
    With `group`, every process receives each point once, Np d itemsize bytes, and with
    `memory_limit` reads its queries once for every block of points. With "faiss": what the index
    takes, by default 4 d bytes per point, 8 (k + 9) bytes per query, and the exact search of the
    sample. Of bits, every query is compared with every point, exactly: Nq Np d / 8 bytes.

    Example:
        >>> from entroselect import nearest_distances
        >>> found = nearest_distances([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> found.indices[:, 0].tolist(), found.distances[0].tolist()
        ([2, 2, 0], [1.0])
    """
    ranks = process_group_of(group)
    if ranks is not None:
        ranks.check_agreement(f"points={'None' if points is None else 'given'}")
    rows = Batches("queries", queries, metric, ranks)
    targets = None
    if points is not None:
        targets = Batches("points", points, metric, ranks)
        with shared_errors(ranks):
            _checks.same_width("points", targets, "queries", rows)
    return find(
        rows, targets, k, backend=backend, limit=memory_limit, ranks=ranks, progress=progress
    )


def find(
    queries: Batches,
    points: Batches | None,
    k: int,
    *,
    backend: str,
    limit: Any = None,
    ranks: ProcessGroup | None = None,
    progress: Any = None,
) -> Neighbours:
    """`nearest_distances` of rows that have been checked; other arguments are checked here."""
    own = queries if points is None else points
    with shared_errors(ranks):
        limit = bytes_of(limit)
        served_by = _dispatch.choose(
            backend, "nearest", queries.rows, own.rows, metric=own.metric, memory_limit=limit,
            group=ranks,
        )  # fmt: skip
    shards = [(own.n, own.dtype)]
    if ranks is not None:
        ranks.check_agreement(
            f"k={k!r}; metric={own.metric}; columns={own.d}; memory_limit={limit}"
        )
        shards = tiled_nearest.shards_of_all(own, ranks)
    total = sum(n for n, _ in shards)
    if total < 1 + (points is None):
        what = "2 rows needed when points is None" if points is None else "1 row needed"
        raise ValueError(f"{own.name}: at least {what}, got {total}")
    available = total - (points is None)
    k = _checks.integer("k", k, 1, available, f" (there are {available} candidates)")
    budget.check_limit(limit, [(queries, points, k)], shards, ranks)
    with reporter(progress, "nearest") as report:
        if ranks is not None:
            return tiled_nearest.in_processes(
                queries, points, k, shards, served_by, limit, ranks, report
            )
        plan = None if limit is None else budget.plan_alone(queries, points, k, limit)
        if plan is not None:
            return tiled_nearest.in_tiles(queries, points, k, served_by, plan, report)
        traffic = tiled_nearest.Traffic(queries, own, None)
        against = None if points is None else points.whole()
        found = served_by.nearest(queries.whole(), against, k, own.metric, report)
        return replace(found, profile={**traffic.since(), "tiles": 1})
