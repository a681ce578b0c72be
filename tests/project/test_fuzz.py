"""The fuzzing driver finds what it is there for: planted faults of every kind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.fuzz import driver
from tests.fuzz.mutate import mutated

OWN = "@" + "settings("  # a number of examples that no profile changes

SEED = b"a fine input 1234 " * 4


def crashes(data: bytes) -> None:
    if data != SEED:
        os.kill(os.getpid(), signal.SIGSEGV)


def hangs(data: bytes) -> None:
    if data != SEED:
        time.sleep(60)


def works(data: bytes) -> None:
    while data != SEED:
        pass


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
    return {run.__name__: ([SEED], run) for run in (crashes, hangs, works, fills, stray, refuses)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("crashes", "crashes: SIGSEGV"),
        ("hangs", "hangs: took too long"),
        ("works", "works: took too long"),
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


@pytest.fixture(scope="module")
def formats() -> driver.Targets:
    return driver.targets("tests.fuzz.fuzz_files", "tests.fuzz.fuzz_formats")


def test_targets_of_files_read_their_first_seed(tmp_path: Path, formats: driver.Targets) -> None:
    for seeds, run in formats.values():
        run(seeds[0])
    outcome = driver.fuzz("npy-header", 0.2, 0, tmp_path, "tests.fuzz.fuzz_files")
    assert outcome.findings == []
    assert outcome.inputs > 10


@pytest.mark.parametrize(
    "path", sorted(driver.CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_odd_files_of_the_field(path: Path, formats: driver.Targets) -> None:
    if path.parent.name not in formats:
        pytest.skip(f"the library for {path.parent.name} is not installed")
    assert path in driver.corpus(path.parent.name)
    seeds, run = formats[path.parent.name]
    assert path.read_bytes() in seeds
    if path.name.startswith("read-"):
        run(path.read_bytes())
    else:
        with pytest.raises((ValueError, TypeError), match=r"x(\.\w+)?(/[\w.-]+)?: \S"):
            run(path.read_bytes())


def test_property_tests_draw_as_many_examples_as_the_profile_says(
    request: pytest.FixtureRequest,
) -> None:
    settings = pytest.importorskip("hypothesis").settings
    ci, long = settings.get_profile("ci"), settings.get_profile("long")
    wanted = request.config.getoption("--hypothesis-profile", None) or "ci"
    assert settings.default.max_examples == settings.get_profile(wanted).max_examples
    assert 10 * ci.max_examples <= long.max_examples <= 50 * ci.max_examples
    assert ci.deadline is long.deadline is None
    own = [p.name for p in Path(__file__).parents[1].rglob("test_*.py") if OWN in p.read_text()]
    assert own == []


def test_changes_are_the_same_for_a_seed() -> None:
    import random

    first, second = (mutated(SEED, [SEED], random.Random(3)) for _ in range(2))
    assert first == second
    made = {mutated(SEED, [SEED], random.Random(seed)) for seed in range(200)}
    assert len(made) > 150
