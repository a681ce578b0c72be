"""Every option of the loop, and how a command line becomes one configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from entroselect.loop import naming
from entroselect.loop.naming import nearest
from entroselect.loop.nested import flat, merged, nested, read_toml, toml_value
from entroselect.loop.presets import PRESETS

Paradigm = Literal["replace", "accumulate", "accumulate-subsample", "fresh-data", "multi-model"]
Method = Literal["none", "random", "greedy", "threshold", "variance", "anchored", "moments"]
SpaceName = Literal["pixels", "encoder", "judge", "efficientnet", "dinov2", "inception"]
Kind = Literal["ddpm", "edm"]
SPACES = (*get_args(SpaceName), "rows")  # "rows" is "pixels", of data that are no images
MODELS = ("ddpm", "edm", "resample")
Split = Literal["train", "val", "test"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]
Network = Literal["unet", "mlp"]

Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveOrNone = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
NONE = BeforeValidator(lambda value: None if value == "none" else value)  # TOML has no null


class _Strict:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Data(_Strict):
    """Where real images come from."""

    source: str = "digits"  # "digits" (scikit-learn's), or a path: see data.load
    images: Annotated[Count | None, NONE] = (
        None  # N, the size of the first training set; None: all but held_out
    )
    held_out: CountOrNone = 0  # real images that no model is trained on, for the FLD
    split: Annotated[Split | None, NONE] = None  # of a source with several; see data.load
    # Columns of .parquet or arrays of .npz, where their names do not tell:
    image_column: Annotated[str | None, NONE] = None
    label_column: Annotated[str | None, NONE] = None


@dataclass(frozen=True)
class Model(_Strict):
    """diffusers' UNet2DModel, or the residual MLP of mlp.MLPModel."""

    network: Network = "unet"
    channels: tuple[Count, ...] = (16, 32)  # unet: one resolution each, halved from one to the next
    layers: Count = 1  # unet: residual blocks per resolution
    attention: tuple[CountOrNone, ...] = ()  # unet: resolutions, from 0, that have attention
    groups: Count = 8  # unet: of GroupNorm
    width: Count = 256  # mlp: of its hidden layers
    blocks: Count = 3  # mlp: residual blocks
    dropout: Share = 0.0
    conditional: bool = False  # on the images' labels


@dataclass(frozen=True)
class Diffusion(_Strict):
    """Noise and what the network predicts."""

    kind: Kind = "ddpm"  # "edm": Karras et al. 2022, preconditioned
    prediction: Literal["epsilon", "v"] = "v"  # ddpm only
    schedule: Literal["linear", "cosine"] = "cosine"  # ddpm only
    steps: Count = 1000  # ddpm only: T
    sigma_data: Positive = 0.5  # edm only: standard deviation of the images on -1 to 1
    log_sigma_mean: Number = -1.2  # edm only: of the noise levels trained on
    log_sigma_std: Positive = 1.2  # edm only


@dataclass(frozen=True)
class Resample(_Strict):
    """The generator "resample", which copies training rows and moves the copies."""

    share: PositiveOrNone = 0.25  # how far, as a share of a typical nearest distance
    towards: CountOrNone = 0  # towards one of so many nearest rows; 0: in a random direction


@dataclass(frozen=True)
class Train(_Strict):
    """AdamW with linear warm-up and cosine decay to 0."""

    steps: Count = 2500
    batch: Count = 64
    learning_rate: Positive = 3e-3
    warmup: Annotated[CountOrNone | None, NONE] = (
        None  # steps; None: a tenth of them, at most 500; see `complete`
    )
    betas: tuple[Share, Share] = (0.95, 0.999)
    weight_decay: PositiveOrNone = 1e-6
    clip: Positive = 1.0  # largest norm of the gradient
    precision: Precision = "auto"  # autocast; "auto": bf16 on a GPU, fp32 on the CPU
    # Decay of the averaged weights that are sampled from; 0: none. It rises with the step t to
    # this value, min(ema, t / (t + 9)), so that untrained weights count nothing and the average of
    # a short training is one of its last tenth.
    ema: Share = 0.0
    label_dropout: Share = 0.1  # conditional models, so that they can be guided
    flip: bool = False  # mirrors each image of a batch, left to right, with probability 1/2
    accumulate: Count = 1  # parts of a batch whose gradients are added before a step: less memory
    compile: bool = False  # torch.compile: slow to begin with, then faster on a GPU


@dataclass(frozen=True)
class Sample(_Strict):
    """How images are generated."""

    sampler: Literal["ddpm", "ddim", "dpmpp"] = "dpmpp"  # edm: dpmpp, or Euler for the others
    steps: Count = 20
    batch: Count = 256
    guidance: PositiveOrNone = 1.0  # 1: none


@dataclass(frozen=True)
class Select(_Strict):
    """How the next training set is taken from the pool."""

    method: Method = "none"
    space: Annotated[str | None, NONE] = None  # None: "encoder", or "rows" of what is no image
    # Shares of the pool that are left out before selecting:
    drop_outliers: Share = 0.0  # largest distances to the 5th nearest other image
    drop_far: Share = 0.0  # largest distances to the nearest real image
    # "anchored": the weight of spreading out against matching the real images.
    diversity: Annotated[float, Field(ge=0, le=1000)] = 0.003
    # "anchored", "moments": how many of the real images to match, drawn at random; None: all.
    reference: Annotated[Annotated[int, Field(ge=2)] | None, NONE] = None


@dataclass(frozen=True)
class Measure(_Strict):
    """What is measured at every iteration."""

    # None: "pixels", "encoder" and, to judge in, "efficientnet" where it is installed, or else
    # "judge" where 200 or more images are held out; of what is no image "rows".
    spaces: Annotated[tuple[str, ...] | None, NONE] = None
    judge: Annotated[str | None, NONE] = None  # the space of headlines; None: the last of `spaces`
    # Generated images that are measured; beyond the pool's they serve for nothing else. None: of
    # the pool's, as many as there are real ones.
    draw: Annotated[Annotated[int, Field(ge=2)] | None, NONE] = None
    # Of the Frechet distance, KID, precision, recall, density and coverage:
    reference: Literal["real", "held-out"] = "real"
    weights: Annotated[str | None, NONE] = (
        None  # local DINOv2 folder or Inception file for those spaces
    )
    neighbours: Count = 5  # of precision, recall, density and coverage
    memorised: Positive = 0.33  # of the real images' median nearest distance


@dataclass(frozen=True)
class Config(_Strict):
    """A whole run."""

    paradigm: Paradigm = "replace"
    iterations: Count = 4
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5  # of the pool; see paradigms.wanted
    generate: Annotated[Count | None, NONE] = (
        None  # images per iteration and model; None: see paradigms.to_generate
    )
    fresh: CountOrNone = 0  # new real images per iteration ("fresh-data")
    equal_compute: bool = False  # train longer instead of generating more; see run.training_steps
    device: str = "auto"  # "auto": a GPU if there is one
    # What generates: "ddpm", "edm", "resample" or "package.module:object"; see models.py.
    # None: diffusion.kind.
    models: Annotated[tuple[str, ...] | None, NONE] = None
    model_order: Literal["together", "alternate"] = "together"  # all or the next at each iteration
    # Feature spaces of one's own, "name=package.module:function"; see given.py.
    features: tuple[str, ...] = ()
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    diffusion: Diffusion = field(default_factory=Diffusion)
    resample: Resample = field(default_factory=Resample)
    train: Train = field(default_factory=Train)
    sample: Sample = field(default_factory=Sample)
    select: Select = field(default_factory=Select)
    measure: Measure = field(default_factory=Measure)


_ADAPTER = TypeAdapter(Config)


def resolve(
    preset: str | None = "digits",
    file: Path | None = None,
    settings: Iterable[str] = (),
    **options: Any,
) -> Config:
    """A preset, changed by a TOML file, then by `options`, then by `settings` ("train.steps=300").

    Args:
        preset: a name in PRESETS; None: the defaults of Config.
        file: TOML with the fields of Config; a table for each group.
        settings: "group.field=value", values as in TOML; bare words are strings; of two for one
            option the later counts.
        options: fields of Config by dotted name with "__" for the dot; None is ignored.

    Raises:
        ValueError: an unknown name (with the nearest known one) or a value that does not fit.

    Example:
        >>> from entroselect.loop.config import resolve
        >>> resolve("digits", settings=["train.steps=300"], select__method="greedy").train.steps
        300
    """
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"preset: {preset!r} is unknown{nearest(preset, PRESETS)}")
    given = merged({}, {} if preset is None else PRESETS[preset])
    if file is not None:
        given = merged(given, read_toml(file))
    for name, value in options.items():
        if value is not None:
            given = merged(given, nested(name.replace("__", "."), value))
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not all(part.strip() for part in name.split(".")):
            raise ValueError(f"--set: expected group.field=value, got {setting!r}")
        given = merged(given, nested(name.strip(), toml_value(text.strip())))
    return complete(from_dict(given))


def complete(config: Config) -> Config:
    """The same with train.warmup as a number, and "multi-model" as what it stands for; ValueError
    for options that contradict each other."""
    train = config.train
    if train.warmup is None:
        config = replace(config, train=replace(train, warmup=warmup_of(train.steps)))
    if config.paradigm == "multi-model":  # the paper's: both kinds, and the real images too
        models = config.models or ("ddpm", "edm")
        config = replace(config, paradigm="accumulate-subsample", models=models)
    _check(config)
    naming.check(config, MODELS)
    return config


def warmup_of(steps: int) -> int:
    """Default number of warm-up steps."""
    return min(500, steps // 10)


def from_dict(given: Mapping[str, Any]) -> Config:
    """Config of nested dictionaries, checked field by field."""
    try:
        return _ADAPTER.validate_python(given)
    except ValidationError as error:
        raise ValueError(_explained(error)) from None


def from_json(path: Path) -> Config:
    """Reads what `to_json` wrote; ValueError, naming the file, if it is anything else."""
    try:
        return from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: damaged, or not the configuration of a run ({error}); restore it, or choose "
            "another --out"
        ) from None


def to_json(config: Config) -> str:
    """All options, also those left at their defaults."""
    return json.dumps(asdict(config), indent=2) + "\n"


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted names of the options in which two configurations differ, with both values."""
    a, b = flat(asdict(one)), flat(asdict(other))
    return {name: (a[name], b[name]) for name in a if a[name] != b[name]}


def names() -> list[str]:
    """Dotted names of all options."""
    return list(flat(asdict(Config())))


def _check(config: Config) -> None:
    if config.model.network == "unet":
        _check_unet(config.model)
    if config.train.accumulate > config.train.batch:
        raise ValueError(
            f"train.accumulate: {config.train.accumulate} parts of a batch of "
            f"{config.train.batch}; set train.accumulate={config.train.batch} or less"
        )
    warmup = config.train.warmup
    if warmup is not None and warmup >= config.train.steps:
        raise ValueError(
            f"train.warmup: {warmup} is not below train.steps {config.train.steps}; leave it out, "
            f"or set train.warmup={warmup_of(config.train.steps)}"
        )
    if "ddpm" in (config.models or (config.diffusion.kind,)):
        _check_sampling(config.sample, config.diffusion.steps)
    if config.sample.guidance != 1 and not config.model.conditional:
        raise ValueError("sample.guidance: needs model.conditional=true")
    if config.paradigm == "fresh-data" and config.fresh == 0:
        raise ValueError("fresh: the paradigm fresh-data needs fresh images; set fresh=N")
    if config.paradigm != "fresh-data" and config.fresh:
        raise ValueError(f"fresh: only with the paradigm fresh-data, not {config.paradigm}")
    for name in ("drop_outliers", "drop_far"):
        if config.select.method == "none" and getattr(config.select, name):
            raise ValueError(f"select.{name}: needs a selection; select.method is none")
    spaces = {*(config.measure.spaces or ()), config.select.space, config.measure.judge}
    if "judge" in spaces and not config.data.held_out:
        raise ValueError(
            "measure.spaces: judge is an encoder taught on held-out images; set data.held_out"
        )
    if spaces & {"dinov2", "inception"} and config.measure.weights is None:
        raise ValueError(
            "measure.weights: the spaces dinov2 and inception need local weights; pass --weights "
            "PATH, or choose select.space=encoder and measure.spaces=['pixels','encoder']"
        )


def _check_unet(model: Model) -> None:
    levels = len(model.channels)
    for level in model.attention:
        if level >= levels:
            raise ValueError(f"model.attention: there is no resolution {level}, only {levels}")
    # diffusers' heads are 8 wide, and where any resolution has attention the middle has it too.
    for level in {*model.attention, levels - 1} if model.attention else ():
        if model.channels[level] < 8:
            raise ValueError(
                f"model.channels: {model.channels[level]} channels at resolution {level}, but "
                "attention, there or in the middle, needs 8 or more"
            )
    for channels in model.channels:
        if channels % model.groups:
            most = math.gcd(*model.channels)
            fits = max(n for n in range(1, model.groups) if most % n == 0)
            raise ValueError(
                f"model.groups: {model.groups} does not divide {channels} channels; "
                f"model.groups={fits} would do"
            )


def _check_sampling(sample: Sample, noised: int) -> None:
    if sample.steps > noised:
        raise ValueError(
            f"sample.steps: {sample.steps} steps of sampling, but only diffusion.steps={noised} of "
            f"noise; set sample.steps={noised} or less"
        )

    # diffusers' DDPM and DDIM go down from there; sampling starts from pure noise.
    def begins(steps: int) -> int:
        return (steps - 1) * (noised // steps)

    if sample.sampler != "dpmpp" and begins(sample.steps) < 0.75 * (noised - 1):
        fits = (n for n in range(sample.steps, noised + 1) if begins(n) >= 0.75 * (noised - 1))
        raise ValueError(
            f"sample.steps: {sample.steps} steps of {sample.sampler} would begin at "
            f"{begins(sample.steps)} of diffusion.steps={noised}, where images are not yet noise; "
            f"set sample.steps={next(fits)}"
        )


def _explained(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        groups = {known.partition(".")[0] for known in names()}
        return f"{name}: no such option{nearest(name, [*names(), *sorted(groups)])}"
    message = first["msg"][0].lower() + first["msg"][1:]
    if first["type"] == "literal_error":
        known = [str(option) for option in _literals(name)]
        message = f"{first['input']!r} is unknown{nearest(str(first['input']), known)}"
    return f"{name}: {message}" if name else message


def _literals(name: str) -> tuple[Any, ...]:
    return {
        "paradigm": get_args(Paradigm),
        "select.method": get_args(Method),
        "data.split": get_args(Split),
        "diffusion.kind": get_args(Kind),
        "diffusion.prediction": ("epsilon", "v"),
        "diffusion.schedule": ("linear", "cosine"),
        "model.network": get_args(Network),
        "train.precision": get_args(Precision),
        "sample.sampler": ("ddpm", "ddim", "dpmpp"),
        "model_order": ("together", "alternate"),
        "measure.reference": ("real", "held-out"),
    }.get(name, ())
