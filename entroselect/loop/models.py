"""What generates: the protocol of a generator, the built-in ones, and those of the caller."""

from __future__ import annotations

import copy
import inspect
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from entroselect.loop import given, naming, paradigms
from entroselect.loop.config import MODELS, Config
from entroselect.loop.resample import Resample


class Generator(Protocol):
    """A model that is trained anew at each iteration.

    `fit` and `sample` should depend on their arguments alone; the global generators of random,
    NumPy and torch are seeded with `seed` before each call.
    """

    def fit(self, images: NDArray[Any], *, seed: int, checkpoint: Path | None = None) -> Any:
        """Learns the training set, (n, h, w, channels) uint8 images or rows (n, ...).

        If it has the parameter `labels`, it is given (n,) int64 labels or None, and `sample`, which
        must then have it too, those it shall draw. `checkpoint` is a folder for this training, kept
        until the end of the run: when the run was killed, `fit` is called again and finds there
        what it left.
        """

    def sample(self, n: int, *, seed: int, labels: NDArray[np.int64] | None = None) -> Any:
        """n images or rows of the shape and dtype of the training set, an array or a tensor.

        Floats may be wider or narrower than the training set's; they are rounded to its dtype.
        """


@dataclass(frozen=True)
class Model:
    """One of the models of a run.

    name: as in config.models.
    folder: where an iteration keeps it; also its name in stats.jsonl and error messages.
    make: makes a generator for one iteration; None: the built-in diffusion model of that name.
    labelled: whether it takes labels.
    source: the file of the caller's code, whose hash belongs to the run.
    """

    name: str
    folder: str
    make: Callable[[], Generator] | None
    labelled: bool
    source: Path | None = None


def models_of(config: Config, supplied: Any = None) -> list[Model]:
    """The models of a run.

    Args:
        config: the run.
        supplied: what the caller passed in the place of names: an object with `fit` and `sample`, a
            class or function without arguments that makes one, a name, or a list of these.

    Raises:
        ValueError: naming the generator, when it cannot be found, made or copied, or its methods
            take other arguments.
    """
    every = paradigms.models(config) if supplied is None else as_list(supplied)
    made: list[Model] = []
    for one in every:
        named = isinstance(one, str) and one in MODELS
        model = _built_in(config, one) if named else _of_the_caller(one)
        if any(model.folder == other.folder for other in made):
            model = replace(model, folder=f"{model.folder}-{len(made) + 1}")
        made.append(model)
    return made


def as_list(supplied: Any) -> list[Any]:
    """One generator or several, as a list."""
    return list(supplied) if isinstance(supplied, (list, tuple)) else [supplied]


def name(supplied: Any) -> str:
    """What config.models calls it."""
    return supplied if isinstance(supplied, str) else given.name_of(supplied)


def _built_in(config: Config, name: str) -> Model:
    if name == "resample":
        options = config.resample
        return Model(name, name, lambda: Resample(options.share, options.towards), False)
    return Model(name, name, None, config.model.conditional)


def _of_the_caller(supplied: Any) -> Model:
    called = name(supplied)
    if isinstance(supplied, str):
        if not naming.is_object(supplied):
            raise ValueError(f"generator: {supplied!r} is not package.module:object")
        supplied = given.by_name("generator", supplied)
    is_object = hasattr(supplied, "fit") and not isinstance(supplied, type)

    def make() -> Generator:
        try:
            made = copy.deepcopy(supplied) if is_object else supplied()
        except Exception as error:  # whatever the caller's code raises
            how = "copied" if is_object else "made without arguments"
            raise ValueError(f"generator {called}: cannot be {how} ({error})") from error
        return made

    labelled = _check_methods(called, make())
    folder = re.sub(r"\W+", "-", called.rpartition(":")[2].rpartition(".")[2]).strip("-")
    return Model(called, folder or "generator", make, labelled, given.file_of(supplied))


def _check_methods(called: str, made: Any) -> bool:
    """Whether it takes labels; ValueError where its methods do not take what they are passed."""
    labelled = takes_labels(getattr(made, "fit", None))
    passed: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "fit": ((None,), {"seed": 0, "checkpoint": None}),
        "sample": ((1,), {"seed": 0}),
    }
    if labelled:
        passed["fit"][1]["labels"] = None
    if labelled or takes_labels(getattr(made, "sample", None)):
        passed["sample"][1]["labels"] = None
    for method, (positional, named) in passed.items():
        function = getattr(made, method, None)
        if not callable(function):
            raise ValueError(f"generator {called}: has no method {method}")
        try:
            inspect.signature(function).bind(*positional, **named)
        except TypeError as error:
            expected = "fit(images, *, seed, checkpoint=None)"
            if method == "sample":
                expected = "sample(n, *, seed, labels=None)"
            raise ValueError(f"generator {called}: expected {expected}; {error}") from None
        except ValueError:  # a built-in function that tells no signature
            continue
    return labelled


def takes_labels(method: Any) -> bool:
    """Whether a method of a generator has the parameter `labels`."""
    try:
        return "labels" in inspect.signature(method).parameters
    except (TypeError, ValueError):  # no function, or a built-in one that tells no signature
        return False


def _how(found: NDArray[Any], expected: tuple[int, ...], dtype: Any) -> str:
    """What to do about an array of another shape or dtype, where that is plain."""
    if len(expected) == 4 and (*found.shape[:1], *found.shape[2:], *found.shape[1:2]) == expected:
        return "; move the channels to the end"
    if found.shape == expected and dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        return f"; round, clip to {low} to {high} and convert with .astype('{dtype}')"
    return ""


def checked(called: str, made: Any, like: NDArray[Any], count: int) -> NDArray[Any]:
    """What a generator returned, if it is `count` images or rows like the training set's.

    Raises:
        ValueError: naming the generator, for another number, shape or dtype.
        FloatingPointError: for values that are not finite.
    """
    found = given.as_array(f"generator {called}: sample", made)
    expected = (count, *like.shape[1:])
    if like.ndim == 4 and like.shape[-1] == 1 and found.shape == expected[:-1]:
        found = found[..., None]
    if {found.dtype.kind, like.dtype.kind} == {"f"}:
        with np.errstate(over="ignore"):  # what becomes infinite is an error below
            found = found.astype(like.dtype, copy=False)
    if found.shape != expected or found.dtype != like.dtype:
        raise ValueError(
            f"generator {called}: sample({count}) returned {found.shape} {found.dtype}, expected "
            f"{expected} {like.dtype}{_how(found, expected, like.dtype)}"
        )
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise FloatingPointError(
            f"generator {called}: sample returned values that are not finite as {found.dtype}"
        )
    return np.array(found, order="C")  # a copy: the generator may fill its buffer again


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators of random, NumPy and torch, and puts them back afterwards."""
    plain, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(numpy)  # noqa: NPY002
