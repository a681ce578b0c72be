"""Shared by all tests: which backends can run here, and whole-answer comparison."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroselect import _dispatch
from entroselect._float_environment import in_default_float_environment
from entroselect.results import Neighbours, Selection
from tests.support.processes import run

ROOT = Path(__file__).parents[1]

REASONS = _dispatch.why_not()
NO_GPU = REASONS.pop("cuda")  # "" where backend "cuda" runs

# Every instruction set this machine can run; each must give the same answer.
BACKENDS = [name for name, reason in REASONS.items() if not reason]

# Triton decides when it is imported whether its interpreter takes the place of a GPU.
if NO_GPU:
    os.environ["TRITON_INTERPRET"] = "1"


# Those that code rows in bytes do so by themselves; their other form is asked for.
FORMS = [
    *((name, "") for name in BACKENDS),
    *((name, "bf16") for name in BACKENDS if name in ("cpu:avx512bf16", "cpu:avx512", "cpu:avx2")),
    # Narrow rows are left to a tree unless the filter is asked for.
    *((name, "int8") for name in BACKENDS if name in ("cpu:avx512bf16", "cpu:avx2")),
]


@pytest.fixture(autouse=True)
def _default_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKEND", "BLOCK", "CELLS", "FILTER", "THREADS", "TILE"):
        monkeypatch.delenv(f"ENTROSELECT_{name}", raising=False)


@pytest.fixture(autouse=True)
def _flush_to_zero(request: pytest.FixtureRequest) -> Iterator[None]:
    """With --flush-to-zero (`make test-ftz`), every test runs as after
    torch.set_flush_denormal(True): subnormal numbers are 0, for what is computed here as well."""
    if not request.config.getoption("--flush-to-zero", False):
        yield
        return
    import torch

    assert torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


# How many examples property tests draw: "ci" unless --hypothesis-profile says "long".
if importlib.util.find_spec("hypothesis") is not None:
    from hypothesis import settings

    settings.register_profile("ci", max_examples=100, deadline=None, print_blob=True)
    settings.register_profile("long", settings.get_profile("ci"), max_examples=3000)
    settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--flush-to-zero", action="store_true", help="run every test under flush-to-zero"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a build of the CUDA sources for the host is slow (see pyproject.toml)."""
    built = {"host_build", "host_kernels", "gpu", "cuda"}
    for item in items:
        if built & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


def best_first(values: list[Any]) -> list[Any]:
    """The same as parameters, all but the first of them slow: `make test-fast` tries one."""
    return [values[0], *(pytest.param(value, marks=pytest.mark.slow) for value in values[1:])]


@pytest.fixture(params=best_first(FORMS), ids="-".join)
def backend(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    _default_environment: None,
) -> str:
    """An instruction set, with the environment that makes its filter code rows in one form."""
    name, form = request.param
    if form:
        monkeypatch.setenv("ENTROSELECT_FILTER", form)
    return str(name)


@pytest.fixture(scope="session")
def host_build() -> Path:
    """The CUDA sources as host C++: the module _cuda_host and the program cuda_check. They are kept
    in build/, where cmake builds again only what changed."""
    import fcntl

    pybind11 = pytest.importorskip("pybind11")
    build = ROOT / "build" / f"cuda_host-{sys.implementation.cache_tag}"
    build.mkdir(parents=True, exist_ok=True)
    options = [
        "-DENTROSELECT_CUDA_CHECK=ON",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
    ]
    jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(os.cpu_count() or 1)
    with (build / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of another test run
        run(["cmake", "-S", ROOT, "-B", build, *options])
        run(["cmake", "--build", build, "--parallel", jobs], seconds=900)
    return build


@pytest.fixture(scope="session")
def host_kernels(host_build: Path) -> Any:
    """kernels/cuda as a module that works on host memory."""
    path = next(host_build.glob("_cuda_host*.so"))
    spec = importlib.util.spec_from_file_location("_cuda_host", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def gpu(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, _default_environment: None
) -> Any:
    """A function that puts a pool where backend "cuda" works, which is what "auto" means here. It
    takes what the backend is to be made with; without a GPU that is its host build."""
    torch = pytest.importorskip("torch")
    from entroselect.backends.cuda import Cuda
    from entroselect.backends.cuda.autotune import Tile

    monkeypatch.setenv("ENTROSELECT_BACKEND", "cuda")

    def register(backend: Cuda) -> None:
        monkeypatch.setitem(_dispatch.BACKENDS, "cuda", lambda name: backend)

    if not NO_GPU:

        def there(pool: Any, limit: int | None = None, **_tile: Any) -> Any:
            register(Cuda(limit=limit))
            return torch.as_tensor(np.array(pool), device="cuda")

        return there
    kernels = request.getfixturevalue("host_kernels")
    # A program goes through several tiles of columns, as it does where there are many.
    monkeypatch.setattr("entroselect.backends.cuda.filter.PROGRAMS", 3)

    def use(
        pool: Any, columns: int = 32, capacity: int | None = None, tma: bool = False, **more: Any
    ) -> Any:
        register(Cuda(kernels, "cpu", Tile(32, columns, 32, 4, 1, capacity, tma), **more))
        return pool

    use(None)
    return use


@in_default_float_environment
def same_selection(ours: Selection, oracle: Selection) -> None:
    """Every index, every distance to the last bit, the radius and the thresholds."""
    np.testing.assert_array_equal(ours.indices, oracle.indices)
    np.testing.assert_array_equal(ours.distances, oracle.distances)
    assert ours.radius == oracle.radius
    assert (ours.thresholds is None) == (oracle.thresholds is None)
    if oracle.thresholds is not None:
        np.testing.assert_array_equal(ours.thresholds, oracle.thresholds)
    assert ours.indices.dtype == np.int64
    assert ours.distances.dtype == np.float64


@in_default_float_environment
def same_neighbours(ours: Neighbours, oracle: Neighbours) -> None:
    np.testing.assert_array_equal(ours.indices, oracle.indices)
    np.testing.assert_array_equal(ours.distances, oracle.distances)
    assert ours.indices.dtype == np.int64
    assert ours.distances.dtype == np.float64


def normal(n: int, d: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with pool.npy, (60, 5) float32."""
    monkeypatch.chdir(tmp_path)
    np.save("pool.npy", np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32))
    return tmp_path
