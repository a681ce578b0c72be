"""The programs in examples/ run as users run them, and their output is as their text claims."""

from __future__ import annotations

import re
from pathlib import Path

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
    tested = set(re.findall(r"(\w+\.py)\"", Path(__file__).read_text("utf-8")))
    assert {path.name for path in EXAMPLES.glob("*.py")} <= tested


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
