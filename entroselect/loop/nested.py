"""Options as nested dictionaries: read from TOML, merged, and by dotted name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(file: Path) -> dict[str, Any]:
    """The options in a file; ValueError that names the file if it is not TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))  # editors write a BOM
    except RecursionError:
        raise ValueError(f"{file}: not TOML of options: nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not TOML: not UTF-8, {error.reason} at {error.start}") from None
    except ValueError as error:  # TOMLDecodeError, and dates or numbers that Python has not
        raise ValueError(f"{file}: not TOML: {error}") from None


def toml_value(text: str) -> Any:
    """The value after the = of a setting; text that is no TOML value is a string."""
    try:
        found = tomllib.loads(f"value = {text}")
    except RecursionError:
        raise ValueError(f"--set: {text[:40]}...: nested too deeply") from None
    except ValueError:
        return text
    return found["value"] if list(found) == ["value"] else text


def nested(name: str, value: Any) -> dict[str, Any]:
    """The dictionary that holds one option; "train.steps" is in the dictionary "train"."""
    for part in reversed(name.split(".")):
        value = {part: value}
    return dict(value)


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the options of `change` in the place of its own, group by group."""
    made = dict(base)
    for name, value in change.items():
        old = made.get(name)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        made[name] = merged(old, value) if both else value  # type: ignore[arg-type]
    return made


def flat(given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted name; the opposite of `nested`."""
    made: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, Mapping):
            made.update(flat(value, f"{prefix}{name}."))
        else:
            made[prefix + name] = value
    return made
