"""The one place where a backend is chosen.

    backend=            served by
    "auto"              "cuda" for inputs in the memory of a CUDA device, otherwise "cpu"
    "cpu"               the CPU's best instruction set
    "cpu:avx2" ...      that instruction set, or an error that says why not
    "cuda"              the inputs' GPU; inputs in host memory are copied to the current one
    "reference"         entroselect/reference.py, the textbook loops
    "faiss"             neighbours only, and approximate: entroselect/faiss_backend.py
    "faiss:..."         the same with that index

An explicit backend never falls back to another. The environment variable ENTROSELECT_BACKEND
stands in for "auto", and so may name exact backends only.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any

from entroselect import _core
from entroselect.backends import faiss as faiss_backend
from entroselect.backends.cpu import Cpu
from entroselect.backends.faiss import Faiss
from entroselect.io.rows import is_on_cuda
from entroselect.reference import NAME as REFERENCE

if TYPE_CHECKING:
    from entroselect.backends.cuda import Cuda


def choose_exact(backend: str, *inputs: Any) -> Cpu | Cuda | None:
    """The backend for a request that has exact answers only; otherwise as `choose`."""
    chosen = choose(backend, *inputs)
    if isinstance(chosen, Faiss):
        raise ValueError(
            f"backend: {backend!r} finds approximate neighbours, and selection is exact only; "
            "nearest_distances, kl_entropy, generalization_score and mean_nearest_distance take it"
        )
    return chosen


def choose(backend: str, *inputs: Any) -> Cpu | Cuda | Faiss | None:
    """The backend for a request, None for the reference, whose functions take the same arguments.

    Raises TypeError, or ValueError that says what is available or why this one is not.
    """
    if not isinstance(backend, str):
        raise TypeError(f"backend: expected a string, got {type(backend).__name__}")
    if backend == "auto":
        backend = os.environ.get("ENTROSELECT_BACKEND") or "auto"
        if _is_faiss(backend):
            raise ValueError(
                f"ENTROSELECT_BACKEND: {backend!r} is approximate, and 'auto' is always exact; "
                f"pass backend={backend!r} where that will do"
            )
        if backend == "auto":
            backend = "cuda" if any(map(is_on_cuda, inputs)) else "cpu"
    if backend != "cuda" and any(map(is_on_cuda, inputs)):
        raise ValueError(
            f"backend: {backend!r} reads host memory, but an input is on a CUDA device; move it to "
            "the CPU, or use backend='cuda'"
        )
    if backend == REFERENCE:
        return None
    if backend == "cuda":
        reason = why_not_cuda()
        if reason:
            raise ValueError(f"backend: 'cuda' cannot run here: {reason}")
        from entroselect.backends.cuda import Cuda

        return Cuda()
    reasons = _why_not_cpu()
    best = next(name for name, reason in reasons.items() if not reason)
    if backend == "cpu":
        return Cpu(best)
    if _is_faiss(backend):
        reason = faiss_backend.why_not()
        if reason:
            raise ValueError(f"backend: {backend!r} cannot run here: {reason}")
        return Faiss(backend, Cpu(best))
    if backend not in reasons:
        known = ", ".join(("auto", "cpu", *reasons, "cuda", REFERENCE, "faiss"))
        raise ValueError(f"backend: expected one of {known}; got {backend!r}")
    if reasons[backend]:
        raise ValueError(f"backend: {backend!r} cannot run here: {reasons[backend]}")
    return Cpu(backend)


def only_in_memory(**arguments: Any) -> None:
    """Refuses what the reference does not have."""
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(f"{name}: backend {REFERENCE!r} has no use for it; leave it out")


def name_of(backend: str) -> str:
    """What results of that backend will say in `.backend`."""
    chosen = choose(backend)
    return REFERENCE if chosen is None else chosen.name


def _is_faiss(backend: str) -> bool:
    return backend == "faiss" or backend.startswith("faiss:")


def why_not() -> dict[str, str]:
    """For every exact backend, best first: "" when it can run here, otherwise the reason it
    cannot."""
    return {**_why_not_cpu(), "cuda": why_not_cuda()}


def _why_not_cpu() -> dict[str, str]:
    return {f"cpu:{isa}": reason for isa, reason in _core.instruction_sets()}


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
