"""A configuration of the loop that takes seconds."""

from __future__ import annotations

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
