"""The programs in examples/ run as users run them, and their output is as their text claims."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import python

pytestmark = pytest.mark.slow

EXAMPLES = next(
    parent for parent in Path(__file__).parents if (parent / "pyproject.toml").is_file()
)
EXAMPLES /= "examples"


def output_of(name: str) -> str:
    return python("-W", "error", EXAMPLES / name).stdout


def number(pattern: str, text: str) -> float:
    """The first group of the pattern's only match."""
    found = re.findall(pattern, text)
    assert len(found) == 1, text
    return float(found[0])


def test_every_example_is_tested() -> None:
    tested = set(re.findall(r"(\w+\.(?:py|ipynb))\"", Path(__file__).read_text("utf-8")))
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} <= tested


def test_choose_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook's cells run in order, what a notebook shows of their values is made, and it is
    stored without outputs."""
    plt = pytest.importorskip("matplotlib.pyplot")
    pytest.importorskip("sklearn")
    plt.switch_backend("agg")
    names: dict[str, Any] = {}
    shown: dict[str, int] = {}
    for cell in json.loads((EXAMPLES / "choose_rows.ipynb").read_text("utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        body = ast.parse("".join(cell["source"]))
        last = body.body.pop() if isinstance(body.body[-1], ast.Expr) else None
        exec(compile(body, cell["id"], "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)
            for view in ("_repr_html_", "_repr_png_"):
                if hasattr(value, view):
                    shown[view] = shown.get(view, 0) + bool(getattr(value, view)())
    pictures = len(plt.get_fignums())
    plt.close("all")
    assert (shown, pictures) == ({"_repr_html_": 2, "_repr_png_": 1}, 2)
    assert names["balanced"].counts == dict.fromkeys(range(10), 10)
    spread = {name: names["kl_entropy"](names["pixels"][names[name]]) for name in
              ("picked", "drawn")}  # fmt: skip
    assert spread["picked"] > spread["drawn"] + 20
    assert 500 < len(names["kept"].indices) < 1500


def test_active_learning() -> None:
    said = output_of("active_learning.py")
    assert number(r"greedy: ([\d.]+) classes", said) == 10
    assert number(r"random: ([\d.]+) classes", said) < 9.5
    greedy, random = (
        number(rf"{name}: .* per class ([\d.]+)", said) for name in ("greedy", "random")
    )
    assert greedy > random + 0.05


def test_curate_shards() -> None:
    said = output_of("curate_shards.py")
    assert "same rows as in memory: True" in said
    assert number(r"rows, ([\d.]+) MiB", said) > 8  # more than the limit
    assert number(r"was read ([\d.]+) times", said) > 1
    selected, random = (number(rf"{name} rows: ([-\d.]+)", said) for name in ("selected", "random"))
    assert selected > random + 10


def test_self_consuming_loop() -> None:
    lines = output_of("self_consuming_loop.py").splitlines()[2:]
    rows = [[float(word) for word in line.split()] for line in lines]
    assert [row[0] for row in rows] == list(range(1, 9))
    _, random, greedy, random_gs, greedy_gs = rows[0]
    assert (random, random_gs) == (greedy, greedy_gs)  # nothing has been selected yet
    first, first_gs = random, random_gs
    _, random, greedy, random_gs, greedy_gs = rows[-1]
    # Collapse at random; with farthest-first it is slower, and not prevented.
    assert random < first - 10
    assert random_gs < first_gs / 5
    assert random + 5 < greedy < first
    assert 3 * random_gs < greedy_gs < first_gs


def test_loop_with_a_gan() -> None:
    said = output_of("loop_with_a_gan.py")
    for method in ("none", "greedy"):
        (line,) = re.findall(rf"{method}:(.*)", said)
        assert len([float(word.replace(",", "")) for word in line.split()]) == 3


def test_loop_with_diffusers(tmp_path: Path) -> None:
    from diffusers import DDIMPipeline

    said = python("-W", "error", EXAMPLES / "loop_with_diffusers.py", tmp_path).stdout
    assert said.count("nats") == 2
    for place in re.findall(r"pipeline: (.+)", said):
        DDIMPipeline.from_pretrained(tmp_path / place)


def test_loop_with_own_features() -> None:
    lines = output_of("loop_with_own_features.py").splitlines()[2:]
    assert len(lines) == 5
    values = [float(word.replace(",", "")) for word in lines[-1].split()]
    _, none, greedy, none_distance, greedy_distance = values
    assert greedy > none + 10  # in another space than that of the selection
    assert greedy_distance < 0.8 * none_distance


def test_loop_on_tabular_rows() -> None:
    lines = output_of("loop_on_tabular_rows.py").splitlines()[2:]
    rows = [[float(word) for word in line.split()] for line in lines]
    assert [row[0] for row in rows] == list(range(1, 11))
    _, none, greedy, none_distance, greedy_distance = rows[-1]
    assert none < rows[0][1] - 1  # it collapses without a selection
    assert greedy > rows[0][2] + 5  # and flies apart with farthest-first
    assert greedy_distance > 5 * none_distance
