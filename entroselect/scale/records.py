"""Rows as processes send them to each other: numbers, bounds and values together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.results import Float64, Int64

_HEAD = np.dtype([("key", np.int64), ("row", np.int64), ("squared", np.float64)])


class Records:
    """Some rows of a pool.

    Attributes:
        data: their bytes, a head and values each: an array, or a tensor on a CUDA device.
        head: of each row its place in an order (`key`), its number in the whole pool (`row`) and a
            squared distance; in host memory, where the data is in host memory a view of it.
        dtype: of the values: NumPy's, or torch's of a tensor.
    """

    def __init__(self, data: Any, dtype: Any, head: NDArray[Any] | None = None) -> None:
        """Of what `sendable` returned; `head`: those of a tensor, if they are known."""
        self.data, self.dtype = data, dtype
        if head is None:
            heads = data[:, : _HEAD.itemsize]
            on_host = heads if isinstance(data, np.ndarray) else heads.cpu().contiguous().numpy()
            head = on_host.view(_HEAD)[:, 0]
        self.head = head

    @classmethod
    def of(cls, rows: Int64, squared: Float64, values: Any) -> Records:
        """Of rows and their `values`, (n, d); keys are the rows' numbers."""
        head, data = None, np.empty(0, np.uint8)
        if isinstance(values, np.ndarray):
            raw = np.ascontiguousarray(values).view(np.uint8)
            data = np.empty((len(rows), _HEAD.itemsize + raw.shape[1]), np.uint8)
        else:
            import torch

            raw = values.contiguous().view(torch.uint8)
            data = raw.new_empty((len(rows), _HEAD.itemsize + raw.shape[1]))
            head = np.empty(len(rows), _HEAD)
        data[:, _HEAD.itemsize :] = raw
        made = cls(data, values.dtype, head)
        made.head["key"] = made.head["row"] = rows
        made.head["squared"] = squared
        return made

    def sendable(self) -> Any:
        """The data, with the heads in it."""
        if not isinstance(self.data, np.ndarray):
            import torch

            raw = self.head.view(np.uint8).reshape(len(self), _HEAD.itemsize)
            self.data[:, : _HEAD.itemsize] = torch.from_numpy(raw).to(self.data.device)
        return self.data

    def values(self) -> Any:
        """(n, d), where they are in the data."""
        return self.data[:, _HEAD.itemsize :].view(self.dtype)

    def __len__(self) -> int:
        return len(self.head)

    def __getitem__(self, which: Any) -> Records:
        """The rows that a slice, numbers or a mask name."""
        if isinstance(self.data, np.ndarray):
            return Records(self.data[which], self.dtype)
        if isinstance(which, np.ndarray):
            import torch

            place = torch.from_numpy(which).to(self.data.device)
            return Records(self.data[place], self.dtype, self.head[which])
        return Records(self.data[which], self.dtype, self.head[which])
