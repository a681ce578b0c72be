"""Every environment variable: read in one file, listed in one table, which the docs repeat."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entroselect import _settings, greedy_select, threshold_select
from entroselect._settings import VARIABLES
from tests.conftest import ROOT, normal

# Besides the settings: what torchrun tells its processes, and the environment of a child.
READERS = {"_settings.py", "cli/torchrun.py", "cli/demo_loop.py"}
PACKAGE = ROOT / "entroselect"
HEADER = "| Variable | Values | Default | Meaning |"


def _uses_environment(path: Path) -> bool:
    """Whether os.environ, os.getenv or a relative of theirs stands anywhere in the code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
        else:
            continue
        if {"environ", "environb", "getenv", "getenvb", "putenv"} & set(names):
            return True
    return False


def test_the_environment_is_read_in_three_files() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if _uses_environment(path)
    }
    assert found == READERS


def test_compiled_code_does_not_read_the_environment() -> None:
    for folder in ("csrc", "kernels"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in {".cpp", ".h", ".cu", ".cuh", ".inc"}:
                assert "getenv" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    "code",
    ["import os\nx = os.environ['A']", "from os import getenv", "import os as o\no.getenv('A')"],
)
def test_that_a_reader_is_found(code: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(code)
    assert _uses_environment(tmp_path / "module.py")
    (tmp_path / "module.py").write_text("import os\n'os.environ'\nos.fspath('')")
    assert not _uses_environment(tmp_path / "module.py")


def _documented() -> dict[str, str]:
    """The rows of the table by the name of the variable."""
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    _, found, rest = text.partition(HEADER + "\n")
    assert found, "docs/configuration.md has no table of variables"
    rows = rest.partition("\n\n")[0].splitlines()[1:]
    documented = {row.split("`")[1]: row for row in rows}
    assert len(documented) == len(rows)
    return documented


def test_the_docs_have_the_same_table() -> None:
    documented = _documented()
    assert set(documented) == set(VARIABLES)
    for name, variable in VARIABLES.items():
        values = documented[name].split(" | ")[1]
        if isinstance(variable.values, tuple):
            assert set(re.findall("`([a-z0-9]+)`", values)) == {"auto", *variable.values}


def test_a_variable_outside_the_table_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, read in READ.items():
        monkeypatch.delitem(VARIABLES, name)
        with pytest.raises(KeyError, match=name):
            read()
        monkeypatch.undo()


def test_every_variable_has_a_reader() -> None:
    assert set(READ) == set(VARIABLES)


SHAPES = ("narrow", "wide")
READ: dict[str, Callable[[], Any]] = {
    "ENTROSELECT_BACKEND": _settings.backend,
    "ENTROSELECT_THREADS": _settings.threads,
    "ENTROSELECT_BLOCK": _settings.block,
    "ENTROSELECT_CELLS": _settings.cells,
    "ENTROSELECT_FILTER": _settings.filter_form,
    "ENTROSELECT_TILE": lambda: _settings.tile(SHAPES),
    "ENTROSELECT_DEBUG": _settings.debug,
    "TMPDIR": _settings.has_temporary_folder,
    "OMP_NUM_THREADS": _settings.has_torch_threads,
    "LOCAL_WORLD_SIZE": _settings.threads,
}


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("ENTROSELECT_BACKEND", "reference", "reference"),
        ("ENTROSELECT_BACKEND", None, "auto"),
        ("ENTROSELECT_THREADS", "1024", 1024),
        ("ENTROSELECT_BLOCK", "1", 1),
        ("ENTROSELECT_BLOCK", None, None),
        ("ENTROSELECT_CELLS", "never", "never"),
        ("ENTROSELECT_CELLS", "auto", "auto"),
        ("ENTROSELECT_CELLS", None, "auto"),
        ("ENTROSELECT_FILTER", "bf16", "bf16"),
        ("ENTROSELECT_FILTER", None, "auto"),
        ("ENTROSELECT_TILE", "1", 1),
        ("ENTROSELECT_TILE", None, None),
        ("ENTROSELECT_DEBUG", "1", True),
        ("ENTROSELECT_DEBUG", "0", False),
        ("ENTROSELECT_DEBUG", None, False),
        ("TMPDIR", "/somewhere", True),
        ("TMPDIR", None, False),
        ("OMP_NUM_THREADS", "3", True),
        ("OMP_NUM_THREADS", None, False),
    ],
)
def test_values(
    name: str, given: str | None, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(name, raising=False)
    if given is not None:
        monkeypatch.setenv(name, given)
    assert READ[name]() == expected
    if given is None and name != "TMPDIR":  # empty counts as not set
        monkeypatch.setenv(name, "")
        assert READ[name]() == expected


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("ENTROSELECT_THREADS", "0", "expected an integer from 1 to 1024, got '0'"),
        ("ENTROSELECT_THREADS", "1025", "expected an integer from 1 to 1024, got '1025'"),
        ("ENTROSELECT_BLOCK", "-1", "expected an integer >= 1, got '-1'"),
        ("ENTROSELECT_CELLS", "yes", "expected always or never, got 'yes'"),
        ("ENTROSELECT_FILTER", "fp8", "expected tree, int8 or bf16, got 'fp8'"),
        ("ENTROSELECT_TILE", "2", "expected one of 0: narrow; 1: wide; got '2'"),
    ],
)
def test_errors(name: str, given: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, given)
    with pytest.raises(ValueError, match=f"^{name}: {re.escape(message)}$"):
        READ[name]()


@pytest.mark.parametrize("name", ["THREADS", "BLOCK", "CELLS", "FILTER"])
@pytest.mark.parametrize("select", [greedy_select, threshold_select])
def test_a_selection_reads_it(name: str, select: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ENTROSELECT_{name}", "bad value")
    with pytest.raises(ValueError, match=f"^ENTROSELECT_{name}: expected "):
        select(normal(30, 4), 3)


def test_what_is_set_of_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _settings.of_the_engine() == {}
    monkeypatch.setenv("ENTROSELECT_FILTER", "tree")
    monkeypatch.setenv("ENTROSELECT_DEBUG", "1")
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.setenv("ENTROSELECT_THREADS", "5")
    _settings.set_threads(3)
    found = list(_settings.of_the_engine().items())
    assert found == [("ENTROSELECT_THREADS", "3"), ("ENTROSELECT_FILTER", "tree")]
