"""anchored_select against its twin over dense arrays, on every CPU backend."""

from __future__ import annotations

import math
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest

from entroselect import AnchoredSelection, _core, anchored_select, kl_entropy, reference_exchange
from entroselect.backends import cpu
from tests.conftest import normal
from tests.support.pools import POOLS, without_zero_rows

pytestmark = pytest.mark.filterwarnings("ignore:reference. too small:UserWarning")

CPUS = [f"cpu:{name}" for name, reason in _core.instruction_sets() if not reason]
DIVERSITIES = (0, 0.003, 0.1, 1, 1000)


def same(found: AnchoredSelection, expected: AnchoredSelection) -> None:
    assert found.indices.tolist() == expected.indices.tolist()
    assert found.exchanges == expected.exchanges
    assert found.distances.tolist() == expected.distances.tolist()
    for name in ("objective", "energy_distance", "radius", "scale", "reference_noise"):
        assert getattr(found, name) == getattr(expected, name), name


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", POOLS)
def test_adversarial_pools(name: str, metric: str) -> None:
    pool = POOLS[name]()[:45]
    if metric == "cosine":
        pool = without_zero_rows(pool)
    k = max(1, len(pool) // 5)
    reference = pool[: len(pool) // 2] if len(pool) > 3 else None
    for diversity in DIVERSITIES[:: 1 if metric == "euclidean" else 2]:
        options: dict[str, Any] = {"diversity": diversity, "metric": metric}
        oracle = anchored_select(pool, k, reference, backend="reference", **options)
        for backend in (CPUS[0], CPUS[-1]):
            same(anchored_select(pool, k, reference, backend=backend, **options), oracle)


def test_ties_go_to_the_lowest_row() -> None:
    """Lattices in shuffled order, where most exchanges have an equal."""
    rng = np.random.default_rng(0)
    for _ in range(150):
        side, d = ((3, 2), (4, 2), (9, 1), (2, 3))[rng.integers(4)]
        pool = np.stack(np.meshgrid(*[np.arange(side)] * d), -1).reshape(-1, d)
        n = len(pool)
        pool = rng.permutation(pool)
        k, diversity = int(rng.integers(1, 6)), float(rng.choice([0, 0.001, 0.1, 1]))
        start = rng.permutation(n)[:k]
        options: dict[str, Any] = {"diversity": diversity, "start": start}
        oracle = anchored_select(pool, k, backend="reference", **options)
        same(anchored_select(pool, k, **options), oracle)


@pytest.mark.parametrize("k", [1, 2, 3, 20, 59, 60])
@pytest.mark.parametrize("start", ["herding", "random", "rows"])
def test_every_size_and_start(k: int, start: str) -> None:
    pool, real = normal(60, 4), normal(31, 4, seed=1)
    for diversity in (0, 0.01, 1):
        options: dict[str, Any] = {"diversity": diversity, "start": start}
        if start == "random":
            options["seed"] = 3
        if start == "rows":
            options["start"] = np.arange(60)[::-1][:k]
        oracle = anchored_select(pool, k, real, backend="reference", **options)
        assert len(set(oracle.indices.tolist())) == k
        for backend in CPUS:
            same(anchored_select(pool, k, real, backend=backend, **options), oracle)


@pytest.mark.parametrize("listed", [1, 5, 64])
def test_lists_of_neighbours_threads_and_copies_change_nothing(
    listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a list ends too early, the engine looks at all rows."""
    pool = np.concatenate([normal(50, 3), normal(30, 3)[:30], np.zeros((10, 3))])
    options: dict[str, Any] = {"diversity": 0.05, "start": "random", "seed": 0}
    oracle = anchored_select(pool, 25, pool[::3], backend="reference", **options)
    assert oracle.exchanges > 10
    monkeypatch.setattr(cpu, "LISTED", listed)
    for threads in "123":
        monkeypatch.setenv("ENTROSELECT_THREADS", threads)
        same(anchored_select(pool, 25, pool[::3], **options), oracle)


def test_many_members_leave_short_lists_of_nearest_ones() -> None:
    """From one corner of the pool to the whole of it: every list is emptied and made anew."""
    pool = np.arange(120.0)[:, None] ** 1.5
    options: dict[str, Any] = {"diversity": 0.5, "start": np.arange(30)}
    oracle = anchored_select(pool, 30, backend="reference", **options)
    assert oracle.exchanges > 25
    same(anchored_select(pool, 30, **options), oracle)


def by_definition(pool: Any, rows: Any, real: Any, diversity: float) -> tuple[float, float]:
    """(objective, energy distance) from full matrices of distances, SciPy's."""
    cdist = pytest.importorskip("scipy.spatial.distance").cdist

    pool, real = pool.astype(np.float64), real.astype(np.float64)
    chosen = pool[rows]
    scale = cdist(pool, real).mean()
    energy = (
        2 * cdist(chosen, real).mean() - cdist(chosen, chosen).mean() - cdist(real, real).mean()
    )
    own = cdist(chosen, chosen)
    np.fill_diagonal(own, np.inf)
    log = np.log(own.min(axis=1) / scale)
    return energy / scale - diversity * log.mean(), energy / scale


@pytest.mark.parametrize("diversity", DIVERSITIES)
def test_what_is_reported_is_what_was_defined(diversity: float) -> None:
    pool, real = normal(300, 5), normal(200, 5, seed=1) + 0.5
    found = anchored_select(pool, 60, real, diversity=diversity)
    objective, energy = by_definition(pool, found.indices, real, diversity)
    assert found.objective == pytest.approx(objective, rel=1e-9, abs=1e-9)
    assert found.energy_distance == pytest.approx(energy, rel=1e-6, abs=1e-9)
    assert found.entropy == kl_entropy(pool[found.indices])
    every = by_definition(pool, np.arange(300), real, 0)[1]
    assert found.pool_distance == pytest.approx(every, rel=1e-9)


@pytest.mark.parametrize("diversity", [0, 0.02, 1])
def test_no_exchange_raises_the_objective_and_none_is_left(diversity: float) -> None:
    pool, real = normal(80, 3), normal(60, 3, seed=1)
    options: dict[str, Any] = {"diversity": diversity, "start": "random", "seed": 1}
    last = anchored_select(pool, 20, real, **options)
    steps = range(last.exchanges + 1)
    reached = [anchored_select(pool, 20, real, max_exchanges=m, **options) for m in steps]
    assert [found.exchanges for found in reached] == list(steps)
    objectives = [found.objective for found in reached]
    assert objectives == sorted(objectives, reverse=True)
    assert objectives[0] > objectives[-1]
    members = last.indices.tolist()
    for slot in range(20):
        for row in set(range(80)) - set(members):
            other = [*members[:slot], row, *members[slot + 1 :]]
            value, _ = by_definition(pool, other, real, diversity)
            assert value >= last.objective - 1e-9


def test_more_diversity_more_entropy_and_farther_from_the_reference() -> None:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((400, 4))
    pool = np.concatenate([rng.standard_normal((900, 4)), 4 * rng.standard_normal((100, 4))])
    found = [anchored_select(pool, 200, real, diversity=w) for w in (0, 0.01, 0.1, 1)]
    entropies = [float(one.entropy) for one in found if one.entropy is not None]
    energies = [one.energy_distance for one in found]
    assert entropies == sorted(entropies)
    assert energies == sorted(energies)
    random = by_definition(pool, np.arange(0, 1000, 5), real, 0)[1]
    assert energies[1] < random
    assert entropies[1] > kl_entropy(pool[::5])


def test_failures_are_left_out_though_they_are_far_from_everything() -> None:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((300, 3))
    pool = np.concatenate([rng.standard_normal((300, 3)), 30 + 9 * rng.standard_normal((20, 3))])
    assert (anchored_select(pool, 60, real).indices < 300).all()


def test_the_logarithm_is_the_twin_s_and_right() -> None:
    values = np.concatenate([np.geomspace(1e-300, 1e300, 5000), 1 + normal(2000, 1)[:, 0] * 1e-9])
    found = _core.canonical_log(values)
    assert found.tobytes() == reference_exchange.canonical_log(values).tobytes()
    exact = np.array([math.log(value) for value in values])
    assert (np.abs(found - exact) <= 2 * np.spacing(np.abs(exact)) + 1e-25).all()


def test_no_sum_overflows() -> None:
    """k members at one distance from each other, and a row in their middle: as many logarithms as
    members change at once."""
    for k, diversity in ((200, 1000.0), (200, 0.003), (2, 1000.0)):
        pool = np.concatenate([np.eye(200), np.full((1, 200), 1 / 200), 5 * np.eye(200)[:1]])
        found = anchored_select(pool, k, diversity=diversity, start=np.arange(k))
        assert isinstance(found, AnchoredSelection)
        assert found.objective == pytest.approx(
            by_definition(pool, found.indices, pool, diversity)[0], rel=1e-6
        )


def test_sums_of_many_far_members_do_not_overflow_in_the_twin() -> None:
    """Two heaps opposite each other: as they are balanced, the sum of the distances between all 64
    members passes 2**63."""
    heaps = np.repeat([[-1.001], [1.001]], 36, axis=0) + 1e-5 * normal(72, 1)
    options: dict[str, Any] = {"start": np.arange(64), "diversity": 0}
    found = anchored_select(heaps, 64, [[0.0], [-1.0], [1.0]], **options)
    assert (found.indices < 36).sum() == 32
    options["backend"] = "reference"
    same(found, anchored_select(heaps, 64, [[0.0], [-1.0], [1.0]], **options))


def test_equal_rows_count_as_a_small_distance() -> None:
    pool = np.zeros((9, 2))
    found = anchored_select(pool, 4, diversity=1)
    assert found.entropy is None
    assert math.isfinite(found.objective)
    mixed = np.concatenate([np.zeros((5, 2)), [[1.0, 0], [0, 1.0], [1, 1]]])
    spread = anchored_select(mixed, 4, diversity=1)
    assert len(np.unique(mixed[spread.indices], axis=0)) == 4


def test_integers_memmaps_and_tensors(tmp_path: Any) -> None:
    torch = pytest.importorskip("torch")
    pool = np.random.default_rng(0).integers(0, 9, (60, 5))
    expected = anchored_select(pool, 10, pool[:20]).indices.tolist()
    np.save(tmp_path / "pool.npy", pool)
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    for given in (pool.astype("u1"), mapped, torch.from_numpy(pool), pool.tolist()):
        assert anchored_select(given, 10, pool[:20]).indices.tolist() == expected


def test_a_reference_that_is_too_small_is_said() -> None:
    pool = normal(400, 5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        anchored_select(pool, 50, normal(10, 5, seed=1))
    (warning,) = caught
    assert "reference: too small to steer by: it has 10 rows" in str(warning.message)
    assert warning.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        anchored_select(pool + 1, 50, normal(400, 5, seed=1))
        anchored_select(pool, 50)


def test_noise_is_what_another_sample_is_at() -> None:
    """The distance of 300 rows to the distribution that they were drawn from."""
    many = normal(1000, 3, seed=99)
    samples = [normal(100, 3, seed=seed) for seed in range(1, 41)]
    found = [anchored_select(many, 1, real) for real in samples]
    noise = np.mean([one.reference_noise for one in found])
    distance = np.mean([one.pool_distance for one in found])
    assert noise == pytest.approx(distance, rel=0.25)


@pytest.mark.parametrize("diversity", [0, 0.1])
def test_rows_that_change_meanwhile_are_an_error(diversity: float) -> None:
    pool = normal(400, 4, dtype=np.float64)
    calls = iter(range(10**9))

    def meddle(done: int, total: int) -> None:
        if done >= 100 and next(calls) % 2:
            pool[::3] *= -1.5

    options: dict[str, Any] = {"diversity": diversity, "start": "random", "seed": 0}
    with pytest.raises(RuntimeError, match="features: rows changed while"):
        anchored_select(pool, 100, normal(200, 4, seed=1), progress=meddle, **options)


def test_progress_and_limit() -> None:
    seen: list[tuple[int, int]] = []
    anchored_select(normal(300, 4), 50, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (100, 100)
    with pytest.raises(ValueError, match="memory_limit: 1000 bytes are too few for 300 rows"):
        anchored_select(normal(300, 4), 50, memory_limit=1000)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 900, 4), (10_100, 2, 200)])
def test_the_limit_counts_what_is_done_with_the_reference(n: int, m: int, d: int) -> None:
    """Matrices of distances among the reference, and a copy of a part of a larger pool."""
    pool, real = normal(n, d).astype(np.float32), normal(m, d, seed=1)
    with pytest.raises(ValueError, match="the smallest that works is") as refused:
        anchored_select(pool, 2, real, diversity=0, memory_limit=1)
    least = int(str(refused.value).rpartition(" ")[2])
    tracemalloc.start()
    try:
        anchored_select(pool, 2, real, diversity=0, memory_limit=least)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert least / 3 < peak <= least


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k: must be at least 1"),
        ({"k": 41}, "k: must be at least 1 and at most 40"),
        ({"diversity": -0.1}, "diversity: expected a number from 0 to 1000, got -0.1"),
        ({"diversity": math.nan}, "diversity: expected"),
        ({"reference": np.zeros((5, 3))}, "reference: .*3 columns"),
        ({"reference": np.zeros((1, 2))}, "reference: at least 2 rows needed, got 1"),
        ({"reference": np.full((5, 2), np.nan)}, "reference: values must be finite; row 0"),
        ({"start": "greedy-ish"}, "start: expected one of"),
        ({"start": [0, 0, 1]}, "start: index 0 is repeated"),
        ({"start": [0, 1]}, "start: expected k = 3 pool rows, got 2"),
        ({"start": [0, 1, 40]}, r"start: index 40 \(at position 2\) is outside the pool"),
        ({"seed": 1}, "seed: only start='random'"),
        ({"max_exchanges": -1}, "max_exchanges: must be at least 0"),
        ({"backend": "cuda"}, "backend: 'cuda'"),
        ({"metric": "manhattan"}, "metric: expected one of"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"k": 3, "reference": None, **arguments}
    with pytest.raises((ValueError, TypeError), match=message):
        anchored_select(normal(40, 2), **options)
