"""The page of regimes: what is said of each selection, for and against it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from entroselect.loop import regimes
from entroselect.loop.config import Config, Measure, Select
from tests.support.measured_runs import write_run


def regime(
    root: Path, title: str, distances: Mapping[str, Sequence[float]], diagnosis: str | None = None
) -> regimes.Regime:
    """A regime whose Frechet distances at the last iteration are given, by method and seed."""
    folders = []
    for method, given in distances.items():
        for seed, distance in enumerate(given):
            config = Config(seed=seed, select=Select(method=method, space="encoder"))  # type: ignore[arg-type]
            config = replace(config, measure=Measure(judge="pixels"))
            folder = root / f"{title}-{method}-{seed}"
            write_run(folder, config, real=(1.0, 0.0), diagnosis=diagnosis)
            file = folder / "iteration-02" / "metrics.json"
            found = json.loads(file.read_text())
            found["spaces"]["pixels"]["frechet_distance"] = distance
            file.write_text(json.dumps(found))
            folders.append(folder)
    return regimes.Regime(title, f"About {title}.", folders)


HELPS = {"none": (60, 40, 50), "greedy": (50, 30, 55), "anchored": (10, 10, 10)}
HURTS = {"none": (10, 10, 10), "greedy": (15, 14, 16), "anchored": (9, 11, 8)}


def test_what_came_out(tmp_path: Path) -> None:
    told = regimes.findings_of(regime(tmp_path, "helps", HELPS, "Numbers\n\nIt repeats\nitself."))
    assert told == [
        "It repeats itself.\nNumbers",
        "greedy: 10% nearer to the real images than without a selection (Frechet distance 45 "
        "against 50); nearer in 2 of 3 seeds.",
        "anchored: 80% nearer to the real images than without a selection (Frechet distance 10 "
        "against 50); nearer in 3 of 3 seeds.",
        "What to use here: anchored.",
    ]
    told = regimes.findings_of(regime(tmp_path, "hurts", HURTS, "Numbers"))
    assert "greedy: 50% farther from the real images" in told[1]
    assert "nearer in 0 of 3 seeds" in told[1]
    assert told[3] == "What to use here: anchored, though the seeds do not agree."
    worse = {**HURTS, "anchored": (11, 12, 13)}
    told = regimes.findings_of(regime(tmp_path, "worse", worse))
    assert told[-1] == "What to use here: keep images at random, which is no selection."


def test_only_seeds_that_both_have_are_compared(tmp_path: Path) -> None:
    told = regimes.findings_of(regime(tmp_path, "few", {"none": (60, 40), "greedy": (50,)}, "x"))
    assert "Frechet distance 50 against 60); nearer in 1 of 1 seeds" in told[1]


def test_the_page(tmp_path: Path) -> None:
    both = [regime(tmp_path, "helps", HELPS, "Repeats."), regime(tmp_path, "hurts", HURTS, "Not.")]
    page = regimes.page(both, "Two regimes", ["For newcomers."])
    text = " ".join(
        html.unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.S)).split()
    )
    assert "For newcomers. no selection greedy anchored" in text
    assert "helps: Frechet distance of G_2 50 45 10 in how many seeds" in text
    assert "lower than without - 2 of 3 3 of 3" in text
    assert text.index("About helps.") < text.index("Repeats.") < text.index("About hurts.")
    assert page.count("<h2>Samples</h2>") == 2
    assert "grid-template-columns: repeat(2," in page
    assert "@media (max-width: 48rem)" in page
    assert not re.search(r"https?://|<script", page)


def test_a_regime_needs_an_arm_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one arm without a selection"):
        regimes.findings_of(regime(tmp_path, "alone", {"greedy": (1,)}))
