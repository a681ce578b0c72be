"""Tables for the terminal, and how numbers are written in them and on pages."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def measures(metric: str) -> dict[str, str]:
    """The measures of spread: their names in report.json, and those in tables."""
    return {
        "rows": "rows",
        "measured_rows": "measured rows",
        "entropy_nats": "entropy (euclidean, nats)",
        "geometric_mean_distance": "geometric mean distance (euclidean)",
        "mean_nearest_distance": f"mean nearest distance ({metric})",
        "rows_with_a_duplicate": "measured rows with a duplicate",
    }


def spread_table(spreads: dict[str, dict[str, Any]], metric: str) -> Table:
    """The measures, one line each, one column for each of the spreads."""
    table = Table("", *spreads)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, label in measures(metric).items():
        table.add_row(label, *(number(part[name]) for part in spreads.values()))
    return table


PROFILE = {
    "rounds": "rounds",
    "picks_per_round": "picks a round",
    "share_of_pairs": "share of the n k pairs looked at",
    "rechecks_per_row": "exact distances a row",
    "open_seconds": "reading and checking the pool (s)",
    "frontier_seconds": "finding the frontier (s)",
    "refresh_seconds": "bringing it up to date (s)",
    "resolve_seconds": "settling picks (s)",
    "read_seconds": "reading, while others are compared (s)",
    "bytes_read": "bytes read",
    "reads_per_row": "times a row was read",
    "processes": "processes",
    "bytes_sent": "bytes sent by rank 0",
    "bytes_received": "bytes received by rank 0",
    "total_seconds": "all of the selection (s)",
}


def profile_table(profile: dict[str, Any]) -> Table:
    """A table of the time that each phase of a selection took."""
    table = Table("where the time went", "")
    table.columns[1].justify = "right"
    for name, label in PROFILE.items():
        if name not in profile:
            continue
        value = profile[name]
        table.add_row(label, f"{value:,}" if isinstance(value, int) else f"{value:.3g}")
    return table


def number(value: float | int | None) -> str:
    """A number as tables show it."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def duration(seconds: float) -> str:
    """An estimated time, rounded, in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
