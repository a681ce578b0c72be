"""Drives CMake, which owns the list of C++ sources; everything else stands in pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()

# ENTROSELECT_CUDA=off leaves the CUDA module out though nvcc is there.
CUDA = os.environ.get("ENTROSELECT_CUDA", "auto").upper()


class CMakeBuild(build_ext):
    """Builds the extension modules with CMake and leaves them where setuptools wants them."""

    def build_extension(self, ext: Extension) -> None:
        if ext.optional:
            return  # built along with the first, where nvcc is found
        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build = Path(self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        forget_cuda(target)
        subprocess.run(
            [
                "cmake",
                "-S",
                str(ROOT),
                "-B",
                str(build),
                f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target}",
                f"-DPython_EXECUTABLE={sys.executable}",
                f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
                f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
                f"-DENTROSELECT_CUDA={CUDA}",
            ],
            check=True,
        )
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count() or 1)
        subprocess.run(["cmake", "--build", str(build), "--parallel", jobs], check=True)

    def copy_extensions_to_source(self) -> None:
        """For builds in place, editable installs among them."""
        forget_cuda(ROOT / "entroselect")
        super().copy_extensions_to_source()


def forget_cuda(folder: Path) -> None:
    """Removes what an earlier build has left of a module that is not wanted now."""
    if CUDA == "OFF":
        for module in folder.glob("_cuda.*.so"):
            module.unlink()


# kernels/ stands at the top level and is installed as entroselect.kernels. Wheels take it through
# package_dir, and it is named here because a source distribution does not carry the committed link
# entroselect/kernels, through which a checkout reaches it.
kernels = ["entroselect.kernels", *(f"entroselect.kernels.{p}" for p in find_packages("kernels"))]

setup(
    packages=[
        *find_packages(include=["entroselect*"], exclude=["entroselect.kernels*"]),
        *kernels,
    ],
    # A plain path in editable installs, which type checkers follow; they know no import hooks.
    options={"editable_wheel": {"mode": "compat"}},
    package_dir={"entroselect.kernels": "kernels"},
    package_data={"entroselect": ["py.typed", "*.pyi", "cli/*.html"]},
    ext_modules=[
        Extension("entroselect._core", sources=[]),
        Extension("entroselect._cuda", sources=[], optional=True),
    ],
    cmdclass={"build_ext": CMakeBuild},
    zip_safe=False,
)
