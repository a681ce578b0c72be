"""The arrays and tensors of a run folder: written whole or not at all, and checked when read."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes

from entroselect import _files
from entroselect.io.errors import shown
from entroselect.io.header import read_header
from entroselect.io.npy import filled


class Damaged(ValueError):
    """A file does not hold what its writer wrote."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path}: damaged ({why}); delete it and run the same command again: it is made anew"
        )
        self.path, self.why = path, why


def write_array(path: Path, array: NDArray[Any]) -> None:
    """A .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    _files.write_bytes(path, buffer.getbuffer())


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], **notes: str) -> None:
    """A .safetensors file with `notes` as its metadata, in no particular order."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _files.write_bytes(path, safetensors_bytes(contiguous, metadata=notes))


def write_state(path: Path, tensors: dict[str, torch.Tensor], **notes: str) -> None:
    """As `write_tensors`, with a checksum, for a state that only a resumed run reads."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_tensors(path, contiguous, **notes, crc32=_checksum(contiguous))


def _checksum(tensors: dict[str, torch.Tensor]) -> str:
    found = 0
    for _, tensor in sorted(tensors.items()):
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; Damaged if it is none."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise Damaged(path, f"not JSON: {error}") from None
    if not isinstance(held, dict):
        raise Damaged(path, "not a JSON object")
    return held


def read_array(path: Path) -> NDArray[Any]:
    """Reads what `write_array` wrote. Nothing is unpickled, and no more memory is allocated than
    the file holds.

    Raises:
        Damaged: another format, cut short, or bytes left over.
    """
    with path.open("rb") as file:
        try:
            header = read_header(file, path)
        except (ValueError, TypeError) as error:
            why = str(error).removeprefix(f"{shown(path)}: ")
            raise Damaged(path, f"not an array: {why}") from None
        shape, dtype = header.shape, header.dtype
        held, said = path.stat().st_size - header.offset, header.nbytes
        if held != said:
            raise Damaged(path, f"{held} bytes where {shape} of {dtype} are {said}")
        return filled(header, file, path)


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Reads what `write_tensors` or `write_state` wrote, and its notes; Damaged if it is anything
    else."""
    try:
        with safe_open(path, "pt") as held:
            notes: dict[str, str] = held.metadata() or {}
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:  # safetensors raises an error that is only an Exception
        raise Damaged(path, f"not safetensors: {error}") from None
    if "crc32" in notes and notes["crc32"] != _checksum(tensors):
        raise Damaged(path, "its checksum does not match")
    return tensors, notes


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 of the files' contents, one after the other."""
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()
