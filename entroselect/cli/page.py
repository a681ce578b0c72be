"""Self-contained HTML pages: text, one table, and pictures inlined as data URIs."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class Table:
    """Cells as they shall read."""

    head: list[str]
    body: list[list[str]]


@dataclass(frozen=True)
class Section:
    """Pictures under a heading and a sentence that says what they show."""

    heading: str
    text: str
    pictures: list[str]


def render(title: str, lead: list[str], table: Table, sections: list[Section], footer: str) -> str:
    """The page. Every text is escaped."""
    environment = Environment(
        loader=PackageLoader("entroselect", "cli"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html").render(
        title=title, lead=lead, table=table, sections=sections, footer=footer
    )
