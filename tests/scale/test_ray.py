"""Selections from Ray Datasets: those of one process with the same rows, also after a worker died.
They need the extra [ray] (CONTRIBUTING.md)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import greedy_select, threshold_select
from entroselect.scale import checkpoint
from tests.conftest import normal
from tests.support.pools import POOLS
from tests.support.recipes import recipe

ray = pytest.importorskip("ray")
on_ray = pytest.importorskip("entroselect.ray")
pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own


def _save_every_round() -> None:
    checkpoint.SECONDS_BETWEEN, checkpoint._SHARE = 0.0, 1e9


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Two workers' CPUs on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_OF_TEST", str(os.getpid()))  # all processes of the cluster inherit it
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=200 << 20,
            log_to_driver=False,
            runtime_env={"worker_process_setup_hook": _save_every_round},
        )
        yield
        ray.shutdown()


def vectors(pool: Any) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(pool.ravel()), pool.shape[1])


def blocks(pool: Any, size: int, **columns: Any) -> Any:
    """A dataset with the rows of a pool in blocks of `size`."""
    table = pa.table({"v": vectors(pool), **columns})
    return ray.data.from_arrow([table.slice(at, size) for at in range(0, len(pool), size)])


def found(dataset: Any) -> dict[str, list[Any]]:
    return {name: [row[name] for row in dataset.take_all()] for name in dataset.columns()}


def test_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of docs/scale.md: greedy, of rows with many ties and copies, from files."""
    monkeypatch.chdir(tmp_path)  # not the workers' folder
    pool = np.random.default_rng(0).integers(0, 4, (1200, 5)).astype(np.float32)
    ids = pa.array([f"row {row}" for row in range(1200)])
    columns = {"embedding": vectors(pool), "id": ids, "text": ids}
    Path("embeddings").mkdir()
    for name, start in (("a", 0), ("b", 700)):
        part = pa.table(columns).slice(start, 700)
        pa.parquet.write_table(part, f"embeddings/{name}.parquet", row_group_size=90)
    exec(compile(recipe("Ray"), "scale.md", "exec"), {})
    one = greedy_select(pool, 1000)
    assert Path("chosen.state").exists()
    assert found(ray.data.read_parquet("chosen").sort("order")) == {
        "id": [f"row {row}" for row in one.indices],
        "order": list(range(1000)),
        "distance": one.distances.tolist(),
    }


def test_threshold_with_ids_and_a_memory_limit() -> None:
    pool = POOLS["integer_grid"]()
    k = len(pool) // 4
    one = threshold_select(pool, k, seed=3)
    # In each block a dictionary of its own.
    names = [pa.array([f"row {row}"]).dictionary_encode() for row in range(len(pool))]
    rows = blocks(pool, 50, name=pa.chunked_array(names), text=pa.array(["x"] * len(pool)))
    how = {"workers": 2, "id_column": "name", "seed": 3, "memory_limit": "1MiB"}
    assert found(on_ray.threshold_select(rows, k, **how)) == {
        "id": [f"row {row}" for row in one.indices],
        "order": list(range(k)),
        "distance": one.distances.tolist(),
        "threshold": one.thresholds.tolist(),
    }


def test_order_is_that_of_the_rows_not_of_their_computation() -> None:
    pool = normal(64, 5)

    def late_first(batch: dict[str, Any]) -> dict[str, Any]:
        time.sleep(2.0 * (batch["id"][0] == 0))
        return {"v": pool[batch["id"]], "id": batch["id"]}

    rows = ray.data.range(64, override_num_blocks=8).map_batches(late_first, batch_size=8)
    picked = on_ray.greedy_select(rows, 10, workers=1, column="v")
    assert found(picked)["id"] == greedy_select(pool, 10).indices.tolist()
    assert not rows.context.execution_options.preserve_order  # as it was


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_dies_and_another_number_of_them_resumes(victim: int, tmp_path: Path) -> None:
    pool, saved, log = normal(4000, 8), tmp_path / "saved", tmp_path / "log"
    log.touch()

    def progress(done: int, total: int) -> None:  # on rank 0
        kills = done > total // 2 and "killed" not in log.read_text()
        with log.open("a") as file:
            file.write(f"{done}\n" + "killed\n" * kills)
        if kills:
            own = os.getpid()
            (other,) = {*worker_processes()} - {own}
            os.kill([own, other][victim], signal.SIGKILL)

    rows = blocks(pool, 300)
    call = {"checkpoint": saved, "progress": progress}
    with pytest.raises(RuntimeError, match=f"worker {victim} of 2 died.*the same checkpoint"):
        on_ray.greedy_select(rows, 1000, workers=2, **call)
    assert time.time() - log.stat().st_mtime < 20  # since it was killed
    while worker_processes():
        time.sleep(0.1)
    # A process that was killed cannot remove its files; the next one does.
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"log", "saved"} | ({".saved.lock"} if victim == 0 else set())
    picked = found(on_ray.greedy_select(rows, 1000, workers=1, **call))
    assert picked["id"] == greedy_select(pool, 1000).indices.tolist()
    assert int(log.read_text().split("killed")[1].split()[0]) > 500  # it resumed
    assert {path.name for path in tmp_path.iterdir()} == {"log", "saved"}


def worker_processes() -> list[int]:
    """Pids of the workers of a selection in this cluster."""
    mark = f"RAY_OF_TEST={os.environ['RAY_OF_TEST']}\0".encode()
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            mine = mark in (process / "environ").read_bytes()
            if mine and b"RayWorker" in (process / "cmdline").read_bytes():
                pids.append(int(process.name))
    return pids


def test_errors_before_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(on_ray, "_parts")  # with which work begins
    rows = blocks(normal(50, 4), 20, name=pa.array(["x"] * 50), w=pa.array([[1.0]] * 50))
    for error, message, options in (
        (
            ValueError,
            "^workers: the cluster has room for 2 workers of 1 CPU, not for 3 ",
            {"workers": 3},
        ),
        (ValueError, "^workers: .* room for 0 workers of 3 CPU", {"cpus": 3}),
        (ValueError, "^workers: .* room for 0 workers of 1 CPU and 1 GPU", {"gpus": 1}),
        (ValueError, "^workers: must be at least 1", {"workers": 0}),
        (ValueError, "^dataset: several columns hold lists", {"column": None}),
        (ValueError, "^dataset: column 'name' holds string", {"column": "name"}),
        (ValueError, "^dataset: has no column 'x' for ids", {"id_column": "x"}),
        (TypeError, "^group: the workers form it", {"group": True}),
        (TypeError, "^options: got an unexpected keyword argument 'decay'", {"decay": 0.5}),
    ):
        with pytest.raises(error, match=message):
            on_ray.greedy_select(rows, 5, **{"workers": 2, "column": "v", **options})
    with pytest.raises(ValueError, match=r"^dataset: empty; at least 1 row"):
        on_ray.greedy_select(ray.data.from_items([]), 5, workers=2)
    with pytest.raises(TypeError, match=r"^dataset: expected a ray\.data\.Dataset, got ndarray"):
        on_ray.greedy_select(normal(50, 4), 5, workers=2)


def test_a_busy_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "_SECONDS_TO_PLACE", 1.0)
    held = ray.util.placement_group([{"CPU": 1}])
    assert held.wait(60)
    with pytest.raises(RuntimeError, match=r"^workers: other work holds"):
        on_ray.greedy_select(blocks(normal(50, 4), 20), 5, workers=2)
    ray.util.remove_placement_group(held)


def test_errors_of_values_are_those_of_all_workers() -> None:
    pool = normal(60, 4)
    pool[43, 2] = np.nan
    with pytest.raises(ValueError, match=r"row 43 \(the first\) holds nan at column 2"):
        on_ray.greedy_select(blocks(pool, 20), 5, workers=2)
    ids = pa.array([None if row == 43 else row for row in range(60)])
    with pytest.raises(ValueError, match=r"^dataset: row 43 \(the first\) has no id"):
        on_ray.greedy_select(blocks(pool, 20, id=ids), 5, workers=2, id_column="id")
