"""What the documentation shows must run: docstring examples, README's code and its links."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = ["greedy", "threshold", "nearest", "entropy", "io.open", "io.source", "_memory",
           "results", "io.errors", "cli.nearest_before", "loop.config", "loop.choose",
           "loop.labels"]  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    if name.startswith("loop"):
        pytest.importorskip("diffusers")
    outcome = doctest.testmod(importlib.import_module(f"entroselect.{name}"))
    assert outcome.failed == 0
    assert outcome.attempted > 0


def test_every_public_function_has_an_example() -> None:
    import entroselect

    for name in entroselect.__all__:
        thing = getattr(entroselect, name)
        if not isinstance(thing, type):
            assert ">>> " in (thing.__doc__ or ""), name


@pytest.mark.parametrize(
    "code", re.findall(r"```python\n(.*?)```", README, re.S), ids=lambda code: code[:30]
)
def test_readme_code(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def test_relative_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)", text):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
