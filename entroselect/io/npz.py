""".npz archives. Entries may be compressed, so they are read whole."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.io.errors import damaged, one_key, pickled


def read_npz(path: Path, key: str | None) -> tuple[NDArray[Any], str]:
    """An array of the archive and its key. Pickles are never loaded."""
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path}: is not a .npz file, or is cut short (pickles are never loaded); copy it "
            "again, or write it with numpy.savez(path, name=array)"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            shapes = {name: _shape(archive, name) for name in archive.files}
            key = one_key(path, key, shapes)
            if shapes[key] is None:
                raise ValueError(f"{path}: entry {key!r} is not an array")
            return archive[key], key
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise damaged(path, error) from error
    except ValueError as error:
        if "Object arrays" in str(error):
            raise pickled(path, key) from error
        raise


def _shape(archive: Any, name: str) -> tuple[int, ...] | None:
    """The shape in an entry's header, without reading the entry; None if it is not an array."""
    with archive.zip.open(name if name in archive.zip.namelist() else f"{name}.npy") as entry:
        try:
            version = np.lib.format.read_magic(entry)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            return header(entry)[0]
        except ValueError:
            return None
