"""The state of a selection in a file, so that a killed one goes on where it was.

The file is in the safetensors format: picks, squared distances and thresholds in order, and for
every row of the pool its bound and how many choices it has met. That is enough to go on with
another number of processes. Every process writes the part of its own rows into one temporary file,
which takes the place of the old one when all of it is on disk.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import engine
from entroselect.ranks import Ranks, together
from entroselect.results import Float64, Int64, on_host

SECONDS_BETWEEN = 120.0
# Of the time of a selection, at most this share goes into saving it.
_SHARE = 0.05

_NAMES = {"int64": "I64", "int32": "I32", "float64": "F64"}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


class Checkpoint:
    """Saves and restores one selection.

    Args:
        path: the file; its folder must exist, and be the same one for all processes.
        about: what selection this is, name by name; a file about another one is refused.
        n: rows of the whole pool.
        first: number of this process's first row in it.
        ranks: the processes, None for a single one.

    Raises:
        ValueError: naming checkpoint, when the file cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        about: dict[str, Any],
        n: int,
        first: int,
        ranks: Ranks | None,
    ) -> None:
        self.path, self.about, self.n, self.first, self.ranks = Path(path), about, n, first, ranks
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        if not self.path.parent.is_dir():
            raise ValueError(f"checkpoint: {self.path.parent}: no such folder")
        if self.path.is_dir():
            raise ValueError(f"checkpoint: {self.path} is a folder; name a file")
        self._next = time.monotonic() + SECONDS_BETWEEN

    def load(self, rows: int) -> tuple[engine.Trail, Float64, Int64] | None:
        """(trail, bounds and counts met of this process's rows); None if nothing was saved yet."""
        if not self.path.exists():
            return None
        with self.path.open("rb") as file:
            try:
                length = int.from_bytes(file.read(8), "little")
                if not 0 < length < 1 << 20:
                    raise ValueError("no such header")
                header = json.loads(file.read(length))
                saved = json.loads(header.pop("__metadata__")["entroselect"])
                begin = 8 + length
                if max(entry["data_offsets"][1] for entry in header.values()) + begin != (
                    self.path.stat().st_size
                ):
                    raise ValueError("its size is not what its header says")
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"checkpoint: {self.path} was not written by a selection or is damaged "
                    f"({error}); delete it or name another file"
                ) from error
            self._check(saved["about"])

            def read(name: str, start: int = 0, count: int = -1) -> NDArray[Any]:
                entry = header[name]
                dtype = np.dtype(_DTYPES[entry["dtype"]])
                file.seek(begin + entry["data_offsets"][0] + start * dtype.itemsize)
                count = entry["shape"][0] if count < 0 else count
                return np.fromfile(file, dtype, count)

            trail = engine.Trail(
                [read("picks")], [read("squared")], [read("thresholds")], **saved["trail"]
            )
            return trail, read("bounds", self.first, rows), read("met", self.first, rows)

    def offer(self, trail: engine.Trail, pool: engine.Block) -> None:
        """Saves if it is time to; on all processes or on none."""
        due = time.monotonic() >= self._next
        if self.ranks is not None:
            due = bool(self.ranks.broadcast(np.array([due]), 0)[0])
        if due:
            self.save(trail, pool)

    def save(self, trail: engine.Trail, pool: engine.Block) -> None:
        """Saves; whatever happens meanwhile, the file is either the old one or the new one."""
        began = time.monotonic()
        bounds, met = pool.state()
        picks, squared, thresholds = trail.joined()
        whole = {
            "picks": (picks, len(picks)),
            "squared": (squared, len(picks)),
            "thresholds": (thresholds, len(picks)),
            "bounds": (on_host(bounds), self.n),
            "met": (on_host(met).astype(np.int32), self.n),
        }
        header: dict[str, Any] = {}
        at = 0
        for name, (array, count) in whole.items():
            end = at + count * array.itemsize
            header[name] = {
                "dtype": _NAMES[array.dtype.name],
                "shape": [count],
                "data_offsets": [at, end],
            }
            at = end
        place = {"rounds": trail.rounds, "position": trail.position}
        state = {"about": self.about, "trail": {**place, "tau": trail.tau, "floor": trail.floor}}
        text = json.dumps({"__metadata__": {"entroselect": json.dumps(state)}, **header})
        text += " " * (-len(text) % 8)
        begin = 8 + len(text)
        own = ("bounds", "met")
        leads = self.ranks is None or self.ranks.rank == 0
        with together(self.ranks):
            if leads:
                with self._opened("wb") as file:
                    file.truncate(begin + at)
                    file.write(len(text).to_bytes(8, "little") + text.encode())
                    for name in ("picks", "squared", "thresholds"):
                        file.write(whole[name][0].tobytes())
                    self._flush(file)
        with together(self.ranks), self._opened("r+b") as file:
            for name in own:
                array = whole[name][0]
                start = begin + header[name]["data_offsets"][0] + self.first * array.itemsize
                file.seek(start)
                file.write(array.data.cast("B"))
            self._flush(file)
        with together(self.ranks):
            if leads:
                self._partial.replace(self.path)
                folder = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        now = time.monotonic()
        self._next = now + max(SECONDS_BETWEEN, (now - began) / _SHARE)

    def _check(self, saved: dict[str, Any]) -> None:
        for name, value in self.about.items():
            if saved.get(name) != value:
                raise ValueError(
                    f"checkpoint: {self.path} belongs to another selection ({name} is "
                    f"{saved.get(name)!r} there and {value!r} here); delete it or name another file"
                )

    @contextmanager
    def _opened(self, mode: str) -> Iterator[Any]:
        try:
            with self._partial.open(mode) as file:
                yield file
        except OSError as error:
            if mode == "wb":
                self._partial.unlink(missing_ok=True)
            raise OSError(
                error.errno,
                f"checkpoint: {self._partial} cannot be written ({error.strerror}); what was saved "
                "before stands. All processes need to see the same folder",
            ) from error

    def _flush(self, file: Any) -> None:
        file.flush()
        os.fsync(file.fileno())
