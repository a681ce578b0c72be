"""The fuzzing driver finds what it is there for: planted faults of every kind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.fuzz import driver
from tests.fuzz.mutate import mutated

SEED = b"a fine input 1234 " * 4


def crashes(data: bytes) -> None:
    if data != SEED:
        os.kill(os.getpid(), signal.SIGSEGV)


def hangs(data: bytes) -> None:
    if data != SEED:
        time.sleep(60)


def fills(data: bytes) -> None:
    if data != SEED:
        bytearray(driver.MEMORY)


def stray(data: bytes) -> None:
    if data != SEED:
        raise KeyError(len(data))


def refuses(data: bytes) -> None:
    if data != SEED:
        raise ValueError("a plain message")


def targets() -> driver.Targets:
    return {run.__name__: ([SEED], run) for run in (crashes, hangs, fills, stray, refuses)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("crashes", "crashes: SIGSEGV"),
        ("hangs", "hangs: took too long"),
        ("fills", "fills: MemoryError"),
        ("stray", "stray: KeyError"),
        ("refuses", None),
    ],
)
def test_planted_faults_are_found(
    tmp_path: Path, name: str, says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENTROSELECT_FUZZ_LIMIT", "1")
    outcome = driver.fuzz(name, 0.3, 7, tmp_path, "tests.project.test_fuzz")
    if says is None:
        assert outcome.findings == []
        assert outcome.inputs > 10
        return
    assert outcome.findings[0].startswith(says)
    (saved,) = [path for path in tmp_path.glob(f"{name}-*") if path.suffix != ".txt"][:1]
    assert saved.read_bytes() != SEED


def test_targets_of_files_read_their_first_seed(tmp_path: Path) -> None:
    for seeds, run in driver.targets("tests.fuzz.fuzz_files", "tests.fuzz.fuzz_formats").values():
        run(seeds[0])
    outcome = driver.fuzz("npy-header", 0.2, 0, tmp_path, "tests.fuzz.fuzz_files")
    assert outcome.findings == []
    assert outcome.inputs > 10


def test_changes_are_the_same_for_a_seed() -> None:
    import random

    first, second = (mutated(SEED, [SEED], random.Random(3)) for _ in range(2))
    assert first == second
    made = {mutated(SEED, [SEED], random.Random(seed)) for seed in range(200)}
    assert len(made) > 150
