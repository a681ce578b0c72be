"""Picked vectors come back as they were added, from memory or from the file."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import greedy_select, reference
from entroselect.scale import budget
from entroselect.scale.pick_store import PickStore
from tests.conftest import normal, same_selection
from tests.support.limits import smallest_limit


@pytest.mark.parametrize("in_memory", [0, 1, 3, 100])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "uint16", "float64"])
def test_every_vector_in_tiles_newest_first(dtype: str, in_memory: int) -> None:
    vectors = np.random.default_rng(0).integers(0, 200, (47, 3)).astype(dtype)
    store = PickStore(3, np.dtype(dtype), 5, in_memory)
    at = 0
    for size in (1, 0, 4, 6, 20, 3, 13):
        store.append(vectors[at : at + size])
        at += size
        for first in {0, at // 2, max(0, at - 1)}:
            tiles = list(store.tiles(first))
            starts = [start for start, _ in tiles]
            assert starts == list(range(5 * ((at - 1) // 5), first // 5 * 5 - 1, -5))
            for start, tile in tiles:
                np.testing.assert_array_equal(tile, vectors[start : min(start + 5, at)])
    assert store.count == at == 47
    held = sum(tile is not None for tile in store._tiles)
    assert held == min(10, max(1, in_memory))


def test_the_file_is_gone_with_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = PickStore(2, np.dtype("float32"), 4, 1)
    store.append(normal(30, 2))
    file = store._file
    assert not file.closed
    del store
    assert file.closed
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def seek(self, at: int) -> None: ...
        def close(self) -> None: ...
        def write(self, data: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    store = PickStore(2, np.dtype("float32"), 4, 1)
    with pytest.raises(OSError, match=r"picks do not fit under memory_limit .*set TMPDIR"):
        store.append(normal(30, 2))


@pytest.mark.slow
def test_a_selection_with_more_picks_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "LEAST_ROWS", 3)
    pool, moved, whole = normal(400, 30), [], PickStore.tiles

    def tiles(self: PickStore, first: int) -> Any:
        moved.append(self._moved)
        return whole(self, first)

    monkeypatch.setattr(PickStore, "tiles", tiles)
    found = greedy_select(pool, 300, memory_limit=smallest_limit(greedy_select, pool, 1))
    same_selection(found, reference.greedy_select(pool, 300))
    assert max(moved) > 0
