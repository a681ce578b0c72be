"""Code that docs/scale.md shows, to be run as it stands there."""

from __future__ import annotations

import re

from tests.support.processes import ROOT


def recipe(heading: str) -> str:
    """The code below a heading of the page."""
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"^### {heading}$.*?^```\w+\n(.*?)^```$", page, re.M | re.S)
    return str(code)
