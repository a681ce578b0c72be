"""What the documentation shows must run: docstring examples, README's code and its links."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FOLDERS = ("benchmarks", "csrc", "docs", "entroselect", "examples", "kernels", "tests")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PACKAGE = ROOT / "entroselect"
MODULES = [
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


# Its examples start processes, and Ray warns of its own parts.
RAY = pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore")])


@pytest.mark.parametrize("name", [RAY if name == "ray" else name for name in MODULES])
def test_docstring_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("loop"):
        pytest.importorskip("diffusers")
    if name == "skactiveml":
        pytest.importorskip(name)
    if name == "ray":
        pytest.importorskip("ray")
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    outcome = doctest.testmod(importlib.import_module(f"entroselect.{name}"))
    assert outcome.failed == 0
    assert outcome.attempted > 0


def test_every_public_function_has_an_example() -> None:
    import entroselect

    for name in entroselect.__all__:
        thing = getattr(entroselect, name)
        if not isinstance(thing, type):
            assert ">>> " in (thing.__doc__ or ""), name


def test_every_kind_of_file_is_named_where_users_look() -> None:
    """And is fuzzed."""
    from entroselect.cli import inputs
    from entroselect.io.open import SUFFIXES, open_pool

    status = (ROOT / "docs" / "status.md").read_text(encoding="utf-8")
    fuzzed = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/fuzz/fuzz_*.py"))
    for suffix in SUFFIXES:
        name = suffix[1:]
        assert suffix in (open_pool.__doc__ or "")
        assert all(name in text for text in (README, status, inputs.KINDS)), name
        assert f'"{name}": (' in fuzzed


@pytest.mark.parametrize(
    "code", re.findall(r"```python\n(.*?)```", README, re.S), ids=lambda code: code[:30]
)
def test_readme_code(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def test_relative_links_lead_somewhere() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)", text):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_files_that_pages_name_are_there() -> None:
    """Named from the root, or without the folders that the text around the name says."""
    there = [
        f"/{path.relative_to(ROOT)}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")
    ] + [f"/{path.name}" for path in ROOT.glob("*.*")]
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # which may name files that are gone
            continue
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`([\w./-]+\.(?:py|md|cpp|h|cu|cuh|toml))`", text):
            assert any(path.endswith(f"/{name}") for path in there), f"{page.name}: {name}"


def test_first_figures_of_the_readme_are_measured() -> None:
    """Its short table repeats lines of the generated ones."""
    table = README[: README.index("## Install")]
    rows = re.findall(
        r"^\| (\w+), ([\d, x]+).*? \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", table, re.M
    )
    assert len(rows) == 4
    assert sum("slower" in row[4] for row in rows) == 1
    measured = (ROOT / "docs" / "benchmarks.md").read_text("utf-8").splitlines()
    for operation, size, ours, peer, ratio, answer in rows:
        cells = (f"| {size.strip(' ,')} |", f" {ours} ", f"| {peer} | {ratio} | {answer}")
        lines = [line for line in measured if line.startswith(f"| {operation} |")]
        assert any(all(cell in line for cell in cells) for line in lines), cells
