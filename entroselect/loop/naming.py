"""The names in a configuration: of models, of feature spaces, and of what the caller supplies."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from entroselect.loop.config import Config


def check(config: Config, models: Sequence[str]) -> None:
    """ValueError for a model that is neither built in nor an object's name, and for options of
    measuring that do not go together.

    Args:
        config: the options.
        models: the names that are built in.
    """
    for name in config.models or ():
        if name not in models and not is_object(name):
            raise ValueError(
                f"models: {name!r} is neither built in nor package.module:object"
                f"{nearest(name, models)}"
            )
    if config.models == ():
        raise ValueError("models: names no model; leave it out, or name one")
    if config.measure.spaces == ():
        raise ValueError("measure.spaces: names no space; leave it out, or name one")
    if config.measure.reference == "held-out" and not config.data.held_out:
        raise ValueError("measure.reference: held-out needs images held out; set data.held_out=N")


def check_spaces(config: Config, spaces: Sequence[str]) -> None:
    """ValueError for a feature space that is neither built in nor the caller's.

    Args:
        config: the options, with the names of the caller's spaces.
        spaces: the names that are built in.
    """
    own = [space_and_object(given)[0] for given in config.features]
    for name in own:
        if name in spaces or own.count(name) > 1:
            raise ValueError(f"features: there is a space {name!r} already; take another name")
    known = [*spaces, *own]
    wanted = {
        "select.space": [config.select.space],
        "measure.spaces": config.measure.spaces or (),
        "measure.judge": [config.measure.judge],
    }
    for option, names in wanted.items():
        for space in names:
            if space is not None and space not in known:
                raise ValueError(f"{option}: {space!r} is unknown{nearest(space, known)}")


def is_object(name: str) -> bool:
    """Whether the name has the form package.module:object."""
    module, colon, path = name.partition(":")
    return bool(colon and module.strip() and path.strip())


def space_and_object(given: str) -> tuple[str, str]:
    """ "clip=package.module:function" as ("clip", "package.module:function").

    Raises:
        ValueError: another form.
    """
    name, equals, path = given.partition("=")
    if not (equals and name.isidentifier() and is_object(path)):
        raise ValueError(f"features: expected name=package.module:function, got {given!r}")
    return name, path


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the most similar known name, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 1, 0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return "; known: " + ", ".join(known)
