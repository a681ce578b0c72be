"""What the caller supplies: real rows, functions that extract features, and objects by name."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.loop import data, naming
from entroselect.loop.data import Images
from entroselect.loop.labels import numbered

Function = Callable[[NDArray[Any]], Any]  # (n, ...) images or rows to (n, d) features

BATCH = 512  # images that a function is given at a time
TRIED = 4  # images with which it is tried
# Features of one image in batches of different sizes may differ by this share of the largest value:
# float32 sums differ by 1e-6, a batch normalisation in training mode by 1.
SAME = 1e-3


def images_of(real: Any) -> Images:
    """The caller's real data.

    Args:
        real: (n, h, w) or (n, h, w, channels) uint8 images, or rows of any other shape and real
            dtype, or (array, labels) of either; or data.Images.

    Raises:
        ValueError: naming `real`, for fewer than two rows, values that are not finite, and labels
            of another length.
    """
    if isinstance(real, Images):
        return real
    values, labels = real if isinstance(real, tuple) and len(real) == 2 else (real, None)
    rows = as_array("real", values)
    if rows.ndim < 2 or len(rows) < 2 or rows.size == 0:
        raise ValueError(f"real: expected at least 2 images or rows (n, ...), got {rows.shape}")
    _finite("real", rows)
    if rows.dtype == np.uint8 and rows.ndim == 3:
        rows = rows[..., None]
    try:
        marks, names = (None, ()) if labels is None else numbered(np.asarray(labels))
    except ValueError as error:
        raise ValueError(f"real: {error}") from None
    if marks is not None and marks.shape != (len(rows),):
        raise ValueError(f"real: {len(rows)} rows but labels of shape {marks.shape}")
    rows = np.ascontiguousarray(rows)
    return Images(rows, marks, data.origins(data.REAL, len(rows)), names)


def as_array(name: str, given: Any) -> NDArray[Any]:
    """A NumPy array of real numbers, of an array or a tensor; ValueError, naming it, otherwise."""
    try:
        if hasattr(given, "detach"):
            given = given.detach().cpu()
            given = given.float() if str(given.dtype) == "torch.bfloat16" else given
        found = np.asarray(given)
    except Exception as error:  # ragged lists, and whatever __array__ raises
        raise ValueError(f"{name}: not an array ({error})") from None
    if found.dtype.kind not in "fiu":
        got = type(given).__name__ if found.dtype == object else found.dtype
        raise ValueError(f"{name}: expected an array of real numbers, got {got}")
    return found


def _finite(name: str, rows: NDArray[Any]) -> None:
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        row = int(np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1))[0])
        raise ValueError(f"{name}: row {row} has a value that is not finite")


class Space:
    """A function of the caller's, called on a few hundred images at a time, its results checked.

    Args:
        name: of the space.
        function: images (n, ...), as the run holds them, to (n, d) features; an array or a tensor.
    """

    def __init__(self, name: str, function: Function) -> None:
        self.name, self.function = name, function
        self.width: int | None = None

    def __call__(self, images: Images) -> NDArray[Any]:
        """(n, d) features.

        Raises:
            ValueError: naming the space, for results that are not (n, d) finite real numbers with
                the same d in every call.
            RuntimeError: naming the space; the function failed, and its exception is the cause.
        """
        starts = range(0, len(images), BATCH)
        return np.concatenate([self._of(images.pixels[at : at + BATCH]) for at in starts])

    def _of(self, images: NDArray[Any]) -> NDArray[Any]:
        try:
            made = self.function(images.copy())
        except Exception as error:  # whatever the caller's code raises
            raise RuntimeError(f"features {self.name}: {type(error).__name__}: {error}") from error
        found = as_array(f"features {self.name}", made)
        if found.ndim != 2 or len(found) != len(images) or found.shape[1] == 0:
            raise ValueError(
                f"features {self.name}: expected (n, d) for {len(images)} images, got {found.shape}"
            )
        if self.width not in (None, found.shape[1]):
            raise ValueError(
                f"features {self.name}: {found.shape[1]} columns, but {self.width} before"
            )
        self.width = found.shape[1]
        _finite(f"features {self.name}", found)
        return found

    def try_out(self, images: Images) -> None:
        """Calls the function on four images at once and on two twice.

        Raises:
            ValueError: as above, and where an image's features depend on the others in the call.
        """
        few = images.pixels[:TRIED]
        once = self._of(few)
        twice = np.concatenate([self._of(few[:2]), self._of(few[2:])] if len(few) > 2 else [once])
        apart = np.abs(once - twice).max()
        if apart > SAME * np.abs(once).max():
            raise ValueError(
                f"features {self.name}: depend on the batch: those of the same images differ by "
                f"{apart:.3g} when two are passed instead of {len(few)}; call .eval() on a network"
            )


def by_name(option: str, name: str) -> Any:
    """The object called "package.module:object". Modules of the current directory are found too.

    Raises:
        ValueError: naming the option, when the module cannot be imported or has no such object.
    """
    module, _, path = name.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever the module raises
        raise ValueError(
            f"{option}: {module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            known = [n for n in dir(found) if n[0] != "_" and callable(getattr(found, n, None))]
            raise ValueError(f"{option}: {module} has no {path}{naming.nearest(part, known)}")
        found = getattr(found, part)
    return found


def name_of(given: Any) -> str:
    """ "package.module:object" of a class or function, or of an object's class."""
    named = given if hasattr(given, "__qualname__") else type(given)
    return f"{named.__module__}:{named.__qualname__}"


def file_of(given: Any) -> Path | None:
    """The file that defines it; None where there is none, as for what is typed at a prompt."""
    try:
        return Path(inspect.getfile(given if hasattr(given, "__qualname__") else type(given)))
    except (TypeError, OSError):
        return None
