"""The benchmark harness, its peers and its tables, on tiny pools."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("threadpoolctl", reason="the extra [bench] is not installed")

from benchmarks.scale import runs as scale
from benchmarks.scale import tables as scale_tables
from benchmarks.support import harness, peers, pools, products, record
from benchmarks.support import tables as table
from entroselect import (
    anchored_select,
    energy_distance,
    greedy_select,
    nearest_distances,
    reference,
)
from tests.support.processes import python

ROOT = Path(__file__).parents[2]


def needs(package: str) -> None:
    """Skips without the package; what it warns about when imported is its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(package)


@pytest.fixture
def pool() -> Any:
    return pools.normal(300, 8)


SELECTION = [
    ("numpy", peers.numpy_textbook),
    ("numpy", peers.numpy_matrix_vector),
    ("torch", peers.torch_textbook),
    ("skmatter", peers.skmatter_fps),
    ("skmatter", peers.skmatter_voronoi),
    ("fpsample", peers.fpsample_vanilla),
    ("fpsample", partial(peers.fpsample_bucket, 7)),
    ("rdkit", peers.rdkit_lazy),
]


@pytest.mark.parametrize(("package", "adapter"), SELECTION)
def test_exact_selection_peers_pick_as_the_oracle(package: str, adapter: Any, pool: Any) -> None:
    needs(package)
    picks = np.asarray(adapter(pool, 30)(), dtype=np.int64)
    expected = reference.greedy_select(pool, 30, start=int(picks[0])).indices
    np.testing.assert_array_equal(picks, expected)


@pytest.mark.parametrize(
    ("package", "adapter"),
    [("fpsample", partial(peers.fpsample_batch, 4)), ("torch_cluster", peers.torch_cluster_batch)],
)
def test_batch_peers_pick_as_the_oracle(package: str, adapter: Any) -> None:
    needs(package)
    clouds = np.random.default_rng(0).standard_normal((3, 100, 3)).astype("f4")
    for cloud, picks in zip(clouds, adapter(clouds, 30)(), strict=True):
        expected = reference.greedy_select(cloud, 30, start=int(picks[0])).indices
        np.testing.assert_array_equal(picks, expected)


def test_other_selection_peers_return_k_rows(pool: Any) -> None:
    needs("fpsample")
    needs("rdkit")
    assert len(peers.fpsample_npdu(pool, 30)()) == 30
    bits = pools.fingerprints(100, 64)
    assert len(set(peers.rdkit_bits(bits, 20)().tolist())) == 20


def test_threshold_peer_accepts_as_the_oracle(pool: Any) -> None:
    expected = reference.threshold_select(pool, 40, decay=0.9).indices
    np.testing.assert_array_equal(peers.numpy_threshold(pool, 40, 0.9)(), expected)


def test_anchored_peers_come_near_to_the_reference() -> None:
    """An exchange ends no farther than herding, and both nearer than random rows."""
    x, real = 1.3 * pools.normal(300, 5), pools.normal(900, 5)[300:]
    rows = [
        peers.numpy_random(x, 30)(),
        peers.numpy_herding(x, 30, real)(),
        peers.numpy_exchange(x, 30, real)(),
    ]
    assert all(len(set(picks.tolist())) == 30 for picks in rows)
    away = [energy_distance(x[picks], real) for picks in rows]
    assert away[0] > 2 * away[1] > 2 * away[2]
    found = anchored_select(x, 30, real, diversity=0, start=rows[2], max_exchanges=1)
    assert found.exchanges == 0


NEIGHBOURS = [
    ("faiss", peers.faiss_flat),
    ("sklearn", peers.sklearn_brute),
    ("torch", peers.torch_chunks),
    ("scipy", peers.scipy_tree),
]


@pytest.mark.parametrize(("package", "adapter"), NEIGHBOURS)
def test_neighbour_peers_find_the_nearest_other_row(package: str, adapter: Any, pool: Any) -> None:
    needs(package)
    distances, indices = adapter(pool)()
    expected = nearest_distances(pool)
    np.testing.assert_array_equal(indices, expected.indices[:, 0])
    np.testing.assert_allclose(distances, expected.distances[:, 0], rtol=1e-5)


@pytest.mark.parametrize("product", [products.with_numpy, products.with_torch])
def test_products_are_whole_and_chunked(
    product: Any, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if product is products.with_torch:
        needs("torch")
    expected = pool @ pool[:20].T
    np.testing.assert_allclose(product(pool, pool[:20])(), expected, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(products, "OUTPUT_BYTES", 4 * 20 * 70)
    last = product(pool, pool[:20])()
    np.testing.assert_allclose(last, expected[280:], rtol=1e-4, atol=1e-4)


def contest(*others: Any, log: list[str], share_s: float = 1.0) -> harness.Contest:
    def run() -> str:
        log.append("ours")
        return "answer"

    ours = harness.Contestant("entroselect", "ours", run)
    case = harness.Case("normal", 100, 2, 5, share_s)
    return harness.Contest(case, [ours, *others], lambda answer: None)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(harness, "SETTLE_S", 0.0)
    monkeypatch.setattr(harness, "MOST_ROUNDS", 4)
    monkeypatch.setattr(harness, "limit_threads", lambda: None)
    return []


def test_contestants_take_turns(log: list[str]) -> None:
    others = [
        harness.Contestant(name, "exact", lambda name=name: log.append(name)) for name in "ab"
    ]
    contesting = contest(*others, log=log)
    log.clear()
    rows = contesting.run()
    assert log == ["a", "b", "ours"] * 4
    assert [row["contestant"] for row in rows] == ["entroselect", "a", "b"]
    assert [row["rounds"] for row in rows] == [4, 4, 4]


def test_ratios_pair_the_runs_of_a_turn(log: list[str]) -> None:
    product = harness.Contestant("product (NumPy)", "product", lambda: None)
    contesting = contest(product, log=log)
    contesting.ours.seconds = contesting.ours.ours = [1.0, 2.0, 30.0]
    contesting.others[0].seconds = [2.0, 4.0, 5.0]
    contesting.others[0].ours = [1.0, 2.0, 30.0]
    ours, theirs = contesting.rows()
    assert (ours["p50_s"], ours["matmul_ratio"]) == ("2", "0.500")
    assert theirs["ratio_to_ours"] == "2"


def test_slow_contestants_run_once_or_not_at_all(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"slow": 0.6, "quick": 0.01, "ours": 0.01, "hopeless": 99.0}

    def timed(run: Any) -> tuple[float, Any]:
        answer = run()
        return seconds[log[-1]], answer

    monkeypatch.setattr(harness, "timed", timed)
    slow = harness.Contestant("slow", "exact", lambda: log.append("slow"))
    hopeless = harness.Contestant(
        "hopeless", "exact", lambda: pytest.fail("ran"), probe=lambda: log.append("hopeless")
    )
    rows = contest(slow, hopeless, log=log).run()
    assert log.count("slow") == 1
    assert rows[1]["rounds"] == 1
    assert rows[1]["ratio_to_ours"] == "60"
    assert rows[2]["note"] == "skipped: about 99 s, limit 60 s"


def test_nothing_is_timed_before_our_answer_is_verified(log: list[str]) -> None:
    ours = harness.Contestant("entroselect", "ours", lambda: "wrong")
    other = harness.Contestant("a", "exact", lambda: log.append("a"))

    def verify(answer: Any) -> None:
        raise AssertionError(answer)

    with pytest.raises(AssertionError, match="wrong"):
        harness.Contest(harness.Case("normal", 9, 2), [ours, other], verify)
    assert log == []


def test_missing_peers_leave_a_row() -> None:
    def adapter(_x: Any) -> Any:
        raise ImportError

    skipped = harness.peer("gone", "gone", adapter, None)
    assert skipped == harness.Skipped("gone", "exact", "gone is not installed")


def test_agreement_counts_positions_from_the_peers_own_start(pool: Any) -> None:
    from benchmarks.bench_greedy import agreement

    expected = greedy_select(pool, 10).indices
    swapped = expected.copy()
    swapped[[8, 9]] = swapped[[9, 8]]
    assert agreement(pool, expected, swapped) == "8 of 10"
    elsewhere = greedy_select(pool, 10, start=7).indices
    assert agreement(pool, expected, elsewhere) == "10 of 10, started at row 7"


def row(case: str, contestant: str, kind: str, seconds: float, **more: Any) -> record.Row:
    given = {"case": case, "n": 1000, "d": 3, "k": 10, "contestant": contestant, "kind": kind}
    given |= {"p50_s": seconds, "ratio_to_ours": seconds / 0.5, "threads": 2, "cpu": "a CPU"}
    return given | {"instruction_set": "cpu:avx2", "commit": "abc"} | more


def test_rows_of_a_case_are_replaced_and_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "results" / "greedy.csv"
    record.write(path, [row("one", "entroselect", "ours", 1.0), row("one", "a", "exact", 2.0)])
    record.write(path, [row("two", "entroselect", "ours", 3.0)])
    record.write(path, [row("one", "entroselect", "ours", 4.0)])
    found = [(line["case"], line["contestant"], line["p50_s"]) for line in record.read(path)]
    assert found == [("one", "entroselect", "4.0"), ("two", "entroselect", "3.0")]
    assert [file.name for file in path.parent.iterdir()] == ["greedy.csv"]


def test_provenance_is_complete() -> None:
    found = record.provenance()
    assert tuple(found) == record.PROVENANCE
    assert found["numpy"] == np.__version__
    assert found["dirty"] in ("yes", "no", "unknown")


def test_the_commit_can_be_told_where_there_is_no_repository(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record, "_git", lambda *arguments: "")
    monkeypatch.delenv("ENTROSELECT_COMMIT", raising=False)
    assert record.provenance()["commit"] == "none"
    monkeypatch.setenv("ENTROSELECT_COMMIT", "0123abcd")
    found = record.provenance()
    assert (found["commit"], found["dirty"]) == ("0123abcd", "unknown")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    case = "normal 1000 x 3, k=10"
    record.write(
        tmp_path / "results" / "greedy.csv",
        [
            row(case, "entroselect", "ours", 0.5, matmul_ratio="0.25", peak_extra_mib="3"),
            row(case, "fast", "exact", 0.05, agreement="9 of 10"),
            row(case, "slow", "exact", 5.0),
        ],
    )
    return tmp_path / "results"


def test_table_shows_the_fastest_peer_and_where_we_lose(results: Path) -> None:
    text = table.render(results)
    assert "| greedy | normal | 1,000 x 3 | 10 | 0.5 s | 0.25 | fast, 50 ms | 10x slower |" in text
    assert "- fast is 10 times as fast as `greedy_select` on normal 1,000 x 3" in text
    assert "slow, " not in text
    assert "| normal | 1,000 x 3 | 10 | 0 MiB | 3 MiB | 0 MiB |" in text
    assert "(" not in text.split("10x slower")[0]


def test_table_shows_the_run_before_and_the_doublings(results: Path) -> None:
    case = "normal 1000 x 3, k=10"
    again = [row(case, "entroselect", "ours", 0.6, ratio_to_ours=1, matmul_ratio="0.27")]
    record.write(results / "greedy.csv", again)
    assert "| 0.6 s (0.5 s) | 0.27 (0.25) |" in table.render(results)
    other = {**again[0], "commit": "def"}
    record.write(results / "greedy.csv", [other])
    assert "(0.6 s)" not in table.render(results)
    scaling = [
        row("normal 1000 x 3, k=10", "entroselect", "ours", 0.5),
        row("normal 2000 x 3, k=10", "entroselect", "ours", 0.9, n=2000),
        row("normal 2000 x 3, k=20", "entroselect", "ours", 1.2, n=2000, k=20),
        row("normal 2000 x 3, k=20", "entroselect, 1 thread", "ours", 2.0, ratio_to_ours=1.8),
    ]
    record.write(results / "scaling.csv", scaling)
    text = table.render(results)
    assert "| 2,000 x 3 | 10 | 0.9 s | x 1.80 |  |  |" in text
    assert "| 2,000 x 3 | 20 | 1.2 s |  | x 1.33 | 1.80x |" in text


def test_table_shows_what_anchored_selections_reach(results: Path) -> None:
    case = "normal 1000 x 3, k=10"
    some = [row(case, "herding", "heuristic", 0.5, agreement="objective 0.1")]
    record.write(results / "anchored.csv", [*some, {**some[0], "contestant": "x", "p50_s": ""}])
    text = table.render(results)
    assert "| herding | normal | 1,000 x 3 | 10 | 0.5 s | objective 0.1 |" in text
    assert "| x |" not in text
    assert "herding" not in table.render(results, headline=True)


def test_table_is_written_between_the_markers_and_checked(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    page = tmp_path / "page.md"
    page.write_text(f"{table.BEGIN}\nold\n{table.END}\n")
    arguments = ["--results", str(results), "--readme", str(readme), "--page", str(page)]
    assert table.main([*arguments, "--check"]) == 1
    assert "out of date" in capsys.readouterr().out
    assert table.main(arguments) == 0
    assert table.main([*arguments, "--check"]) == 0
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text + page.read_text()
    assert "| greedy | normal |" in page.read_text()
    with pytest.raises(ValueError, match="markers"):
        table.replaced("no markers", "table")


def test_readme_is_up_to_date() -> None:
    readme = ROOT / "README.md"
    if not readme.exists() or table.BEGIN not in readme.read_text(encoding="utf-8"):
        pytest.skip("README.md has no benchmark table")
    assert table.main(["--check"]) == 0


def test_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.support.plot import draw

    rows = [
        row(f"normal {n} x 3, k={k}", name, kind, n * k / 1e6, n=n, k=k)
        for n, k in ((100, 10), (200, 20), (200, 50))
        for name, kind in (("entroselect", "ours"), ("product (NumPy)", "product"))
    ]
    draw(rows, tmp_path / "images" / "time.png")
    assert (tmp_path / "images" / "time.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_quick_run_writes_every_file(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    for package in ("torch", "scipy"):
        needs(package)
    quick = {"ENTROSELECT_BENCH_QUICK": "1", "ENTROSELECT_BENCH_RESULTS": str(tmp_path)}
    some = ["-k", "20000x64 or 20000x384 or 2048x3"]
    python("-m", "pytest", "benchmarks", *some, cwd=ROOT, environment=quick, seconds=600)
    names = {path.stem for path in tmp_path.iterdir()}
    assert names == {
        "greedy", "greedy_sweep", "weights", "quotas", "deduplicate", "scaling", "threshold",
        "anchored", "batch", "nearest", "entropy",
    }  # fmt: skip
    for path in tmp_path.iterdir():
        ours = [line for line in record.read(path) if line["contestant"] == "entroselect"]
        assert ours
        for line in ours:
            assert float(line["p50_s"]) > 0
            assert line["instruction_set"].startswith("cpu:")
            assert line["commit"]


def test_runs_at_scale_are_watched_and_compared(tmp_path: Path) -> None:
    scale.write_pool(tmp_path / "pool.npy", 3000, 16)
    whole = scale.run(tmp_path / "pool.npy", 3000, 100)
    row = scale.compared(scale.run(tmp_path / "pool.npy", 3000, 100, limit=230_000), whole)
    assert (row["same_indices"], row["way"]) == ("yes", "streamed")
    assert row["reads_per_row"] >= 1
    assert row["peak_mib"] > row["base_mib"] > 10
    with pytest.raises(AssertionError, match="another selection"):
        scale.compared({**row, "indices": row["indices"][::-1]}, whole)


def test_the_page_of_scale_is_up_to_date() -> None:
    page = scale_tables.PAGE.read_text(encoding="utf-8")
    assert table.replaced(page, scale_tables.render(record.RESULTS / "scale.csv")) == page
