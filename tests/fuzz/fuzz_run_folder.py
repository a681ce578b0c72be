"""Folders of a loop's run, as reports read them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from entroselect.loop import config, runs
from tests.fuzz.driver import Targets
from tests.fuzz.fuzz_files import joined, on_folder


def targets() -> Targets:
    options = json.dumps(asdict(config.resolve("digits")), indent=2).encode()
    space: dict[str, Any] = {"training": {}, "generated": {}}
    for first, *second in runs.MEASURES.values():
        (space[first] if second else space)[second[0] if second else first] = 1.5
    shares = {"real": 1.0, "fresh": 0.0, "synthetic": 0.0}
    measured = {
        "iteration": 1, "training_size": 32, "origins": shares, "spaces": {"pixels": space},
    }  # fmt: skip
    files = {
        "config.json": options,
        "iteration-01/metrics.json": json.dumps(measured).encode(),
        "iteration-02/metrics.json": json.dumps(measured | {"iteration": 2}).encode(),
    }
    return {"run-folder": ([joined(files)], on_folder(read))}


def read(folder: Path) -> None:
    """An error has to name the folder or a file in it."""
    try:
        runs.read_run(folder)
    except (ValueError, TypeError) as error:
        if not str(error).startswith(str(folder)):
            raise AssertionError(f"no plain message: {error}") from error
        raise
    except OSError as error:
        raise AssertionError(f"no plain message: {error}") from error
