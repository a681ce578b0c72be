"""Runs of the loop as they were measured: read from their folders, and as one table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from entroselect.loop import config as options
from entroselect.loop import data
from entroselect.loop.config import Config
from entroselect.loop.data import Images
from entroselect.loop.nested import flat

# What reports show of each space, and where it stands in metrics.json.
MEASURES: dict[str, tuple[str, ...]] = {
    "entropy of G_n (nats)": ("generated", "entropy"),
    "entropy of D_n (nats)": ("training", "entropy"),
    "geometric mean distance of D_n": ("training", "geometric_mean_distance"),
    "mean nearest distance of D_n": ("mean_nearest_distance",),
    "generalisation score": ("generalization_score",),
    "Frechet distance to real": ("frechet_distance",),
    "variance of G_n": ("generated", "variance"),
    "variance of D_n": ("training", "variance"),
    "precision": ("precision",),
    "recall": ("recall",),
    "density": ("density",),
    "coverage": ("coverage",),
    "Vendi score": ("vendi_score",),
    "FLD": ("fld",),
    "memorised fraction": ("memorised_fraction",),
}


@dataclass(frozen=True)
class Run:
    """One folder: its options and what was measured, by iteration."""

    folder: Path
    config: Config
    measured: list[dict[str, Any]]

    @property
    def spaces(self) -> list[str]:
        """The feature spaces that were measured."""
        return list(self.measured[0]["spaces"])

    @property
    def judge(self) -> str:
        """The space in which the run is judged: measure.judge, or else the last one measured."""
        wanted = getattr(self.config.measure, "judge", None)
        return wanted if wanted in self.spaces else self.spaces[-1]

    @property
    def diagnosis(self) -> str | None:
        """That of the first iteration: its words, a line each, then its numbers; None without."""
        text = self.measured[0].get("diagnosis", {}).get("text")
        if not text:
            return None
        numbers, *paragraphs = text.split("\n\n")  # filled for a terminal, which a page is not
        return "\n".join([*(" ".join(paragraph.split()) for paragraph in paragraphs), numbers])

    def series(self, space: str, *names: str) -> list[float]:
        """One measure over the iterations, NaN where there is none."""
        found = []
        for iteration in self.measured:
            value = _at(iteration["spaces"][space], names)
            found.append(math.nan if value is None else float(value))
        return found

    def images(self, iteration: int, name: str) -> Images:
        """ "training" or "generated" of that iteration, from 1."""
        return data.read(self.folder / f"iteration-{iteration:02d}", name)


class Runs(tuple[Run, ...]):
    """Several runs, in the order in which their folders were given."""

    __slots__ = ()

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per run, iteration and space, without pandas; see `to_dataframe`."""
        settings = [flat(asdict(run.config)) for run in self]
        differ = [
            name for name in settings[0] if any(s.get(name) != settings[0][name] for s in settings)
        ]
        made = []
        for run, own in zip(self, settings, strict=True):
            for measured in run.measured:
                whole = flat({name: x for name, x in measured.items() if name != "spaces"})
                for space, values in measured["spaces"].items():
                    chosen = {name: own[name] for name in dict.fromkeys(["seed", *differ])}
                    numbers = {n: math.nan if v is None else v for n, v in flat(values).items()}
                    made.append(
                        {"run": str(run.folder), **chosen, **whole, "space": space, **numbers}
                    )
        return made

    def to_dataframe(self) -> Any:
        """All measures as a pandas DataFrame.

        Returns:
            One row per run, iteration and space. Columns: run (the folder); seed and every option
            in which the runs differ, by dotted name; what metrics.json says of the iteration
            (iteration, training_size, origins.real, ...); space; what it says of the space
            (frechet_distance, generated.entropy in nats, ...), NaN where a measure is missing.

        Raises:
            ImportError: pandas is not installed; `rows` needs none.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("to_dataframe needs pandas: pip install pandas") from None
        return pd.DataFrame(self.rows())


def read(folders: Sequence[Path | str]) -> Runs:
    """The runs in these folders, each complete or not.

    Raises:
        ValueError: no folder; or, naming it, one that is not a run's, has nothing measured yet, or
            holds a damaged file.

    Example:
        >>> import numpy as np, tempfile
        >>> from entroselect.loop import resolve, run, runs
        >>> rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
        >>> folder = tempfile.mkdtemp()
        >>> run(resolve(None, iterations=2), folder, generator="resample", real=rows)
        True
        >>> table = runs.read([folder]).to_dataframe()
        >>> table[["iteration", "space", "training.n"]].values.tolist()
        [[1, 'rows', 60], [2, 'rows', 60]]
    """
    if not folders:
        raise ValueError("folders: none given; expected run folders of entroselect loop")
    return Runs(read_run(Path(folder)) for folder in folders)


def read_run(folder: Path) -> Run:
    """A run folder, complete or not; ValueError as `read`."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{folder}: not a run folder (no config.json); pass what was --out of entroselect loop"
        )
    found = sorted(folder.glob("iteration-*/metrics.json"))
    if not found:
        raise ValueError(f"{folder}: nothing is measured yet; let the run finish an iteration")
    return Run(folder, options.from_json(path), [_measured(file) for file in found])


def _measured(file: Path) -> dict[str, Any]:
    """The measures that iterate.py wrote; everything that the report reads is checked."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if found["iteration"] != int(file.parent.name.removeprefix("iteration-")):
            raise ValueError(f"says that it is of iteration {found['iteration']!r}")
        whole = [
            found["training_size"],
            *(found["origins"][kind] for kind in data.ORIGINS.values()),
        ]
        for space in found["spaces"].values():
            values = [_at(space, names) for names in MEASURES.values()]
            whole += [0.0 if value is None else value for value in values]
        if not found["spaces"] or not all(math.isfinite(value) for value in whole):
            raise ValueError("values that are not finite, or none")
        if not isinstance(found.get("diagnosis", {}).get("text", ""), str):
            raise ValueError("a diagnosis whose text is none")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as e:
        raise ValueError(
            f"{file}: damaged, or not what this version measures ({type(e).__name__}: {e}); delete "
            "it and start the run again: it measures again what is missing"
        ) from None
    return found


def _at(measured: Any, names: Sequence[str]) -> Any:
    for name in names:
        measured = measured[name]
    return measured
