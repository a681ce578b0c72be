"""What users install: the wheel and the source distribution, built from this checkout."""

from __future__ import annotations

import os
import shutil
import sysconfig
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.support.processes import python, run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(wheel, sdist); the wheel is built from the sdist, which therefore must hold everything, and
    which lies unpacked in a folder beside it."""
    pytest.importorskip("pybind11")
    folder = tmp_path_factory.mktemp("built")
    make_sdist = (
        "import sys, setuptools.build_meta as b; print(b.build_sdist(sys.argv[1]), file=sys.stderr)"
    )
    python("-c", make_sdist, folder, cwd=ROOT)
    sdist = next(folder.glob("*.tar.gz"))
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    _make_wheel(sdist.with_name(sdist.name.removesuffix(".tar.gz")))
    return next(folder.glob("*.whl")), sdist


def _make_wheel(source: Path) -> None:
    wheel = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    no_cuda = {"ENTROSELECT_CUDA": "off"}  # as on a machine without nvcc
    where = ["--wheel-dir", source.parent, source]
    python(*wheel, *where, environment=no_cuda, seconds=900)


def test_the_wheel_holds_what_it_needs(built: tuple[Path, Path]) -> None:
    names = zipfile.ZipFile(built[0]).namelist()
    for needed in (
        "entroselect/__init__.py",
        "entroselect/py.typed",
        "entroselect/_core.pyi",
        "entroselect/kernels/__init__.py",
        "entroselect/kernels/triton/filter.py",
        "entroselect/backends/cuda/__init__.py",
        "entroselect/cli/app.py",
        "entroselect/report/page.html",
    ):
        assert needed in names
    assert not any(name.startswith("entroselect/_cuda.") and name.endswith(".so") for name in names)
    assert any(name.startswith("entroselect/_core.") and name.endswith(".so") for name in names)
    assert not any(name.startswith(("tests/", "benchmarks/", "kernels/")) for name in names)
    assert built[0].stat().st_size < 2_000_000


def test_the_wheel_needs_numpy_alone(built: tuple[Path, Path]) -> None:
    wheel = zipfile.ZipFile(built[0])
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    lines = wheel.read(metadata).decode().splitlines()
    required = [line for line in lines if line.startswith("Requires-Dist") and "extra" not in line]
    assert [line.split()[1].split(">")[0] for line in required] == ["numpy"]


def test_the_wheel_runs_the_readme_with_numpy_alone(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(built[0]).extractall(site)
    for folder in (Path(np.__file__).parent, Path(np.__file__).parents[1] / "numpy.libs"):
        (site / folder.name).symlink_to(folder)
    # -S: without what is installed. The script compares instruction sets too.
    script = ROOT / "tests" / "support" / "installed.py"
    done = python("-S", script, ROOT, cwd=tmp_path, environment={"PYTHONPATH": str(site)})
    assert done.stdout.endswith(" blocks of README.md ran\n")


def test_the_sources_are_complete(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    for folder in ("csrc", "kernels/cuda"):
        for source in (ROOT / folder).rglob("*.*"):
            assert source.relative_to(ROOT).as_posix() in names
    assert not any(name.startswith("entroselect/kernels") for name in names)
    assert {"CMakeLists.txt", "setup.py", "LICENSE", "kernels/__init__.py"} <= names


def test_only_what_changed_is_compiled_again(built: tuple[Path, Path]) -> None:
    source = next(path for path in built[1].parent.iterdir() if path.is_dir())
    now = time.time()
    os.utime(source / "csrc" / "select" / "cells.cpp", (now, now))
    os.utime(source / "entroselect" / "greedy.py", (now, now))
    _make_wheel(source)
    objects = list(source.glob("build/cmake-*/**/*.o"))
    assert len(objects) > 20
    assert [path.name for path in objects if path.stat().st_mtime >= now] == ["cells.cpp.o"]


def test_make_installs_again_only_what_is_compiled(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make")
    files = ["Makefile", "CMakeLists.txt", "setup.py", "pyproject.toml", "constraints.txt"]
    made = [".venv/bin/python", ".venv/build", ".venv/test"]
    sources = ["csrc/select/greedy.cpp", "kernels/cuda/greedy.cu", "entroselect/greedy.py"]
    for name in (*files, *sources, *made):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((ROOT / name).read_bytes() if name in files else b"")
        os.utime(path, (1000, 1000))

    def is_done() -> bool:
        return run(["make", "-q", ".venv/test"], cwd=tmp_path, code=None).returncode == 0

    assert is_done()
    os.utime(tmp_path / "entroselect/greedy.py", (2000, 2000))
    assert is_done()
    for name in ("csrc/select/greedy.cpp", "kernels/cuda/greedy.cu", "setup.py"):
        os.utime(tmp_path / name, (2000, 2000))
        assert not is_done()
        os.utime(tmp_path / name, (1000, 1000))


def test_a_checkout_that_was_not_built_says_what_to_do(tmp_path: Path) -> None:
    ours = shutil.ignore_patterns("*.so", "kernels", "__pycache__")
    shutil.copytree(ROOT / "entroselect", tmp_path / "entroselect", ignore=ours)

    def error() -> str:
        where = {"cwd": tmp_path, "environment": {"PYTHONPATH": ""}}
        # -S: without what is installed
        done = python("-S", "-c", "import entroselect", code=1, **where)
        return done.stderr.splitlines()[-1]

    said = error()
    assert said.startswith(f"ImportError: {tmp_path / 'entroselect'} holds no compiled module")
    assert "pip install --editable ." in said
    assert "start Python in another folder" in said
    # One that is there and does not load says so itself.
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    (tmp_path / "entroselect" / f"_core{suffix}").write_bytes(b"no library")
    assert "file too short" in error()


def test_without_cmake(built: tuple[Path, Path], tmp_path: Path) -> None:
    """pip is asked to bring it, and where pip may not, the error says how to get it."""
    source = next(path for path in built[1].parent.iterdir() if path.is_dir())
    for call, expected in (
        ("print(b.get_requires_for_build_wheel())", "['cmake>=3.18']"),
        (f"b.build_wheel({str(tmp_path)!r})", "and no cmake was found: install it from"),
    ):
        code = f"import setuptools.build_meta as b; {call}"
        done = python("-c", code, cwd=source, code=None, environment={"PATH": str(tmp_path)})
        assert expected in done.stdout + done.stderr
