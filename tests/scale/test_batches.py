"""Reading ahead: while the caller works on one piece, the next one is read, and no further one."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from entroselect import open_pool
from entroselect.scale.batches import Batches, read_ahead
from tests.conftest import normal


def test_all_places_in_order() -> None:
    for count in (0, 1, 2, 7):
        places = [f"{number}" for number in range(count)]
        assert list(read_ahead(int, places)) == [(str(i), i) for i in range(count)]


def test_the_next_place_is_read_meanwhile_and_no_other() -> None:
    begun = [threading.Event() for _ in range(6)]

    def read(place: int) -> int:
        begun[place].set()
        return threading.get_ident()

    for place, thread in read_ahead(read, range(6)):
        assert thread != threading.get_ident()
        assert all(event.wait(10) for event in begun[: place + 2])
        assert not any(event.is_set() for event in begun[place + 2 :])


def test_three_pieces_are_alive_at_most() -> None:
    class Piece:
        pass

    pieces: list[weakref.ref[Piece]] = []
    most = 0

    def read(place: int) -> Piece:
        nonlocal most
        piece = Piece()
        pieces.append(weakref.ref(piece))
        most = max(most, sum(piece() is not None for piece in pieces))
        return piece

    for _, piece in read_ahead(read, range(20)):
        assert piece is not None
    assert most <= 3


def test_an_error_comes_where_its_place_is() -> None:
    reading = read_ahead(lambda place: 12 // (place - 3), range(6))
    assert [next(reading) for _ in range(3)] == [(0, -4), (1, -6), (2, -12)]
    with pytest.raises(ZeroDivisionError):
        next(reading)


def test_a_caller_that_stops_leaves_no_thread() -> None:
    reading = read_ahead(int, range(100))
    next(reading)
    reading.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("entroselect-read")]


@pytest.mark.parametrize("size", [1, 7, 30, 100])
def test_pieces_of_arrays_and_of_files(size: int, tmp_path: Path) -> None:
    rows = normal(60, 5)
    np.save(tmp_path / "rows.npy", rows)
    which = np.array([2, 3, 30, 31, 59])
    for given in (rows, open_pool(tmp_path / "rows.npy")):
        batches = Batches("rows", given)
        found = list(batches.pieces(10, 53, size))
        assert [at for at, _ in found] == list(range(10, 53, size))
        np.testing.assert_array_equal(np.concatenate([p.values for _, p in found]), rows[10:53])
        part = list(batches.part(which).pieces(1, 5, size))
        np.testing.assert_array_equal(np.concatenate([p.values for _, p in part]), rows[which[1:]])
