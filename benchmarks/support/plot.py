"""Time of selection against n and against k, from results/greedy_sweep.csv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.support.record import Row

OURS = "entroselect"


def draw(rows: list[Row], target: Path) -> None:
    """Two panels: n with k = n / 10, and k at one n; medians, logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in rows if row["p50_s"]]
    if not rows:
        raise ValueError("greedy_sweep.csv: no measured rows; run the benchmarks first")
    over_n = [row for row in rows if int(row["k"]) * 10 == int(row["n"])]
    # The n of which there are cases with other k.
    fixed = max((int(row["n"]) for row in rows if row not in over_n), default=None)
    over_k = [row for row in rows if int(row["n"]) == fixed]

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    width = rows[0]["d"]
    panel(axes[0], over_n, "n", f"rows n (d = {width}, k = n / 10)")
    panel(axes[1], over_k, "k", f"picks k (d = {width}, n = {fixed:,})" if fixed else "")
    axes[0].set_ylabel("seconds")
    axes[0].legend(fontsize=8)
    machine = f"{rows[0]['cpu']}, {rows[0]['threads']} threads, {rows[0]['instruction_set']}"
    figure.suptitle(f"Farthest-first selection, standard normal rows ({machine})", fontsize=10)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    temporary.replace(target)
    pyplot.close(figure)


def panel(axis: Any, rows: list[Row], column: str, label: str) -> None:
    """One line per contestant."""
    names = dict.fromkeys(row["contestant"] for row in rows)
    for number, name in enumerate(names):
        points = sorted(
            (int(row[column]), float(row["p50_s"])) for row in rows if row["contestant"] == name
        )
        product = any(row["contestant"] == name and row["kind"] == "product" for row in rows)
        axis.plot(
            *zip(*points, strict=True),
            marker="o",
            markersize=3,
            color="black" if name == OURS else f"C{number}",
            linewidth=2.5 if name == OURS else 1.2,
            linestyle="--" if product else "-",
            label=name,
        )
    axis.set(xscale="log", yscale="log", xlabel=label)
    sizes = sorted({int(row[column]) for row in rows})
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.minorticks_off()
    axis.grid(visible=True, which="major", alpha=0.3)
