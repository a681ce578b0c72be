"""What a run decides before it begins: the spaces in which it measures and judges."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from entroselect.loop import config, given, plan

IMAGES = given.images_of(np.zeros((4, 8, 8), np.uint8))
ROWS = given.images_of(np.zeros((4, 8)))


def spaces(*settings: str, installed: bool = False, of: Any = IMAGES, **decided: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "find_spec", lambda name: installed or None)
        made = config.resolve(None, settings=settings)
        found = plan.settled(made, of, decided.get("before"))
    assert found.measure.judge == found.measure.spaces[-1]  # type: ignore[index]
    return found.select.space, found.measure.spaces


def test_spaces_are_decided_by_what_there_is() -> None:
    assert spaces() == ("encoder", ("pixels", "encoder"))
    assert spaces("data.held_out=200") == ("encoder", ("pixels", "encoder", "judge"))
    both = spaces("data.held_out=200", installed=True)
    assert both == ("encoder", ("pixels", "encoder", "efficientnet"))
    assert spaces(of=ROWS, installed=True) == ("rows", ("rows",))
    own = "features=['clip=a:b']"
    assert spaces(own)[1] == ("pixels", "clip", "encoder")
    assert spaces(own, of=ROWS)[1] == ("clip", "rows")


def test_what_is_asked_for_is_kept_and_the_judge_comes_last() -> None:
    few = "measure.spaces=['pixels']"
    assert spaces(few, installed=True)[1] == ("pixels",)
    assert spaces(few, "measure.judge=encoder")[1] == ("pixels", "encoder")
    assert spaces("measure.judge=pixels")[1] == ("encoder", "pixels")
    assert spaces("select.space=pixels")[0] == "pixels"


def test_a_run_that_has_begun_keeps_its_spaces() -> None:
    """Also where another package is installed since."""
    before = plan.settled(config.resolve(None), IMAGES, None)
    measure = dataclasses.replace(before.measure, spaces=("encoder", "pixels"), judge="pixels")
    before = dataclasses.replace(before, measure=measure)
    assert spaces(installed=True, before=before)[1] == ("encoder", "pixels")


def test_a_judge_is_taught_on_images_held_out() -> None:
    wanted = plan.settled(config.resolve(None, measure__judge="judge"), IMAGES, None)
    with pytest.raises(ValueError, match=r"judge is an encoder .*; set data.held_out=N"):
        plan.check(wanted, IMAGES, IMAGES.take([]))
