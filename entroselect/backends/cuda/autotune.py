"""Shapes of the filter kernel's tiles: a small table for each generation of GPUs, of which the
fastest is found by timing where the kernel is used. Every shape gives the same answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from entroselect import _settings


@dataclass(frozen=True)
class Tile:
    """Shape of the filter kernel's tiles; `capacity` of pairs is for tests."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    capacity: int | None = None
    tma: bool = False  # tiles of codes are copied by the tensor memory accelerator (Hopper and on)

    @property
    def words(self) -> int:
        """32-bit words that have a bit for each column."""
        return max(4, self.columns // 32)

    def __str__(self) -> str:
        shape = f"{self.rows} x {self.columns} x {self.depth}, {self.warps} warps"
        return f"{shape}, {self.stages} stages{', TMA' if self.tma else ''}"


# By the major number of the compute capability: shapes that keep everything in registers, as ptxas
# reports it (tests/backends/test_cuda_compiled.py). The first is used unless another one turns out
# to be clearly faster.
TILES = {
    8: (
        Tile(128, 64, 64, 8, 4),
        Tile(128, 128, 64, 8, 3),
    ),
    9: (
        Tile(128, 256, 64, 8, 4, tma=True),
        Tile(128, 128, 64, 8, 3),
        Tile(128, 128, 64, 4, 3, tma=True),  # two of them fit a multiprocessor and take turns
    ),
    10: (
        Tile(128, 256, 64, 8, 4, tma=True),
        Tile(128, 128, 64, 8, 3),
        Tile(128, 128, 64, 4, 3, tma=True),
    ),
}

# The first shape is left for one that takes at most this share of its time: the sample is short,
# and shapes that tied on it were 1.6 times apart in whole searches.
WORTH_A_CHANGE = 0.9

# With fewer codes (rows x width) than this, timing costs more than it saves: a shape that is new to
# a machine has to be compiled, which takes a second or two.
WORTH = 1 << 24

# Once the passes timed so far add up to this, no further shape is timed; each shape is run five
# times.
BUDGET_MS = 8.0


@dataclass(frozen=True)
class Choice:
    """The result of timing for a device and a class of widths: milliseconds of each shape, or why
    it could not be timed."""

    tile: Tile
    timed: dict[Tile, float | str]


# By name of the device and class of widths; kept until the process ends.
CHOICES: dict[tuple[str, int], Choice] = {}


def width_class(width: int) -> int:
    """Widths that share a shape: up to the next power of two, everything above 512 is one."""
    return min(1024, 1 << (width - 1).bit_length())


def table(device: torch.device) -> tuple[Tile, ...]:
    """The shapes for a device, or the one that ENTROSELECT_TILE (a place in the table) names."""
    major = torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0
    tiles = TILES.get(major, TILES[max(TILES)])
    place = _settings.tile(tiles)
    return tiles if place is None else (tiles[place],)


def choose(device: torch.device, width: int, n: int, milliseconds: Callable[[Tile], float]) -> Tile:
    """The shape for n coded rows of a width: the first of the table where there is no GPU or too
    little to do, otherwise the fastest as `milliseconds` measures it, once for a device and a class
    of widths."""
    tiles = table(device)
    if len(tiles) == 1 or device.type != "cuda" or n * width < WORTH:
        return tiles[0]
    key = torch.cuda.get_device_name(device), width_class(width)
    if key not in CHOICES:
        CHOICES[key] = fastest(tiles, milliseconds)
    return CHOICES[key].tile


def fastest(tiles: tuple[Tile, ...], milliseconds: Callable[[Tile], float]) -> Choice:
    """Times shapes in order for as long as the budget lasts; the first of equals. Shapes that
    cannot be compiled, or need more of a multiprocessor than it has, are skipped.

    Raises:
        Exception: any other failure of a shape, after which the device cannot be trusted; of all
            shapes, the first one's.
    """
    timed: dict[Tile, float | str] = {}
    taken: dict[Tile, float] = {}
    failures: list[Exception] = []
    for tile in tiles:
        if sum(taken.values()) > BUDGET_MS:
            break
        try:
            timed[tile] = taken[tile] = milliseconds(tile)
        except Exception as error:
            if not _does_not_fit(error):
                raise
            failures.append(error)
            timed[tile] = f"cannot run: {type(error).__name__}: {error}".splitlines()[0]
    if not taken:
        raise failures[0]
    first, best = next(iter(taken)), min(taken, key=lambda tile: taken[tile])
    return Choice(best if taken[best] <= WORTH_A_CHANGE * taken[first] else first, timed)


def _does_not_fit(error: Exception) -> bool:
    """Whether a kernel failed before it ran."""
    from triton.compiler.errors import CompilationError
    from triton.runtime.errors import OutOfResources, PTXASError

    if isinstance(error, (CompilationError, OutOfResources, PTXASError)):
        return True
    return isinstance(error, RuntimeError) and "PassManager::run failed" in str(error)
