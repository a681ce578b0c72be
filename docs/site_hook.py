"""What mkdocs needs to know about pages that are written for a code host.

A link to a file outside docs/, such as ../entroselect/reference.py, becomes one into the repository
if pyproject.toml names it ([project.urls], Repository), and otherwise the text alone.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((\.\./[^)\s#]*)(#[^)\s]*)?\)")
FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)


def repository(pyproject: str) -> str | None:
    """The address in `[project.urls]`, without a slash at its end."""
    found = re.search(r"^Repository = \"(.+?)/?\"$", pyproject, re.M)
    return found and found[1]


def links_that_work(text: str, page: str, address: str | None) -> str:
    """The Markdown of `page`, a path within docs/, with links that stay within docs/ or lead into
    the repository at `address`; without an address, the text of those links."""

    def of(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link[2]))
        if target.startswith("docs/"):
            return link[0]
        return f"[{link[1]}]({address}/blob/main/{target}{link[3] or ''})" if address else link[1]

    parts = FENCE.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(of, part) for part in parts)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    address = repository((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return links_that_work(markdown, page.file.src_uri, address)
