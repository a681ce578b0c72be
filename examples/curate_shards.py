"""Data curation: 1,000 diverse rows of a folder of shards that is read within a memory limit.

Four .npy shards are written to a temporary folder, a third of their rows near-copies of others.
The selection is made without holding the pool in memory, is saved in a checkpoint, and is the one
that is made in memory.

    python examples/curate_shards.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from entroselect import greedy_select, kl_entropy, open_pool

SHARDS, ROWS, COLUMNS, K = 4, 10_000, 64, 1_000


def write_shards(folder: Path, rng: np.random.Generator) -> None:
    """Rows around 200 topics; every third is another row of its shard, slightly changed."""
    topics = rng.standard_normal((200, COLUMNS))
    for shard in range(SHARDS):
        rows = topics[rng.integers(200, size=ROWS)] + 0.3 * rng.standard_normal((ROWS, COLUMNS))
        copies = np.arange(0, ROWS, 3)
        rows[copies] = rows[copies - 1] + 1e-3 * rng.standard_normal((len(copies), COLUMNS))
        np.save(folder / f"shard_{shard}.npy", rows.astype(np.float32))


def main() -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "embeddings")
        folder.mkdir()
        write_shards(folder, rng)
        pool = open_pool(folder)
        checkpoint = Path(name, "selection.state")  # a killed run would resume from it
        picked = greedy_select(pool, K, memory_limit="8MiB", checkpoint=checkpoint)
        chance = rng.choice(len(pool), K, replace=False)
        print(f"{len(pool):,} rows, {pool.n * pool.row_bytes / 2**20:.1f} MiB, read within 8 MiB")
        print(f"  each row was read {picked.profile['reads_per_row']:.1f} times")
        for kind, rows in (("selected", picked.indices), ("random", chance)):
            nats = kl_entropy(pool.take(np.sort(rows)))
            print(f"  entropy of {K:,} {kind} rows: {nats:.1f} nats")
        print(f"  no row is farther than {picked.radius:.3f} from a selected one")
        whole = greedy_select(pool.read(0, len(pool)), K)
        print(f"  same rows as in memory: {np.array_equal(whole.indices, picked.indices)}")


if __name__ == "__main__":
    main()
