"""Checkpoints that are damaged anywhere, with the checksum as it was or made to fit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from entroselect import greedy_select, threshold_select
from entroselect.results import Selection
from entroselect.scale import checkpoint

POOL = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
SELECT = {"greedy": greedy_select, "threshold": threshold_select}
PICKS, MORE = 12, 30

Target = tuple[list[bytes], Callable[[bytes], None]]


def targets() -> dict[str, Target]:
    """Seeds, and what raises ValueError or OSError at most where a file is damaged."""
    found: dict[str, Target] = {}
    for name in SELECT:
        seeds = [_saved(name, k) for k in (1, PICKS)]
        found[f"checkpoint-{name}"] = (seeds, lambda data, name=name: believed(name, data))
        found[f"checkpoint-{name}-fitted"] = (seeds, lambda data, name=name: survived(name, data))
    return found


def believed(name: str, data: bytes) -> None:
    """Whatever is not refused gives the right answer."""
    right = SELECT[name](POOL, MORE)
    found = _gone_on(name, data)
    assert found.indices.tolist() == right.indices.tolist()
    assert found.distances.tolist() == right.distances.tolist()
    assert found.radius == right.radius


def survived(name: str, data: bytes) -> None:
    """Contents that a checksum vouches for: within their ranges they are believed, so the answer
    may be another one, but it is one."""
    try:
        found = _gone_on(name, fitted(data))
    except RuntimeError as error:
        if "rows changed" not in str(error):
            raise
        raise ValueError(str(error)) from error
    indices = found.indices
    assert len(np.unique(indices)) == MORE
    assert indices.min() >= 0
    assert indices.max() < len(POOL)


def fitted(data: bytes) -> bytes:
    """With the checksum of what is there."""
    body = data[: -checkpoint._DIGEST_BYTES]
    with tempfile.TemporaryFile() as file:
        file.write(body)
        return body + checkpoint._digest(file, len(body))


def _saved(name: str, k: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "saved")
        SELECT[name](POOL, k, checkpoint=file)
        return file.read_bytes()


def _gone_on(name: str, data: bytes) -> Selection:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "saved")
        file.write_bytes(data)
        return SELECT[name](POOL, MORE, checkpoint=file)
