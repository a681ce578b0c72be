"""Backend "faiss": canonical distances, an honest recall, bounds that hold; used only by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from entroselect import (
    _core,
    _dispatch,
    entropy,
    greedy_select,
    nearest_distances,
    reference,
    threshold_select,
)
from entroselect.backends import faiss as faiss_backend
from entroselect.cli.app import app
from entroselect.results import Neighbours
from tests.conftest import BACKENDS, normal, same_neighbours
from tests.support.pools import POOLS
from tests.support.processes import python

faiss = pytest.importorskip("faiss")


BAD = "faiss:IVF32,Flat"  # looks at one cell of 32


# Pools whose near rows float32 cannot tell apart, or with more ties than candidates.
TOO_FINE = {
    "near_duplicates",
    "near_duplicates_float64",
    "unequal_clusters",
    "float64_extremes",
    "underflowing",
    "shrinking_rows",
    "far_outlier",
    "one_outlier",
}

TIES = {"integer_grid", "all_equal", "binary_vectors", "denormals", "digits", "half_ulp_steps"}


def are_canonical(
    found: Neighbours, queries: Any, points: Any = None, metric: str = "euclidean"
) -> None:
    """The distances, to the last bit, are those of distinct other rows, sorted with ties."""
    rows = entropy._checks.usable_rows("queries", queries)
    q = reference.canonical_rows(rows, metric)
    p = q
    if points is not None:
        p = reference.canonical_rows(entropy._checks.usable_rows("points", points), metric)
    squared = reference.squared_distances(q[:, None], p[found.indices])
    np.testing.assert_array_equal(found.distances, np.sqrt(squared))
    key = np.stack([squared, found.indices.astype(float)], axis=-1)
    rising = (key[:, 1:, 0] > key[:, :-1, 0]) | (
        (key[:, 1:, 0] == key[:, :-1, 0]) & (key[:, 1:, 1] > key[:, :-1, 1])
    )
    assert rising.all()
    if points is None:
        assert not np.any(found.indices == np.arange(len(q))[:, None])


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", [name for name in POOLS if name != "one_row"])
def test_adversarial_pools(name: str, k: int) -> None:
    """An index that misses nothing gives the reference's lists, as far as float32 can."""
    pool = POOLS[name]()[:500]
    k = min(k, len(pool) - 1)
    found = nearest_distances(pool, k=k, backend="faiss:Flat")
    are_canonical(found, pool)
    assert found.backend == "faiss:Flat"
    oracle = reference.nearest_distances(pool, k=k)
    assert np.all(found.distances >= oracle.distances)
    if name not in TOO_FINE | TIES:
        same_neighbours(found, oracle)
        assert found.recall == 1.0
    if name in TIES:
        np.testing.assert_array_equal(found.distances, oracle.distances)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "unequal_clusters", "images", "duplicates"])
@pytest.mark.parametrize("spec", ["faiss", BAD, "faiss:HNSW4,Flat", "faiss:SQ8"])
def test_recall_is_what_it_is(name: str, spec: str) -> None:
    """Where the sample is everything, recall is the share of exact neighbours."""
    pool = POOLS[name]()[:700]
    found = nearest_distances(pool, k=3, backend=spec)
    are_canonical(found, pool)
    oracle = reference.nearest_distances(pool, k=3)
    hits = sum(
        len(np.intersect1d(*pair)) for pair in zip(found.indices, oracle.indices, strict=True)
    )
    assert found.recall == hits / oracle.indices.size
    assert found.sample is not None
    np.testing.assert_array_equal(found.sample[0], np.arange(len(pool))[: len(found.sample[0])])
    np.testing.assert_array_equal(found.sample[1], oracle.distances)


def test_a_sample_says_about_as_much() -> None:
    pool = normal(6000, 8)
    exact = nearest_distances(pool)
    found = nearest_distances(pool, backend=BAD)
    assert found.sample is not None
    assert len(found.sample[0]) == len(np.unique(found.sample[0])) == 1000
    np.testing.assert_array_equal(found.sample[1], exact.distances[found.sample[0]])
    share = float(np.mean(found.indices == exact.indices))
    assert 0.3 < share < 0.9
    assert found.recall == pytest.approx(share, abs=0.06)  # four standard errors
    same_neighbours(nearest_distances(pool, backend=BAD), found)
    assert nearest_distances(pool, backend=BAD).recall == found.recall


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float16", "float32", "float64"])
def test_dtypes(dtype: str) -> None:
    pool = (normal(300, 9) * 20 + 60).clip(0, 120).astype(dtype)
    same_neighbours(
        nearest_distances(pool[:50], pool[50:], 4, backend="faiss:Flat"),
        reference.nearest_distances(pool[:50], pool[50:], 4),
    )


def test_an_offset_costs_nothing() -> None:
    """At 1e9 float32 could not tell the rows apart; the index sees them moved."""
    pool = normal(800, 24, dtype=np.float64) + 1e9
    same_neighbours(
        nearest_distances(pool, backend="faiss:Flat"), reference.nearest_distances(pool)
    )


@pytest.mark.parametrize("spec", ["faiss", "faiss:Flat", BAD])
def test_cosine(spec: str) -> None:
    queries, points = normal(200, 12) * 1e3, normal(900, 12, seed=1) + 0.3
    found = nearest_distances(queries, points, 3, metric="cosine", backend=spec)
    are_canonical(found, queries, points, "cosine")
    if spec == "faiss:Flat":
        same_neighbours(found, reference.nearest_distances(queries, points, 3, metric="cosine"))
        same_neighbours(
            nearest_distances(points, k=2, metric="cosine", backend=spec),
            reference.nearest_distances(points, k=2, metric="cosine"),
        )


def test_a_row_is_not_its_own_neighbour_but_a_copy_is() -> None:
    pool = POOLS["duplicates"]()
    found = nearest_distances(pool, k=4, backend="faiss")
    assert np.all(found.distances == 0)
    are_canonical(found, pool)
    against = nearest_distances(pool, pool, backend="faiss")
    assert np.all(against.indices[:, 0] <= np.arange(len(pool)))


@pytest.mark.parametrize(("n", "k"), [(2, 1), (3, 2), (50, 49), (400, 399)])
@pytest.mark.parametrize("spec", ["faiss", "faiss:IVF2,Flat"])
def test_more_neighbours_than_the_index_gives(n: int, k: int, spec: str) -> None:
    """Queries that the index leaves short are searched exactly."""
    pool = normal(n, 5)
    found = nearest_distances(pool, k=k, backend=spec)
    assert found.indices.min() >= 0
    same_neighbours(found, reference.nearest_distances(pool, k=k))
    assert found.recall == 1.0


def test_no_place_is_left_empty() -> None:
    pool = normal(640, 3)
    found = nearest_distances(pool, k=60, backend="faiss:IVF8,Flat")
    assert found.indices.min() >= 0
    are_canonical(found, pool)
    assert found.recall is not None
    assert found.recall < 1


@pytest.mark.parametrize("n", [1, 2, 5, 100, 3000])
def test_the_default_fits_any_number_of_points(n: int) -> None:
    points, queries = normal(n, 6), normal(7, 6, seed=1)
    found = nearest_distances(queries, points, backend="faiss")
    are_canonical(found, queries, points)


def test_candidates_are_ranked_among_themselves() -> None:
    """Repeated, missing and own entries do not count."""
    points = POOLS["integer_grid"]()
    listed = np.array([[5, -1, 0, 5, 18, 1], [1, 1, 1, -1, -1, -1]], dtype=np.int64)
    squared, indices = _core.nearest_among(
        points, "float32", points[:], "float32", False, listed[[0, 1] * 144 + [0]], 4, False, 2
    )
    assert indices[1].tolist() == [1, -1, -1, -1]
    assert squared[1].tolist() == [0, math.inf, math.inf, math.inf]
    assert indices[0].tolist() == [0, 1, 18, 5]
    _, own = _core.nearest_among(
        points, "float32", points, "float32", True, listed[[0, 1] * 144 + [0]], 4, False, 1
    )
    assert own[0].tolist() == [1, 18, 5, -1]
    assert own[1].tolist() == [-1, -1, -1, -1]


def test_never_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert nearest_distances(normal(3000, 40)).backend == BACKENDS[0]
    assert not any("faiss" in name for name in _dispatch.why_not())
    monkeypatch.setenv("ENTROSELECT_BACKEND", "faiss")
    with pytest.raises(ValueError, match="ENTROSELECT_BACKEND: 'faiss' is approximate"):
        nearest_distances(normal(30, 4))


@pytest.mark.parametrize("select", [greedy_select, threshold_select])
def test_selection_is_exact_only(select: Any) -> None:
    with pytest.raises(ValueError, match=r"backend: 'faiss' finds approximate .* nearest_dist"):
        select(np.full((3, 3), np.nan), 2, backend="faiss")  # before rows are looked at


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("faiss:nonsense", "'faiss:nonsense' cannot index 60 rows of 4 columns: could not parse"),
        ("faiss:IVF100,Flat", "cannot index 60 rows .* training points"),
        ("faiss:Flat:colour=3", "cannot index .*could not set parameter colour"),
        ("faiss:IVF2,Flat:nprobe=0", "'faiss:IVF2,Flat:nprobe=0' cannot search: .*nprobe"),
        ("faiss2", "backend: expected one of auto, .*faiss; got 'faiss2'"),
    ],
)
def test_errors(spec: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        nearest_distances(normal(60, 4), backend=spec)


def test_without_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_backend.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"cannot run here: .*pip install 'entroselect\[faiss\]'"):
        nearest_distances(normal(30, 4), backend="faiss")


def test_a_gpu_that_faiss_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as that can be tried without one: the index is handed over, or stays."""
    moved: list[Any] = []

    def move(resources: Any, device: int, index: Any) -> Any:
        moved.append(index)
        if isinstance(index, faiss.IndexHNSW):
            raise RuntimeError("no such index on a GPU")
        return index

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", move, raising=False)
    pool = normal(1200, 4)
    for spec in ("faiss:Flat", "faiss:HNSW8,Flat"):
        are_canonical(nearest_distances(pool, backend=spec), pool)
    nearest_distances(pool, k=1100, backend="faiss:Flat")
    assert len(moved) == 2


def test_threads_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    before = faiss.omp_get_max_threads()
    monkeypatch.setenv("ENTROSELECT_THREADS", str(before + 2))
    nearest_distances(
        normal(60, 4), backend="faiss", progress=lambda *_: used.append(faiss.omp_get_max_threads())
    )
    assert set(used) == {before + 2}
    assert faiss.omp_get_max_threads() == before
    with pytest.raises(ValueError, match="cannot index"):
        nearest_distances(normal(60, 4), backend="faiss:nonsense")
    assert faiss.omp_get_max_threads() == before


def test_progress_and_interruption() -> None:
    calls: list[tuple[int, int]] = []
    nearest_distances(normal(900, 4), backend="faiss", progress=lambda *call: calls.append(call))
    assert calls[-1] == (900, 900)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nearest_distances(normal(900, 4), backend="faiss", progress=stop)


@pytest.mark.slow
def test_beside_torch() -> None:
    """Both bring an OpenMP of their own; and torch brings bfloat16."""
    pytest.importorskip("torch")
    code = (
        "import torch, numpy as np\n"
        "x = np.random.default_rng(0).standard_normal((1500, 40), dtype=np.float32)\n"
        "from entroselect import nearest_distances as nearest\n"
        "t = torch.from_numpy(x).bfloat16()\n"
        "for _ in range(3):\n"
        "    (t.float() @ t.float().T).topk(2)\n"
        "    found = nearest(t, backend='faiss:IVF8,Flat:nprobe=8')\n"
        "    assert found.recall == 1, found.recall\n"
        "exact = nearest(t.float())\n"
        "assert np.array_equal(found.indices, exact.indices)\n"
        "assert np.array_equal(found.distances, exact.distances)\n"
    )
    assert python("-c", code).stderr == ""


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("pool.npy", normal(2000, 5))

    def run(*arguments: str, code: int = 0) -> Any:
        ran = CliRunner().invoke(app, arguments)
        assert ran.exit_code == code, ran.output
        return ran

    measured = json.loads(run("entropy", "pool.npy", "--backend", BAD, "--json").stdout)
    assert 0 < measured["recall"] < 1
    assert measured["entropy_at_least"] < measured["entropy_nats"]
    assert measured["too_high_by"] > 0
    lines = run("entropy", "pool.npy", "--backend", BAD).stdout.splitlines()
    shown = [line.rsplit(maxsplit=1)[0].strip() for line in lines]
    assert shown[-3:] == ["recall", "too high by", "entropy at least"]
    assert "recall" not in json.loads(run("entropy", "pool.npy", "--json").stdout)
    assert "recall 0." in run("nearest", "pool.npy", "-o", "out", "--backend", BAD).stdout
    assert json.loads(Path("out/report.json").read_text())["recall"] == measured["recall"]
    assert "recall" not in run("nearest", "pool.npy", "-o", "exact").stdout
    ran = run("select", "pool.npy", "-k", "3", "-o", "chosen", "--backend", "faiss", code=2)
    assert "selection is exact only" in ran.stderr
    assert json.loads(run("info", "--json").stdout)["backends"]["faiss"] == ""
