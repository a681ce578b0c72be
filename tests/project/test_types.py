"""Type checkers know what the public functions take and return: tests/project/user_script.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import entroselect
from tests.project import user_script
from tests.support.processes import ROOT, python

SCRIPT = Path(user_script.__file__)


def test_the_script_has_every_public_name_and_runs(tmp_path: Path) -> None:
    assert set(entroselect.__all__) <= set(re.findall(r"\w+", SCRIPT.read_text("utf-8")))
    user_script.selections()
    user_script.neighbours()
    user_script.measures()
    user_script.files(str(tmp_path / "rows.npy"))


@pytest.mark.slow
def test_mypy_finds_no_mistake_in_it() -> None:
    pytest.importorskip("mypy")
    done = python("-m", "mypy", "--strict", SCRIPT.relative_to(ROOT), cwd=ROOT, seconds=300)
    assert done.stdout.startswith("Success: no issues found in 1 source file")
