"""The study's claims, tables and figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from benchmarks.study import checks, cifar, claims, loops, page, reference, resample, tables
from benchmarks.support.record import Row


def rows_of(arm: str, seed: int, iteration: int, **measures: float) -> list[Row]:
    """Lines of the results in both spaces, with something for what is not given."""
    made: Row = dict.fromkeys(loops.COLUMNS, str(1 + 0.1 * iteration + 0.01 * seed))
    made |= {"setting": "digits repeats", "arm": arm, "seed": str(seed)}
    made |= {"iteration": str(iteration), "variance": str(iteration * iteration)}
    made |= {"verdict": "repeats", "commit": "c", "cpu": "x", "torch": "t"}
    made |= {name: str(value) for name, value in measures.items()}
    return [made | {"space": space} for space in ("judge", "pixels")]


def answers(rows: list[Row]) -> dict[str, checks.Answer]:
    found = checks.Found(rows, "digits repeats")
    checked = {claim.claimed: claim.check(found) for claim in claims.claims()}
    return {claimed: answer for claimed, answer in checked.items() if answer is not None}


def selections() -> list[Row]:
    """Three seeds of three arms: greedy's fd is lower in one, anchored's in all."""
    rows = []
    for seed, (falling, fd) in enumerate([((3, 2, 1), 5.0), ((3, 1, 2), 5.2), ((3, 2, 0.5), 4.8)]):
        for n, gs in enumerate(falling, 1):
            rows += rows_of("none", seed, n, entropy=10 * gs, gs=gs, fd=5, gap=-2)
            rows += rows_of("greedy", seed, n, entropy=30 + n, gs=gs, fd=fd, entropy_training=7)
            rows += rows_of("anchored", seed, n, entropy=20, gs=gs, fd=2, entropy_training=6)
    return rows


def test_the_table_says_what_the_results_say() -> None:
    found = answers(selections())
    falls = found["replace: GS falls (pixels)"]
    assert (falls.holds, falls.agrees) == ([True, False, True], "in 2 of 3 seeds")
    assert falls.found == "3 → 1.67 ± 0.58 → 1.17 ± 0.76"
    lower = found["replace: greedy has lower fd (encoder)"]
    assert lower == checks.Answer("5.00 ± 0.20 against 5, iteration 3", [False, False, True])
    assert found["replace: greedy has higher entropy (pixels)"].agrees == "yes"
    assert found["replace: greedy has higher GS (pixels)"].agrees == "**no**"
    assert not any(claimed.startswith("accumulate") for claimed in found)
    text = page.render({part: [] for part in page.PARTS} | {"regimes": selections()})
    assert "| 3 | replace: greedy has lower fd (encoder) | digits repeats | 5.00 ± 0.20 ag" in text
    first = (
        "| digits repeats, iteration 3: first model repeats (-2 nats) | none | 1.310 ± 0.010 | 5 "
    )
    assert first in text
    assert "| anchored (0.003) | 6 | 2 | 2 |" in text
    assert "greedy in 1 of 3, anchored (0.003) in 3 of 3 runs" in text


def test_the_control_compares_with_training_on_the_real_images() -> None:
    rows = selections()
    for seed in range(3):
        for n in range(1, 4):
            rows += rows_of("accumulate none", seed, n, fd=[1, 3, 3][seed], real=0.3)
            rows += rows_of("accumulate greedy", seed, n, fd=9, real=0.4)
    found = answers(rows)
    control = next(answer for claimed, answer in found.items() if "at equal N" in claimed)
    assert control.holds == [False, True, True]
    assert found["greedy takes more real images than their quota"].agrees == "yes"
    text = "\n".join(tables.advice(tables.settings(rows)))
    assert "unselected, in 2 of 3 runs" in text
    assert any("| accumulate none |" in line for line in tables.groups(tables.settings(rows)))


def test_claims_about_sizes_and_shares() -> None:
    rows = []
    for seed, best in enumerate(["keep 0.8", "none"]):
        for arm in checks.KEPT:
            rows += rows_of(arm, seed, 1, gs=1, training_n=2)
            rows += rows_of(arm, seed, 2, fd=1 if arm == best else 2, gs=0.6, training_n=2)
        for n, (arm, gs) in enumerate({"N / 2": 0.5, "2 N": 0.7 - seed / 5}.items(), 1):
            rows += rows_of(arm, seed, 1, gs=1, training_n=n * n)
            rows += rows_of(arm, seed, 2, gs=gs)
    found = answers(rows)
    assert found["fd is best at a kept share inside 0.2 to 1"].holds == [True, False]
    assert found["smaller N, faster fall of GS (pixels)"].holds == [True, False]


def test_entropy_explains_gs_or_variance_does() -> None:
    draw = np.random.default_rng(0)
    rows = []
    for iteration in range(1, 9):
        gs, noise = float(np.exp(-iteration)), float(draw.random())
        for seed, names in enumerate([("entropy", "variance"), ("variance", "entropy")]):
            measures = {names[0]: 9.0 - iteration, names[1]: noise}
            rows += rows_of("none", seed, iteration, gs=gs, **measures)
    found = answers(rows)["replace: log GS goes with entropy, less with variance (pixels)"]
    assert found.holds == [True, False]


def every_part() -> page.Results:
    """Some results of each part."""
    rows = selections()
    rows += [r for share in (0.2, 0.4) for n in (1, 2) for r in rows_of(f"keep {share}", 0, n)]
    some = {"commit": "c", "cpu": "x", "torch": "t", "entropy": "1", "entropy_selecting": "2"}
    moved = [
        {**some, "data": "digits", "move": "noise", "h": h, "space": "judge", "seed": str(seed),
         "iteration": "8", "method": method, "fd": str(5 + seed - 3 * (method == "greedy"))}
        for h in ("0", "1") for seed in (0, 1) for method in resample.METHODS
    ]  # fmt: skip
    chosen = [
        {**some, "way": way, "stage": stage, "space": space, "seed": str(seed), "n": "898",
         "fd": str(1 + seed * (way != "random")), "warned": str("16" in way)}
        for way in reference.WAYS for stage in ("chosen", "next")
        for space in reference.SPACES for seed in (0, 1)
    ]  # fmt: skip
    taken = [
        {**some, "space": space, "judge": judge, "method": method, "seed": "0",
         "fd": str(3 - (method == "greedy")),
         "clean": "0.5", "copies": "0.3", "corrupted": "0.2", "originals": "9"}
        for space, judge in cifar.JUDGES.items() for method in cifar.METHODS
    ]  # fmt: skip
    return {"regimes": rows, "claims": [], "resample": moved, "reference": chosen, "cifar": taken}


def test_every_part_has_its_table() -> None:
    text = page.render(every_part())
    assert (
        "| digits | noise, h = 1 | encoder | 5.50 ± 0.71 | 5.50 ± 0.71 (0/2) | 2.50 ± 0.71 (2/2"
        in text
    )
    assert "| anchored (0.003) | 1 | 1 | 1.50 ± 0.71 | 1.50 ± 0.71 | 1.50 ± 0.71" in text
    line = next(line for line in text.splitlines() if line.startswith("| anchored, 16 real"))
    assert line.endswith("| 0 of 2 | 2 of 2 |")
    assert (
        "| efficientnet → pixels | anchored (0.003) | 3 | 1 | 2 | 0.5 | 0.3 | 0.2 | 9 | 0 of 1 |"
        in text
    )
    assert "| efficientnet → pixels | greedy | 2 | 1 | 2 | 0.5 | 0.3 | 0.2 | 9 | 1 of 1 |" in text
    assert "(regimes 3, resample 2, reference 2, cifar 1). Commit c, x, torch t." in text


def test_committed_page_is_what_the_committed_results_give() -> None:
    assert page.main(["--check"]) == 0


def test_a_page_that_is_out_of_date_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "page.md"
    stale.write_text("<!-- benchmarks:begin -->\n<!-- benchmarks:end -->\n", "utf-8")
    assert page.main(["--check", "--results", "nowhere", "--page", str(stale)]) == 1
    assert "out of date" in capsys.readouterr().out


@pytest.mark.slow
def test_figures_are_drawn(tmp_path: Path) -> None:
    page.draw(every_part(), tmp_path)
    shown = {line.split("images/")[1][:-1] for line in page.render(every_part()).splitlines()
             if line.startswith("![")}  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == shown
    assert len(shown) == 6
