"""Rows of bits: metric="tanimoto" and metric="hamming" in every operation that takes them."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroselect import (
    anchored_select,
    deduplicate,
    energy_distance,
    greedy_select,
    nearest_distances,
    neighbours_within,
    open_pool,
    reference,
    threshold_select,
)
from entroselect.io import bits as io_bits
from tests.conftest import BACKENDS

METRICS = ["tanimoto", "hamming"]


def sparse(n: int, width: int, seed: int = 0, share: float = 0.1) -> Any:
    """Rows with unequally many bits."""
    rng = np.random.default_rng(seed)
    return rng.random((n, width)) < share * rng.uniform(0.2, 2, (n, 1))


def mixed(width: int) -> Any:
    """Copies, rows without bits and rows with all of them, among others."""
    rows = np.repeat(sparse(45, width, share=0.3), 2, axis=0)
    rows[::13], rows[5::17] = False, True
    return np.random.default_rng(1).permutation(rows)


POOLS = {
    "one bit": lambda: sparse(60, 1, share=0.5),
    "seven bits": lambda: mixed(7),
    "a byte and one": lambda: mixed(9),
    "a word": lambda: sparse(70, 64),
    "a word and one": lambda: mixed(65),
    "odd bytes": lambda: mixed(601),
    "wide": lambda: sparse(30, 4_096, share=0.02),
    "dense": lambda: ~sparse(60, 2_100),
    "nearly full": lambda: ~sparse(20, 4_096, share=0.001),
    "no bits": lambda: np.zeros((20, 40), dtype=bool),
    "all bits": lambda: np.ones((20, 40), dtype=bool),
}


def same(found: Any, expected: Any) -> None:
    """Whole answers, to the last bit."""
    for name in ("indices", "distances", "thresholds", "radius", "indptr", "picks", "sizes"):
        if hasattr(expected, name):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


def check_all(rows: Any, metric: str, backends: list[str]) -> None:
    """Every operation beside its twin."""
    n, options = len(rows), {"metric": metric}
    queries = rows[: max(1, n // 3)]
    twin = reference.greedy_select(rows, n, **options)
    some = float(twin.distances[max(1, n // 3)])
    calls: list[tuple[Any, Any, tuple[Any, ...], dict[str, Any]]] = [
        (greedy_select, reference.greedy_select, (rows, n), {}),
        (nearest_distances, reference.nearest_distances, (rows, None, min(5, n - 1)), {}),
        (nearest_distances, reference.nearest_distances, (queries, rows, n), {}),
        (neighbours_within, reference.neighbours_within, (queries,), {"distance": some}),
        (neighbours_within, reference.neighbours_within, (queries, rows), {"distance": some}),
        (deduplicate, reference.deduplicate, (rows, some), {}),
    ]
    for rule in ({"k": n // 2}, {"threshold": some, "decay": None}, {"k": n, "seed": 1}):
        calls.append((threshold_select, reference.threshold_select, (rows,), rule))
    for ours, theirs, arguments, rule in calls:
        expected = theirs(*arguments, **rule, **options)
        for backend in backends:
            same(ours(*arguments, **rule, **options, backend=backend), expected)
    cover = twin.assign(rows, metric=metric, backend=backends[0])  # type: ignore[arg-type]
    np.testing.assert_array_equal(cover.distances, np.zeros(n))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", POOLS)
def test_every_operation_equals_its_twin(name: str, metric: str) -> None:
    check_all(POOLS[name](), metric, BACKENDS)


@pytest.mark.slow
@given(
    n=st.integers(2, 70),
    width=st.one_of(st.integers(1, 70), st.integers(71, 4_096)),
    share=st.sampled_from([0.0, 0.02, 0.2, 0.5, 1.0]),
    metric=st.sampled_from(METRICS),
    backend=st.sampled_from(BACKENDS),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_any_rows(n, width, share, metric, backend, threads, seed) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENTROSELECT_THREADS", str(threads))
        check_all(sparse(n, width, seed, share), metric, [backend])


@pytest.mark.parametrize("metric", METRICS)
def test_threads_and_rounds_change_nothing(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several rounds of many rows, which every thread gets some of."""
    rows = sparse(1_200, 120, share=0.1)
    twin = reference.greedy_select(rows, 200, start=7, metric=metric)
    passed = reference.threshold_select(rows, 200, seed=2, decay=0.8, metric=metric)
    for threads in (1, 3):
        monkeypatch.setenv("ENTROSELECT_THREADS", str(threads))
        monkeypatch.setenv("ENTROSELECT_BLOCK", "100")
        found = greedy_select(rows, 200, start=7, metric=metric)
        same(found, twin)
        assert found.profile["rounds"] > 2
        same(threshold_select(rows, 200, seed=2, decay=0.8, metric=metric), passed)


def test_distances_as_scipy_has_them() -> None:
    distance = pytest.importorskip("scipy.spatial.distance")
    rows, points = sparse(70, 333), mixed(333)
    for metric, theirs, factor in (("tanimoto", "jaccard", 1), ("hamming", "hamming", 333)):
        found = nearest_distances(rows, points, len(points), metric=metric)
        all_distances = factor * distance.cdist(rows, points, theirs)
        expected = np.take_along_axis(all_distances, found.indices, axis=1)
        np.testing.assert_allclose(found.distances, expected, rtol=0, atol=1e-12)


def test_picks_as_rdkit_makes_them() -> None:
    pytest.importorskip("rdkit")
    from rdkit.DataStructs import CreateFromBitString
    from rdkit.SimDivFilters.rdSimDivPickers import MaxMinPicker

    rows = sparse(500, 2_048, share=0.05)
    bit_vectors = [CreateFromBitString("".join("01"[bit] for bit in row)) for row in rows.tolist()]
    picked = MaxMinPicker().LazyBitVectorPick(bit_vectors, len(rows), 150, [3])
    assert greedy_select(rows, 150, start=3, metric="tanimoto").indices.tolist() == list(picked)


@pytest.mark.parametrize("metric", METRICS)
def test_ways_to_pass_bits(metric: str, tmp_path: Any) -> None:
    """As bool, packed, as bytes of 0 and 1, as columns of a wider array, from files."""
    rows = mixed(130)
    packed = np.packbits(rows, axis=1)
    expected = reference.greedy_select(rows, 40, metric=metric)
    wider = np.concatenate([packed, packed], axis=1)
    np.save(tmp_path / "bool.npy", rows)
    np.save(tmp_path / "packed.npy", packed)
    files = [open_pool(tmp_path / name) for name in ("bool.npy", "packed.npy")]
    pandas, torch = pytest.importorskip("pandas"), pytest.importorskip("torch")
    tensor = torch.from_numpy(rows)
    tables = [pandas.DataFrame(rows), open_pool(pandas.DataFrame(rows)), tensor, open_pool(tensor)]
    for given_rows in (packed, wider[:, :17], rows.tolist(), *files, *tables):
        same(greedy_select(given_rows, 40, metric=metric), expected)
        near = nearest_distances(given_rows, packed, metric=metric)  # as wide when packed
        np.testing.assert_array_equal(near.distances, 0)
    same(greedy_select(rows.astype(np.uint8), 40, metric=metric), expected)
    same(
        nearest_distances(files[0], packed, metric=metric),
        reference.nearest_distances(rows, rows, metric=metric),
    )
    for selected in (rows[:9], packed[:9], [3, 17]):
        twin = reference.greedy_select(rows, 20, selected=selected, metric=metric)
        same(greedy_select(packed, 20, selected=selected, metric=metric), twin)


@pytest.mark.parametrize("metric", METRICS)
def test_constraints(metric: str) -> None:
    rows = mixed(80)
    groups = np.arange(len(rows)) % 3
    for among in (
        {"candidates": np.arange(0, len(rows), 2)},
        {"groups": groups, "quotas": {0: 20, 1: 3}},
    ):
        twin = reference.greedy_select(rows, 30, metric=metric, **among)
        same(greedy_select(rows, 30, metric=metric, **among), twin)
        passed = reference.threshold_select(rows, 30, metric=metric, **among)
        same(threshold_select(rows, 30, metric=metric, **among), passed)


def test_a_selection_resumes(tmp_path: Any) -> None:
    rows = sparse(300, 200)
    options = {"metric": "tanimoto", "checkpoint": tmp_path / "state"}
    greedy_select(rows, 50, **options)
    same(greedy_select(rows, 120, **options), greedy_select(rows, 120, metric="tanimoto"))


def test_pairs_that_are_exactly_as_similar_are_duplicates() -> None:
    """As 0.9 says, although 1 - 0.9 is rounded, and as a quotient that was rounded up says."""
    for shared, of in ((9, 10), (5, 6), (17, 19), (9, 23), (1, 3), (0, 7), (4_095, 4_096)):
        rows = np.ones((2, of), dtype=bool)
        rows[1, shared:] = False
        exactly = shared / of
        above, below = np.nextafter(exactly, 2), max(0.0, np.nextafter(exactly, 0))
        for similarity, kept in ((exactly, 1), (below, 1), (above, 2), (1, 2), (0, 1)):
            found = deduplicate(rows, similarity=similarity, metric="tanimoto")
            assert len(found.indices) == kept, (shared, of, similarity)
    with pytest.raises(ValueError, match="similarity: expected a number from 0 to 1"):
        deduplicate(rows, similarity=-0.1, metric="tanimoto")
    with pytest.raises(ValueError, match="similarity: is that of metric='cosine' or 'tanimoto'"):
        deduplicate(rows, similarity=0.9, metric="hamming")


class OnDevice:
    """Rows that say that they are on a CUDA device."""

    shape = (5, 3)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


def test_what_bits_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = mixed(30)
    for values in (rows.astype(float), rows.astype(np.int64), rows.astype(np.int8)):
        with pytest.raises(TypeError, match=f"features: dtype {values.dtype} holds no bits"):
            greedy_select(values, 3, metric="tanimoto")
        with pytest.raises(TypeError, match="points: dtype"):
            nearest_distances(rows, values, metric="hamming")
        with pytest.raises(TypeError, match="selected: dtype"):
            greedy_select(rows, 3, selected=values, metric="hamming")
    with pytest.raises(ValueError, match="points: has 24 bits per row but queries has 30"):
        neighbours_within(rows, rows[:, :24], distance=1, metric="hamming")
    packed = np.packbits(rows, axis=1)
    with pytest.raises(ValueError, match="points: has 3 columns but queries has 4"):
        neighbours_within(packed, packed[:, :3], distance=1, metric="hamming")
    # As many bytes, but fewer bits.
    with pytest.raises(ValueError, match="points: has 25 bits per row but queries has 30"):
        nearest_distances(rows, rows[:, :25], metric="tanimoto")
    with pytest.raises(ValueError, match="selected: has 25 bits per row but features has 30"):
        greedy_select(rows, 3, selected=rows[:2, :25], metric="hamming")
    assert greedy_select(rows, 3, selected=packed[:2], metric="hamming").indices.shape == (3,)
    monkeypatch.setattr(io_bits, "WIDEST", 3)
    with pytest.raises(ValueError, match="features: a row of bits may have 3 bytes, these have 4"):
        greedy_select(rows, 3, metric="tanimoto")


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_refused(metric: str) -> None:
    rows = mixed(30)
    options: dict[str, Any] = {"metric": metric}
    for start in ("center", "farthest-from-center"):
        with pytest.raises(ValueError, match=f"start: '{start}' is about the mean row"):
            greedy_select(rows, 3, start=start, **options)
    with pytest.raises(ValueError, match="memory_limit: rows are compared by"):
        greedy_select(rows, 3, memory_limit="1GB", **options)
    with pytest.raises(ValueError, match="weights: rows are compared by"):
        greedy_select(rows, 3, weights=np.ones(len(rows)), **options)
    with pytest.raises(ValueError, match="memory_limit: rows are compared by"):
        deduplicate(rows, 0.5, memory_limit="1GB", **options)
    for search in (nearest_distances, neighbours_within):
        distance = {} if search is nearest_distances else {"distance": 1}
        with pytest.raises(ValueError, match="memory_limit: rows are compared by"):
            search(rows, memory_limit="1GB", **distance, **options)  # type: ignore[operator]
        with pytest.raises(ValueError, match="queries: on a CUDA device, where bits"):
            search(OnDevice(), **distance, **options)  # type: ignore[operator]
    if importlib.util.find_spec("faiss"):
        with pytest.raises(ValueError, match="metric: backend 'faiss' compares numbers"):
            nearest_distances(rows, backend="faiss", **options)
    for other in (
        lambda: anchored_select(rows, 3, **options),
        lambda: energy_distance(rows, rows, **options),
        lambda: reference_energy(rows, metric),
    ):
        with pytest.raises(ValueError, match="metric: expected one of euclidean, cosine, got"):
            other()


def reference_energy(rows: Any, metric: str) -> Any:
    from entroselect import reference_measures

    return reference_measures.energy_distance(rows, rows, metric=metric)
