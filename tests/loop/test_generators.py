"""Generators of the caller: by object, class and name, in runs that are killed, on rows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from entroselect import frechet_distance  # noqa: E402
from entroselect.loop import (  # noqa: E402
    config,
    data,
    features,
    files,
    models,
    plan,
    report,
    resolve,
    run,
    runs,
)
from tests.conftest import ROOT  # noqa: E402
from tests.support import generators as some  # noqa: E402
from tests.support import processes  # noqa: E402
from tests.support.generators import Labelled, Shifted, Slow, halves  # noqa: E402
from tests.support.loop_runs import contents, differing  # noqa: E402
from tests.support.run_folders import Notes  # noqa: E402

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 4, 4), dtype=np.uint8)
ROWS = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float32)
SLOW = "tests.support.generators:Slow"


def options(*settings: str, **fields: Any) -> config.Config:
    few = ["measure.spaces=['pixels']", "select.space=pixels", "iterations=2"]
    return resolve(None, settings=[*few, *settings], **fields)


@pytest.fixture(autouse=True)
def _alive() -> Any:
    Slow.kill_at, Slow.steps_taken = None, 0
    yield
    Slow.kill_at = None


def test_a_killed_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """Killed in the first training, in the second, and between training and generating."""
    wanted = options("select.method=greedy", "measure.draw=80")
    given: Any = {"generator": Slow, "features": {"halves": halves}, "real": IMAGES}
    assert run(wanted, tmp_path / "whole", **given)
    assert Slow.steps_taken == 8
    Slow.steps_taken = 0
    for at in (1, 3, -1):
        Slow.kill_at = at
        with pytest.raises(some.Killed):
            run(wanted, tmp_path / "killed", **given)
    Slow.kill_at = None
    assert run(wanted, tmp_path / "killed", **given)
    assert Slow.steps_taken == 8  # what was in the checkpoint was not done again
    whole = contents(tmp_path / "whole")
    assert differing(whole, contents(tmp_path / "killed")) == []
    assert {"iteration-02/Slow/step-3.npy", "iteration-02/measured.npy"} <= set(whole)


def test_a_deadline_breaks_off_and_the_same_call_ends_the_run(tmp_path: Path) -> None:
    assert not run(options(), tmp_path, generator=Slow, real=IMAGES, max_seconds=-1)
    assert run(options(), tmp_path, generator=Slow, real=IMAGES)


@pytest.mark.parametrize("given", [Slow(), SLOW, [SLOW]])
def test_objects_classes_and_names_are_the_same(given: Any, tmp_path: Path) -> None:
    run(options("iterations=1"), tmp_path / "a", generator=Slow, real=IMAGES)
    run(options("iterations=1"), tmp_path / "b", generator=given, real=IMAGES)
    made = [files.read_array(tmp_path / n / "iteration-01" / "generated.npy") for n in "ab"]
    assert config.from_json(tmp_path / "b" / "config.json").models == (SLOW,)
    np.testing.assert_array_equal(*made)
    assert run(options("iterations=1"), tmp_path / "c", generator=lambda: Slow(), real=IMAGES)


def test_an_object_starts_anew_at_each_iteration(tmp_path: Path) -> None:
    given = Shifted()
    run(options(), tmp_path, generator=given, real=IMAGES)
    assert not hasattr(given, "images")


def test_another_generator_is_refused_and_its_code_once_it_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from tests.support.generators import Shifted\nclass Mine(Shifted): pass\n"
    (tmp_path / "my_generator.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    given: Any = {"generator": "my_generator:Mine", "real": IMAGES}
    assert not run(options(), tmp_path / "run", **given, max_seconds=-1)
    run(options("iterations=1"), tmp_path / "run", **given)
    with pytest.raises(ValueError, match=r"there, models is \('my_generator:Mine',\), not"):
        run(options(), tmp_path / "run", generator=Slow, real=IMAGES)
    (tmp_path / "my_generator.py").write_text(code + "\n# another\n")
    with pytest.raises(ValueError, match="file that defines generator my_generator:Mine changed"):
        run(options(), tmp_path / "run", **given)
    (tmp_path / "run" / "iteration-01" / "generated.npy").unlink()
    assert run(options(), tmp_path / "run", **given)
    with pytest.raises(ValueError, match=r"images or labels of data.source changed"):
        run(options(), tmp_path / "run", generator="my_generator:Mine", real=255 - IMAGES)


def test_labels_are_given_to_those_who_take_them(tmp_path: Path) -> None:
    labels = np.repeat(["a", "b", "c"], 10)
    run(options(), tmp_path, generator=Labelled, real=(IMAGES, labels))
    made = data.read(tmp_path / "iteration-02", "generated")
    assert made.labels is not None
    assert set(made.labels.tolist()) == {0, 1, 2}
    assert json.loads((tmp_path / "classes.json").read_text()) == ["a", "b", "c"]


def test_what_a_generator_is_given_and_returns_is_its_own(tmp_path: Path) -> None:
    """Label dropout in place, and one buffer for all that is ever sampled, change nothing."""
    labels = np.repeat(["a", "b", "c"], 10)
    for kind in (Labelled, some.Scribbling):
        made = [lambda kind=kind: kind()] * 2  # of one name, which decides what is drawn
        wanted = options("paradigm=accumulate")
        run(wanted, tmp_path / kind.__name__, generator=made, real=(IMAGES, labels))
    for here in ("iteration-01", "iteration-02"):
        for name in ("training", "generated"):
            one, other = (data.read(tmp_path / n / here, name) for n in ("Labelled", "Scribbling"))
            np.testing.assert_array_equal(one.pixels, other.pixels)
            np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1:], r"sample\(30\) returned \(29, 4, 4, 1\) uint8, expected \(30"),
        (lambda rows: rows[:, :3], r"returned \(30, 3, 4, 1\) uint8"),
        (lambda rows: rows / 255, r"\(30, 4, 4, 1\) float64, expected .*round, clip to 0 to 255"),
        (
            lambda rows: rows.transpose(0, 3, 1, 2),
            r"returned \(30, 1, 4, 4\) .*channels to the end",
        ),
        (lambda rows: [*rows.tolist()[:-1], [1]], "sample: not an array"),
        (lambda rows: None, "sample: expected an array of real numbers, got NoneType"),
    ],
)
def test_what_a_generator_returns_is_checked(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run(options(), tmp_path, generator=lambda: Shifted(change), real=IMAGES)
    assert not list(tmp_path.rglob("generated.npy"))


def test_tensors_and_images_without_channels_are_taken(tmp_path: Path) -> None:
    given = Shifted(lambda rows: torch.from_numpy(rows[..., 0]))
    assert run(options(), tmp_path, generator=given, real=IMAGES)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_floats_of_another_width_are_rounded(dtype: Any, tmp_path: Path) -> None:
    """NumPy and scikit-learn return float64 whatever they were fitted to."""
    given = Shifted(lambda rows: rows.astype(dtype))
    assert run(resolve(None, iterations=1), tmp_path, generator=given, real=ROWS)
    made = files.read_array(tmp_path / "iteration-01" / "generated.npy")
    assert made.dtype == np.float32
    given = Shifted(lambda rows: rows.astype(np.float64) * 1e300)
    with pytest.raises(FloatingPointError, match="not finite as float32"):
        run(resolve(None, iterations=1), tmp_path / "wide", generator=given, real=ROWS)


def test_values_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    given = Shifted(lambda rows: rows * np.nan)
    with pytest.raises(FloatingPointError, match=r"iteration 1, Shifted: .* not finite"):
        run(options(), tmp_path, generator=given, real=ROWS)


class _Without:
    def fit(self, images: Any, *, seed: int) -> None: ...

    def sample(self, n: int, *, seed: int, labels: Any = None) -> Any: ...


def test_sample_needs_no_labels(tmp_path: Path) -> None:
    assert run(options("iterations=1"), tmp_path, generator=some.Plain, real=IMAGES)


class _Needs:
    def __init__(self, width: int) -> None: ...


class _Fails(Shifted):
    def fit(self, images: Any, *, seed: int, checkpoint: Any = None) -> None:
        raise KeyError("width")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (_Without, r"expected fit\(images, \*, seed, checkpoint=None\); .*checkpoint"),
        (some.Blind, r"expected sample\(n, \*, seed, labels=None\); .*labels"),
        (_Needs, r"cannot be made without arguments \(.*width"),
        (object(), r"generator builtins:object: cannot be made|has no method fit"),
        (lambda: 3, "has no method fit"),
        ("nowhere:Gan", "generator: nowhere cannot be imported: ModuleNotFoundError"),
        ("tests.support.generators:Gan", "tests.support.generators has no Gan"),
        ("tests.support.generators:Slo", "has no Slo; did you mean Slow?"),
        ("gan", "models: 'gan' is neither built in nor package.module:object"),
        ([], "models: names no model"),
    ],
)
def test_bad_generators_are_named_before_anything_runs(
    given: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        run(options(), tmp_path / "run", generator=given, real=IMAGES)
    assert not (tmp_path / "run").exists()


def test_an_exception_of_the_callers_says_where(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"iteration 1, generator .*_Fails: KeyError: 'width'"):
        run(options(), tmp_path, generator=_Fails, real=IMAGES)


# rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_rows_need_not_be_images(dtype: Any, tmp_path: Path) -> None:
    rows = (10 * ROWS).astype(dtype)
    wanted = resolve(None, iterations=2, select__method="greedy")
    assert run(wanted, tmp_path, generator="resample", real=rows)
    here = tmp_path / "iteration-02"
    made = files.read_array(here / "generated.npy")
    assert (made.shape, made.dtype) == ((80, 3), dtype)
    assert not (here / "grid.png").exists()
    assert list(json.loads((here / "metrics.json").read_text())["spaces"]) == ["rows"]


@pytest.mark.slow
def test_runs_on_rows_are_compared_on_a_page_without_pictures(tmp_path: Path) -> None:
    for method in ("none", "greedy"):
        wanted = resolve(None, iterations=2, select__method=method)
        assert run(wanted, tmp_path / method, generator="resample", real=ROWS)
    page = report.page([tmp_path / "none", tmp_path / "greedy"])
    assert "greedy against none" in page
    assert "Samples" not in page


@pytest.mark.parametrize(
    ("settings", "generator", "message"),
    [
        ([], None, "models: ddpm needs images, and the data are no images but rows"),
        (["select.space=encoder", "select.method=greedy"], "resample", "select.space: encoder"),
        (["measure.judge=encoder"], "resample", "measure.spaces: encoder needs images"),
        (["select.space=clip", "select.method=greedy"], "resample", "select.space: 'clip' is unk"),
        (["select.method=anchored", "select.reference=41"], "resample", "41 real images to match"),
        (["measure.reference=held-out"], "resample", "held-out needs images held out"),
    ],
)
def test_what_rows_cannot_have(
    settings: list[str], generator: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        run(resolve(None, settings=settings), tmp_path / "run", generator=generator, real=ROWS)


# several models


def test_models_take_turns_or_generate_together(tmp_path: Path) -> None:
    both: Any = {"generator": [Slow, "resample", Slow], "real": IMAGES}
    run(options("paradigm=accumulate", "iterations=3"), tmp_path / "all", **both)
    origins = files.read_array(tmp_path / "all" / "iteration-03" / "generated_origins.npy")
    assert np.bincount(origins[:, 2]).tolist() == [30, 30, 30]
    assert {"Slow", "resample", "Slow-3"} <= {p.name for p in (tmp_path / "all").glob("*/*")}
    turns = options("model_order=alternate", "iterations=3", "select.method=random")
    run(turns, tmp_path / "turns", **both)
    for iteration in (1, 2, 3):
        here = tmp_path / "turns" / f"iteration-{iteration:02d}"
        made = files.read_array(here / "generated_origins.npy")
        assert set(made[:, 2].tolist()) == {iteration - 1}
        assert len(made) == 60


def test_multi_model_is_accumulating_with_both_kinds() -> None:
    made = resolve("digits", paradigm="multi-model")
    assert (made.paradigm, made.models) == ("accumulate-subsample", ("ddpm", "edm"))
    own = resolve("digits", settings=["paradigm=multi-model", "models=['resample','edm']"])
    assert own.models == ("resample", "edm")


# selecting and measuring


@pytest.mark.parametrize("method", ["anchored", "moments"])
def test_matched_selections_end_with_the_same_bytes(method: str, tmp_path: Path) -> None:
    """And a reference that is too small to steer by is a note, not a warning of Python's."""
    wanted = options(f"select.method={method}", "select.reference=20")
    progress, other = Notes(), Notes()
    assert run(wanted, tmp_path / "a", generator="resample", real=IMAGES, progress=progress)
    (tmp_path / "b").mkdir()
    assert run(wanted, tmp_path / "b", generator="resample", real=IMAGES, progress=other)
    assert differing(contents(tmp_path / "a"), contents(tmp_path / "b")) == []
    noted = any(note.startswith("iteration 2: reference") for note in progress.notes)
    assert noted == (method == "anchored")


def test_more_images_are_drawn_to_be_measured_alone(tmp_path: Path) -> None:
    few = options("measure.draw=100", "data.held_out=10", "measure.reference=held-out")
    run(few, tmp_path, generator=["resample", Slow], real=IMAGES)
    here = tmp_path / "iteration-02"
    generated, extra = data.read(here, "generated"), data.read(here, "measured")
    assert (len(generated), len(extra)) == (20, 80)
    assert np.bincount(extra.origins[:, 2]).tolist() == [40, 40]
    training = data.read(here, "training")
    assert len(training) == 20  # none of the others is trained on
    found = json.loads((here / "metrics.json").read_text())["spaces"]["pixels"]
    assert found["generated"]["n"] == 20  # entropies compare at equal sizes
    held_out = plan.split(few, IMAGES)[1]
    assert held_out is not None
    every = features.pixels(data.stack([generated, extra]))
    away = frechet_distance(features.pixels(held_out), every)
    assert found["frechet_distance"] == pytest.approx(away, rel=1e-9)
    real = options("measure.draw=100", "data.held_out=10")
    run(real, tmp_path / "real", generator=["resample", Slow], real=IMAGES)
    both = [runs.read_run(tmp_path), runs.read_run(tmp_path / "real")]
    to_held_out, to_real = (r.series("pixels", "frechet_distance") for r in both)
    assert to_held_out[0] > 1.2 * to_real[0]  # "resample" keeps near the real ones


def test_judging_where_one_selects_is_warned_of(tmp_path: Path) -> None:
    progress = Notes()
    same = options("select.method=greedy")
    run(same, tmp_path / "same", generator="resample", real=IMAGES, progress=progress)
    assert any("judged in the space pixels" in note for note in progress.notes)
    measured = json.loads((tmp_path / "same" / "iteration-01" / "metrics.json").read_text())
    assert (measured["judge"], "looks better" in measured["warning"]) == ("pixels", True)
    other = options("select.method=greedy", "select.space=halves", "measure.judge=pixels")
    run(
        other, tmp_path / "other", generator="resample", real=IMAGES,
        features={"halves": halves}, progress=(progress := Notes()),
    )  # fmt: skip
    assert not any("judged in" in note for note in progress.notes)
    measured = json.loads((tmp_path / "other" / "iteration-01" / "metrics.json").read_text())
    assert measured["warning"] is None


def test_global_generators_are_seeded_and_put_back() -> None:
    def drawn() -> tuple[float, ...]:
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002

    found, after = [], []
    for number in (1, 2):
        random.seed(number), np.random.seed(number), torch.manual_seed(number)  # noqa: NPY002
        with models.seeded(3):
            found.append(drawn())
        after.append(drawn())
        random.seed(number), np.random.seed(number), torch.manual_seed(number)  # noqa: NPY002
        assert drawn() == after[-1]
    assert found[0] == found[1]
    assert all(a != b for a, b in zip(*after, strict=True))


MINE = """
import numpy as np
from tests.support.generators import Shifted as Gan

def embed(images):
    return images.reshape(len(images), -1)[:, ::3].astype(np.float32)
"""


@pytest.mark.slow
def test_by_name_on_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    (tmp_path / "mine.py").write_text(MINE)
    base = ["-m", "entroselect", "loop", "--iterations", "2", "--select", "greedy"]
    base += ["--set", "data.images=40", "--set", "select.space=clip"]
    base += ["--set", "measure.spaces=['clip','pixels']", "--space", "clip=mine:embed"]
    given = {"cwd": tmp_path, "environment": {"PYTHONPATH": str(ROOT)}}
    said = processes.python(*base, "--generator", "mine:Gan", "--out", "run", **given).stdout
    assert said.startswith("measured in the space pixels")
    said = processes.python(*base, "--generator", "mine:Gan", "--dry-run", **given).stdout
    assert "mine:Gan tells no time" in said
    said = processes.python(*base, "--generator", "mine:Nope", "--out", "x", **given, code=1).stderr
    assert said.strip().endswith("error: generator: mine has no Nope; known: Gan, embed")
