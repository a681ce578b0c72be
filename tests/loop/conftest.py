"""A short run, and a copy of it that a test may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    from entroselect.loop import iterate
    from tests.support.run_folders import SHORT

    made = tmp_path_factory.mktemp("whole") / "run"
    assert iterate.run(SHORT, made)
    return made


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """Its first iteration, the second one still to come."""
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "iteration-02")
    (tmp_path / "run" / "DONE").unlink()
    return tmp_path / "run"
