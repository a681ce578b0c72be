"""The tables of docs/scale.md, from benchmarks/results/scale.csv."""

from __future__ import annotations

from pathlib import Path

from benchmarks.support.record import ROOT, read
from benchmarks.support.tables import table, unique

PAGE = ROOT / "docs" / "scale.md"

COLUMNS = {
    "n": "rows",
    "d": "columns",
    "k": "k",
    "way": "",
    "processes": "processes",
    "limit_mib": "limit, MiB",
    "peak_mib": "peak, MiB",
    "seconds": "s",
    "seconds_in_memory": "s in memory",
    "rounds": "rounds",
    "share_of_pairs": "share of pairs",
    "reads_per_row": "reads per row",
    "gb_read": "GB read",
    "kb_sent_per_round": "kB sent per round",
    "kb_received_per_round": "kB received per round",
}
TITLES = {
    "disk": "A pool of 20 GB within 2 GiB, and a smaller one within a tenth of its size",
    "processes": "Several processes; shares, bytes and reads of rank 0, memory the largest of any",
    "growth": "Twice as many rows each time; piece by piece within 60 bytes per row",
}


def render(results: Path) -> str:
    """The tables of docs/scale.md."""
    lines = []
    rows = read(results)
    for part, title in TITLES.items():
        for pool in dict.fromkeys(row["pool"] for row in rows if row["part"] == part):
            case = [row for row in rows if row["part"] == part and row["pool"] == pool]
            shown = [name for name in COLUMNS if any(row[name] for row in case)]
            lines += [f"{title} ({pool} rows):", ""]
            cells = [[number(row[name]) for name in shown] for row in case]
            lines += [*table([COLUMNS[name] for name in shown], cells), ""]
    commits = unique(row["commit"] for row in rows)
    lines.append(f"{rows[0]['cpu']}; commit {commits}.")
    return "\n".join(lines)


def number(text: str) -> str:
    """With commas, or to three digits; other text as it is."""
    if text.isdecimal():
        return f"{int(text):,}"
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text
