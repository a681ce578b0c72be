"""Candidates, groups and quotas, against the oracle in reference_quotas.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroselect import (
    _dispatch,
    _quotas,
    engine,
    greedy_select,
    reference,
    reference_quotas,
    threshold_select,
)
from entroselect.backends.cpu import Cpu
from entroselect.constrained import ConstrainedPool
from entroselect.io.open import as_rows
from entroselect.scale import budget
from entroselect.scale.sharded_pool import ShardedPool
from tests.conftest import BACKENDS, normal, same_selection
from tests.support.limits import smallest_limit
from tests.support.pools import POOLS, without_zero_rows
from tests.support.thread_group import ThreadGroup, Together

NOTHING = np.empty(0, np.int64)
SELECT = [(greedy_select, reference.greedy_select), (threshold_select, reference.threshold_select)]


def same(found: Any, oracle: Any) -> None:
    same_selection(found, oracle)
    assert found.counts == oracle.counts


def constraints(n: int, seed: int) -> list[tuple[int, dict[str, Any]]]:
    """(k, arguments) of each kind: groups of unequal sizes, half of the rows as candidates, quotas
    that are reached early, and one of 0."""
    rng = np.random.default_rng(seed)
    groups = np.minimum(rng.geometric(0.4, n), 6)
    mask = rng.random(n) < 0.5
    mask[rng.integers(n)] = True
    of = [int((mask & (groups == g)).sum()) for g in range(1, 7)]
    mapping = {g: size // 2 for g, size in zip(range(1, 7), of, strict=True) if size and g != 3}
    most = sum(mapping.values()) + of[2]
    half = max(1, n // 2)
    return [
        (int(mask.sum()), {"candidates": np.flatnonzero(mask)}),
        (half, {"groups": groups, "quotas": "equal"}),
        (half, {"groups": groups, "quotas": "proportional"}),
        (max(1, most), {"groups": groups, "quotas": mapping, "candidates": mask}),
    ][: 4 if most else 3]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", POOLS)
def test_adversarial_pools(name: str, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one block, where conflicts settle most picks, or in many."""
    pool = POOLS[name]()[:100]
    if metric == "cosine":
        pool = without_zero_rows(pool)
        monkeypatch.setenv("ENTROSELECT_BLOCK", "20")
    for k, arguments in constraints(len(pool), len(name)):
        for ours, textbook in SELECT:
            oracle = textbook(pool, k, metric=metric, **arguments)
            same(ours(pool, k, metric=metric, **arguments), oracle)


@pytest.mark.slow
@given(
    n=st.integers(1, 200),
    d=st.one_of(st.integers(1, 4), st.integers(5, 40)),
    levels=st.sampled_from([2, 5, 100, 10**6]),
    size=st.integers(1, 40),
    kind=st.integers(0, 3),
    block=st.integers(1, 300),
    before=st.integers(0, 3),
    start=st.sampled_from([0, "random", "center", "farthest-from-center"]),
    metric=st.sampled_from(["euclidean", "cosine"]),
    seed=st.integers(0, 2**32),
)
def test_any_pool(n, d, levels, size, kind, block, before, start, metric, seed) -> None:
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, levels, (n, d)).astype(np.float64)
    pool[:, 0] = 1
    candidates = rng.random(n) < rng.random() if kind % 2 else np.ones(n, bool)
    before = rng.permutation(n)[: min(before, n - 1)]
    groups = rng.integers(0, size, n)
    left = candidates.copy()
    left[before] = False
    quotas: Any = [{int(g): int(rng.integers(0, n)) for g in groups}, "equal", "proportional"]
    quotas = quotas[kind % 3]
    most = int(left.sum())
    if isinstance(quotas, dict):
        most = sum(min(quotas[g], int((groups[left] == g).sum())) for g in quotas)
    if most == 0:
        return
    k = int(rng.integers(1, most + 1))
    among = {"candidates": candidates, "groups": groups, "quotas": quotas, "metric": metric}
    begin: dict[str, Any] = {"selected": before} if len(before) else {"start": start}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENTROSELECT_BLOCK", str(block))
        drawn = {"seed": 5} if begin.get("start") == "random" else {}
        found = greedy_select(pool, k, **among, **begin, **drawn)
        same(found, reference.greedy_select(pool, k, **among, **begin, **drawn))
        begin.pop("start", None)
        found = threshold_select(pool, k, seed=seed, **among, **begin)
        same(found, reference.threshold_select(pool, k, seed=seed, **among, **begin))


def test_rows_read_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of a few rows."""
    monkeypatch.setattr(budget, "LEAST_ROWS", 3)
    for name in ("duplicates", "integer_grid"):
        pool = POOLS[name]()[:150]
        for k, arguments in constraints(len(pool), 3):
            limit = smallest_limit(greedy_select, pool, 1, **arguments) + 2000
            for ours, textbook in SELECT:
                found = ours(pool, k, memory_limit=limit, **arguments)
                assert "bytes_read" in found.profile
                same(found, textbook(pool, k, **arguments))
    found = greedy_select(
        pool, 9, memory_limit=limit, start="farthest-from-center", candidates=[3, *range(20, 40)]
    )
    same(
        found,
        reference.greedy_select(
            pool, 9, start="farthest-from-center", candidates=[3, *range(20, 40)]
        ),
    )


def of_threads(pool: Any, k: int, rule: str, arguments: dict[str, Any]) -> list[Any]:
    """(picks, radius) of every process; threads stand in for them."""
    n, backend = len(pool), Cpu(BACKENDS[0])
    among = {"candidates": None, **arguments}
    constraint = _quotas.constraint(**among, k=k, n=n, before=NOTHING)[0]
    assert constraint is not None

    def new(group: ThreadGroup, part: slice) -> tuple[ShardedPool, Any]:
        own, group_ = pool[part], group
        under = backend.new_pool(as_rows("pool", own), "euclidean", sub=True)
        given: Any = (under, own.__getitem__, str(pool.dtype), "euclidean", backend, group_)
        return ShardedPool(*given), under

    together = Together([0, 5, n // 2, n], new)

    def select(rank: int) -> Any:
        sharded, state = together.pools[rank], engine.SelectionState()
        limited = ConstrainedPool.of(sharded, sharded.local, sharded.first, constraint, NOTHING)
        if rule == "greedy":
            engine.farthest_first(limited, k, None, constraint.first_pick(0), state, None)
        else:
            order = np.flatnonzero(constraint.open)
            engine.threshold_decay(limited, k, order, None, 0.7, state, None)
        limited.put_back()
        return state.joined()[0].tolist(), engine.settled_radius(sharded, 40)

    found = together.each(select)
    together.close()
    return found


def test_rows_of_several_processes() -> None:
    """Every process has the labels of the whole pool."""
    pool = POOLS["duplicates"]()[:200]
    for k, arguments in constraints(len(pool), 4)[1:]:
        oracle = reference.greedy_select(pool, k, **arguments)
        for found in of_threads(pool, k, "greedy", arguments):
            assert found == (oracle.indices.tolist(), oracle.radius)
        oracle = reference.threshold_select(pool, k, decay=0.7, **arguments)
        for found in of_threads(pool, k, "threshold", arguments):
            assert found == (oracle.indices.tolist(), oracle.radius)


@pytest.mark.parametrize(("ours", "textbook"), SELECT)
def test_a_selection_that_was_interrupted(
    ours: Callable[..., Any],
    textbook: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It resumes with the rows that were set aside, and with what is left of the quotas."""
    monkeypatch.setattr("entroselect.scale.checkpoint.SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("entroselect.scale.checkpoint._SHARE", 1e9)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "16")
    pool = POOLS["unequal_clusters"]()[:80]
    cases = constraints(len(pool), 5)
    for number, (k, arguments) in enumerate(cases):
        file, calls = tmp_path / f"{number}", itertools.count()

        def stop(*_: Any, calls: Any = calls) -> None:
            if next(calls) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ours(pool, k, checkpoint=file, progress=stop, **arguments)
        assert file.exists()
        for _ in range(2):  # from the middle, and from the end
            same(ours(pool, k, checkpoint=file, **arguments), textbook(pool, k, **arguments))
    for other, said in (
        ({}, "candidates: none here"),
        (cases[2][1], "quotas: other values there"),
        (cases[0][1], "candidates: other values there"),
    ):
        with pytest.raises(ValueError, match=rf"checkpoint: .* another selection \({said}\)"):
            ours(pool, len(pool) // 2, checkpoint=tmp_path / "1", **other)
    with pytest.raises(ValueError, match=r"checkpoint: .* another selection \(quotas: other"):
        ours(pool, 9, checkpoint=tmp_path / "1", **cases[1][1])  # quotas depend on k


def test_selected_rows_do_not_count_towards_quotas() -> None:
    line = np.arange(8.0)[:, None]
    found = greedy_select(line, 3, selected=[0, 1], groups=list("aaaabbbb"), quotas={"a": 1})
    assert found.indices.tolist() == [7, 4, 2]
    assert found.counts == {"a": 1, "b": 2}


def test_prefixes_with_fixed_quotas() -> None:
    pool, groups = POOLS["digits"]()[:300], np.arange(300) % 7
    quotas = {3: 5, 4: 0, 5: 11}
    whole = greedy_select(pool, 100, groups=groups, quotas=quotas)
    part = greedy_select(pool, 40, groups=groups, quotas=quotas)
    assert part.indices.tolist() == whole.indices[:40].tolist()


def test_one_pass_without_k() -> None:
    line = np.arange(9.0)[:, None]
    rule = {"threshold": 1.0, "decay": None, "groups": [0, 1] * 4 + [1], "quotas": {0: 2}}
    found = threshold_select(line, **rule)
    assert found.indices.tolist() == [0, 2, 5, 7]
    same(found, reference.threshold_select(line, **rule))


def test_quotas_are_those_of_the_textbook() -> None:
    """Groups of few rows, without rows, of equal sizes; every number of picks."""
    for sizes in itertools.product(range(5), repeat=4):
        by_label = dict(enumerate(sizes))
        for k in range(1, sum(sizes) + 1, 2):
            for rule in _quotas.RULES:
                found = getattr(_quotas, f"{rule}_quotas")(np.array(sizes), k)
                assert found.sum() == k
                assert found.tolist() == [*reference_quotas._quotas(rule, by_label, k).values()]


def test_rounds_and_pairs_stay_few() -> None:
    """Rows that are set aside are compared with picks only as far as the radius needs it, and full
    groups do not end rounds."""
    pool, groups = normal(4000, 24), np.arange(4000) % 400
    plain = greedy_select(pool, 800).profile
    balanced = greedy_select(pool, 800, groups=groups, quotas="equal").profile
    some = greedy_select(pool, 400, candidates=np.arange(0, 4000, 5)).profile
    assert balanced["rounds"] < 4 * plain["rounds"]
    assert balanced["share_of_pairs"] < 1.5 * plain["share_of_pairs"]
    assert some["share_of_pairs"] < 0.75


LABELS = ["b", "a", "b", "c", "a", "b"]


def test_labels_of_any_kind() -> None:
    pd, pl, pa = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    torch = pytest.importorskip("torch")
    line = np.arange(6.0)[:, None]
    expected = {"a": 1, "b": 1, "c": 1}
    for groups in (
        LABELS, tuple(LABELS), np.array(LABELS), np.array(LABELS, dtype=object), pd.Series(LABELS),
        pd.Series(LABELS, dtype="category"), pl.Series(LABELS), pa.array(LABELS),
        pa.chunked_array([LABELS[:2], LABELS[2:]]),
    ):  # fmt: skip
        assert greedy_select(line, 3, groups=groups, quotas="equal").counts == expected
    numbers = [1, 0, 1, 2, 0, 1]
    for groups in (numbers, np.array(numbers, np.uint8), torch.tensor(numbers), pl.Series(numbers)):
        found = greedy_select(line, 3, groups=groups, quotas={np.int64(1): 1}).counts
        assert found == {0: 2, 1: 1, 2: 0}
        assert all(type(label) is int for label in found)
    for candidates in (pd.Series([True, False] * 3), pa.array([0, 2, 4]), [0, 2, 4]):
        assert greedy_select(line, 2, candidates=candidates).indices.tolist() == [0, 4]


BAD = {
    "quotas: say how many": {"quotas": "equal"},
    "quotas: 7 is no label of groups, which has 0, 1": {"quotas": {7: 1}, "groups": [0, 1] * 5},
    "quotas: together they let 3 rows be picked, k is 4": {
        "quotas": {0: 1, 1: 2},
        "groups": [0, 1] * 5,
    },
    "groups: expected one label per row of the pool, got str": {"groups": "label"},
    "quotas: 0: must be at least 0, got -1": {"quotas": {0: -1}, "groups": [0, 1] * 5},
    "quotas: 1: expected an integer": {"quotas": {1: 0.5}, "groups": [0, 1] * 5},
    "quotas: expected one of equal, proportional": {"quotas": "half", "groups": [0, 1] * 5},
    "quotas: expected one of equal, proportional, or a mapping": {
        "quotas": [1, 2],
        "groups": [0, 1] * 5,
    },
    r"groups: expected one label per row of the pool, shape \(10,\), got \(9,\)": {
        "groups": [0] * 9
    },
    "groups: row 3 .the first. has the label NaN": {
        "groups": np.array([0, 1, 2, np.nan] + [5] * 6)
    },
    "groups: row 2 .the first. has the label nan": {"groups": ["a", "b", np.nan] + ["c"] * 7},
    "groups: row 1 .the first. has the label None": {"groups": ["a", None] + ["c"] * 8},
    "groups: row 4 has the label 'a' and row 0 has 1": {"groups": [1] * 4 + ["a"] * 6},
    "groups: expected integers or strings, got dtype float64": {"groups": np.zeros(10)},
    "groups: masked arrays": {"groups": np.ma.masked_equal([0, 1] * 5, 1)},
    "candidates: empty": {"candidates": []},
    "candidates: the mask is False everywhere": {"candidates": np.zeros(10, bool)},
    r"candidates: expected a mask of shape \(10,\).* got \(9,\)": {
        "candidates": np.ones(9, dtype=bool)
    },
    "candidates: index 10 .* outside the pool": {"candidates": [1, 10]},
    "candidates: index 1 is repeated": {"candidates": [1, 1]},
    r"k: must be at least 1 and at most 3 \(.* 3 of them candidates": {"candidates": [1, 2, 3]},
    "selected: names every candidate": {"candidates": [1, 2], "selected": [2, 1]},
}


@pytest.mark.parametrize("why", BAD)
def test_bad_arguments_are_named_before_any_work(why: str) -> None:
    for select in (greedy_select, threshold_select):
        for backend in ("cpu", "reference"):
            with pytest.raises((ValueError, TypeError), match=why):
                select(
                    np.arange(10.0)[:, None], 4, progress=pytest.fail, backend=backend, **BAD[why]
                )


def test_what_else_cannot_be() -> None:
    line = np.arange(10.0)[:, None]
    with pytest.raises(ValueError, match="start: row 3 may not be picked"):
        greedy_select(line, 2, start=3, candidates=[1, 2, 4])
    with pytest.raises(ValueError, match="start: row 3 may not be picked"):
        greedy_select(line, 2, start=3, groups=[0, 1] * 5, quotas={1: 0})
    assert greedy_select(line, 2, candidates=[4, 2, 1]).indices.tolist() == [1, 4]
    with pytest.raises(ValueError, match="quotas: 'equal' are shares of k"):
        threshold_select(line, threshold=1.0, decay=None, groups=[0, 1] * 5, quotas="equal")
    with pytest.raises(ValueError, match="let 0 rows be picked; raise one of them"):
        threshold_select(line, threshold=1.0, decay=None, groups=[0] * 10, quotas={0: 0})


@pytest.mark.parametrize("argument", ["candidates", "groups"])
def test_a_backend_that_cannot_says_so(argument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from entroselect.backends.cuda import Cuda

    monkeypatch.setitem(_dispatch.BACKENDS, "cuda", lambda name: Cuda(object(), "cpu"))
    with pytest.raises(ValueError, match=f"{argument}: backend 'cuda' picks among all rows"):
        greedy_select(np.eye(3), 1, backend="cuda", **{argument: [0, 1, 2]})
