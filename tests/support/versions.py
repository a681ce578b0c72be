"""The quick tests with the oldest or the newest versions that pyproject.toml allows.

    python -m tests.support.versions --pins oldest             # `make test-versions PINS=oldest`
    python3.12 -m tests.support.versions --torch none          # where torch is not to be had
    python -m tests.support.versions --pins newest --venv DIR  # in an environment made before

Writes the result into the table of docs/status.md. Oldest are the lowest versions of what the
extras name, found by uv's resolver; what those need in turn, and the test tools, are the newest.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATUS = ROOT / "docs" / "status.md"
BEGIN, END = "<!-- versions:begin -->", "<!-- versions:end -->"

EXTRAS = ["cli", "io", "stores", "faiss", "sklearn"]
TORCH_EXTRAS = ["loop", "track", "features"]
# Not the extra "test": import-linter needs a newer rich than the command line does.
TOOLS = ["pytest", "pytest-xdist", "hypothesis", "scipy", "pandas", "polars", "moto[s3]", "flask"]
TOOLS += ["flask-cors", "pybind11", "setuptools", "wheel"]
TORCH_TOOLS = ["torchmetrics", "prdc", "datasets"]
SHOWN = ["numpy", "torch", "diffusers", "pyarrow", "pydantic", "scikit-learn", "typer"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pins", choices=["oldest", "newest"], default="newest")
    parser.add_argument("--torch", default="pins", help="a version, none, or pins: as the others")
    parser.add_argument("--venv", type=Path, help="an environment; nothing is installed there")
    arguments, pytest_arguments = parser.parse_known_args()
    python = (arguments.venv or install(arguments.pins, arguments.torch)) / "bin" / "python"
    command = [python, "-m", "pytest", "tests", "-m", "not slow", "-q", "-n2", *pytest_arguments]
    if arguments.pins == "oldest":  # they call what their own dependencies have deprecated since
        command += ["-W", "ignore::DeprecationWarning"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    counts = re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", done.stdout.splitlines()[-1])
    result = ", ".join(f"{number} {what}" for number, what in counts)
    record(row(python, arguments.pins, result or f"pytest ended with {done.returncode}"))
    return done.returncode


def install(pins: str, torch: str) -> Path:
    """A new environment in build/versions, with this checkout and what its extras name."""
    venv = ROOT / "build" / "versions" / f"{pins}-{sys.implementation.cache_tag}"
    run(sys.executable, "-m", "venv", "--clear", venv)
    pip = [venv / "bin" / "python", "-m", "pip", "install", "--quiet"]
    run(*pip, "--upgrade", "pip", "uv")
    extras = EXTRAS + (TORCH_EXTRAS if torch != "none" else [])
    tools = TOOLS + (TORCH_TOOLS if torch != "none" else [])
    constraints = lowest(venv, extras) if pins == "oldest" else []
    if torch != "pins":
        constraints = [line for line in constraints if not line.startswith("torch==")]
        constraints += [f"torch=={torch}"] if torch != "none" else []
    file = venv / "constraints.txt"
    file.write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
    run(*pip, "--constraint", file, "pybind11", "setuptools", "wheel")
    package = f".[{','.join(extras)}]"
    run(*pip, "--constraint", file, "--no-build-isolation", "--editable", package, *tools)
    return venv


def lowest(venv: Path, extras: list[str]) -> list[str]:
    """Constraints: the lowest versions of what pyproject.toml names that go together."""
    command = [venv / "bin" / "uv", "pip", "compile", "--quiet", "pyproject.toml"]
    command += ["--resolution", "lowest-direct", "--annotation-style", "line"]
    command += ["--python", venv / "bin" / "python", *(f"--extra={extra}" for extra in extras)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    lines = [line.split("#") for line in done.stdout.splitlines() if "==" in line]
    return [line[0].strip() for line in lines if "entroselect (pyproject.toml)" in line[-1]]


def run(*command: str | Path) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


def row(python: Path, pins: str, result: str) -> list[str]:
    """Cells of the table: what is installed in an environment, and what the tests said."""
    code = (
        "import platform, sys\nfrom importlib import metadata\nprint(platform.python_version())\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(metadata.version(name))\n"
        "    except metadata.PackageNotFoundError: print('-')\n"
    )
    asked = [python, "-c", code, *SHOWN]
    versions = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    commit = ["git", "-C", ROOT, "rev-parse", "--short=10", "HEAD"]
    commit = subprocess.run(commit, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    today = datetime.date.today().isoformat()
    return [versions[0], pins, *versions[1:], result, f"{commit}, {today}"]


def record(cells: list[str], page: Path = STATUS) -> None:
    """Puts a row into the table, in the place of an earlier one of the same Python and pins."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    table, after = rest.split(END)
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in table.strip().splitlines()[2:]
    ]

    def key(cells: list[str]) -> tuple[list[int], str]:
        return [int(part) for part in cells[0].split(".")[:2]], cells[1]

    rows = sorted([*(each for each in rows if key(each) != key(cells)), cells], key=key)
    head = ["Python", "versions", *SHOWN, "quick tests", "commit, date"]
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
