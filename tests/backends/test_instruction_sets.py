"""The kernels give the same bits on every instruction set and architecture.

tests/native/kernels_digest.cpp is built for this machine and, where a cross compiler and an
emulator are installed (Debian: g++-aarch64-linux-gnu, qemu-user-static), for aarch64.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import processes

ROOT = Path(__file__).parents[2]
CROSS, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64-static"


def _digests(build: Path, options: list[str], run: list[str]) -> dict[str, tuple[str, str]]:
    """{instruction set: (digest of the canonical bits, verdict on the scores)}."""
    cmake = ["cmake", "-S", str(ROOT), "-B", str(build), "-DENTROSELECT_CHECK=ON", *options]
    processes.run(cmake)
    processes.run(["cmake", "--build", build], seconds=600)
    printed = processes.run([*run, build / "kernels_digest"]).stdout
    return {line.split()[0]: tuple(line.split()[1:]) for line in printed.splitlines()}  # type: ignore[misc]


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    return _digests(tmp_path_factory.mktemp("native"), [], [])


@pytest.mark.slow
def test_every_instruction_set_has_the_same_canonical_bits(
    native: dict[str, tuple[str, str]],
) -> None:
    assert "portable" in native
    assert len({digest for digest, _ in native.values()}) == 1
    assert {verdict for _, verdict in native.values()} == {"scores-hold"}


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which(CROSS) and shutil.which(EMULATOR)),
    reason=f"needs {CROSS} and {EMULATOR}",
)
def test_aarch64_has_the_same_canonical_bits(
    native: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    options = [
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={CROSS}",
    ]
    emulated = _digests(tmp_path / "aarch64", options, [EMULATOR])
    assert set(emulated) == {"neondot", "neon", "portable"}
    assert {digest for digest, _ in emulated.values()} == {native["portable"][0]}
    assert {verdict for _, verdict in emulated.values()} == {"scores-hold"}
