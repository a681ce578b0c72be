"""A configuration of the loop that takes seconds, and what runs left behind."""

from __future__ import annotations

from pathlib import Path

from entroselect.loop import config

TINY = config.Config(
    iterations=3,
    data=config.Data(source="digits", images=40, held_out=20),
    model=config.Model(channels=(8, 8), groups=4),
    train=config.Train(steps=6, batch=8, warmup=2, ema=0.5),
    sample=config.Sample(steps=2, batch=32),
    select=config.Select(method="greedy", space="pixels"),
    measure=config.Measure(spaces=("pixels",)),
)


def contents(folder: Path) -> dict[str, bytes]:
    """All files by name; unfinished ones left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".partial")
    }


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Names of files that are not the same in both. pytest would look for hours for how they
    differ."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
