"""Folders of a loop's run, as reports read them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from entroselect.loop import config, report
from tests.fuzz.driver import Targets
from tests.fuzz.fuzz_files import joined, on_folder


def targets() -> Targets:
    options = json.dumps(asdict(config.resolve("digits")), indent=2).encode()
    measured = {"iteration": 1, "synthetic": 32, "spaces": {"pixels": {"kl_entropy": 1.5}}}
    files = {
        "config.json": options,
        "iteration-01/metrics.json": json.dumps(measured).encode(),
        "iteration-02/metrics.json": json.dumps(measured | {"iteration": 2}).encode(),
    }
    return {"run-folder": ([joined(files)], on_folder(read))}


def read(folder: Path) -> None:
    """An error has to name the folder or a file in it."""
    try:
        report.read(folder)
    except (ValueError, TypeError) as error:
        if not str(error).startswith(str(folder)):
            raise AssertionError(f"no plain message: {error}") from error
        raise
    except OSError as error:
        raise AssertionError(f"no plain message: {error}") from error
