"""entroselect/_core.pyi, which type checkers read, says what the compiled module has."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest

from entroselect import _core
from tests.conftest import ROOT

Signature = list[str]


def _stub(body: list[ast.stmt]) -> dict[str, Signature | None]:
    """{name: parameters, None for what is not called} of a module or a class."""
    found: dict[str, Signature | None] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            given = node.args
            assert not [*given.posonlyargs, *given.kwonlyargs, *filter(None, [given.kwarg])]
            rest = [f"*{given.vararg.arg}"] if given.vararg else []
            found[node.name] = [argument.arg for argument in given.args] + rest
        elif isinstance(node, ast.AnnAssign):
            assert isinstance(node.target, ast.Name)
            found[node.target.id] = None
        elif isinstance(node, ast.ClassDef):
            found[node.name] = None
    return found


def _signature(function: Any) -> Signature:
    """Parameters as the first line of a docstring of pybind11 gives them: names, or arg0, arg1."""
    line = function.__doc__.splitlines()[0]
    inside = line[line.index("(") + 1 : line.rindex(") ->")]
    while (flat := re.sub(r"\[[^][]*\]|\([^()]*\)", "", inside)) != inside:
        inside = flat  # commas within types do not count
    return [part.split(":")[0].split("=")[0].strip() for part in inside.split(",") if part.strip()]


def _compiled(owner: Any) -> dict[str, Signature | None]:
    special = {"__init__", "__enter__", "__exit__"} if isinstance(owner, type) else set()
    names = [name for name in vars(owner) if not name.startswith("_") or name in special]
    found: dict[str, Signature | None] = {}
    for name in names:
        member = getattr(owner, name)
        called = callable(member) and not isinstance(member, type)
        found[name] = _signature(member) if called else None
    return found


def _same(written: Signature | None, compiled: Signature | None) -> bool:
    """Whether there are as many parameters, with the same names where the module has names."""
    if written is None or compiled is None:
        return written is compiled
    return len(written) == len(compiled) and all(
        ours == theirs or re.fullmatch(r"arg\d+", theirs) or ours[0] == theirs[0] == "*"
        for ours, theirs in zip(written, compiled, strict=True)
    )


STUB = ast.parse((ROOT / "entroselect" / "_core.pyi").read_text())
CLASSES = {node.name: node.body for node in STUB.body if isinstance(node, ast.ClassDef)}


@pytest.mark.parametrize("owner", ["", *CLASSES])
def test_the_stub_says_what_the_module_has(owner: str) -> None:
    written = _stub(CLASSES[owner] if owner else STUB.body)
    compiled = _compiled(getattr(_core, owner) if owner else _core)
    assert set(written) == set(compiled)
    for name, parameters in written.items():
        assert _same(parameters, compiled[name]), (name, parameters, compiled[name])
