"""Checkpoints: a selection never resumes from one that is damaged, changed or of another
selection."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import greedy_select, open_pool, reference, threshold_select
from entroselect.scale import budget
from tests.conftest import normal, same_selection
from tests.fuzz import fuzz_checkpoint

NO_WORK = pytest.fail  # as `progress`: no round may begin


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Twelve picks from fuzz_checkpoint.POOL."""
    greedy_select(fuzz_checkpoint.POOL, 12, checkpoint=tmp_path / "c")
    return tmp_path / "c"


def go_on(file: Path, pool: Any = fuzz_checkpoint.POOL, k: int = 30, **options: Any) -> Any:
    return greedy_select(pool, k, checkpoint=file, **options)


def refused(file: Path, match: str, **options: Any) -> None:
    with pytest.raises(ValueError, match=f"checkpoint: .*{match}"):
        go_on(file, **options, progress=lambda *_: NO_WORK("went on"))


def test_numbers_of_numpy_are_the_same_arguments(tmp_path: Path) -> None:
    """As `range(np.int64(3))` and such hand them out; text of them is another one in NumPy 2."""
    pool = normal(60, 4)
    expected = greedy_select(pool, 9, start=3)
    greedy_select(pool, 4, start=np.int64(3), checkpoint=tmp_path / "c")
    found = go_on(tmp_path / "c", pool, 9, start=3)
    assert found.indices.tolist() == expected.indices.tolist()
    threshold_select(pool, 4, seed=np.uint32(5), checkpoint=tmp_path / "t")
    found = threshold_select(pool, 9, seed=5, checkpoint=tmp_path / "t")
    assert found.indices.tolist() == threshold_select(pool, 9, seed=5).indices.tolist()


# A pool that changed


@pytest.mark.parametrize("limit", [None, 60_000])
@pytest.mark.parametrize("select", [greedy_select, threshold_select])
def test_one_changed_row_is_found(
    select: Callable[..., Any], limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "LEAST_ROWS", 3)
    pool = np.random.default_rng(0).standard_normal((1000, 8))
    select(pool, 20, checkpoint=tmp_path / "c")
    pool[501] = 1000.0
    with pytest.raises(ValueError, match=r"features: row 501 .*changed since the checkpoint"):
        select(pool, 40, checkpoint=tmp_path / "c", memory_limit=limit)
    pool = np.random.default_rng(0).standard_normal((1000, 8))
    found = select(pool, 40, checkpoint=tmp_path / "c", memory_limit=limit)
    assert ("bytes_read" in found.profile) == (limit is not None)
    assert found.indices.tolist() == select(pool, 40).indices.tolist()


def test_rows_that_were_replaced_or_come_in_another_order(tmp_path: Path) -> None:
    pool = normal(3000, 6)
    greedy_select(pool, 20, checkpoint=tmp_path / "c")
    other = pool.copy()
    other[np.random.default_rng(1).permutation(3000)[:2936]] += 1
    turned = pool.copy()
    turned[[7, 1999]] = pool[[1999, 7]]
    for changed, count in ((other, 2936), (turned, 2)):
        with pytest.raises(ValueError, match=rf"changed .*\({count} of 3000 rows"):
            greedy_select(changed, 40, checkpoint=tmp_path / "c")


def test_rows_are_the_same_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory, in a file, of integers and in the other byte order."""
    monkeypatch.setattr(budget, "LEAST_ROWS", 3)
    pool = np.random.default_rng(0).integers(-99, 99, (300, 5)).astype(np.int32)
    oracle = reference.greedy_select(pool, 60)
    greedy_select(pool, 20, checkpoint=tmp_path / "c")
    np.save(tmp_path / "pool.npy", pool.astype(">i4"))
    source = open_pool(tmp_path / "pool.npy")
    found = greedy_select(source, 40, checkpoint=tmp_path / "c", memory_limit=20_000)
    assert "bytes_read" in found.profile
    apart = np.zeros((300, 9), np.int32)
    apart[:, :5] = pool
    same_selection(greedy_select(apart[:, :5], 60, checkpoint=tmp_path / "c"), oracle)


def test_rows_count_as_they_were_at_the_beginning(tmp_path: Path) -> None:
    """A row that was written to before the first save is not the checkpoint's."""
    pool = normal(500, 4)
    greedy_select(
        pool, 20, checkpoint=tmp_path / "c", progress=lambda *_: pool[77].__setitem__(0, 0.5)
    )
    with pytest.raises(ValueError, match=r"features: row 77 changed since the checkpoint"):
        greedy_select(pool, 40, checkpoint=tmp_path / "c")


# Damaged files


@pytest.mark.slow
def test_bits_that_fell_over_and_files_cut_short(saved: Path) -> None:
    whole = saved.read_bytes()
    rng = np.random.default_rng(0)
    bits = [(bit,) for bit in rng.choice(8 * len(whole), 300, replace=False)]
    bits += [tuple(pair) for pair in rng.integers(0, 8 * len(whole), (100, 2)) if len({*pair}) == 2]
    for places in bits:
        data = bytearray(whole)
        for bit in places:
            data[bit // 8] ^= 1 << (bit % 8)
        saved.write_bytes(data)
        refused(saved, "damaged .*delete it")
    for size in (0, 1, 7, 8, 20, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:size])
        refused(saved, "damaged")
    saved.write_bytes(whole + b"\0")
    refused(saved, "damaged")
    saved.write_bytes(whole)
    same_selection(go_on(saved), reference.greedy_select(fuzz_checkpoint.POOL, 30))


def rewritten(file: Path, change: Callable[[dict[str, Any], dict[str, Any], dict], None]) -> None:
    """The file with other contents, for which it has the right checksum."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    state = json.loads(header.pop("__metadata__")["entroselect"])
    names = {"I64": "i8", "F64": "f8", "I32": "i4", "U32": "u4", "U8": "u1"}
    arrays = {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], names[entry["dtype"]]).copy()
        for name, entry in header.items()
    }
    change(arrays, state, header)
    text = json.dumps({"__metadata__": {"entroselect": json.dumps(state)}, **header}).encode()
    data = len(text).to_bytes(8, "little") + text
    data += b"".join(array.tobytes() for array in arrays.values())
    file.write_bytes(fuzz_checkpoint.fitted(data))


def into(name: str, place: Any, value: Any) -> Callable[..., None]:
    def change(arrays: Any, *_: Any) -> None:
        arrays[name][place] = value

    return change


def stating(name: str, value: Any) -> Callable[..., None]:
    return lambda arrays, state, header: state["trail"].__setitem__(name, value)


FREE = int(np.setdiff1d(np.arange(60), greedy_select(fuzz_checkpoint.POOL, 30).indices)[0])

WRONG = {
    "a pick beyond the pool": into("picks", 3, 10**9),
    "a pick of -1": into("picks", 3, -1),
    "a pick twice": into("picks", 3, 0),
    "a distance of nan": into("squared", 5, np.nan),
    "a distance below 0": into("squared", 5, -1.0),
    "distances that increase": into("squared", 5, 1e9),
    "a later distance of inf": into("squared", 1, np.inf),
    "a threshold of nan": into("thresholds", 5, np.nan),
    "a bound of nan": into("bounds", FREE, np.nan),
    "a bound of inf": into("bounds", FREE, np.inf),
    "a bound below 0": into("bounds", FREE, -0.5),
    "a row that is no pick and may not be picked": into("bounds", FREE, -1.0),
    "a pick that may be picked again": into("bounds", 0, 1.0),
    "too many choices met": into("met", FREE, 10**6),
    "fewer than none met": into("met", FREE, -1),
    "a row without a mark": into("marks", FREE, 0),
    "tau of inf": stating("tau", float("inf")),
    "tau of nan": stating("tau", float("nan")),
    "tau of another kind": stating("tau", "1"),
    "a floor of nan": stating("floor", float("nan")),
    "a floor below 0": stating("floor", -2.0),
    "a position beyond the pool": stating("position", 61),
    "a position that is no integer": stating("position", 1.5),
    "rounds below 0": stating("rounds", -1),
    "rounds that are missing": lambda a, state, h: state["trail"].pop("rounds"),
    "what nobody knows": stating("more", 1),
    "no trail": lambda a, state, h: state.pop("trail"),
    "no about": lambda a, state, h: state.pop("about"),
    "another format": lambda a, state, h: state.update(format=1),
    "no format": lambda a, state, h: state.pop("format"),
    "another dtype": lambda a, s, header: header["bounds"].update(dtype="I64"),
    "another shape": lambda a, s, header: header["bounds"].update(shape=[59]),
    "many picks": lambda a, s, header: header["picks"].update(shape=[10**12]),
    "a shape that is text": lambda a, s, header: header["picks"].update(shape=["12"]),
    "other offsets": lambda a, s, header: header["met"].update(data_offsets=[0, 240]),
    "an array that is missing": lambda arrays, s, header: (header.pop("met"), arrays.pop("met")),
}


@pytest.mark.parametrize("what", WRONG)
def test_every_range_is_checked(what: str, saved: Path) -> None:
    rewritten(saved, lambda *_: None)
    assert len(go_on(saved, k=12).indices) == 12  # the right checksum is there
    rewritten(saved, WRONG[what])
    refused(saved, "damaged")


def test_a_header_nested_too_deeply(saved: Path) -> None:
    text = b"[" * 200_000
    saved.write_bytes(fuzz_checkpoint.fitted(len(text).to_bytes(8, "little") + text + bytes(64)))
    refused(saved, "damaged")


@pytest.mark.slow
def test_fuzz_targets() -> None:
    """A short turn of what `make fuzz` does for long."""
    rng = np.random.default_rng(0)
    for seeds, run in fuzz_checkpoint.targets().values():
        for seed in seeds:
            run(seed)
            for _ in range(25):
                data = bytearray(seed)
                data[rng.integers(len(data))] ^= 1 << rng.integers(8)
                try:
                    run(bytes(data))
                except (ValueError, OSError):
                    continue


# The folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_that_cannot_be_written_to_is_found_out_at_once(tmp_path: Path) -> None:
    (tmp_path / ".c.partial").mkdir()  # root may write to folders that are read-only
    with pytest.raises(OSError, match=r"checkpoint: .*\.c\.partial cannot be written"):
        go_on(tmp_path / "c", progress=lambda *_: NO_WORK("went on"))
    with pytest.raises(OSError, match=r"checkpoint: .*cannot be written"):
        go_on(Path("/proc/c"), progress=lambda *_: NO_WORK("went on"))
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file")
    assert names(tmp_path) == [".c.partial", "pipe"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("years of work")
    (tmp_path / ".c.partial").symlink_to(thesis)
    go_on(tmp_path / "c")
    assert thesis.read_text() == "years of work"
    (tmp_path / ".c.lock").symlink_to(thesis)
    with pytest.raises(OSError, match=r"checkpoint: .*\.c\.lock"):
        go_on(tmp_path / "c")
    assert thesis.read_text() == "years of work"


def test_what_a_killed_run_left_is_swept_up(tmp_path: Path) -> None:
    (tmp_path / ".c.partial").write_bytes(b"half")
    (tmp_path / ".c.lock").touch()
    go_on(tmp_path / "c")
    assert names(tmp_path) == ["c"]
    with pytest.raises(KeyError):  # however it ends
        go_on(tmp_path / "c", k=40, progress=lambda *_: {}["interrupted"])
    refused(tmp_path / "c", "belongs to another selection", metric="cosine")
    assert names(tmp_path) == ["c"]


def test_two_selections_at_once(tmp_path: Path) -> None:
    said = []

    def meanwhile(*_: Any) -> None:
        with pytest.raises(ValueError, match="in use by another selection") as caught:
            go_on(tmp_path / "c", k=20)
        said.append(str(caught.value))

    go_on(tmp_path / "c", progress=meanwhile)
    assert said
    same_selection(go_on(tmp_path / "c"), reference.greedy_select(fuzz_checkpoint.POOL, 30))
