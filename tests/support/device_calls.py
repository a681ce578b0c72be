"""What the host asks of a device: counted on the host build, where the device is a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

# torch's functions that wait for the device, and methods that bring values to the host.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal"}
TO_HOST = ("cpu", "tolist", "numpy")

# Of the kernels' module: those that wait, and the bytes that they bring.
KERNELS = {"frontier": 32, "find_stale": 8, "farthest_first": 96, "in_order": 96}

# What makes no work for the device.
FREE = {"empty", "detach", "alias", "_unsafe_view"}


@dataclass
class Calls:
    """Operations queued, waits for the device, and bytes that came to the host."""

    queued: int = 0
    waits: int = 0
    to_host: int = 0

    def __sub__(self, other: Calls) -> Calls:
        return Calls(
            self.queued - other.queued, self.waits - other.waits, self.to_host - other.to_host
        )


class Counting(TorchDispatchMode):
    """Counts the calls of torch, and of kernels that are taken through `kernels`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.calls = Calls()
        for name in TO_HOST:
            self._count_method(monkeypatch, name)

    def now(self) -> Calls:
        """The counts so far."""
        return Calls(self.calls.queued, self.calls.waits, self.calls.to_host)

    def kernels(self, module: Any) -> Any:
        """The same module, counted."""
        return _CountedKernels(module, self.calls)

    def triton(self, kernel: Any) -> Any:
        """The same Triton kernel; what its interpreter does is not counted."""
        return _CountedTriton(kernel, self.calls)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put", "index_put_") and any(
            each is not None and each.dtype == torch.bool for each in args[1]
        )
        if name in WAITING or masked:
            self.calls.waits += 1
            self.calls.to_host += 8
        elif not (func.is_view or name in FREE):
            self.calls.queued += 1
        return func(*args, **(kwargs or {}))

    def _count_method(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        original = getattr(torch.Tensor, name)

        def counted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if name != "numpy":  # after `cpu`
                self.calls.waits += 1
                self.calls.to_host += tensor.numel() * tensor.element_size()
            return original(tensor, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, counted)


class _CountedKernels:
    def __init__(self, module: Any, calls: Calls) -> None:
        self._module, self._calls = module, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if not callable(found) or isinstance(found, type):
            return found

        def counted(*args: Any) -> Any:
            self._calls.queued += 1
            if name in KERNELS:
                self._calls.waits += 1
                self._calls.to_host += KERNELS[name]
            return found(*args)

        return counted


class _CountedTriton:
    def __init__(self, kernel: Any, calls: Calls) -> None:
        self._kernel, self._calls = kernel, calls

    def __getitem__(self, grid: Any) -> Any:
        def launch(*args: Any, **constants: Any) -> None:
            before = self._calls.waits, self._calls.to_host
            with _disable_current_modes():
                self._kernel[grid](*args, **constants)
            self._calls.waits, self._calls.to_host = before
            self._calls.queued += 1

        return launch
