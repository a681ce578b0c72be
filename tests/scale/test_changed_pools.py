"""Pools that change during a call: an error, never an answer from mixed rows or an endless loop."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import (
    engine,
    greedy_select,
    kl_entropy,
    nearest_distances,
    open_pool,
    threshold_select,
)
from entroselect.scale import budget
from entroselect.scale.marks import row_marks
from tests.conftest import normal

LIMIT = 12_000  # for 200 rows of 4 float32


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small rounds, tiles and blocks."""
    monkeypatch.setattr(budget, "LEAST_ROWS", 3)
    monkeypatch.setenv("ENTROSELECT_BLOCK", "8")


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that must be decoded are decoded again and again: a copy has no room."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 0))


class Rows:
    """Items that a test writes to."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        return self.rows[row]


def once(change: Callable[[], object], at: int = 2) -> Callable[..., None]:
    """As `progress`: calls `change` after `at` rounds."""
    rounds = [0]

    def report(*_: Any) -> None:
        rounds[0] += 1
        if rounds[0] == at:
            change()

    return report


# Marks


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u1", "u2"])
def test_marks_differ_wherever_rows_do(dtype: str) -> None:
    rng = np.random.default_rng(0)
    for d in (1, 2, 3, 5, 8, 17, 64):
        rows = (rng.standard_normal((200, d)) * 50).astype(dtype)
        before = row_marks(rows)
        assert before.dtype == np.uint32
        assert (before != 0).all()
        for row in range(200):  # one bit of each
            rows[row].view("u1")[rng.integers(rows[row].nbytes)] ^= 1 << rng.integers(8)
        assert (row_marks(rows) != before).all()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_marks_tell_what_sums_would_not(dtype: str) -> None:
    rows = normal(500, 8).astype(dtype)
    before = row_marks(rows)
    assert (row_marks(-rows) != before).all()  # even numbers of the highest bits
    for columns in ([1, 0, 2, 3, 4, 5, 6, 7], [4, 5, 6, 7, 0, 1, 2, 3], [7, 1, 2, 3, 4, 5, 6, 0]):
        moved = (rows[:, columns] != rows).any(axis=1)
        assert ((row_marks(rows[:, columns]) != before) == moved).all()
    half = rows.copy()
    half[:, ::2] *= -1
    assert (row_marks(half) != before).all()
    assert len(np.unique(before)) == 500
    apart = np.zeros((500, 20), dtype)
    apart[:, :8] = rows
    assert (row_marks(apart[:, :8]) == before).all()
    assert (row_marks(rows[100:101]) == before[100:101]).all()


# Memory-mapped arrays


def test_a_map_is_read_and_not_what_has_its_name_now(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((20, 5)).astype("f4")
    np.save(tmp_path / "m.npy", rows)
    mapped = np.load(tmp_path / "m.npy", mmap_mode="r")
    assert open_pool(mapped).format == "memmap"  # its file, as long as it is
    assert open_pool(mapped[3:9]).read(0, 1).tolist() == rows[3:4].tolist()
    np.save(tmp_path / "n.npy", rows[::-1].copy())
    (tmp_path / "n.npy").replace(tmp_path / "m.npy")
    for limit in (None, "1MiB"):
        assert greedy_select(mapped, 5, memory_limit=limit).indices.tolist() == [0, 9, 2, 15, 13]
    assert open_pool(mapped).take(np.array([0, 19])).tolist() == rows[[0, 19]].tolist()
    (tmp_path / "m.npy").unlink()
    assert open_pool(mapped).read(0, 20).tolist() == rows.tolist()


def test_a_map_whose_file_was_renamed(tmp_path: Path) -> None:
    rows = normal(20, 5)
    np.save(tmp_path / "m.npy", rows)
    mapped = np.load(tmp_path / "m.npy", mmap_mode="r")
    (tmp_path / "m.npy").rename(tmp_path / "elsewhere.npy")
    np.save(tmp_path / "m.npy", rows + 1)
    assert open_pool(mapped).read(0, 20).tolist() == rows.tolist()


# Files


def parquet(path: Path, rows: Any) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    pq.write_table(pa.table({"v": vectors}), path, row_group_size=50)
    return path


def safetensors(path: Path, rows: Any) -> Path:
    pytest.importorskip("safetensors.numpy").save_file({"x": rows}, path)
    return path


def npy(path: Path, rows: Any) -> Path:
    with path.open("wb") as file:
        np.save(file, rows)
    return path


def zarr(path: Path, rows: Any) -> Path:
    array = pytest.importorskip("zarr").create_array(
        str(path), shape=rows.shape, dtype=rows.dtype, chunks=(20, rows.shape[1]), overwrite=True
    )
    array[:] = rows
    return path


WRITE = {"npy": npy, "parquet": parquet, "safetensors": safetensors, "zarr": zarr}


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("suffix", WRITE)
def test_a_file_that_another_takes_the_place_of(
    suffix: str, shards: bool, tmp_path: Path, no_room: None
) -> None:
    if shards and suffix not in ("npy", "parquet"):
        pytest.skip("no folders of these")
    rows, write = normal(400 if suffix == "parquet" else 200, 4), WRITE[suffix]
    folder = tmp_path / "pool"
    folder.mkdir()
    path = write(folder / f"a.{suffix}", rows)
    if shards:
        write(folder / f"b.{suffix}", rows + 1)
    other = write(tmp_path / f"other.{suffix}", normal(len(rows), 4, seed=1))
    source = open_pool(folder if shards else path)

    def replace() -> None:
        if path.is_dir():
            path.rename(tmp_path / "old")
        other.rename(path)

    source.overhead = 0  # so that the limit can be as small as the pool
    for part in getattr(source, "parts", [source]):
        part._batch_rows = 20  # of parquet
    with pytest.raises(ValueError, match="changed since"):
        greedy_select(source, 150, memory_limit=3 * LIMIT, progress=once(replace))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda path: npy(path, normal(200, 4, seed=1)), "written to"),
        (lambda path: os.truncate(path, 900), "became shorter"),
        (lambda path: path.write_bytes(path.read_bytes() + b"more"), "became longer"),
    ],
)
def test_a_file_that_is_written_to(change: Any, what: str, tmp_path: Path) -> None:
    path = npy(tmp_path / "pool.npy", normal(200, 4))
    os.utime(path, (0, 0))
    with pytest.raises(ValueError, match=rf"pool\.npy: changed since it was opened \(.*{what}"):
        greedy_select(open_pool(path), 150, memory_limit=LIMIT, progress=once(lambda: change(path)))


@pytest.mark.parametrize("select", [greedy_select, threshold_select])
def test_rows_that_change_behind_an_unchanged_file(select: Any, tmp_path: Path) -> None:
    path = npy(tmp_path / "pool.npy", normal(200, 4))
    os.utime(path, (0, 0))

    def change() -> None:
        npy(path, normal(200, 4) + np.float32(1))
        os.utime(path, (0, 0))

    with pytest.raises(ValueError, match=r"features: row \d+ of .*pool\.npy changed since it was"):
        select(open_pool(path), 150, memory_limit=LIMIT, progress=once(change))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 0.0])
@pytest.mark.parametrize("select", [greedy_select, threshold_select])
def test_items_that_change_after_the_first_pass(select: Any, value: float, no_room: None) -> None:
    rows = normal(200, 4)
    with pytest.raises(ValueError, match=r"features: row \d+ of Rows of 200 items changed since"):
        select(
            Rows(rows), 150, memory_limit=LIMIT, progress=once(lambda: rows.__setitem__(..., value))
        )


@pytest.mark.parametrize("select", [greedy_select, threshold_select])
def test_rows_that_were_decoded_once_are_those_of_that_moment(select: Any) -> None:
    rows = normal(200, 4)
    whole = select(rows.copy(), 150)
    change = once(lambda: rows.__setitem__(..., np.nan))
    found = select(open_pool(Rows(rows)), 150, memory_limit=LIMIT, progress=change)
    assert np.isnan(rows).all()
    assert found.indices.tolist() == whole.indices.tolist()


def test_a_file_cut_short_before_it_is_held(tmp_path: Path) -> None:
    """No bus error: the commands hold rows in memory, and do not map them."""
    pools = pytest.importorskip("entroselect.cli.inputs")
    path = npy(tmp_path / "pool.npy", normal(200, 4))
    source = pools.open_source(path)
    os.truncate(path, 1000)
    with pytest.raises(ValueError, match=r"pool\.npy: changed .*became shorter"):
        pools._rows(source)
    rows = pools.read(npy(path, normal(200, 4))).rows
    os.truncate(path, 0)
    assert rows.sum() == normal(200, 4).sum()


# Searches


@pytest.fixture
def in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "plan_alone", lambda *_: budget.TilePlan(block=40, tile=20))


class Turning(Rows):
    """Items of which one is another from some reading on."""

    def __init__(self, rows: Any, row: int, reading: int) -> None:
        super().__init__(rows)
        self._row, self._left = row, reading

    def __getitem__(self, row: int) -> Any:
        self._left -= row == self._row
        return self.rows[row] + np.float32(row == self._row and self._left <= 0)


@pytest.mark.parametrize("reading", [2, 3, 5])
def test_rows_that_change_between_the_passes_of_a_search(
    reading: int, in_tiles: None, no_room: None
) -> None:
    rows = normal(200, 4)
    with pytest.raises(ValueError, match="queries: row 190 of Turning of 200 items changed since"):
        nearest_distances(open_pool(Turning(rows, 190, reading)), memory_limit=10**9)
    points = open_pool(Turning(rows, 3, reading))
    with pytest.raises(ValueError, match="points: row 3 of Turning of 200 items changed since"):
        nearest_distances(rows, points, memory_limit=10**9)


def test_rows_that_change_before_copies_are_searched_again(in_tiles: None, no_room: None) -> None:
    rows = np.repeat(normal(100, 4), 2, axis=0)
    with pytest.raises(ValueError, match="features: row 160 of Turning of 200 items changed"):
        kl_entropy(open_pool(Turning(rows, 160, 6)), duplicates="drop", memory_limit=10**9)


# Rows in memory are read where they are: any answer is as good as another, but there must be one


@pytest.mark.parametrize("select", [greedy_select, threshold_select])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 0.0])
def test_arrays_that_another_writes_to(select: Any, value: float) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rows = normal(150, int(rng.choice([1, 2, 8, 40])), seed, rng.choice(["f4", "f8"]))
        which = rng.integers(0, 150, int(rng.integers(1, 150)))
        where = (rows, which)
        change = once(lambda where=where: where[0].__setitem__(where[1], value), at=1 + seed % 3)
        indices = np.arange(1)
        with contextlib.suppress(RuntimeError):
            indices = select(rows, int(rng.integers(20, 150)), progress=change).indices
        assert len(np.unique(indices)) == len(indices)
        assert indices.min() >= 0
        assert indices.max() < 150


class Stuck:
    """A pool whose rounds bring nothing, as rows that are never up to date would."""

    n = d = 4
    count = 1
    available = 3

    def __init__(self, found: Any = (), rival: float = 1.0) -> None:
        self._found, self._rival, self._rounds = np.array(found, np.int64), rival, 0

    def add_picks(self, rows: Any) -> None: ...
    def refresh(self, rows: Any = None, enough: float = 0.0) -> None: ...
    def widest(self) -> float:
        return self._rival

    def frontier(self, size: int) -> Any:
        self._rounds += 1
        assert self._rounds < 100, "no end"
        return np.array([1, 2]), self._rival, 3

    def settle(self, *_: Any) -> Any:
        return self._found, np.ones(len(self._found)), -1.0

    def next_in_order(self, order: Any, start: int, size: int, floor: float) -> Any:
        self._rounds += 1
        assert self._rounds < 100, "no end"
        return order[:0], len(order)

    def settle_in_order(self, *_: Any) -> Any:
        return self._found, np.ones(len(self._found))


@pytest.mark.parametrize("pool", [Stuck(), Stuck(rival=np.nan), Stuck([-1]), Stuck([4])])
def test_loops_end(pool: Any) -> None:
    for call in (
        lambda: engine.farthest_first(pool, 3, None, 0, engine.SelectionState(), None),
        lambda: engine.settle_block(pool, 0.0, 0, 3, 0.0),
        lambda: engine.threshold_decay(
            pool, 3, np.arange(4), 1.0, 0.9, engine.SelectionState(), None
        ),
        lambda: engine.settled_radius(pool, 2),
    ):
        with pytest.raises(RuntimeError, match="rows changed"):
            call()
        pool._rounds = 0
