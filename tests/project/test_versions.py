"""Which Pythons and versions are supported: one list in every place, and its table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support import versions

ROOT = Path(__file__).parents[2]


def _workflow(name: str) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def test_one_list_of_pythons() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    classified = re.findall(r"Python :: (3\.\d+)", " ".join(project["project"]["classifiers"]))
    assert project["project"]["requires-python"] == f">={classified[0]}"
    wheels = project["tool"]["cibuildwheel"]["build"]
    assert wheels == " ".join(f"cp{python.replace('.', '')}-*" for python in classified)
    tried = _workflow("tests.yml")["jobs"]["versions"]["strategy"]["matrix"]
    assert tried["python"] == classified
    assert f"({classified[0]} to {classified[-1]})" in (ROOT / "Makefile").read_text("utf-8")


def test_workflows_run_what_is_there() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    made = []
    for name in ("tests.yml", "wheels.yml", "docs.yml"):
        for job in _workflow(name)["jobs"].values():
            for step in job["steps"]:
                command = step.get("run", "")
                made += re.findall(r"make ([a-z-]+)", command)
                for path in re.findall(r"[.\w/]+/(?:\w+\.py|run)\b", command):
                    assert (ROOT / path).exists(), path
    assert set(made) == {"docs", "test-versions"} <= set(targets)


def test_the_table_has_the_last_run_of_each(tmp_path: Path) -> None:
    page = tmp_path / "status.md"
    page.write_text(f"# Above\n\n{versions.BEGIN}\n\n{versions.END}\n\nbelow\n", encoding="utf-8")
    blank = ["-"] * len(versions.SHOWN)
    for python, pins, result in (
        ("3.11.7", "oldest", "1 failed"),
        ("3.10.1", "newest", "5 passed"),
        ("3.9.2", "newest", "4 passed"),
        ("3.11.9", "oldest", "2 passed, 1 skipped"),
    ):
        versions.record([python, pins, *blank, result, "abc, 2026-01-01"], page)
    text = page.read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| 3.")]
    assert [(row[0], row[-2]) for row in rows] == [
        ("3.9.2", "4 passed"),
        ("3.10.1", "5 passed"),
        ("3.11.9", "2 passed, 1 skipped"),
    ]
    assert text.startswith("# Above\n")
    assert text.endswith(f"{versions.END}\n\nbelow\n")
