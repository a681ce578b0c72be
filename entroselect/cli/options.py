"""Options of the commands, and how those of `select` may be combined."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from entroselect import results
from entroselect._checks import pick_count
from entroselect._quotas import RULES
from entroselect.cli.errors import bad_use, check_backend, check_memory_limit
from entroselect.cli.inputs import Stores
from entroselect.greedy import STARTS


class Method(str, Enum):
    """How rows are picked."""

    greedy = "greedy"
    threshold = "threshold"
    anchored = "anchored"
    random = "random"


class Metric(str, Enum):
    """The distance between rows."""

    euclidean = "euclidean"
    cosine = "cosine"
    tanimoto = "tanimoto"
    hamming = "hamming"


def method_of(method: Method | None, anchor: Path | None) -> str:
    """The method: as given, or what an anchor is for."""
    if method is not None:
        return method.value
    return "greedy" if anchor is None else "anchored"


def start_of(text: str | None) -> int | str | None:
    """The value of --start: a row, or a word."""
    if text is None or text in (*STARTS, "herding"):
        return text
    if not text.isdecimal():
        bad_use("--start", f"expected a pool row or one of {', '.join(STARTS)}, got {text!r}")
    return int(text)


def check_packages(option: str, extra: str, *packages: str) -> None:
    """Ends the command if an option needs packages that are not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise RuntimeError(f"{option} needs {package}: pip install 'entroselect[{extra}]'")


# Options that several commands have.
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder to make for the results.")]
Force = Annotated[bool, typer.Option("--force", help="Replace OUT once the new is done.")]
Key = Annotated[str | None, typer.Option(help="Which array of the file.")]
Column = Annotated[
    str | None, typer.Option(help="Which column holds the rows, where there are several.")
]
EndpointUrl = Annotated[
    str | None, typer.Option(help="The S3 server behind s3:// addresses, if not Amazon's.")
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder for local copies of addresses, which later runs use again."),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")
]
Backend = Annotated[str, typer.Option(help="See 'entroselect info'.")]
MemoryLimit = Annotated[
    str | None,
    typer.Option(help="Such as 8GiB: files are then read in pieces. Default: no limit."),
]
Groups = Annotated[
    str | None,
    typer.Option(
        metavar="FILE[:COLUMN]",
        help="The group of every row: .npy with one label per row, or a column of a .parquet file "
        "or of a folder of such.",
    ),
]
Quota = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE|LABEL=N",
        help="How many of each group: 'equal', 'proportional', or at most N of one, as often as "
        "needed.",
    ),
]
Candidates = Annotated[
    Path | None, typer.Option(help=".npy with row numbers, or a mask: only these may be picked.")
]
Keep = Annotated[
    str | None,
    typer.Option(
        metavar="FILE[:COLUMN]",
        help="The ids of pool rows that are kept already, or their numbers where rows have no ids: "
        ".txt with one per line, .npy, or a column of a .parquet file "
        "or of a folder of such.",
    ),
]
Scores = Annotated[
    str | None,
    typer.Option(
        metavar="FILE[:COLUMN]",
        help="Rows with the highest scores come first: .npy with one number per row, or a column "
        "of a .parquet file or of a folder of such.",
    ),
]
Join = Annotated[
    bool,
    typer.Option("--join", help="Also write joined.parquet, the rows with all their columns."),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="FILE[:COLUMN]",
        help="Greedy: the largest weight x distance is picked next. .npy with one number per row, "
        "or a column of a .parquet file or of a folder of such.",
    ),
]

# Options that only some methods have, and which methods.
APPLIES = {
    "start": ("greedy", "anchored"),
    "anchor": ("anchored",),
    "diversity": ("anchored",),
    "min_distance": ("greedy",),
    "threshold": ("threshold",),
    "decay": ("threshold",),
    "scores": ("threshold",),
    "selected": ("greedy", "threshold"),
    "keep": ("greedy", "threshold"),
    "groups": ("greedy", "threshold"),
    "candidates": ("greedy", "threshold"),
    "weights": ("greedy",),
}


@dataclass(frozen=True)
class Options:
    """The options of `select`; None where an option was not given."""

    pool: Path
    key: str | None
    column: str | None
    id_column: str | None
    k: int | None
    fraction: float | None
    method: str
    start: int | str | None
    selected: Path | None
    min_distance: float | None
    threshold: float | None
    decay: float | None
    metric: results.AnyMetric
    seed: int | None
    backend: str
    entropy: bool | None
    report: bool
    parquet: bool
    memory_limit: str | None = None
    checkpoint: Path | None = None
    anchor: Path | None = None
    diversity: float | None = None
    endpoint_url: str | None = None
    cache: Path | None = None
    groups: str | None = None
    quota: list[str] | None = None
    candidates: Path | None = None
    weights: str | None = None
    keep: str | None = None
    scores: str | None = None
    join: bool = False

    @property
    def picks_the_farthest(self) -> bool:
        """Whether each pick is the farthest of all rows: its distance is the radius before it."""
        plain = self.candidates is None and self.groups is None and self.weights is None
        return self.method == "greedy" and plain

    @property
    def stores(self) -> Stores:
        """How addresses are opened."""
        return Stores(self.endpoint_url, self.cache)

    def check(self, alone: bool) -> None:
        """Ends the command if the options contradict each other. `alone`: in a single process."""
        check_memory_limit(self.memory_limit)
        self.stores.check(self.pool, self.anchor)
        if self.memory_limit is not None or not alone:
            why = "with --memory-limit" if alone else "in several processes"
            if self.report:
                bad_use("--report", f"looks at all rows at once, which is not done {why}")
            if self.method in ("random", "anchored"):
                bad_use(
                    "--method", f"{self.method} compares all rows at once, which is not done {why}"
                )
        if self.entropy and not alone:
            bad_use("--entropy", "is measured by 'entroselect entropy' in several processes")
        if self.weights is not None and not alone:
            bad_use("--weights", "are for one process")
        if self.checkpoint is not None and self.method in ("random", "anchored"):
            bad_use("--checkpoint", f"has no meaning with --method {self.method}")
        if (self.k is None) == (self.fraction is None):
            bad_use("-k / --fraction", "pass one of the two")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            bad_use("--fraction", f"expected more than 0 and at most 1, got {self.fraction:g}")
        for name, methods in APPLIES.items():
            if getattr(self, name) is not None and self.method not in methods:
                bad_use(
                    "--" + name.replace("_", "-"),
                    f"has no meaning with --method {self.method}, only with {' or '.join(methods)}",
                )
        if self.quota and self.groups is None:
            bad_use("--quota", "needs --groups, a label for every row")
        for text in self.quota or []:
            _, equals, most = text.rpartition("=")
            if self.quota not in [[rule] for rule in RULES] and not (equals and most.isdecimal()):
                bad_use("--quota", f"expected {', '.join(RULES)}, or LABEL=N, got {text!r}")
        draws = self.method not in ("greedy", "anchored") or self.start == "random"
        if self.seed is not None and not draws:
            bad_use("--seed", f"{self.method} draws nothing unless --start random")
        starts = ("random", "herding") if self.method == "anchored" else STARTS
        if self.start is not None and not (
            self.start in starts or (self.method == "greedy" and isinstance(self.start, int))
        ):
            bad_use("--start", f"{self.start} has no meaning with --method {self.method}")
        if self.selected is not None and self.keep is not None:
            bad_use("--keep / --selected", "pass one of the two")
        for name in ("selected", "keep"):
            if getattr(self, name) is not None and self.start is not None:
                bad_use("--start", f"has no meaning with --{name}; picks continue from there")
        if self.scores is not None and self.seed is not None:
            bad_use("--seed", "has no meaning with --scores, which give the order of the rows")
        check_backend(self.backend, selecting=True)

    def count(self, rows: int) -> int:
        """How many rows to pick; --fraction is a share as the functions take it."""
        if self.fraction is None:
            return int(self.k or 0)
        return rows if self.fraction == 1 else pick_count(self.fraction, rows, 1, rows, "")
