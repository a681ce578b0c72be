"""Drives CMake, which owns the list of C++ sources; everything else stands in pyproject.toml."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()

CMAKE = "cmake>=3.18"

# ENTROSELECT_CUDA=off leaves the CUDA module out though nvcc is there.
CUDA = os.environ.get("ENTROSELECT_CUDA", "auto").upper()


class CMakeBuild(build_ext):
    """Builds the extension modules with CMake and leaves them where setuptools wants them."""

    def build_extension(self, ext: Extension) -> None:
        if ext.optional:
            return  # built along with the first, where nvcc is found
        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        if shutil.which("cmake") is None:
            raise SystemExit(
                "entroselect is built with CMake, and no cmake was found: install it from your "
                f"system's packages or with pip install '{CMAKE}'"
            )
        # Not build_temp, which is another folder every time: what has not changed stays compiled.
        kind = "Debug" if self.debug else "Release"
        tag = f"{sysconfig.get_platform()}-{sysconfig.get_config_var('SOABI')}"
        build = ROOT / "build" / f"cmake-{tag}-{kind}-cuda-{CUDA}".lower()
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
                f"-DCMAKE_BUILD_TYPE={kind}",
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


# kernels/ stands at the top level and is installed as entroselect.kernels, through package_dir. A
# checkout reaches it through the committed link entroselect/kernels, which a source distribution
# does not carry; an editable install is then a plain folder on the path, as type checkers want it.
kernels = ["entroselect.kernels", *(f"entroselect.kernels.{p}" for p in find_packages("kernels"))]
editable = "editable_wheel" in sys.argv

setup(
    packages=[
        *find_packages(include=["entroselect*"], exclude=["entroselect.kernels*"]),
        *kernels,
    ],
    package_dir={"": "."} if editable else {"entroselect.kernels": "kernels"},
    package_data={"entroselect": ["py.typed", "*.pyi", "report/*.html"]},
    ext_modules=[
        Extension("entroselect._core", sources=[]),
        Extension("entroselect._cuda", sources=[], optional=True),
    ],
    cmdclass={"build_ext": CMakeBuild},
    # pip installs it for the build where there is none.
    setup_requires=[] if shutil.which("cmake") else [CMAKE],
    zip_safe=False,
)
