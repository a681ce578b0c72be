"""Files that are either complete or not there, whenever the process dies."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as safetensors_bytes


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Writes beside `path`, then renames; a failure leaves what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(path.name + ".partial")
    try:
        with work.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        work.replace(path)
    except OSError as error:
        work.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"{path}: could not be written ({error.strerror}); what was finished is kept, make "
            "room and run the same command again",
        ) from error


def write_text(path: Path, content: str) -> None:
    """UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Strict JSON: NaN and infinity are an error here, not in whoever reads the file."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_array(path: Path, array: NDArray[Any]) -> None:
    """.npy"""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getbuffer())


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], **notes: str) -> None:
    """.safetensors with `notes` as its metadata."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, safetensors_bytes(contiguous, metadata=notes))


def read_array(path: Path) -> NDArray[Any]:
    """.npy, never unpickled."""
    array: NDArray[Any] = np.load(path, allow_pickle=False)
    return array
