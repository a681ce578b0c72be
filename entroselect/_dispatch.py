"""The one place where a backend is chosen, and where one is refused.

    backend=            served by
    "auto"              "cuda" for inputs in the memory of a CUDA device, otherwise "cpu"
    "cpu"               the CPU's best instruction set
    "cpu:avx2" ...      that instruction set, or an error that says why not
    "cuda"              the inputs' GPU; inputs in host memory are copied to the current one
    "reference"         entroselect/reference.py, the textbook loops
    "faiss"             neighbours only, and approximate: entroselect/backends/faiss.py
    "faiss:..."         the same with that index

An explicit backend never falls back to another. The environment variable ENTROSELECT_BACKEND
stands in for "auto", and so may name exact backends only.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from entroselect import _checks, _core, _settings
from entroselect.backends import faiss
from entroselect.backends.base import Backend
from entroselect.backends.cpu import Cpu
from entroselect.backends.reference import Reference
from entroselect.io.rows import is_on_cuda

# Why a backend refuses an operation, or an argument of one, that is not in its `takes`.
NOT_ITS_OPERATION = {
    "selection": "finds approximate neighbours, and selection is exact only; nearest_distances, "
    "kl_entropy, generalization_score and mean_nearest_distance take it",
    "nearest": "finds no neighbours; use 'cpu'",
    "pairs": "adds up no distances; use 'cpu', with the rows in host memory",
    "within": "finds no points within a distance; use 'cpu', with the rows in host memory",
    "batch": "selects from one pool at a time; use 'cpu', with the points in host memory",
    "exchange": "makes no anchored selections; use 'cpu', with the rows in host memory",
}
NOT_ITS_ARGUMENT = {
    "selection": "has no use for it; leave it out",
    "nearest": "holds all rows at once, in one process; use 'cpu'",
    "pairs": "holds all rows at once; use 'cpu'",
    "within": "holds all rows at once, in one process; use 'cpu'",
}

NOT_YET = {
    **dict.fromkeys(
        ("candidates", "groups"),
        "picks among all rows, without quotas; use 'cpu', with the rows in host memory",
    ),
    "weights": "compares rows by distances alone; use 'cpu', with the rows in host memory",
}


def choose(
    backend: str, operation: str, *inputs: Any, metric: Any = "euclidean", **wanted: Any
) -> Backend:
    """The backend for a request.

    Args:
        backend: the caller's argument, as in the table above.
        operation: "selection", "nearest", "pairs", "exchange", "within" or "batch".
        inputs: the caller's rows; None, and what is not an array, is ignored.
        metric: the caller's, not checked yet.
        wanted: by name, arguments that not every backend takes; None: left out.

    Raises:
        TypeError: `backend` is no string.
        ValueError: saying what is available, why this one cannot run here, or what it does not
            take.
    """
    if not isinstance(backend, str):
        raise TypeError(f"backend: expected a string, got {type(backend).__name__}")
    on_cuda = any(map(is_on_cuda, inputs))
    if backend == "auto":
        backend = _settings.backend()
        if _is_faiss(backend):
            raise ValueError(
                f"{_settings.BACKEND}: {backend!r} is approximate, and 'auto' is always exact; "
                f"pass backend={backend!r} where that will do"
            )
        if backend == "auto":
            backend = "cuda" if on_cuda else "cpu"
    make = BACKENDS.get("faiss" if _is_faiss(backend) else backend)
    if make is None:
        known = ", ".join(("auto", *BACKENDS))
        raise ValueError(f"backend: expected one of {known}; got {backend!r}")
    made = make(backend)
    if on_cuda and "cuda" not in made.takes:
        raise ValueError(
            f"backend: {backend!r} reads host memory, but an input is on a CUDA device; move it to "
            "the CPU, or use backend='cuda'"
        )
    if operation not in made.takes:
        raise ValueError(f"backend: {backend!r} {NOT_ITS_OPERATION[operation]}")
    for argument, value in wanted.items():
        if value is not None and argument not in made.takes:
            why = NOT_YET.get(argument, NOT_ITS_ARGUMENT[operation])
            raise ValueError(f"{argument}: backend {made.name!r} {why}")
    if _checks.is_of_bits(metric):
        _check_bits(made, metric, wanted)
    return made


def _check_bits(made: Backend, metric: str, wanted: dict[str, Any]) -> None:
    if "bits" not in made.takes:
        raise ValueError(
            f"metric: backend {made.name!r} compares numbers, and {metric!r} is of bits; use "
            "'cpu', with the rows in host memory"
        )
    for argument in ("memory_limit", "group", "weights"):
        if wanted.get(argument) is not None:
            raise ValueError(
                f"{argument}: rows are compared by {metric!r} in memory, in one process and "
                "without weights; leave it out"
            )


def name_of(backend: str) -> str:
    """The name that results of that backend have in `.backend`."""
    return choose(backend, "nearest").name  # every backend takes "nearest"


def why_not() -> dict[str, str]:
    """For every exact backend, best first: "" when it can run here, otherwise the reason it
    cannot."""
    return {**_why_not_cpu(), "cuda": why_not_cuda()}


def why_not_cuda() -> str:
    """What is missing for backend "cuda", "" if nothing is."""
    try:
        _cuda = importlib.import_module("entroselect._cuda")
    except ModuleNotFoundError:
        return "built without CUDA (no nvcc was found, or ENTROSELECT_CUDA=off was set)"
    except ImportError as error:
        return f"its module does not load: {error}"
    reason: str = _cuda.why_not()
    if reason:
        return reason
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed: pip install 'entroselect[gpu]'"
    import torch

    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no GPU it can use"
    if torch.cuda.get_device_capability()[0] < 8:
        return f"{torch.cuda.get_device_name()} is older than compute capability 8.0"
    return ""


def _why_not_cpu() -> dict[str, str]:
    return {f"cpu:{isa}": reason for isa, reason in _core.instruction_sets()}


def _is_faiss(backend: str) -> bool:
    return backend == "faiss" or backend.startswith("faiss:")


def _best_cpu() -> Cpu:
    return Cpu(next(name for name, reason in _why_not_cpu().items() if not reason))


def _cpu(name: str) -> Backend:
    if name == "cpu":
        return _best_cpu()
    _check_runs(name, _why_not_cpu()[name])
    return Cpu(name)


def _cuda(name: str) -> Backend:
    _check_runs(name, why_not_cuda())
    from entroselect.backends.cuda import Cuda

    return Cuda()


def _reference(name: str) -> Backend:
    return Reference()


def _faiss(name: str) -> Backend:
    _check_runs(name, faiss.why_not())
    return faiss.Faiss(name, _best_cpu())


def _check_runs(name: str, reason: str) -> None:
    if reason:
        raise ValueError(f"backend: {name!r} cannot run here: {reason}")


# By name: makes the backend, or raises ValueError with the reason why it cannot run here. "faiss"
# also serves names that begin with "faiss:".
BACKENDS: dict[str, Callable[[str], Backend]] = {
    "cpu": _cpu,
    **dict.fromkeys(_why_not_cpu(), _cpu),
    "cuda": _cuda,
    "reference": _reference,
    "faiss": _faiss,
}
