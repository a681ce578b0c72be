"""The figures of runs as files: a picture and the numbers in it, side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from entroselect import _files
from entroselect.loop.compared import arms
from entroselect.loop.plots import plots
from entroselect.loop.report import common_spaces
from entroselect.loop.runs import read


def export(folders: Sequence[Path], out: Path) -> list[Path]:
    """Writes the paper's figures of those runs, NAME.svg and NAME.csv, and all measures, runs.csv.

    projection: D_1 and G_n on two axes; generalisation: the score by iteration; mnnd_variance:
    mean nearest distance and variance of training sets; real_share: of training sets, where
    images accumulate; kept_share: Frechet distance by `keep`, where runs differ in it;
    entropy_distance: Frechet distance of the second models by entropy of what was chosen. Measures
    are in the space that the runs are judged in; runs.csv has all spaces.

    Args:
        folders: of runs, complete or not.
        out: made if it is not there; files of these names are written anew.

    Returns:
        The files.

    Raises:
        ValueError: as `runs.read`, or no feature space is common to the runs.
        OSError: `out` cannot be made or written to.
    """
    runs = read(folders)
    compared, space = arms(runs), common_spaces(runs)[0]
    found = plots(compared, space)
    out.mkdir(parents=True, exist_ok=True)
    texts = {"runs.csv": table(runs.rows())}
    for plot in found:
        texts |= {f"{plot.name}.svg": svg(plot.figure), f"{plot.name}.csv": table(plot.rows)}
    for name, text in texts.items():
        _files.write_text(out / name, text)
    return [out / name for name in texts]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """CSV with the keys of all rows as its header, in the order of their first use; a path that is
    no text is escaped, and a value that is missing is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if value != value else repr(float(value))
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def svg(figure: Figure) -> str:
    """The same text for the same figure: no date, no random names."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "entroselect"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
