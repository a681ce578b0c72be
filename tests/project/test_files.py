"""Files are complete or absent, and locks end with their process."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from entroselect import _files

fcntl = pytest.importorskip("fcntl")


def test_a_file_that_fails_leaves_the_earlier_one_alone(tmp_path: Path) -> None:
    path, partial = tmp_path / "a", tmp_path / "a.partial"
    path.write_text("before")

    def failing() -> None:
        with _files.replacing(path, partial) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "before"
    with _files.replacing(path, partial) as file:
        file.write(b"after")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "after"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("years of work")
    (tmp_path / "partial").symlink_to(tmp_path / "precious")
    with (
        pytest.raises(FileExistsError),
        _files.replacing(tmp_path / "a", tmp_path / "partial") as file,
    ):
        file.write(b"content")
    assert (tmp_path / "precious").read_text() == "years of work"


def test_a_file_is_found_in_a_folder_that_was_renamed(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with _files.replacing("a", ".a.partial", descriptor) as file:
            folder.rename(tmp_path / "two")
            file.write(b"content")
    finally:
        os.close(descriptor)
    assert [entry.name for entry in (tmp_path / "two").iterdir()] == ["a"]


def test_the_error_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.partial").mkdir()
    with pytest.raises(OSError, match=r"a: could not be written \(.*\); what was finished is kept"):
        _files.write_json(tmp_path / "a", {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        _files.write_json(tmp_path / "b", {"x": float("nan")})
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.partial"]


def test_a_lock_is_held_until_it_is_closed(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    try:
        assert _files.lock(first)
        with pytest.raises(BlockingIOError):
            _files.lock(second)
        os.close(first)
        assert _files.lock(second)
    finally:
        os.close(second)


def test_without_locks_nothing_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with _files.locked(tmp_path), _files.locked(tmp_path):
        pass
    monkeypatch.setattr(_files, "fcntl", None)
    with _files.locked(tmp_path), _files.locked(tmp_path):
        pass
