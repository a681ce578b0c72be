"""What users install: the wheel and the source distribution, built from this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(wheel, sdist); the wheel is built from the sdist, which therefore must hold everything."""
    pytest.importorskip("pybind11")
    folder = tmp_path_factory.mktemp("built")
    make_sdist = (
        "import sys, setuptools.build_meta as b; print(b.build_sdist(sys.argv[1]), file=sys.stderr)"
    )
    subprocess.run(
        [sys.executable, "-c", make_sdist, str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    sdist = next(folder.glob("*.tar.gz"))
    # As on a machine without nvcc.
    environment = {**os.environ, "ENTROSELECT_CUDA": "off"}
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*wheel, "--wheel-dir", str(folder), str(sdist)],
        check=True,
        capture_output=True,
        env=environment,
    )
    return next(folder.glob("*.whl")), sdist


def test_the_wheel_holds_what_it_needs(built: tuple[Path, Path]) -> None:
    names = zipfile.ZipFile(built[0]).namelist()
    for needed in (
        "entroselect/__init__.py",
        "entroselect/py.typed",
        "entroselect/_core.pyi",
        "entroselect/kernels/__init__.py",
        "entroselect/kernels/triton/filter.py",
        "entroselect/cuda/__init__.py",
        "entroselect/cli/app.py",
        "entroselect/cli/page.html",
    ):
        assert needed in names
    assert not any(name.startswith("entroselect/_cuda.") and name.endswith(".so") for name in names)
    assert any(name.startswith("entroselect/_core.") and name.endswith(".so") for name in names)
    assert not any(name.startswith(("tests/", "benchmarks/", "kernels/")) for name in names)


def test_the_wheel_needs_numpy_alone(built: tuple[Path, Path]) -> None:
    wheel = zipfile.ZipFile(built[0])
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    lines = wheel.read(metadata).decode().splitlines()
    required = [line for line in lines if line.startswith("Requires-Dist") and "extra" not in line]
    assert [line.split()[1].split(">")[0] for line in required] == ["numpy"]


def test_the_wheel_works_away_from_the_checkout(built: tuple[Path, Path], tmp_path: Path) -> None:
    zipfile.ZipFile(built[0]).extractall(tmp_path / "site")
    code = (
        "import numpy as np, entroselect, entroselect.kernels\n"
        "assert 'site' in entroselect.__file__, entroselect.__file__\n"
        "assert entroselect.greedy_select(np.eye(5), 3).indices.tolist() == [0, 1, 2]\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=60
    )


def test_the_sources_are_complete(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    for folder in ("csrc", "kernels/cuda"):
        for source in (ROOT / folder).iterdir():
            assert f"{folder}/{source.name}" in names
    assert {"CMakeLists.txt", "setup.py", "LICENSE", "kernels/__init__.py"} <= names
