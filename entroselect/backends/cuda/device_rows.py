"""The rows of a caller in device memory."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from entroselect.io.rows import Rows


class DeviceRows:
    """Rows on a device, with the lengths that cosine divides them by; keeps the tensors alive."""

    def __init__(
        self, kernels: Any, rows: Rows, metric: str, device: torch.device | None = None
    ) -> None:
        values = rows.values
        if isinstance(values, np.ndarray):
            with warnings.catch_warnings():  # read-only arrays: nothing here writes to them
                warnings.simplefilter("ignore", UserWarning)
                values = torch.from_numpy(values)
            values = values.to(device)
        elif device is not None and values.device != device:
            raise ValueError(f"rows on {values.device} and {device}: put them on one device")
        if rows.dtype == "bfloat16" and values.dtype != torch.bfloat16:
            values = values.view(torch.bfloat16)
        self.kernels = kernels
        self.values, self.dtype = values, rows.dtype
        self.n, self.d = rows.n, rows.d
        self.device = values.device
        self.lengths: Any = None
        if metric == "cosine":
            with self.on_device():
                lengths = self.empty(self.n, torch.float64)
                kernels.lengths(self.kernel_argument(), self.n, lengths.data_ptr(), self.stream())
                self.lengths = lengths

    def on_device(self) -> Any:
        """Makes the device current."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def stream(self) -> Any:
        """The caller's stream."""
        if self.device.type != "cuda":
            return self.kernels.Stream(0, 0)
        stream = torch.cuda.current_stream(self.device)
        return self.kernels.Stream(self.device.index, stream.cuda_stream)

    def empty(self, shape: Any, dtype: torch.dtype) -> torch.Tensor:
        """Uninitialised memory."""
        return torch.empty(shape, dtype=dtype, device=self.device)

    def distances_to(self, vector: torch.Tensor) -> torch.Tensor:
        """Canonical squared distance of every row to a float64 vector."""
        out = self.empty(self.n, torch.float64)
        one = self.kernels.Rows(vector.data_ptr(), 0, self.d, "float64", 0)
        self.kernels.distances_to(
            self.kernel_argument(), self.n, one, out.data_ptr(), self.stream()
        )
        return out

    def float64(self, rows: torch.Tensor) -> torch.Tensor:
        """The given rows as the exact float64 values that the contract compares: divided by their
        lengths for cosine."""
        out = self.empty((len(rows), self.d), torch.float64)
        rows = rows.contiguous()
        self.kernels.widen_rows(
            self.kernel_argument(), rows.data_ptr(), len(rows), out.data_ptr(), self.stream()
        )
        return out

    def roots(self, squared: torch.Tensor) -> torch.Tensor:
        """Replaces the values by their square roots, correctly rounded."""
        self.kernels.roots(squared.data_ptr(), squared.numel(), self.stream())
        return squared

    def kernel_argument(self, start: int = 0) -> Any:
        """These rows from `start` on, as kernels take them."""
        step = self.values.stride(0) * self.values.element_size()
        lengths = 0 if self.lengths is None else self.lengths.data_ptr() + 8 * start
        address = self.values.data_ptr() + start * step
        return self.kernels.Rows(address, step, self.d, self.dtype, lengths)
