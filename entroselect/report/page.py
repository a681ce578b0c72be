"""Self-contained HTML pages: text, one table, and pictures inlined as data URIs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

# Explanations of words. A page lists those that occur in its text.
WORDS = {
    "entropy": "How spread out a set is, in nats: the Kozachenko-Leonenko estimate from the "
    "distance of each row to its nearest other one. Only differences mean something, between sets "
    "with the same columns and of similar size; the value itself may well be negative. In d "
    "columns, d nats more are distances 2.7 times as large.",
    "radius": "The largest distance of any row of the pool to the nearest chosen one: nothing in "
    "the pool is farther than that from the selection.",
    "mean nearest distance": "The mean of each row's distance to its nearest other row.",
    "geometric mean distance": "The geometric mean of each row's distance to its nearest other "
    "row: entropy as a length, in the unit of the columns. It falls as a set grows, too.",
    "threshold": "The selection that goes through the pool and takes every row farther than a "
    "threshold from all taken before, and again with a lower threshold, until there are enough.",
    "D_n, G_n": "The training set of iteration n, and what the model trained on it generated. D_1 "
    "is real.",
    "arm": "Runs with the same options that differ in nothing but their seed: one line in the "
    "pictures, one column in the table.",
    "generalisation score": "The mean distance of generated images to the nearest training image: "
    "0 if the model only copies.",
    "Frechet distance": "How far two sets are apart in mean and covariance; lower is better. It "
    "is what is called FID when the space is Inception's.",
    "space judge": "Features of a small network that was taught on real images which no model was "
    "trained on; no selection looks at them.",
    "precision": "The share of generated images that lie among the real ones, that is no farther "
    "from one of them than its k-th nearest real neighbour.",
    "recall": "The share of real images that lie among the generated ones in the same sense.",
    "density": "Like precision, but counting near how many real images each one lies; about 1 for "
    "images like the real ones.",
    "coverage": "The share of real images that have a generated one nearby.",
    "Vendi score": "How many entirely different images the generated ones amount to, by the "
    "angles between their features.",
    "FLD": "Feature likelihood divergence: how badly the generated images explain real ones that "
    "nobody trained on. 0 is perfect, copies of the training set are punished.",
    "memorised fraction": "The share of generated images much closer to a training image than "
    "real images are to each other.",
}


@dataclass(frozen=True)
class Table:
    """The text of every cell."""

    head: list[str]
    body: list[list[str]]


@dataclass(frozen=True)
class Section:
    """Pictures and notes under a heading and a sentence that says what they show.

    Attributes:
        heading, text: the words above.
        pictures: data URIs.
        captions: above each picture; none, or one per picture.
        notes: further texts, whose lines are kept.
    """

    heading: str
    text: str
    pictures: Sequence[str] = ()
    captions: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Column:
    """Sections under a title, shown beside another column with as many of them."""

    title: str
    text: str
    sections: Sequence[Section]


def render(title: str, lead: list[str], table: Table, sections: list[Section], footer: str) -> str:
    """The page. Every text is escaped."""
    return _render("page.html", title, lead, table, sections, footer, sections=sections)


def render_columns(
    title: str, lead: list[str], table: Table, columns: Sequence[Column], footer: str
) -> str:
    """A page of columns side by side, on a phone one below the other. Every text is escaped."""
    sections = [section for column in columns for section in column.sections]
    return _render("columns.html", title, lead, table, sections, footer, columns=columns)


def _render(
    template: str,
    title: str,
    lead: list[str],
    table: Table,
    told: Sequence[Section],
    footer: str,
    **parts: Any,
) -> str:
    environment = Environment(
        loader=PackageLoader("entroselect", "report"), autoescape=True, undefined=StrictUndefined
    )
    cells = [cell for line in (table.head, *table.body) for cell in line]
    texts = [
        text
        for section in told
        for text in (section.heading, section.text, *section.notes, *section.captions)
    ]
    return environment.get_template(template).render(
        title=title,
        lead=lead,
        table=table,
        words=words(" ".join([title, *lead, *cells, *texts])),
        footer=footer,
        **parts,
    )


def words(text: str) -> dict[str, str]:
    """The explanations of the words that the text uses."""

    def said(word: str) -> bool:
        return re.search(rf"\b{word}s?\b", text, re.IGNORECASE) is not None

    return {word: told for word, told in WORDS.items() if any(map(said, word.split(", ")))}
