"""energy_distance and mmd: hand values, SciPy, the textbook loops, and the same bits however the
rows are read."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from entroselect import energy_distance, mmd, open_pool, reference_measures
from entroselect.measures import pairs
from tests.conftest import BACKENDS, normal

ONE, OTHER = normal(90, 11, seed=1), normal(70, 11, seed=2) * 1.5 + 0.25


def test_by_hand() -> None:
    # pairs between: 1, 4, 0, 3; within, each twice: 1, and 3
    assert energy_distance([[0.0], [1.0]], [[1.0], [4.0]]) == 2 * 8 / 4 - 2 / 4 - 6 / 4
    assert energy_distance([[0.0, 3.0]], [[4.0, 0.0]]) == 10.0
    half = math.exp(-0.5)
    assert mmd([[0.0]], [[2.0]], bandwidth=2.0) == pytest.approx(2 - 2 * half, rel=1e-15)
    assert mmd([[0.0]], [[2.0]]) == pytest.approx(2 - 2 * half, rel=1e-15)  # the mean is 2
    found = mmd([[0.0]], [[2.0]], kernel="laplacian", bandwidth=4.0)
    assert found == pytest.approx(2 - 2 * half, rel=1e-15)


def test_energy_distance_is_that_of_scipy_in_one_column() -> None:
    for one, other in ((ONE[:, :1], OTHER[:, :1]), (ONE[:, 3:4], ONE[:7, 2:3])):
        expected = stats.energy_distance(one[:, 0], other[:, 0]) ** 2
        assert energy_distance(one, other) == pytest.approx(expected, rel=1e-12)


def test_mmd_in_one_expression() -> None:
    cross, own, others = (cdist(a, b) for a, b in ((ONE, OTHER), (ONE, ONE), (OTHER, OTHER)))
    for bandwidth in (None, 0.5, 3.0):
        h = cross.mean() if bandwidth is None else bandwidth
        for kernel, k in (
            ("gaussian", lambda d, h=h: np.exp(-(d**2) / (2 * h * h)).mean()),
            ("laplacian", lambda d, h=h: np.exp(-d / h).mean()),
        ):
            found = mmd(ONE, OTHER, kernel=kernel, bandwidth=bandwidth)
            assert found == pytest.approx(k(own) + k(others) - 2 * k(cross), rel=1e-10)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u1"])
def test_the_bits_are_those_of_the_textbook(dtype: str, metric: Any) -> None:
    one, other = ((np.abs(x) * 40 + 1).astype(dtype) for x in (ONE, OTHER))
    expected = reference_measures.energy_distance(one, other, metric=metric)
    for backend in (*BACKENDS, "reference"):
        assert energy_distance(one, other, metric=metric, backend=backend) == expected
    assert mmd(one, other, metric=metric) == pytest.approx(
        reference_measures.mmd(one, other, metric=metric), rel=1e-10
    )


@pytest.mark.parametrize("measure", [energy_distance, mmd])
def test_the_bits_do_not_depend_on_how_rows_are_read(
    measure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = normal(1200, 5, seed=3)[:, :4].astype("f4")
    other = (normal(700, 4, seed=4) + 0.1).astype("f4")
    expected, of_one = measure(one, other), measure(one[:1], other)  # few sums: every bit counts
    np.save(tmp_path / "one.npy", one)
    (tmp_path / "shards").mkdir()
    for shard in range(3):
        np.save(tmp_path / "shards" / f"{shard}.npy", other[shard * 300 : shard * 300 + 300])
    sources = open_pool(tmp_path / "one.npy"), open_pool(tmp_path / "shards")
    assert measure(*sources) == expected
    done: list[tuple[int, int]] = []
    more = {"progress": lambda *now: done.append(now)}
    assert measure(*sources, memory_limit="32KB", **more) == expected
    assert done[-1][0] == done[-1][1]
    assert len(done) > 50  # in many tiles
    monkeypatch.setenv("ENTROSELECT_THREADS", "3")
    monkeypatch.setattr(pairs, "TILE", 17)
    assert measure(one, other) == expected
    assert measure(one[:1], other) == of_one


def test_equal_sets_are_at_zero_and_none_is_below() -> None:
    draws = [np.random.default_rng(i) for i in range(99)]
    few = [draw.standard_normal((7, 3)) for draw in draws]
    shuffled = [x[draw.permutation(7)] for x, draw in zip(few, draws, strict=True)]
    for measure in (energy_distance, mmd):
        assert measure(ONE, ONE.copy()) == 0.0
        found = [measure(x, y) for x, y in zip(few, shuffled, strict=True)]  # some round to < 0
        assert 0.0 <= min(found) <= max(found) < 1e-14
        assert measure(np.ones((3, 2)), np.ones((5, 2))) == 0.0
        assert measure(ONE, OTHER) > 0


def test_an_offset_that_both_share_leaves_no_trace() -> None:
    one, other = (np.round(x.astype("f8") * 64) / 64 for x in (ONE, OTHER))
    assert energy_distance(one + 2.0**30, other + 2.0**30) == energy_distance(one, other)


def test_bad_arguments_are_named() -> None:
    bad = ONE.copy()
    bad[7, 3] = np.nan
    for measure in (energy_distance, mmd):
        for one, other, said in (
            (bad, ONE, "^one: values must be finite; row 7"),
            (ONE, bad, "^other: values must be finite; row 7"),
            (ONE, ONE[:, :3], "^other: has 3 columns but one has 11"),
            (ONE[:0], ONE, "^one: empty"),
        ):
            with pytest.raises(ValueError, match=said):
                measure(one, other)
        with pytest.raises(ValueError, match=r"^metric: expected one of"):
            measure(ONE, ONE, metric="manhattan")
        with pytest.raises(ValueError, match=r"^memory_limit: 100 bytes are too few for pairs"):
            measure(ONE, ONE, memory_limit=100)
    with pytest.raises(ValueError, match=r"^bandwidth: expected a number finite and > 0, got 0"):
        mmd(ONE, ONE, bandwidth=0)


def test_a_bandwidth_that_no_two_rows_are_within_is_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mmd([[0.0], [1.0]], [[2.0], [3.0]], bandwidth=1e-300) == 1.0
    with pytest.raises(ValueError, match=r"^kernel: expected one of gaussian, laplacian"):
        mmd(ONE, ONE, kernel="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^memory_limit: backend 'reference' holds all rows"):
        energy_distance(ONE, ONE, backend="reference", memory_limit="1GB")


def test_bad_rows_of_files_are_named_when_they_are_read(tmp_path: Path) -> None:
    bad = ONE.copy()
    bad[7, 3] = np.inf
    np.save(tmp_path / "bad.npy", bad)
    with pytest.raises(ValueError, match=r"^other: values must be finite; row 7"):
        energy_distance(ONE, open_pool(tmp_path / "bad.npy"), memory_limit="100KB")
