"""Which rows `select` may pick: --candidates, --groups and --quota."""

from __future__ import annotations

from typing import Any

import numpy as np

from entroselect._quotas import RULES
from entroselect.cli import inputs
from entroselect.cli.errors import reading
from entroselect.cli.options import Options
from entroselect.io.npy import load_npy


def among(options: Options) -> dict[str, Any]:
    """The arguments `candidates`, `groups` and `quotas`, None where they were not given."""
    candidates = labels = None
    if options.candidates is not None:
        with reading(options.candidates, "--candidates"):
            candidates = load_npy(options.candidates)
    if options.groups is not None:
        labels = inputs.read_column(options.groups, "--groups")
    return {"candidates": candidates, "groups": labels, "quotas": _quotas(options.quota, labels)}


def _quotas(given: list[str] | None, labels: Any) -> Any:
    """The rule, or the mapping that LABEL=N options make."""
    if not given:
        return None
    if len(given) == 1 and given[0] in RULES:
        return given[0]
    kind = np.asarray(labels).dtype.kind
    found: dict[Any, int] = {}
    for text in given:
        label, _, most = text.rpartition("=")
        key: Any = label
        if kind in "iu":
            if not label.removeprefix("-").isdecimal():
                raise ValueError(f"quotas: the labels are integers, got {label!r}")
            key = int(label)
        elif kind == "b":
            if label not in ("True", "False"):
                raise ValueError(f"quotas: the labels are True and False, got {label!r}")
            key = label == "True"
        if key in found:
            raise ValueError(f"quotas: {label!r} is given twice")
        found[key] = int(most)
    return found
