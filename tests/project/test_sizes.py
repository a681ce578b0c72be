"""Files of at most 400 lines, functions of at most 50 lines of code: what a reader can hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

FILE_LINES, FUNCTION_LINES = 400, 50
FOLDERS = ("entroselect", "csrc", "kernels", "benchmarks", "tests", "examples")
KINDS = {".py", ".h", ".cpp", ".cu", ".cuh"}

# What may be longer, by "file" or "file: function", and why. An entry that is not needed fails.
EXCEPTIONS = {
    "kernels/triton/filter.py: filter_pairs": "one kernel, whose parts share what is in registers",
}


def files() -> list[Path]:
    """Source files, relative to the repository."""
    every = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    return sorted(path.relative_to(ROOT) for path in every if path.suffix in KINDS)


def functions(source: str) -> Iterator[tuple[str, int]]:
    """(name, lines of code in the body) of every function: no docstring, comment or blank line."""
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        text = lines[body[0].lineno - 1 : body[-1].end_lineno] if body else []
        stripped = [line.strip() for line in text]
        yield node.name, sum(bool(line) and line[0] != "#" for line in stripped)


def sizes() -> Iterator[tuple[str, int, int]]:
    """(what, its lines, how many it may have)."""
    for path in files():
        source = (ROOT / path).read_text()
        yield str(path), source.count("\n"), FILE_LINES
        if path.suffix == ".py":
            for name, lines in functions(source):
                yield f"{path}: {name}", lines, FUNCTION_LINES


def test_files_and_functions_are_short() -> None:
    """Prints the largest of both; `pytest -rP` or a failure shows them."""
    every = list(sizes())
    for limit, what in ((FILE_LINES, "lines"), (FUNCTION_LINES, "lines of code")):
        largest = sorted((row for row in every if row[2] == limit), key=lambda row: -row[1])[:12]
        print(f"\nlargest, of at most {limit} {what}")
        for name, lines, _ in largest:
            print(f"{lines:5} {name}")
    assert len(every) > 500  # the repository was found
    long = {name: lines for name, lines, most in every if lines > most}
    assert {name: lines for name, lines in long.items() if name not in EXCEPTIONS} == {}
    assert [name for name in EXCEPTIONS if name not in long] == [], "exceptions not needed"


def test_what_counts_as_code() -> None:
    source = '''
def outer(a,
          b):
    """Text
    of two lines."""

    # a comment
    x = (
        a
    )

    def inner(): return x  # counts for both
    return inner
'''
    assert list(functions(source)) == [("outer", 5), ("inner", 1)]
