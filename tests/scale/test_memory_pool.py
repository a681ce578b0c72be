"""What a selection needs of its rows besides the engine's primitives: the same answers from rows in
memory and from rows that are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import open_pool
from entroselect.backends.cpu import Cpu
from entroselect.io.open import as_rows
from entroselect.scale import memory_pool
from entroselect.scale.marks import row_marks
from entroselect.scale.memory_pool import MemoryPool
from entroselect.scale.streamed_pool import StreamedPool
from tests.conftest import BACKENDS, normal

Opened = MemoryPool | StreamedPool
Opens = Callable[..., Opened]


@pytest.fixture(params=["in memory", "read"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Opens:
    """Opens rows as a pool, the first of them numbered `first`."""

    def open_rows(rows: Any, metric: str = "euclidean", first: int = 0) -> Opened:
        backend = Cpu(BACKENDS[0])
        if request.param == "in memory":
            return MemoryPool(as_rows("features", rows), metric, backend, first, sub=True)
        np.save(tmp_path / "rows.npy", rows)
        return StreamedPool(open_pool(tmp_path / "rows.npy"), metric, backend, 1 << 20, first)

    return open_rows


def test_rows_in_any_order_and_more_than_once(opens: Opens) -> None:
    rows = normal(50, 4)
    order = np.array([31, 2, 2, 49, 0])
    np.testing.assert_array_equal(opens(rows).take(order), rows[order])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_row_nearest_to_the_mean(metric: str, opens: Opens) -> None:
    rows = normal(301, 6, dtype=np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric == "cosine" else rows
    total = np.zeros(6)
    opened = opens(rows, metric)
    opened.add_rows(total)
    np.testing.assert_allclose(total, unit.sum(axis=0), rtol=1e-12)
    squares = ((unit - total / 301) ** 2).sum(axis=1)
    expected = pytest.approx(squares.min(), rel=1e-12), squares.argmin()
    assert opened.nearest_to(total / 301, False) == expected
    if isinstance(opened, MemoryPool):
        assert opened.center(False) == squares.argmin()


def test_of_equal_rows_the_first_is_the_center(opens: Opens) -> None:
    rows = np.repeat(normal(20, 3), 3, axis=0)
    opened = opens(rows)
    assert opened.nearest_to(rows[31].astype(np.float64), False) == (0.0, 30)
    among = np.arange(60) != 30
    assert opened.nearest_to(rows[31].astype(np.float64), False, among) == (0.0, 31)
    if isinstance(opened, MemoryPool):
        assert opened.center(False) % 3 == 0


def test_marks_and_what_changed(opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_pool, "_PIECE", 8 * 4 * 7)  # marked seven rows at a time
    rows = normal(40, 4)
    opened = opens(rows, first=100)
    opened.verify(row_marks(rows))
    np.testing.assert_array_equal(opened.marks(), row_marks(rows))
    other = rows.copy()
    other[[17, 23]] += 1
    with pytest.raises(ValueError, match=r"features: row 117 .*changed since the checkpoint was"):
        opens(rows, first=100).verify(row_marks(other))


def test_marks_are_of_the_rows_as_they_were_when_asked_for_first() -> None:
    rows = normal(40, 4)
    before = row_marks(rows)
    opened = MemoryPool(as_rows("features", rows), "euclidean", Cpu(BACKENDS[0]), sub=True)
    opened.marks()
    rows[3] = 0
    np.testing.assert_array_equal(opened.marks(), before)


def test_the_engine_calls_the_compiled_pool_itself() -> None:
    rows = as_rows("features", normal(40, 4))
    opened = MemoryPool(rows, "euclidean", Cpu(BACKENDS[0]), sub=True)
    assert type(opened.primitives).__module__ == "entroselect._core"
    given = normal(9, 4)
    assert opened.like(given) is given
