"""Who may import whom: the contracts of pyproject.toml, the package's face, and C++ includes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.processes import python

PACKAGE = ROOT / "entroselect"
# Programs use the package as its callers do.
PROGRAMS = ("cli", "loop", "report")

# Folders of csrc/; a file includes what lies in its own folder or in a lower one. Files beside the
# folders bind them all together, for Python.
CXX = {"base": 0, "isa": 1, "filter": 2, "select": 3, "nearest": 3, "tree": 3, "exchange": 3}
CXX |= {"bits": 4, "": 5}


def test_imports_keep_the_contracts() -> None:
    pytest.importorskip("importlinter", reason="checks who imports whom")
    run = "from importlinter.cli import lint_imports_command as run; run()"
    assert "0 broken" in python("-c", run, "--no-cache", "--no-logo", cwd=ROOT).stdout


def of_the_face(path: Path) -> list[str]:
    """What a file imports from `entroselect` itself and not from a module in it."""
    modules = {entry.name.split(".")[0] for entry in PACKAGE.iterdir()} | {"_core", "_cuda"}
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = {"entroselect" for alias in node.names if alias.name == "entroselect"}
        elif isinstance(node, ast.ImportFrom) and node.module == "entroselect":
            names = {alias.name for alias in node.names} - modules
        else:
            continue
        found += [f"{path.relative_to(ROOT)}:{node.lineno} imports {name}" for name in names]
    return found


def test_only_programs_import_the_face() -> None:
    """Below them its functions would be called with everything that callers need not say."""
    files = {path: path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py")}
    programs = [path for path, part in files.items() if part in PROGRAMS]
    lower = [path for path in files if path not in programs]
    assert [line for path in lower for line in of_the_face(path)] == []
    assert [line for path in programs for line in of_the_face(path)]  # it is looked for


def includes(folder: Path) -> list[tuple[Path, str]]:
    """(file in the folder, what it includes), of all its C++ files; the standard's in <>."""
    kinds = (".h", ".cpp", ".cu", ".cuh")
    return [
        (path.relative_to(folder), name)
        for path in sorted(folder.rglob("*"))
        if path.suffix in kinds
        for name in re.findall(r'^\s*#\s*include\s*(<[^>]+>|"[^"]+")', path.read_text(), re.M)
    ]


def test_cpp_includes_follow_the_layers() -> None:
    wrong = []
    for path, name in includes(ROOT / "csrc"):
        if name[0] == "<":
            continue
        own, other = (Path(part).parent.as_posix().strip(".") for part in (path, name[1:-1]))
        assert (ROOT / "csrc" / name[1:-1]).is_file(), f"{path}: include {name} from csrc/"
        if own != other and CXX[own] <= CXX[other]:
            wrong.append(f"{path} includes {name}")
    assert wrong == []


def test_kernels_stand_alone() -> None:
    """They take device pointers: nothing of the CPU's core, and no header of torch."""
    found = includes(ROOT / "kernels")
    assert found
    local = {path.name for path, _ in found}
    wrong = [
        f"{path} includes {name}"
        for path, name in found
        if (name[0] == '"' and name[1:-1] not in local)
        or re.match(r"[<\"](torch|ATen|c10)/", name)
        or "csrc" in name
    ]
    assert wrong == []
