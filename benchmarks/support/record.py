"""Benchmark results: CSV files with one row per case and contestant, and the machine and versions
that gave it."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"

# Changes of these do not change the measured code.
NOT_CODE = (":!benchmarks/results", ":!*.md", ":!docs", ":!tests")

MEASURED = (
    "case",
    "n",
    "d",
    "k",
    "contestant",
    "kind",
    "version",
    "threads",
    "rounds",
    "p20_s",
    "p50_s",
    "p80_s",
    "ratio_to_ours",
    "matmul_ratio",
    "agreement",
    "peak_extra_mib",
    "note",
    "instruction_set",
    "before_p50_s",
    "before_matmul_ratio",
)
PROVENANCE = (
    "commit",
    "dirty",
    "date",
    "cpu",
    "os",
    "python",
    "numpy",
    "torch",
)
COLUMNS = MEASURED + PROVENANCE

Row = dict[str, Any]


def provenance() -> Row:
    """The columns that say which code was measured, where and when. Where there is no git
    repository, ENTROSELECT_COMMIT may name the commit."""
    commit = _git("log", "-1", "--abbrev=12", "--format=%h", "--", ".", *NOT_CODE)
    changed = "yes" if _git("status", "--porcelain", "--", ".", *NOT_CODE) else "no"
    return {
        "commit": commit or os.environ.get("ENTROSELECT_COMMIT") or "none",
        "dirty": changed if commit else "unknown",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
        "cpu": f"{_cpu_model()}, {os.cpu_count()} cores",
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "torch": version_of("torch"),
    }


def read(path: Path) -> list[Row]:
    """All rows of a results file; none if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file)]


def write(path: Path, rows: list[Row]) -> None:
    """Replaces the rows of the cases in `rows`, keeps the others and their order; atomic.

    The columns before_* take the figures of a replaced row of the same code on the same machine:
    the spread between two runs.
    """
    cases: dict[str, list[Row]] = {}
    older: dict[tuple[str, ...], Row] = {}
    for row in read(path):
        cases.setdefault(row["case"], []).append(row)
        older[_identity(row)] = row
    for row in rows:
        before = older.get(_identity(row), {})
        row["before_p50_s"] = before.get("p50_s", "")
        row["before_matmul_ratio"] = before.get("matmul_ratio", "")
    for name in {row["case"] for row in rows}:
        cases[name] = []
    for row in rows:
        cases[row["case"]].append(row)
    write_csv(path, COLUMNS, [row for case in cases.values() for row in case])


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Replaces a results file; atomic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".csv.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def rounded(row: Row, digits: int) -> Row:
    """The row with its floats as text of that many significant digits."""
    return {k: f"{v:.{digits}g}" if isinstance(v, float) else v for k, v in row.items()}


def _identity(row: Row) -> tuple[str, ...]:
    return tuple(
        str(row.get(name, "")) for name in ("case", "contestant", "commit", "dirty", "cpu")
    )


def _git(*arguments: str) -> str:
    """Output of a git command on the checkout, "" where there is none."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def version_of(distribution: str) -> str:
    """ "" where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
