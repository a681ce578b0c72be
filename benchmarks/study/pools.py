"""What a selection does to a training set, before anything is trained on it.

python -m benchmarks.study.pools --out study-runs

For every pool from which a greedy run of the study first picked N of 2N images: other ways to pick
N of them, and how far the picks are from the real images. Takes seconds per pool.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study.runs import Task, tasks
from benchmarks.support.record import PROVENANCE, RESULTS, Row, provenance, rounded, write_csv
from entroselect.cli.errors import plain_failures, say
from entroselect.loop import config as options
from entroselect.loop import data, features, metrics
from entroselect.loop.config import Method, SpaceName
from entroselect.loop.selection import choose

POOLS = ("greedy", "small greedy", "long greedy")
FLOORS = (0.0, 0.2, 0.4)
# Method, space, and which rows are left out first: select.drop_outliers or select.drop_far.
WAYS: list[tuple[Method, SpaceName, str]] = [
    ("random", "encoder", "outliers"),
    ("random", "encoder", "far from real"),
    ("greedy", "encoder", "outliers"),
    ("greedy", "encoder", "far from real"),
    ("greedy", "pixels", "outliers"),
    ("threshold", "encoder", "outliers"),
]
COLUMNS = ("data", "pool", "seed", "method", "space", "leaves_out", "share", "entropy")
COLUMNS += ("entropy_pixels", "fd", "fd_pixels", "precision", "recall", *PROVENANCE)


def chosen_sets(folder: Path, seed: int) -> Iterator[Row]:
    """A row per way to pick N of the images that the first model of that run made."""
    config = options.from_json(folder / "config.json")
    real, pool = (data.read(folder / "iteration-01", name) for name in ("training", "generated"))
    spaces = features.spaces(("encoder", "pixels"), real, folder=folder, key=(config.seed,))
    seen = {name: (extract(real), extract(pool)) for name, extract in spaces.items()}
    for method, space, leaves_out in WAYS:
        for share in FLOORS:
            real_rows, rows = seen[space]
            outliers, far = (share, 0.0) if leaves_out == "outliers" else (0.0, share)
            picked = choose(
                rows,
                len(real),
                method,
                drop_outliers=outliers,
                drop_far=far,
                real=real_rows,
                key=(seed, "pools"),
            )
            way = {"method": method, "space": space, "leaves_out": leaves_out, "share": share}
            yield {**way, **distances(seen, picked)}


def distances(seen: dict[Any, Any], picked: np.ndarray[Any, Any]) -> Row:
    """Entropy of the picks, and how far they are from the real images."""
    real, pool = seen["encoder"]
    real_pixels, pool_pixels = seen["pixels"]
    return {
        "entropy": metrics.spread(pool[picked])["entropy"],
        "entropy_pixels": metrics.spread(pool_pixels[picked])["entropy"],
        "fd": metrics.frechet_distance(real, pool[picked]),
        "fd_pixels": metrics.frechet_distance(real_pixels, pool_pixels[picked]),
        **{k: v for k, v in metrics.manifold(real, pool[picked], 5).items() if k in COLUMNS},
    }


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study.pools", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path("study-runs"), help="the run folders")
    parser.add_argument("--results", type=Path, default=RESULTS / "study_pools.csv")
    given = parser.parse_args(arguments)
    stamp, rows = provenance(), []
    with plain_failures():
        for task in tasks("small", ("digits", "mnist"), range(100)):
            folder = given.out / task.name
            if task.arm in POOLS and (folder / "iteration-01" / "DONE").exists():
                say(f"pool of {task.data}, {task.arm}, seed {task.seed}")
                rows += [{**named(task), **row, **stamp} for row in chosen_sets(folder, task.seed)]
        if not rows:
            raise ValueError(f"--out: {given.out} holds no run of the study; make study first")
        write_csv(given.results, COLUMNS, [rounded(row, 6) for row in rows])


def named(task: Task) -> Row:
    """The columns that say which pool."""
    return {"data": task.data, "pool": task.arm, "seed": task.seed}


if __name__ == "__main__":
    main()
