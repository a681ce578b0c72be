"""Wrong options are found before training, and values that are not finite end a run."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("sklearn")

from entroselect.loop import (  # noqa: E402
    config,
    data,
    device,
    diffusion,
    estimate,
    files,
    iterate,
    paradigms,
    plan,
    pretrained,
    sample,
    seeds,
    shares,
    train,
    trial,
)
from entroselect.loop.selection import _largest, choose  # noqa: E402

SMALL = [
    "data.images=32", "data.held_out=8", "model.channels=[8,16]", "train.steps=4",
    "train.warmup=1", "train.batch=8", "measure.spaces=['pixels']",
]  # fmt: skip


class Net(torch.nn.Module):  # type: ignore[misc]
    """In the place of a network: its input times a number."""

    config = {"sample_size": (8, 8), "in_channels": 1, "num_class_embeds": None}  # noqa: RUF012

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Any, time: Any, labels: Any = None) -> Any:
        return SimpleNamespace(sample=images * self.factor)


# sampling


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 1000])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_dpmpp_takes_as_many_steps_as_there_are_of_noise(steps: int, schedule: Any) -> None:
    noise = config.Diffusion(steps=steps, schedule=schedule)
    solver = diffusion.noise_schedule(noise, "dpmpp", steps)
    solver.set_timesteps(steps)
    assert solver.timesteps.tolist() == list(range(steps))[::-1]
    if steps <= 50:
        made = sample.generate(
            Net(0.1), noise, 2, sampler="dpmpp", steps=steps, batch=2, guidance=1.0
        )
        assert len(np.unique(made)) > 2


def test_no_two_steps_of_dpmpp_are_at_one_place() -> None:
    for count in range(1, 41):
        for steps in range(1, count + 1):
            solver = diffusion.noise_schedule(config.Diffusion(steps=count), "dpmpp", steps)
            solver.set_timesteps(steps)
            assert len(set(solver.timesteps.tolist())) == steps


def test_a_run_with_as_many_steps_makes_images(tmp_path: Path) -> None:
    settings = [*SMALL, "iterations=1", "diffusion.steps=10", "sample.steps=10"]
    assert iterate.run(config.resolve("digits", settings=settings), tmp_path / "run")
    assert len(np.unique(np.load(tmp_path / "run/iteration-01/generated.npy"))) > 100


# DDPM clips what it guesses, so that only NaN gets through.
@pytest.mark.parametrize(
    ("sampler", "factor"),
    [("dpmpp", np.nan), ("ddim", np.nan), ("ddpm", np.nan), ("dpmpp", 1e30), ("ddim", 1e30)],
)
def test_images_that_are_not_finite_are_an_error(sampler: str, factor: float) -> None:
    with pytest.raises(FloatingPointError, match=rf"sample.sampler={sampler}: .* step \d of 5"):
        sample.generate(
            Net(factor), config.Diffusion(), 2, sampler=sampler, steps=5, batch=2, guidance=1.0
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["diffusion.steps=10", "sample.steps=11"], "only diffusion.steps=10 .* sample.steps=10"),
        (["diffusion.steps=10", "sample.sampler=ddim", "sample.steps=20"], "set sample.steps=10"),
        (["sample.sampler=ddpm", "sample.steps=600"], "begin at 599 .*; set sample.steps=751"),
        (["sample.sampler=ddim", "sample.steps=1"], "begin at 0 of .*; set sample.steps=4"),
        (["paradigm=multi-model", "diffusion.kind=edm", "sample.steps=2000"], "diffusion.steps"),
        (["model.channels=[12,20]"], "model.groups: 8 .* model.groups=4 would do"),
        (["model.channels=[8,4]", "model.groups=4", "model.attention=[0]"], "4 channels at res"),
        (["diffusion.log_sigma_mean=nan"], "diffusion.log_sigma_mean: .*finite"),
        (["train.weight_decay=inf"], "train.weight_decay: .*finite"),
        (["sample.guidance=inf", "model.conditional=true"], "sample.guidance: .*finite"),
        (["=3"], "expected group.field=value"),
        (["train.=3"], "expected group.field=value"),
        (["keep=" + "[" * 5000], "nested too deeply"),
    ],
)
def test_options_that_do_not_go_together(settings: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.resolve("digits", settings=settings)


def test_edm_has_no_number_of_steps() -> None:
    config.resolve("digits", settings=["diffusion.kind=edm", "sample.steps=2000"])


def attempt(*settings: str) -> None:
    """Everything that a run does before it makes its folder."""
    made = config.resolve("digits", settings=[*SMALL, *settings])
    real, held_out, stream = plan.split(made)
    plan.check(made, real, stream)
    trial.try_out(made, real, plan.classes_of(made, real, stream), held_out, "cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["paradigm=accumulate", "generate=1"], "generate: 1 image .* set generate=2"),
        (["select.method=greedy", "generate=20"], "generate=none or generate=32 or more"),
        (["paradigm=accumulate-subsample", "generate=5"], "generate: 16 images wanted of a source"),
        (["paradigm=fresh-data", "fresh=1000"], "set fresh=585 or less"),
        (["paradigm=fresh-data", "fresh=1", "keep=0.01", "select.method=greedy"], "set keep high"),
        (["data.images=1797", "data.held_out=1"], "set data.held_out=0 or less"),
        (["data.images=2", "data.held_out=1797"], "set data.held_out=1795 or less"),
        (["data.images=3000"], "set data.images=none, which is 1789"),
        (["data.images=3000", "data.held_out=2000"], "data.images=none --set data.held_out=359"),
        (["model.conditional=true", "sample.guidance=1e38"], "two steps .*: sample.sampler=dpmpp"),
        (["train.learning_rate=1e30"], "one step of training on two images.*the loss is nan"),
        (["train.weight_decay=1e38", "train.warmup=0"], "one step of training .* the loss is"),
        (["diffusion.kind=edm", "diffusion.sigma_data=1e-30"], "tried before the run"),
    ],
)
def test_what_fails_is_found_before_training(settings: list[str], message: str) -> None:
    with pytest.raises((ValueError, FloatingPointError), match=message):
        attempt(*settings)


@pytest.mark.parametrize(
    "settings",
    [
        ["train.batch=100"],
        ["measure.neighbours=100"],
        ["data.held_out=1"],
        ["keep=0.01", "select.method=greedy"],
        ["train.precision=bf16"],
        ["train.flip=true", "train.accumulate=3"],
        ["model.network=mlp", "model.width=16", "model.dropout=0.1"],
        ["model.network=mlp", "model.width=16", "model.conditional=true", "diffusion.kind=edm"],
        ["models=['ddpm','edm']", "paradigm=accumulate", "sample.sampler=ddim", "generate=1"],
        ["model.channels=[8,16]", "model.attention=[1]", "model.conditional=true"],
        ["select.method=threshold", "select.drop_outliers=0.2"],
    ],
)
def test_what_works_is_not_refused(settings: list[str]) -> None:
    attempt(*settings)


def test_another_librarys_words_are_put_into_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise IndexError("index 3 is out of bounds\nsomewhere")

    monkeypatch.setattr(trial, "choose", broken)
    with pytest.raises(
        ValueError, match=r"selecting 32 of 64 images, tried .*select.*: index 3 is"
    ):
        attempt("select.method=greedy")


# training


def network(**options: Any) -> Any:
    model = config.Model(channels=(8, 16), **options)
    return diffusion.network(model, (8, 8, 1), 0, seeds.noise(1))


@pytest.fixture(scope="module")
def digits() -> data.Images:
    return data.load("digits")


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}, {"precision": "bf16"}, {"steps": 3}])
def test_weights_that_are_not_usable_are_an_error(options: Any, digits: data.Images) -> None:
    given = asdict(config.Train(learning_rate=1e30, steps=1, warmup=0, batch=8))
    with pytest.raises(FloatingPointError, match=r"smaller train.learning_rate"):
        train.train(digits, network(), config.Diffusion(), **(given | options))


@pytest.mark.slow
def test_the_last_good_state_is_kept(
    digits: data.Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "EVERY", 1)
    monkeypatch.setattr(train, "SECONDS_BETWEEN_SAVES", -1.0)
    share = train._share
    monkeypatch.setattr(
        train, "_share", lambda step, *rest: share(step, *rest) * 1e30 ** (step > 2)
    )
    with pytest.raises(FloatingPointError):
        train.train(
            digits, network(), config.Diffusion(), state=tmp_path / "s.safetensors",
            **asdict(config.Train(steps=6, warmup=0, batch=8)),
        )  # fmt: skip
    assert train.saved_step(tmp_path / "s.safetensors") == 3


@pytest.mark.slow
def test_the_average_has_no_weight_on_untrained_weights(digits: data.Images) -> None:
    def moved(ema: float, steps: int = 60) -> Any:
        options = asdict(config.Train(steps=steps, warmup=5, batch=16, ema=ema))
        net = train.train(digits, network(), config.Diffusion(), **options)
        return torch.cat([p.detach().flatten() for p in net.parameters()]) - start

    start = torch.cat([p.detach().flatten() for p in network().parameters()])
    assert 0.9 < float(moved(0.9999).norm() / moved(0.0).norm()) < 1.1
    assert not torch.equal(moved(0.9999), moved(0.0))  # an average all the same
    assert not torch.equal(moved(0.9999), moved(0.5))


def test_dropout_is_drawn_for_each_step(digits: data.Images, tmp_path: Path) -> None:
    """So that a training that was stopped ends with the same weights."""
    options = asdict(config.Train(steps=4, warmup=1, batch=8))

    def trained(**extra: Any) -> dict[str, Any]:
        net = network(dropout=0.5)
        train.train(digits, net, config.Diffusion(), **options, **extra)
        return dict(net.state_dict())

    torch.manual_seed(1)
    whole = trained()
    torch.manual_seed(2)
    state = tmp_path / "s.safetensors"
    for _ in range(3):
        with pytest.raises(train.Stopped):
            trained(state=state, deadline=0.0)
    resumed = trained(state=state)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_one_option_is_enough() -> None:
    assert config.resolve("digits", settings=["train.steps=150"]).train.warmup == 15
    assert config.resolve("digits", settings=["train.steps=1"]).train.warmup == 0
    explicit = config.resolve("digits", settings=["train.steps=150", "train.warmup=149"])
    assert explicit.train.warmup == 149
    presets = {name: config.resolve(name, measure__weights="w").train for name in config.PRESETS}
    assert {name: found.warmup for name, found in presets.items()} == {
        "digits": 250, "mnist": 400, "mnist-cfg": 500, "cifar-small": 500, "paper-cifar": 500,
        "paper-ffhq": 500, "repeats": 100, "scatters": 40, "no-network": 250,
    }  # fmt: skip


# shares


def test_shares_are_exact() -> None:
    assert [len(_largest(np.arange(100.0), s)) for s in (0.29, 0.57, 0.58)] == [29, 57, 58]
    for hundredths in range(101):
        assert shares.part(hundredths / 100, 100) == hundredths
    made = config.resolve("digits", settings=["keep=0.7", "select.method=greedy"])
    assert paradigms.to_generate(made, 21) == 30
    fresh = ["paradigm=fresh-data", "fresh=1", "keep=0.35", "select.method=greedy"]
    made = config.resolve("digits", settings=fresh)
    assert paradigms.wanted(made, 10, 10) == 4  # 3.5 to the even one; in binary it is less
    assert paradigms.wanted(made, 10, 30) == 10  # 10.5


def test_what_is_left_is_counted_with_the_same_shares() -> None:
    settings = ["select.method=greedy", "select.drop_far=0.29", "generate=100", "keep=0.5"]
    with pytest.raises(ValueError, match="may leave 71 of 100 images, 72 are wanted"):
        attempt(*settings, "data.images=72")
    attempt(*settings, "data.images=71")
    assert len(choose(np.arange(100.0)[:, None], 71, "none", drop_far=0.29)) == 71


# threads and estimates


def test_the_fastest_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    now = 8
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)

    def put(number: int) -> None:
        nonlocal now
        now = number

    monkeypatch.setattr(torch, "set_num_threads", put)
    for seconds, best in (
        ({1: 1, 2: 10}, 1),
        ({1: 8, 2: 4, 4: 3.9}, 2),
        ({1: 8, 2: 4, 4: 2, 8: 1}, 8),
    ):
        assert device.fastest_threads(lambda seconds=seconds: seconds[now]) == now == best
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert device.fastest_threads(lambda: 1 / 0) == 8  # as torch has it from there


def test_an_estimate_comes_from_steps_on_the_whole_batch(digits: data.Images) -> None:
    made = config.resolve("digits", settings=[*SMALL, "sample.batch=16"])
    real = digits.take(np.arange(32))
    found = estimate.estimate(made, real, 0, 4, "cpu")
    assert (found.training.images, found.sampling.images) == (8, 16)
    each = found.training.seconds * 4 + found.sampling.seconds * 20 * 32 / 16
    assert found.seconds == pytest.approx(each)


def test_a_heavy_step_is_measured_on_fewer_images() -> None:
    clock = []
    made = estimate._measured(lambda images: lambda: clock.append(images), 64, 0.0)
    assert made.images == 2


# never unpickle, plain errors


def test_weights_are_safetensors_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    made = torch.nn.Linear(2, 3)
    fake = SimpleNamespace(create_model=lambda name, num_classes: torch.nn.Linear(2, 3))
    monkeypatch.setitem(sys.modules, "timm", fake)
    torch.save(made.state_dict(), tmp_path / "inception.pth")
    with pytest.raises(ValueError, match=r"inception.pth: expected .safetensors"):
        pretrained.inception(str(tmp_path / "inception.pth"))
    extra = {"fc.weight": torch.ones(2), "AuxLogits.conv0.weight": torch.ones(2)}
    files.write_tensors(tmp_path / "good.safetensors", made.state_dict() | extra)
    found = pretrained.inception(str(tmp_path / "good.safetensors"))
    assert torch.equal(found.weight, made.weight)
    files.write_tensors(tmp_path / "bad.safetensors", {"weight": torch.ones(2)})
    with pytest.raises(ValueError, match=r"bad.safetensors: not Inception"):
        pretrained.inception(str(tmp_path / "bad.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes(b"123")
    with pytest.raises(ValueError, match=r"cut.safetensors: not safetensors"):
        pretrained.inception(str(tmp_path / "cut.safetensors"))

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError

    model = SimpleNamespace(from_pretrained=refused)
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(Dinov2Model=model))
    (tmp_path / "dino").mkdir()
    (tmp_path / "dino" / "config.json").write_text("{}")
    (tmp_path / "dino" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"dino: holds no .safetensors"):
        pretrained.dinov2(str(tmp_path / "dino"))


def test_toml_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    for content, message in (
        (b"a = " + b"[" * 5000, "nested too deeply"),
        (b"seed = 1\nseed = 2\n", "not TOML: .*overwrite"),
        (b"\xff\xfe", "not UTF-8"),
        (b"seed = 2001-99-99\n", "not TOML"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\.toml: .*{message}"):
            config.resolve("digits", file)
    file.write_bytes(b"\xef\xbb\xbfseed = 7\n")
    assert config.resolve("digits", file).seed == 7


def test_a_rare_label_of_fresh_images_is_known_to_the_network(digits: data.Images) -> None:
    made = config.resolve("digits", settings=[*SMALL, "paradigm=fresh-data", "fresh=4"])
    three = dataclasses.replace(digits, labels=digits.labels % 3, names=("0", "1", "2"))  # type: ignore[operator]
    few = three.take(np.arange(32))
    assert plan.classes_of(made, few, digits) == 10
    assert plan.classes_of(config.Config(), few, digits) == 3
