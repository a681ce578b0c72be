"""For mkdocstrings: docstrings of the package as Markdown.

They call their doctests "Example:", where Griffe knows "Examples:", and are written as plain text:
"<name>" is no HTML in them, "n**2" no bold type, ">= 0" no quotation, and "::" ends the line before
a literal block.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

CODE = re.compile(r"(`[^`]*`|^ *(?:>>>|\.\.\.).*$)", re.M)


def as_markdown(text: str) -> str:
    parts = CODE.split(re.sub(r"^Example:$", "Examples:", text, flags=re.M))
    for i in range(0, len(parts), 2):  # the others are code
        plain = re.sub(r"<(?=\w)", "&lt;", parts[i]).replace("**", r"\*\*")
        plain = re.sub(r"(?<=: )>", r"\>", plain)
        parts[i] = re.sub(r"^ *::\n\n|(?<=\w:):$", "", plain, flags=re.M)
    return "".join(parts)


class PlainDocstrings(griffe.Extension):
    """Applied to everything that Griffe reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
