"""Fixtures of the benchmark run: where rows go, and the summary at its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.support import harness, record

_summary: list[record.Row] = []


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ENTROSELECT_BENCH_RESULTS, or benchmarks/results; miniatures go there only if it is named."""
    given = os.environ.get("ENTROSELECT_BENCH_RESULTS")
    if given:
        return Path(given)
    return tmp_path_factory.mktemp("results") if harness.QUICK else record.RESULTS


@pytest.fixture(scope="session")
def provenance() -> record.Row:
    """Taken once, before the first result is written."""
    return record.provenance()


@pytest.fixture
def save(results: Path, provenance: record.Row) -> Callable[[str, list[record.Row]], None]:
    """Writes a case's rows to results/<name>.csv as soon as the case is done."""

    def write(name: str, rows: list[record.Row]) -> None:
        rows = [{**row, **provenance} for row in rows]
        record.write(results / f"{name}.csv", rows)
        _summary.extend(rows)

    return write


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the medians of all contestants; pytest-benchmark's own table has ours alone."""
    case = None
    for row in _summary:
        if row["case"] != case:
            case = row["case"]
            terminalreporter.write_line(f"\n{case}")
        times = f"{row.get('p50_s', ''):>10} s  x{row.get('ratio_to_ours', ''):<9}"
        remarks = [row.get("agreement", ""), row.get("note", "")]
        if row.get("matmul_ratio"):
            remarks.insert(0, f"matmul ratio {row['matmul_ratio']}")
        terminalreporter.write_line(
            f"  {row['contestant']:<28}{times}{'; '.join(filter(None, remarks))}"
        )
