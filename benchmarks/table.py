"""README's benchmark tables and the picture, from the committed results.

python -m benchmarks.table            rewrites README.md between its two markers
python -m benchmarks.table --check    exits 1 if README.md is out of date
python -m benchmarks.table --plot     draws docs/images/selection_time.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, ROOT, Row, read

BEGIN = "<!-- benchmarks:begin -->"
END = "<!-- benchmarks:end -->"
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "images" / "selection_time.png"
OURS = "entroselect"


def by_case(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows of each case, in file order."""
    cases: dict[str, list[Row]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(row)
    return cases


def measured(rows: list[Row], kind: str) -> list[Row]:
    """The rows of one kind that were run, fastest first."""
    return sorted(
        (row for row in rows if row["kind"] == kind and row["p50_s"]),
        key=lambda row: float(row["p50_s"]),
    )


def our_row(rows: list[Row]) -> Row | None:
    """Ours on the automatic backend."""
    return next((row for row in rows if row["contestant"] == OURS and row["p50_s"]), None)


def seconds(row: Row) -> str:
    """Median seconds for people."""
    value = float(row["p50_s"])
    if value < 0.1:
        return f"{_figure(1000 * value)} ms"
    return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"


def faster(row: Row) -> str:
    """Ours against that contestant, in words."""
    ratio = float(row["ratio_to_ours"])
    if 0.95 <= ratio <= 1.05:
        return "the same"
    return f"{_figure(ratio)}x faster" if ratio > 1 else f"{_figure(1 / ratio)}x slower"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def pool_name(row: Row) -> str:
    """The case without its sizes."""
    return str(row["case"]).split(f" {row['n']} x ")[0]


def size(row: Row) -> str:
    """Rows x columns for people."""
    return f"{int(row['n']):,} x {row['d']}"


def table(header: list[str], lines: list[list[str]]) -> list[str]:
    """Markdown."""
    marks = ["|" + "|".join("---" for _ in header) + "|"]
    return (
        ["| " + " | ".join(cells) + " |" for cells in [header]]
        + marks
        + ["| " + " | ".join(cells) + " |" for cells in lines]
    )


def selection_table(operation: str, rows: list[Row]) -> list[str]:
    """One line per case: ours, the matmul ratio, the fastest exact peer."""
    lines = []
    for case in by_case(rows).values():
        ours = our_row(case)
        if ours is None:
            continue
        line = [operation, pool_name(ours), size(ours), f"{int(ours['k']):,}", seconds(ours)]
        line.append(two_digits(ours["matmul_ratio"]))
        line += [*peer_cells(case), picks(case)]
        lines.append(line)
    return lines


def two_digits(ratio: str) -> str:
    """A ratio for people, a dash when there is none."""
    return f"{float(ratio):.2f}" if ratio else "-"


def peer_cells(case: list[Row]) -> list[str]:
    """The fastest exact peer and how ours compares."""
    peers = measured(case, "exact") or measured(case, "other metric")
    if not peers:
        return ["-", "-"]
    best = peers[0]
    metric = f", {best['note']}" if best["kind"] == "other metric" else ""
    return [f"{best['contestant']}{metric}, {seconds(best)}", faster(best)]


def picks(case: list[Row]) -> str:
    """How far the fastest exact peer's list is that of float64."""
    peers = measured(case, "exact")
    return peers[0]["agreement"] if peers else "-"


def neighbour_lines(operation: str, rows: list[Row]) -> list[list[str]]:
    """One line per case: ours, the matmul ratio, the fastest peer and its error."""
    lines = []
    for case in by_case(rows).values():
        ours = our_row(case)
        if ours is None:
            continue
        line = [operation, pool_name(ours), size(ours), seconds(ours)]
        line.append(two_digits(ours["matmul_ratio"]))
        lines.append([*line, *peer_cells(case), picks(case)])
    return lines


def losses(operation: str, rows: list[Row]) -> list[str]:
    """Every measured peer, on any case, that is faster than ours: in words."""
    found = []
    for case in by_case(rows).values():
        ours = our_row(case)
        for row in measured(case, "exact") + measured(case, "heuristic"):
            if ours is not None and float(row["ratio_to_ours"]) < 0.95:
                times = _figure(1 / float(row["ratio_to_ours"]))
                found.append(
                    f"- {row['contestant']} is {times} times as fast as `{operation}` on "
                    f"{pool_name(row)} {size(row)} (agrees: {row['agreement']})."
                )
    return found


def render(results: Path) -> str:
    """The text between the markers."""
    files = {path.stem: read(path) for path in sorted(results.glob("*.csv"))}
    greedy, threshold = files.get("greedy", []), files.get("threshold", [])
    nearest, entropy = files.get("nearest", []), files.get("entropy", [])
    lines: list[str] = []
    selections = selection_table("greedy", greedy) + selection_table("threshold", threshold)
    if selections:
        header = ["select", "pool", "rows", "k", "entroselect", "matmul ratio"]
        header += ["fastest peer", "entroselect is", "peer's picks as in float64"]
        lines += [*table(header, selections), ""]
    searches = neighbour_lines("nearest", nearest) + neighbour_lines("entropy", entropy)
    if searches:
        header = ["measure", "pool", "rows", "entroselect", "matmul ratio"]
        header += ["fastest peer", "entroselect is", "peer's answer"]
        lines += [*table(header, searches), ""]
    slower = losses("greedy_select", greedy) + losses("threshold_select", threshold)
    slower += losses("nearest_distances", nearest) + losses("kl_entropy", entropy)
    if slower:
        lines += ["Where entroselect loses:", "", *slower, ""]
    return "\n".join([*lines, *footnote(greedy + threshold + nearest + entropy)])


def footnote(rows: list[Row]) -> list[str]:
    """Where the figures come from."""
    ours = [row for row in rows if row["contestant"] == OURS and row["p50_s"]]
    if not ours:
        return ["No results yet."]
    machines = unique(f"{row['cpu']} ({row['instruction_set']})" for row in ours)
    threads = unique(row["threads"] for row in ours)
    commits = unique(row["commit"] for row in ours)
    memory = [
        f"{pool_name(row)} {size(row)}, k = {int(row['k']):,}: {row['peak_extra_mib']} MiB"
        for row in ours
        if row["peak_extra_mib"]
    ]
    lines = [
        f"Median wall time, {threads} threads, {machines}; commit {commits}. Everything compared "
        "ran in turns in one process. Matmul ratio: over the fastest float32 product "
        "(rows x d) by (d x k) of NumPy and torch on that machine, for neighbours the product of "
        "the set with itself. All contestants and their versions: `benchmarks/results/*.csv`."
    ]
    if memory:
        lines += ["", f"Peak memory of greedy selection beyond the pool: {'; '.join(memory)}."]
    return lines


def unique(values: Any) -> str:
    """The distinct values, in order."""
    return ", ".join(dict.fromkeys(values))


def replaced(text: str, rendered: str) -> str:
    """README's text with what stands between the markers replaced; ValueError without markers."""
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"README.md: needs the markers {BEGIN} and {END}, in that order")
    return f"{before}{BEGIN}\n\n{rendered}\n\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.table", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    parser.add_argument("--plot", action="store_true", help="draw the picture instead")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--readme", type=Path, default=README)
    options = parser.parse_args(arguments)
    if options.plot:
        from benchmarks.plot import draw

        draw(read(options.results / "greedy_sweep.csv"), PICTURE)
        return 0
    text = options.readme.read_text(encoding="utf-8")
    wanted = replaced(text, render(options.results))
    if options.check:
        if wanted != text:
            print(f"{options.readme}: out of date, run python -m benchmarks.table")
        return int(wanted != text)
    temporary = options.readme.with_suffix(".tmp")
    temporary.write_text(wanted, encoding="utf-8")
    temporary.replace(options.readme)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
