"""Rows coded in fp16, and the frame in which they are: what the filter pass reads.

The proof is in docs/exactness.md ("On a GPU"); rows are coded by `code` in kernels/cuda.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from entroselect.backends.cuda.device_rows import DeviceRows

# Roundings that a score costs at most, in units of 2^-23: per column, and besides.
ROUNDINGS, MORE_ROUNDINGS = 2, 32

SLACK = 2.0**-20  # covers roundings of float32 numbers, as in kernels/triton/filter.py


@dataclass(frozen=True)
class Coded:
    """Rows as the filter reads them: fp16 values (n, width), ||X~||^2, and float32 numbers not
    below ||X~|| and ||X - X~||."""

    codes: torch.Tensor
    norm2: torch.Tensor
    norm: torch.Tensor
    residual: torch.Tensor

    def __len__(self) -> int:
        return len(self.norm)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Its four tensors."""
        return self.codes, self.norm2, self.norm, self.residual

    def part(self, start: int, stop: int) -> Coded:
        """A view of some rows."""
        return Coded(*(tensor[start:stop] for tensor in self.tensors()))

    def kernel_argument(self, kernels: Any) -> Any:
        """These rows as kernels take them."""
        return kernels.Coded(*(tensor.data_ptr() for tensor in self.tensors()))


class Frame:
    """The frame in which rows are coded: X = scale (x - centre). Any centre and scale are correct;
    column medians and a typical magnitude, which no outlier moves, keep residuals small."""

    def __init__(self, rows: DeviceRows) -> None:
        count = min(rows.n, 128)
        places = torch.arange(count, device=rows.device) * rows.n // max(1, count)
        sample = rows.float64(places) if count else rows.empty((1, rows.d), torch.float64).zero_()
        self.centre = torch.sort(sample, dim=0).values[count // 2].contiguous()
        largest = torch.sort((sample - self.centre).abs().amax(dim=1)).values
        largest = largest[largest > 0]
        typical = float(largest[len(largest) // 2]) if len(largest) else 1.0
        self.scale = 2.0 ** -max(-900, min(900, math.frexp(typical)[1] - 1))
        self.width = -(-rows.d // 64) * 64 if rows.d > 32 else 32
        steps = (ROUNDINGS * self.width + MORE_ROUNDINGS) * 2.0**-23
        self.gamma = steps / (1 - steps) if steps < 0.5 else 1e30
        self._canonical = (rows.d / 8 + 16) * 2.0**-51
        self._underflow = (rows.d + 16) * 2.0**-1073
        # Float32 ends before some scales do: then nothing is concluded from scores.
        underflow = self.scale * math.sqrt(4 * self._underflow) + 2.0**-60
        self.underflow = min(underflow * (1 + SLACK), 1e38)

    def reach(self, kernels: Any) -> Any:
        """The largest scaled distance of pairs whose canonical squared distance is at most a
        number, as kernels take it: `scale` sqrt(number (1 + `canonical`) + `underflow`)."""
        return kernels.Reach(1 + self._canonical, self._underflow, self.scale * (1 + SLACK))

    def below(self, squared: float) -> float:
        """A scaled distance; pairs that are not farther apart have a canonical squared distance
        below `squared`. 0 where nothing is."""
        root = math.sqrt(max(0.0, squared - self._underflow) / (1 + self._canonical))
        nearer = self.scale * root * (1 - SLACK)
        return min(nearer, 1e38) if nearer > 2.0**-100 else 0.0  # as a float32, to nearest

    def bytes_per_row(self) -> int:
        """Device memory of a coded row."""
        return 2 * self.width + 12

    def room(self, rows: DeviceRows, n: int) -> Coded:
        """Uninitialised memory for n coded rows."""
        numbers = [rows.empty(n, torch.float32) for _ in range(3)]
        return Coded(rows.empty((n, self.width), torch.float16), *numbers)

    def code(
        self,
        rows: DeviceRows,
        index: torch.Tensor | None,
        first: int,
        n: int,
        out: Coded | None = None,
    ) -> Coded:
        """Codes n rows: those that `index` names, or those from `first` on."""
        out = self.room(rows, n) if out is None else out
        address = 0 if index is None else index.data_ptr()
        rows.kernels.code(
            rows.kernel_argument(), address, first, n, self.centre.data_ptr(), self.scale,
            self.width,
            out.kernel_argument(rows.kernels), rows.stream(),
        )  # fmt: skip
        return out
