"""Several processes: the same indices as the oracle's, for every number of them and every split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import greedy_select, kl_entropy, reference, threshold_select
from tests.support.pools import POOLS
from tests.support.processes import Done, python
from tests.support.ranks import run, same

pytest.importorskip("torch.distributed")

pytestmark = pytest.mark.slow


SPLITS = ("even", "first", "uneven")


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_pools_and_splits(size: int, tmp_path: Path) -> None:
    from tests.support.ranks_run import constrained, greedy  # needs torch

    cases = []
    for number, name in enumerate(POOLS):
        split = SPLITS[(number + size) % 3]
        if number % (3 if size < 3 else 6) == size % 3:
            cases.append(f"greedy,{name},{split},-")
            cases.append(f"threshold,{name},{SPLITS[(number + size + 1) % 3]},-")
    cases.append("options,offset_1e6,uneven,-")
    if size == 2:  # rows read piece by piece
        cases.append("options,offset_1e6,uneven,60000")
        cases.append("greedy,wide,even,140000")
        cases.append("threshold,duplicates,uneven,12000")
        cases.append("greedy,offset_1e6,even,65500")  # all rows fit, and three on rank 0 besides
        cases.append("greedy,wide,first,9000000")  # where all rows fit, and one process has none
    for case, ranks in zip(cases, run(size, tmp_path / "out", *cases), strict=True):
        method, name, *_ = case.split(",")
        pool = POOLS[name]()[:400]
        k = max(1, len(pool) // 2)
        for found in ranks:
            if method == "greedy":
                same(found, reference.greedy_select(pool, k))
            elif method == "threshold":
                same(found, reference.threshold_select(pool, k, decay=0.7))
            else:
                k = len(pool) // 5
                vectors = np.ones((2, pool.shape[1]))
                for number, given in enumerate(
                    (
                        {"start": "center"},
                        {"start": "random", "seed": 5},
                        {"selected": [3, 11, len(pool) - 1]},
                        {"selected": vectors, "metric": "cosine"},
                        {"min_distance": 3.0, "start": "farthest-from-center"},
                    )
                ):
                    same(found, reference.greedy_select(pool, k, **given), f"{number}.")
                for number, given in enumerate(({"seed": 4}, {"selected": [5, 7]}), start=5):
                    oracle = reference.threshold_select(pool, k, decay=0.7, **given)
                    same(found, oracle, f"{number}.")
                for number, select, given in constrained(len(pool)):
                    if select is greedy:
                        oracle = reference.greedy_select(pool, k, **given)
                    else:
                        oracle = reference.threshold_select(pool, k, decay=0.7, **given)
                    same(found, oracle, f"{number}.")


def test_processes_that_flush_to_zero(tmp_path: Path) -> None:
    """What the callers' threads make of subnormal numbers does not matter, in any process."""
    cases = {
        "denormals": "greedy,denormals,uneven,-",
        "underflowing": "threshold,underflowing,even,-",
        "float64_extremes": "greedy,float64_extremes,even,60000",
        "shrinking_rows": "options,shrinking_rows,uneven,-",
    }
    every = run(2, tmp_path / "out", *cases.values(), FLUSH_TO_ZERO="1")
    for (name, case), ranks in zip(cases.items(), every, strict=True):
        pool = POOLS[name]()
        for found in ranks:
            if case.startswith("options"):
                k = len(pool) // 5
                same(found, reference.greedy_select(pool, k, start="center"), "0.")
                vectors = np.ones((2, pool.shape[1]))
                oracle = reference.greedy_select(pool, k, selected=vectors, metric="cosine")
                same(found, oracle, "3.")
            elif case.startswith("greedy"):
                same(found, reference.greedy_select(pool, len(pool) // 2))
            else:
                same(found, reference.threshold_select(pool, len(pool) // 2, decay=0.7))


def test_rows_on_gpus_go_from_one_to_the_other(host_build: Path, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    module = next(host_build.glob("_cuda_host*.so"))
    cases = [f"tensors,{case},{module}" for case in ("digits,greedy", "duplicates,threshold")]
    every = run(2, tmp_path / "out", *cases, ENTROSELECT_BLOCK="16", TRITON_INTERPRET="1")
    for found in every[0]:
        same(found, reference.greedy_select(POOLS["digits"]()[:40], 16))
    for found in every[1]:
        same(found, reference.threshold_select(POOLS["duplicates"]()[:40], 16))
    for found in (*every[0], *every[1]):
        sent = found["over_nccl"]
        assert found["one_group"]
        assert found["rounds"] <= sent.sum() < len(sent) / 2  # rows alone


@pytest.mark.parametrize("method", ["greedy", "threshold"])
def test_killed_and_gone_on_with_another_number(method: str, tmp_path: Path) -> None:
    file = tmp_path / "saved"
    pool = POOLS["unequal_clusters"]()[:400]
    oracle = (
        reference.greedy_select(pool, 200)
        if method == "greedy"
        else reference.threshold_select(pool, 200, decay=0.7)
    )
    name = f"saving,unequal_clusters,{method},{file},2"
    for number, (size, die) in enumerate([(3, "1.3"), (2, "0.4")]):
        died = run(size, tmp_path / f"out{number}", f"{name},{die}", ENTROSELECT_BLOCK="8")[0]
        assert file.exists()
        for rank, said in enumerate(died):
            if rank != int(die[0]):
                assert "has stopped answering" in said, said
        assert float((tmp_path / f"out{number}" / "seconds").read_text()) < 60
    for found in run(2, tmp_path / "end", f"{name},-")[0]:
        same(found, oracle)
    # On its own, and further.
    again = {"greedy": greedy_select, "threshold": threshold_select}[method]
    given = {} if method == "greedy" else {"decay": 0.7}
    with pytest.raises(ValueError, match=r"checkpoint: .*another selection"):
        again(pool, 200, checkpoint=file, selected=[3], **given)
    found = again(pool, 300, checkpoint=file, **given)
    whole = getattr(reference, f"{method}_select")(pool, 300, **given)
    assert found.indices.tolist() == whole.indices.tolist()
    assert found.distances.tolist() == whole.distances.tolist()
    assert found.radius == whole.radius


def test_files_that_are_others(tmp_path: Path) -> None:
    """Of every process from the start, or later of all."""
    pytest.importorskip("typer")
    rows = np.random.default_rng(0).standard_normal((300, 4)).astype("f4")
    others = {"rows": rows[:299], "columns": rows[:, :3], "dtype": rows.astype("f8"), "same": rows}
    others["digest of some rows"] = rows + 1
    for what, other in others.items():
        np.save(tmp_path / f"{what}0.npy", rows)
        np.save(tmp_path / f"{what}1.npy", other)
    np.save(tmp_path / "pool.npy", rows)
    with (tmp_path / "pool.npy.other").open("wb") as file:
        np.save(file, rows + 1)
    cases = [f"share,{tmp_path},{what}" for what in others]
    every = run(2, tmp_path / "out", *cases, f"replaced,{tmp_path}/pool.npy", ENTROSELECT_BLOCK="8")
    for what, ranks in zip(others, every, strict=False):
        for found in ranks:
            if what == "same":
                same(found, reference.greedy_select(rows, 5))
            else:
                assert f"ValueError: group: the processes disagree: {what}=" in found, found
    for found in every[-1]:
        assert "pool.npy: changed since it was opened (another file took its place" in found, found


def command(folder: Path, size: int, *arguments: Any, code: int | None = 0) -> Done:
    """`torchrun -m entroselect ...`"""
    start = ["-m", "torch.distributed.run", "--nproc-per-node", size, "--standalone"]
    return python(*start, "-m", "entroselect", *arguments, cwd=folder, code=code)


def test_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("typer")
    pool = np.random.default_rng(0).standard_normal((500, 9)).astype("f4")
    np.save(tmp_path / "pool.npy", pool)
    done = command(tmp_path, 2, "select", "pool.npy", "-k", 60, "-o", "out", "--checkpoint", "c")
    assert done.stdout.count("picked 60 of 500 rows") == 1
    oracle = reference.greedy_select(pool, 60)
    assert np.load(tmp_path / "out" / "indices.npy").tolist() == oracle.indices.tolist()
    # One process resumes where two stopped.
    found = greedy_select(pool, 90, checkpoint=tmp_path / "c")
    assert found.indices.tolist() == reference.greedy_select(pool, 90).indices.tolist()
    again = command(tmp_path, 2, "select", "pool.npy", "-k", 60, "-o", "out", code=None)
    assert again.returncode != 0
    assert again.stderr.count("out: exists already") >= 2  # on every process


def test_neighbours_on_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("typer")
    pool = np.random.default_rng(0).standard_normal((301, 5)).astype("f4")
    np.save(tmp_path / "pool.npy", pool)
    done = command(tmp_path, 2, "nearest", "pool.npy", "-k", 2, "-o", "out")
    oracle = reference.nearest_distances(pool, None, 2)
    assert np.load(tmp_path / "out" / "indices.npy").tolist() == oracle.indices.tolist()
    assert np.load(tmp_path / "out" / "distances.npy").tolist() == oracle.distances.tolist()
    done = command(tmp_path, 2, "entropy", "pool.npy", "--json")
    assert done.stdout.count("entropy_nats") == 1, done.stderr
    assert json.loads(done.stdout)["entropy_nats"] == float(kl_entropy(pool))


def test_duplicates_on_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("typer")
    pool = np.random.default_rng(0).standard_normal((301, 5)).astype("f4")
    np.save(tmp_path / "pool.npy", pool)
    np.save(tmp_path / "scores.npy", np.arange(301))
    given = ("--distance", 1.5, "--scores", "scores.npy")
    done = command(tmp_path, 2, "deduplicate", "pool.npy", *given, "-o", "out")
    oracle = reference.deduplicate(pool, 1.5, order=range(300, -1, -1))
    assert done.stdout.count(f"{len(oracle.indices)} of 301 rows kept") == 1
    for name in ("indices", "duplicate_of", "distances"):
        found = np.load(tmp_path / "out" / f"{name}.npy")
        assert found.tolist() == getattr(oracle, name).tolist()
