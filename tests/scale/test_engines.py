"""The recipes of docs/scale.md for Dask, Spark and SLURM, as they stand there, with two processes:
the answer is that of one. Dask and Spark need the extra [engines] (CONTRIBUTING.md)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from entroselect import greedy_select
from tests.support.processes import ROOT, python, run
from tests.support.recipes import recipe

pytest.importorskip("torch.distributed")

pytestmark = pytest.mark.slow


@pytest.fixture
def pool(tmp_path: Path) -> np.ndarray:
    """pool.npy, rows with many ties and copies, and what the recipes find beside it."""
    rows = np.random.default_rng(0).integers(0, 4, (1200, 5)).astype(np.float32)
    np.save(tmp_path / "pool.npy", rows)
    (tmp_path / "member.py").write_text(recipe("A process's part, for Dask and Spark"))
    return rows


def check(pool: np.ndarray, heading: str, folder: Path, main: str) -> None:
    """Runs a recipe and the lines `main`, which leave `picked`: (index, distance) in pick order."""
    program = folder / "program.py"
    lines = f"{main}\nnp.save('picked.npy', np.array(picked))".replace("\n", "\n    ")
    program.write_text(f"{recipe(heading)}\nif __name__ == '__main__':\n    {lines}\n")
    environment = {
        "PYTHONPATH": f"{ROOT}:{folder}",
        "PYSPARK_PYTHON": sys.executable,
        "ENTROSELECT_THREADS": "1",
    }
    python(program, cwd=folder, environment=environment, seconds=300)
    one = greedy_select(pool, 200)
    picked = np.load(folder / "picked.npy")
    assert picked[:, 0].tolist() == one.indices.tolist()
    assert picked[:, 1].tolist() == one.distances.tolist()


def test_dask(pool: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    main = """\
import dask.array
from dask.distributed import Client
with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
    rows = dask.array.from_array(np.load('pool.npy'), chunks=(170, 2))
    found = greedy_select_on_dask(client, rows, 200)
    picked = [*zip(found.indices, found.distances)]"""
    check(pool, "Dask", tmp_path, main)


def test_spark(pool: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("pyspark")
    main = """\
from pyspark.sql import SparkSession
spark = SparkSession.builder.master('local[2]').config('spark.ui.enabled', 'false').getOrCreate()
rows = [(row, vector) for row, vector in enumerate(np.load('pool.npy').tolist())]
frame = spark.sparkContext.parallelize(rows, 3).toDF('number int, vector array<float>')
picked = greedy_select_on_spark(frame, 'vector', 200, size=2)
spark.stop()"""
    check(pool, "Spark", tmp_path, main)


def test_slurm(pool: np.ndarray, tmp_path: Path) -> None:
    """With stand-ins for what SLURM installs."""
    pytest.importorskip("typer")
    (tmp_path / "embeddings").mkdir()
    np.save(tmp_path / "embeddings" / "0.npy", pool)
    commands = {
        "srun": '"$@" & first=$!; "$@" && wait $first',
        "scontrol": "echo localhost; echo another",
        "torchrun": f'exec "{sys.executable}" -m torch.distributed.run "$@"',
    }
    for name, code in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{code}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "job").write_text(recipe("SLURM"))
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_ID": "7",
        "ENTROSELECT_THREADS": "1",
    }
    run(["bash", "job"], cwd=tmp_path, environment=environment, seconds=200)
    found = np.load(tmp_path / "chosen" / "indices.npy")
    assert found.tolist() == greedy_select(pool, 1000).indices.tolist()
