"""open_pool: which format something is in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from entroselect.io.npy import open_npy
from entroselect.io.source import ArraySource, Source


def open_pool(
    path_or_object: Any,
    *,
    column: str | None = None,
    id_column: str | None = None,
    key: str | None = None,
) -> Source:
    """Rows of a file, a folder or an object, to be read piece by piece."""
    if isinstance(path_or_object, Source):
        return path_or_object
    if isinstance(path_or_object, (str, os.PathLike)):
        return open_npy(Path(path_or_object))
    return ArraySource(path_or_object)
