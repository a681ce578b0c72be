"""The tables of README.md and docs/benchmarks.md and the picture, from the committed results.

python -m benchmarks.support.tables            rewrites both pages between their markers
python -m benchmarks.support.tables --check    exits 1 if one of them is out of date
python -m benchmarks.support.tables --plot     draws docs/images/selection_time.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.support.record import RESULTS, ROOT, Row, read

BEGIN = "<!-- benchmarks:begin -->"
END = "<!-- benchmarks:end -->"
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "images" / "selection_time.png"
PAGE = ROOT / "docs" / "benchmarks.md"
OURS = "entroselect"

# Results files and the function each measures.
FILES = {
    "greedy": "greedy_select",
    "batch": "greedy_select_batch",
    "threshold": "threshold_select",
    "nearest": "nearest_distances",
    "entropy": "kl_entropy",
}
HEADER = ["", "pool", "rows", "k", "entroselect", "matmul ratio"]
HEADER += ["fastest peer", "entroselect is", "peer's answer against float64"]

# What README.md shows of it.
HEADLINE = {
    ("greedy", "normal 20000 x 384, k=2000"),
    ("greedy", "clustered 20000 x 384, k=2000"),
    ("greedy", "normal 100000 x 3, k=10000"),
    ("greedy", "normal 100000 x 64, k=10000"),
    ("greedy", "normal 100000 x 384, k=10000"),
    ("greedy", "spectrum 100000 x 768, k=10000"),
    ("greedy", "mnist 60000 x 784, k=30000"),
    ("greedy", "fingerprints 20000 x 1024, k=2000"),
    ("threshold", "normal 20000 x 384, k=2000"),
    ("nearest", "normal 100000 x 3, k=1"),
    ("nearest", "normal 50000 x 384, k=1"),
    ("entropy", "normal 100000 x 3, k=1"),
    ("entropy", "offset 1000 20000 x 64, k=1"),
    ("entropy", "normal 50000 x 384, k=1"),
}


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
    if not row["p50_s"]:
        return ""
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


def two_digits(ratio: str) -> str:
    """A ratio for people, a dash when there is none."""
    return f"{float(ratio):.2f}" if ratio else "-"


def peer_cells(case: list[Row]) -> list[str]:
    """The fastest exact peer and how ours compares. Times for another distance do not compare."""
    peers = measured(case, "exact")
    if peers:
        return [f"{peers[0]['contestant']}, {seconds(peers[0])}", faster(peers[0])]
    if another_distance(case):
        best = measured(case, "other metric")[0]
        told = f"{best['contestant']}, {best['note']}: {seconds(best)}"
        return [f"none by this distance ({told})", "-"]
    return ["-", "-"]


def another_distance(case: list[Row]) -> bool:
    """Whether the only peers measure another distance than ours."""
    return not measured(case, "exact") and bool(measured(case, "other metric"))


def picks(case: list[Row]) -> str:
    """How much of the fastest exact peer's list is equal to that of float64."""
    peers = measured(case, "exact")
    return peers[0]["agreement"] if peers else "-"


def losses(function: str, case: list[Row]) -> list[str]:
    """A line about every peer that is faster than ours."""
    return [
        f"- {row['contestant']} is {_figure(1 / float(row['ratio_to_ours']))} times as fast as "
        f"`{function}` on {pool_name(row)} {size(row)} (agrees: {row['agreement']})."
        for row in measured(case, "exact") + measured(case, "heuristic")
        if our_row(case) is not None and float(row["ratio_to_ours"]) < 0.95
    ]


def line(operation: str, case: list[Row]) -> list[str]:
    """A case for people; [] without a row of ours."""
    ours = our_row(case)
    if ours is None:
        return []
    k = f"{int(ours['k']):,}" if int(ours["k"]) > 1 else ""
    ratio = with_before(two_digits(ours["matmul_ratio"]), two_digits(before(ours, "matmul_ratio")))
    time = with_before(seconds(ours), seconds({"p50_s": before(ours, "p50_s")}))
    return [operation, pool_name(ours), size(ours), k, time, ratio, *peer_cells(case), picks(case)]


def before(row: Row, column: str) -> str:
    """The figure of the run before, "" if there was none."""
    return str(row.get(f"before_{column}") or "")


def with_before(now: str, then: str) -> str:
    """A figure with that of the run before in brackets."""
    return f"{now} ({then})" if then not in ("", "-") else now


def operations(results: Path) -> dict[str, dict[str, list[Row]]]:
    """Cases of the operations that have peers, from their files."""
    return {name: by_case(read(results / f"{name}.csv")) for name in FILES}


def render(results: Path, headline: bool = False) -> str:
    """The text between the markers: `headline` for README.md, all cases for docs/benchmarks.md."""
    found = operations(results)
    lines = [
        line(operation, case)
        for operation, cases in found.items()
        for name, case in sorted(cases.items(), key=lambda named: another_distance(named[1]))
        if not headline or (operation, name) in HEADLINE
    ]
    text = [*table(HEADER, [cells for cells in lines if cells]), ""]
    slower = [
        words
        for operation, cases in found.items()
        for case in cases.values()
        for words in losses(FILES[operation], case)
    ]
    if slower:
        text += ["Where entroselect loses:", "", *slower, ""]
    every = [row for cases in found.values() for case in cases.values() for row in case]
    if not headline:
        text += anchored(read(results / "anchored.csv"))
        text += [*scaling(read(results / "scaling.csv")), *instruction_sets(every), *memory(every)]
    return "\n".join([*text, *footnote(every)])


def anchored(rows: list[Row]) -> list[str]:
    """What anchored_select and its alternatives reach, and in which time."""
    lines = []
    for row in rows:
        if row["p50_s"]:
            case = [pool_name(row), size(row), f"{int(row['k']):,}"]
            lines.append([row["contestant"], *case, seconds(row), row["agreement"]])
    header = ["contestant", "pool", "rows", "k", "time", "reached (lower is better)"]
    heading = "Anchored selection, and what else matches a reference."
    return [heading, "", *table(header, lines), ""] if lines else []


def scaling(rows: list[Row]) -> list[str]:
    """Twice the rows, the picks, the threads."""
    cases = by_case(rows)
    lines = []
    for case in cases.values():
        ours = our_row(case)
        if ours is None:
            continue
        one = next((row for row in case if row["contestant"] == f"{OURS}, 1 thread"), None)
        cells = [pool_name(ours), size(ours), f"{int(ours['k']):,}", seconds(ours)]
        for column in ("n", "k"):
            half = next(
                (r for r in map(our_row, cases.values()) if r and _half(r, ours, column)), None
            )
            factor = float(ours["p50_s"]) / float(half["p50_s"]) if half else 0
            cells.append(f"x {factor:.2f}" if half else "")
        cells.append(f"{float(one['ratio_to_ours']):.2f}x" if one else "")
        lines.append(cells)
    header = ["pool", "rows", "k", "entroselect", "of half the rows", "of half the picks"]
    header.append(f"faster on {ours_threads(rows)} threads than on 1")
    heading = (
        "Time against the time of half the size (k = 1: nearest neighbours, where all pairs count)."
    )
    return [heading, "", *table(header, lines), ""] if lines else []


def _half(row: Row, of: Row, column: str) -> bool:
    same = all(row[other] == of[other] for other in {"n", "d", "k"} - {column})
    return same and int(row["k"]) > 1 and 2 * int(row[column]) == int(of[column])


def ours_threads(rows: list[Row]) -> str:
    """How many threads ours had."""
    return unique(row["threads"] for row in rows if row["contestant"] == OURS and row["p50_s"])


def instruction_sets(rows: list[Row]) -> list[str]:
    """Ours on instruction sets that were forced, where there was a product to compare with."""
    lines = []
    for row in rows:
        if row["contestant"].startswith(f"{OURS} (") and row["matmul_ratio"]:
            k = f"{int(row['k']):,}" if int(row["k"]) > 1 else ""
            cells = [row["instruction_set"], pool_name(row), size(row), k, seconds(row)]
            lines.append([*cells, two_digits(row["matmul_ratio"])])
    header = ["backend", "pool", "rows", "k", "entroselect", "matmul ratio"]
    return ["On other instruction sets:", "", *table(header, lines), ""] if lines else []


def memory(rows: list[Row]) -> list[str]:
    """Peaks beyond the pool, beside the size of 1.1 float32 pools and 64 bytes per row."""
    lines = []
    for row in rows:
        if row.get("peak_extra_mib"):
            n, d = int(row["n"]), int(row["d"])
            pool, allowed = 4 * n * d / 2**20, (1.1 * 4 * d + 64) * n / 2**20
            cells = [pool_name(row), size(row), f"{int(row['k']):,}", f"{pool:.0f} MiB"]
            lines.append([*cells, f"{row['peak_extra_mib']} MiB", f"{allowed:.0f} MiB"])
    header = [
        "pool",
        "rows",
        "k",
        "pool's float32",
        "peak beyond it",
        "allowed: 1.1 times the pool + 64 bytes per row",
    ]
    heading = "Memory of greedy selection (k = 1: of entropy):"
    return [heading, "", *table(header, lines), ""] if lines else []


def footnote(rows: list[Row]) -> list[str]:
    """Where the figures come from."""
    ours = [row for row in rows if row["contestant"] == OURS and row["p50_s"]]
    if not ours:
        return ["No results yet."]
    machines = unique(f"{row['cpu']} ({row['instruction_set']})" for row in ours)
    again = (
        ", in brackets those of another run" if any(before(row, "p50_s") for row in ours) else ""
    )
    return [
        f"Median wall times{again}; {ours_threads(ours)} threads, {machines}; commit "
        f"{unique(row['commit'] for row in ours)}. Everything compared ran in turns in one "
        "process. Matmul ratio: our time over that of the fastest float32 product (rows x d) by "
        "(d x k) of NumPy and torch on that machine, for neighbours and entropy the product of the "
        "set with itself; below 1 the whole operation takes less than that product alone. Last "
        "column: how many of the peer's picks are those of the loop in float64, which is started "
        "at the row where the peer starts, if that is not row 0."
    ]


def unique(values: Any) -> str:
    """The distinct values, in order."""
    return ", ".join(dict.fromkeys(values))


def replaced(text: str, rendered: str) -> str:
    """A page's text with what stands between the markers replaced; ValueError without markers."""
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"the page needs the markers {BEGIN} and {END}, in that order")
    return f"{before}{BEGIN}\n\n{rendered}\n\n{END}{after}"


def rewrite(page: Path, rendered: str, check: bool = False) -> bool:
    """Puts `rendered` between the page's markers, atomically, or with `check` leaves the page as
    it is. Returns whether the page was out of date."""
    text = page.read_text(encoding="utf-8")
    wanted = replaced(text, rendered)
    if wanted != text and not check:
        temporary = page.with_suffix(".tmp")
        temporary.write_text(wanted, encoding="utf-8")
        temporary.replace(page)
    return wanted != text


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.support.tables", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    parser.add_argument("--plot", action="store_true", help="draw the picture instead")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    if options.plot:
        from benchmarks.support.plot import draw

        draw(read(options.results / "greedy_sweep.csv"), PICTURE)
        return 0
    stale = 0
    for path in (options.readme, options.page):
        rendered = render(options.results, headline=path == options.readme)
        if rewrite(path, rendered, check=options.check) and options.check:
            print(f"{path}: out of date, run python -m benchmarks.support.tables")
            stale = 1
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
