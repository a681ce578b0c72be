"""Turns what a caller passes into rows that the engine can read, without changing a value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import _core
from entroselect._settings import threads
from entroselect.io.convert import as_array

# What the engine reads in place. Every other real dtype is widened to one that holds its values
# exactly as float64 would (int64 beyond 2**53 rounds as float64 does: that is the contract).
_WIDEN = {
    "int8": "float16",
    "int16": "float32",
    "uint16": "float32",
    "int32": "float64",
    "uint32": "float64",
    "int64": "float64",
    "uint64": "float64",
}
_NATIVE = ("float64", "float32", "float16", "uint8")

_KDL_CUDA = 2  # DLPack's number for memory of a CUDA device


@dataclass(frozen=True)
class Rows:
    """Checked (n, d) rows: `values` as the engine reads them, `dtype` what they mean.

    `values` is a NumPy array, or a torch tensor on a CUDA device. bfloat16 has no NumPy dtype; its
    bits stand in a uint16 array with dtype "bfloat16". `bits`: of a row that was bool and is packed
    here; its last byte may have room for more.
    """

    values: Any
    dtype: str
    bits: int | None = None

    @property
    def n(self) -> int:
        return int(self.values.shape[0])

    @property
    def d(self) -> int:
        return int(self.values.shape[1])

    @property
    def on_cuda(self) -> bool:
        """In the memory of a CUDA device."""
        return not isinstance(self.values, np.ndarray)

    def like(self, found: Any) -> Any:
        """A result as an array where these rows are: NumPy, or a tensor on their CUDA device."""
        if self.on_cuda:
            import torch

            return torch.as_tensor(found, device=self.values.device)
        return found if isinstance(found, np.ndarray) else found.cpu().numpy()

    def take(self, rows: Any) -> NDArray[Any]:
        """The given rows in host memory, as `values` holds them there."""
        part = self.values[rows]
        if not self.on_cuda:
            return np.asarray(part)
        if self.dtype == "bfloat16":
            import torch

            return np.asarray(part.view(torch.int16).cpu()).view(np.uint16)
        return np.asarray(part.cpu())

    def on_host(self) -> Rows:
        """These rows in host memory; themselves, if they are there."""
        return Rows(self.take(slice(None)), self.dtype) if self.on_cuda else self

    def first_unusable(self, largest: float) -> int:
        """The first row with a value that is not finite or is beyond `largest`, -1 if there is
        none."""
        if not self.on_cuda:
            return _core.first_unusable_row(self.values, self.dtype, largest, threads())

        if not self.values.is_floating_point():
            return -1
        import torch

        # Narrower types than float64 end before `largest`, which they could not even hold.
        most = min(largest, torch.finfo(self.values.dtype).max)
        # Both are NaN where a value is, and so compare as false.
        return _first_on_cuda(self.values, lambda low, high: (low >= -most) & (high <= most))

    def first_zero(self) -> int:
        """The first row of zeros, -1 if there is none."""
        if not self.on_cuda:
            return _core.first_zero_row(self.values, self.dtype, threads())
        return _first_on_cuda(self.values, lambda low, high: (low != 0) | (high != 0))

    def float64(self, rows: Any = slice(None)) -> NDArray[np.float64]:
        """The given rows as float64, exactly."""
        part = self.values[rows]
        if self.on_cuda:
            return np.asarray(part.double().cpu())
        if self.dtype == "bfloat16":
            part = (part.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(part, dtype=np.float64)


def _first_on_cuda(values: Any, fits: Callable[[Any, Any], Any]) -> int:
    """The first row whose least and largest value do not fit, -1 if there is none: one pass over
    the rows, and one wait for the device."""
    import torch

    step = max(1, (1 << 30) // values.shape[1])  # fewer values than 32 bits can count
    parts = [fits(*torch.aminmax(part, dim=1)) for part in values.split(step) if len(part)]
    if not parts or bool(torch.cat(parts).all()):
        return -1
    return int((~torch.cat(parts)).nonzero()[0])


def engine_dtype(name: str, stored: str) -> str:
    """The dtype to which values of a stored dtype are read; TypeError if there is none."""
    if stored == "bool":
        return "uint8"
    if stored in (*_NATIVE, "bfloat16"):
        return stored
    if stored not in _WIDEN:
        raise TypeError(
            f"{name}: dtype {stored} is not supported; use float16, bfloat16, float32, float64, "
            "an integer type or bool"
        )
    return _WIDEN[stored]


def in_memory_rows(name: str, given: Any, may_be_empty: bool = False) -> Rows:
    """Views `given` as (n, d) rows, copying only where the engine cannot read it in place.

    Accepts NumPy arrays and memmaps, anything with DLPack on the CPU or `__array__`, and anything
    with DLPack on a CUDA device, which stays there.
    Raises TypeError or ValueError naming the argument, also for (0, d) unless that is accepted.
    Values are not looked at.
    """
    if is_on_cuda(given):
        return _cuda_rows(name, given, may_be_empty)
    array, stored = as_array(name, given)
    return array_rows(name, array, stored, may_be_empty)


def array_rows(name: str, array: NDArray[Any], stored: str, may_be_empty: bool = False) -> Rows:
    """As `in_memory_rows`, for an array whose values are of the dtype called `stored`, as
    `as_array` returns it."""
    _check_shape(name, tuple(array.shape), may_be_empty)
    dtype = engine_dtype(name, stored)
    if dtype != stored:
        array = array.astype(dtype, copy=False)
    itemsize = array.dtype.itemsize
    # Rows may stand apart (a view of columns), but each row must be contiguous and forward. The
    # steps of a single row or column mean nothing, but torch refuses odd and negative ones.
    row_step, column_step = array.strides
    if (
        (array.shape[1] > 1 and column_step != itemsize)
        or (array.shape[0] > 1 and row_step < itemsize)
        or any(step < 0 or step % itemsize for step in array.strides)
        or not array.flags.aligned
    ):
        array = array.copy()
    return Rows(array, dtype)


def _check_shape(name: str, shape: tuple[int, ...], may_be_empty: bool) -> None:
    if len(shape) != 2:
        raise ValueError(f"{name}: expected a 2-D array (rows, columns), got shape {shape}")
    if shape[1] == 0 or (shape[0] == 0 and not may_be_empty):
        raise ValueError(f"{name}: empty, shape {shape}; at least 1 row and 1 column needed")


def is_on_cuda(given: Any) -> bool:
    """Whether an input lies in the memory of a CUDA device."""
    if isinstance(given, Rows):
        return given.on_cuda
    if isinstance(given, np.ndarray) or not hasattr(given, "__dlpack_device__"):
        return False
    try:
        return int(given.__dlpack_device__()[0]) == _KDL_CUDA
    except (BufferError, RuntimeError, TypeError, ValueError):
        return False  # DLPack does not know the device; in_memory_rows raises, naming the argument


def _cuda_rows(name: str, given: Any, may_be_empty: bool) -> Rows:
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"{name}: on a CUDA device, which needs torch: pip install 'entroselect[gpu]'"
        ) from error
    tensor = given if isinstance(given, torch.Tensor) else torch.utils.dlpack.from_dlpack(given)
    tensor = tensor.detach()
    _check_shape(name, tuple(tensor.shape), may_be_empty)
    if tensor.dtype == torch.bool:
        tensor = tensor.view(torch.uint8)
    stored = str(tensor.dtype).removeprefix("torch.")
    dtype = engine_dtype(name, stored)
    if dtype != stored:
        tensor = tensor.to(getattr(torch, dtype))
    if (tensor.shape[1] > 1 and tensor.stride(1) != 1) or tensor.stride(0) < 1:
        tensor = tensor.contiguous()
    return Rows(tensor, dtype)
