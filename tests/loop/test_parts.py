"""The pieces of the loop: configuration, data, metrics, choice, paradigms, training, sampling."""

from __future__ import annotations

import dataclasses
import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from PIL import Image  # noqa: E402

from entroselect.loop import (  # noqa: E402
    config,
    data,
    diffusion,
    features,
    metrics,
    paradigms,
    sample,
    seeds,
    train,
)
from entroselect.loop.choose import choose  # noqa: E402
from tests.support.loop_runs import TINY  # noqa: E402


def pixels(n: int = 6, size: int = 8, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


# configuration


def test_a_preset_is_changed_by_file_then_options_then_settings(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("iterations = 7\nkeep = 0.25\n[train]\nsteps = 900\nbatch = 32\n")
    made = config.resolve("digits", file, ["train.batch=16"], iterations=3, paradigm=None)
    assert (made.iterations, made.keep) == (3, 0.25)
    assert (made.train.steps, made.train.batch) == (900, 16)
    assert made.data.source == "digits"


@pytest.mark.parametrize("preset", config.PRESETS)
def test_every_preset_resolves(preset: str, tmp_path: Path) -> None:
    made = config.resolve(preset, measure__weights="weights")
    path = tmp_path / "config.json"
    path.write_text(config.to_json(made))
    assert config.from_json(path) == made


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.stepz=3"], "train.stepz: no such option; did you mean train.steps?"),
        (["trian.steps=3"], "trian: no such option; did you mean train?"),
        (["paradigm=replac"], "did you mean replace?"),
        (["select.method=gready"], "select.method: 'gready' is unknown; did you mean greedy?"),
        (["train.steps=0"], "train.steps: input should be greater"),
        (["keep=1.5"], "keep: input should be less"),
        (["train.steps"], "expected group.field=value"),
        (["paradigm=fresh-data"], "fresh: .* needs fresh images"),
        (["sample.guidance=2"], "sample.guidance: needs model.conditional"),
        (["select.space=dinov2"], "pass --weights"),
        (["select.drop_far=0.1"], "select.drop_far: needs a selection"),
        (["model.channels=[12]"], "model.groups: 8 does not divide 12"),
        (["train.steps=10", "train.warmup=10"], "leave it out, or set train.warmup=1"),
    ],
)
def test_bad_options_are_named(settings: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.resolve("digits", None, settings)


def test_none_is_a_method_and_the_absence_of_a_number() -> None:
    made = config.resolve("digits", settings=["select.method=none", "data.images=none"])
    assert made.select.method == "none"
    assert made.data.images is None


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean digits"):
        config.resolve("digit")


# data


def test_digits() -> None:
    digits = data.load("digits")
    assert digits.pixels.shape == (1797, 8, 8, 1)
    assert digits.pixels.max() == 255
    assert digits.classes == 10


def test_every_format_gives_the_same_images(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    images, labels = pixels(), np.array([0, 0, 0, 1, 1, 1])
    np.savez(tmp_path / "a.npz", x=images, y=labels)
    np.save(tmp_path / "a.npy", images)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i, image in enumerate(images):
            name = f"{'cat' if i < 3 else 'dog'}/{i}.png"
            archive.writestr(name, png(image))
            (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "folder" / name).write_bytes(png(image))
    encoded = [{"bytes": png(image), "path": ""} for image in images]
    pq.write_table(pa.table({"image": encoded, "label": labels}), tmp_path / "a.parquet")
    for name in ("a.npz", "a.npy", "a.zip", "folder", "a.parquet"):
        loaded = data.load(str(tmp_path / name))
        np.testing.assert_array_equal(loaded.pixels, images, err_msg=name)
        if name != "a.npy":
            np.testing.assert_array_equal(loaded.labels, labels, err_msg=name)


def test_cifar_binary(tmp_path: Path) -> None:
    images, labels = pixels(4, 32), np.array([3, 1, 0, 9], np.uint8)
    flat = np.moveaxis(images, -1, 1).reshape(4, -1)
    np.concatenate([labels[:, None], flat], 1).tofile(tmp_path / "data_batch_1.bin")
    loaded = data.load(str(tmp_path))
    np.testing.assert_array_equal(loaded.pixels, images)
    np.testing.assert_array_equal(loaded.labels, labels)


def test_only_training_rows_of_an_npz_with_such_a_column(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=pixels(), y=np.arange(6), train=np.arange(6) < 4)
    assert len(data.load(str(tmp_path / "a.npz"))) == 4


def test_bad_data_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "float.npy", pixels().astype(np.float32))
    np.save(tmp_path / "flat.npy", pixels().reshape(6, -1))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.txt").write_text("no")
    (tmp_path / "short.bin").write_bytes(b"123")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a.png").write_bytes(png(pixels()[0]))
    (tmp_path / "mixed" / "b.png").write_bytes(png(pixels(1, 9)[0]))
    for name, message in {
        "float.npy": "uint8",
        "flat.npy": "expected images",
        "objects.npy": "pickle",
        "text.txt": "expected .npz",
        "short.bin": "CIFAR",
        "empty": "no images",
        "mixed": "b.png is 9 x 9 but a.png is 8 x 8",
        "missing": "no such file",
    }.items():
        with pytest.raises(ValueError, match=message) as raised:
            data.load(str(tmp_path / name))
        assert str(raised.value).startswith("data.source: ")


# metrics


@pytest.fixture
def sets() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((12, 12))
    return rng.standard_normal((300, 12)) @ mixing, 0.8 * rng.standard_normal(
        (250, 12)
    ) @ mixing + 1


class Flat(torch.nn.Module):
    """Lets torchmetrics take vectors for images' features."""

    num_features = 12

    def forward(self, x: Any) -> Any:
        return x


def test_frechet_distance_and_kid_against_torchmetrics(sets: Any) -> None:
    pytest.importorskip("torchmetrics")
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    a, b = (torch.from_numpy(x) for x in sets)
    theirs = _compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert metrics.frechet_distance(*sets) == pytest.approx(float(theirs), rel=1e-9)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    same = min(len(a), len(b))
    theirs = poly_mmd(a[:same], b[:same], degree=3, gamma=None, coef=1.0)
    assert metrics.kid(a[:same], b[:same]) == pytest.approx(float(theirs), rel=1e-9)


def test_precision_recall_density_coverage_against_prdc(sets: Any) -> None:
    prdc = pytest.importorskip("prdc")
    theirs = prdc.compute_prdc(real_features=sets[0], fake_features=sets[1], nearest_k=5)
    assert metrics.manifold(*sets, 5) == pytest.approx(theirs)


def test_vendi_score_is_that_of_the_whole_kernel(sets: Any) -> None:
    x = sets[0] / np.linalg.norm(sets[0], axis=1, keepdims=True)
    values = np.linalg.eigvalsh(x @ x.T / len(x))
    values = values[values > 1e-12]
    whole = math.exp(-(values * np.log(values)).sum())
    assert metrics.vendi_score(sets[0]) == pytest.approx(whole)
    assert metrics.vendi_score(np.ones((50, 3))) == pytest.approx(1)


def test_fld_tells_copies_from_new_samples() -> None:
    rng = np.random.default_rng(0)
    training, test, new = rng.standard_normal((3, 400, 6))
    good = metrics.fld(training, test, new)
    copies = metrics.fld(training, test, training + 1e-4 * rng.standard_normal((400, 6)))
    shifted = metrics.fld(training, test, new + 2)
    assert good < 15
    assert copies > good + 10
    assert shifted > good + 10


def test_a_set_of_copies_has_no_entropy_and_counts_as_memorised() -> None:
    rng = np.random.default_rng(0)
    training = rng.standard_normal((60, 4)).astype(np.float32)
    made = np.repeat(training[:1], 30, axis=0)
    found = metrics.measure(training, made, training)
    assert found["generated"]["entropy"] is None
    assert found["generated"]["duplicates"] == 30
    assert found["memorised_fraction"] == 1
    assert found["generalization_score"] == 0
    assert found["fld"] is None
    fresh = metrics.measure(training, rng.standard_normal((30, 4)), training)
    assert fresh["memorised_fraction"] < 0.3


# choice and paradigms


def test_features_stay_in_host_memory_without_a_gpu() -> None:
    images = data.Images(np.zeros((3, 8, 8, 1), np.uint8), None, data.origins(data.REAL, 3))
    assert isinstance(features.for_selection(features.pixels, images), np.ndarray)
    net = features._Batches(torch.nn.Flatten(), lambda given, rows: torch.ones(len(rows), 4), "cpu")
    np.testing.assert_array_equal(features.for_selection(net, images), np.ones((3, 4), np.float32))


def test_every_method_chooses_k_different_rows() -> None:
    pool = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    chosen = {}
    for method in ("none", "random", "greedy", "threshold", "variance"):
        rows = choose(pool, 50, method, key=(3,))  # type: ignore[arg-type]
        assert len(set(rows.tolist())) == 50
        assert np.array_equal(rows, choose(pool, 50, method, key=(3,)))  # type: ignore[arg-type]
        chosen[method] = rows
    entropy = {m: metrics.spread(pool[r])["entropy"] for m, r in chosen.items()}
    assert entropy["greedy"] > entropy["random"] + 1
    assert entropy["threshold"] > entropy["random"] + 1
    variance = {m: metrics.variance(pool[r]) for m, r in chosen.items()}
    assert variance["variance"] > variance["random"]


def test_outliers_can_be_kept_out() -> None:
    pool = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    pool[7] += 100
    assert 7 in choose(pool, 20, "greedy")
    assert 7 not in choose(pool, 20, "greedy", drop_outliers=0.05)
    with pytest.raises(ValueError, match=r"select.drop_outliers: leaves 100 of 200 images"):
        choose(pool, 150, "greedy", drop_outliers=0.5)


@pytest.mark.parametrize("method", ["greedy", "random", "threshold", "variance"])
def test_what_is_far_from_real_images_can_be_kept_out(method: config.Method) -> None:
    draw = np.random.default_rng(0)
    real = draw.standard_normal((50, 8)).astype(np.float32)
    pool = draw.standard_normal((200, 8)).astype(np.float32) * 2
    away = np.linalg.norm(pool[:, None] - real[None], axis=2).min(axis=1)
    allowed = set(np.argsort(away)[:120].tolist())
    assert not set(choose(pool, 120, method).tolist()) <= allowed
    assert set(choose(pool, 120, method, drop_far=0.4, real=real).tolist()) == allowed
    # With both floors, what either leaves out is out.
    both = choose(pool, 60, method, drop_far=0.4, drop_outliers=0.3, real=real).tolist()
    lonely = np.sort(np.linalg.norm(pool[:, None] - pool[None], axis=2), axis=1)[:, 5]
    assert set(both) <= allowed & set(np.argsort(lonely)[:140].tolist())
    with pytest.raises(ValueError, match=r"select.drop_far: leaves 120 of 200 images"):
        choose(pool, 121, method, drop_far=0.4, real=real)
    with pytest.raises(ValueError, match="drop_far: needs real"):
        choose(pool, 10, method, drop_far=0.4)


def images(n: int, kind: int, iteration: int = 0) -> data.Images:
    return data.Images(pixels(n), None, data.origins(kind, n, iteration))


@pytest.mark.parametrize(
    ("paradigm", "method", "made", "pool", "wanted"),
    [
        ("replace", "none", 10, 10, 10),
        ("replace", "greedy", 20, 20, 10),
        ("accumulate", "none", 10, 30, 30),
        ("accumulate", "greedy", 10, 30, 10),
        ("accumulate-subsample", "none", 10, 30, 10),
        ("fresh-data", "none", 10, 25, 25),
        ("fresh-data", "greedy", 10, 25, 12),
        ("multi-model", "none", 5, 10, 10),
        ("multi-model", "greedy", 10, 20, 10),
    ],
)
def test_pools_of_the_paradigms(
    paradigm: Any, method: Any, made: int, pool: int, wanted: int
) -> None:
    options = dataclasses.replace(TINY, paradigm=paradigm, fresh=5)
    options = dataclasses.replace(options, select=config.Select(method=method))
    real, models = images(10, data.REAL), len(paradigms.kinds(options))
    assert paradigms.to_generate(options, 10) == made
    generated = [images(made * models, data.SYNTHETIC, i) for i in (1, 2)]
    fresh = images(5, data.FRESH) if paradigm == "fresh-data" else None
    found = paradigms.pool(options, real, real, generated, fresh)
    assert len(found) == pool
    assert paradigms.wanted(options, 10, len(found)) == wanted
    assert (found.origins[:, 0] == data.REAL).any() == (paradigm not in ("replace", "multi-model"))


def test_quotas_are_equal() -> None:
    rows = paradigms.quotas((0,), [20, 20, 20], 10)
    assert np.bincount(rows // 20).tolist() == [4, 3, 3]
    assert len(set(rows.tolist())) == 10


# training and sampling


def two_grey_levels(n: int = 64) -> data.Images:
    """Dark images are labelled 0, bright ones 1."""
    labels = np.arange(n) % 2
    return data.Images(
        np.broadcast_to(np.where(labels, 220, 30)[:, None, None, None], (n, 8, 8, 1)).astype(
            np.uint8
        ),
        labels.astype(np.int64),
        data.origins(data.REAL, n),
    )


@pytest.mark.parametrize(
    ("noise", "sampler", "guidance"),
    [
        (config.Diffusion(), "dpmpp", 1.0),
        (config.Diffusion(), "ddim", 2.0),
        (config.Diffusion(prediction="epsilon", schedule="linear"), "ddpm", 1.0),
        (config.Diffusion(kind="edm"), "dpmpp", 1.0),
        (config.Diffusion(kind="edm"), "ddim", 2.0),
    ],
)
def test_a_model_learns_which_label_is_bright(
    noise: config.Diffusion, sampler: str, guidance: float
) -> None:
    training = two_grey_levels()
    model = config.Model(channels=(16,), groups=8, conditional=True)
    net = diffusion.network(model, (8, 8, 1), 2, seeds.noise(0))
    options = dataclasses.asdict(
        config.Train(steps=250, batch=32, warmup=20, learning_rate=3e-3, ema=0.9)
    )
    net = train.train(training, net, noise, **options)
    labels = np.array([0, 1] * 8)
    steps = 200 if sampler == "ddpm" else 20
    made = sample.generate(
        net, noise, 16, labels, sampler=sampler, steps=steps, batch=16, guidance=guidance
    )
    brightness = made.mean(axis=(1, 2, 3))
    assert brightness[labels == 1].mean() - brightness[labels == 0].mean() > 80


def test_a_model_that_diffusers_can_read(tmp_path: Path) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    net = diffusion.network(TINY.model, (8, 8, 1), 0, seeds.noise(0))
    diffusion.save(net, diffusion.noise_schedule(TINY.diffusion), tmp_path)
    again = UNet2DModel.from_pretrained(tmp_path / "unet")
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    schedule = DDPMScheduler.from_pretrained(tmp_path / "scheduler")
    assert schedule.config.prediction_type == "v_prediction"
    assert DDPMPipeline(again, schedule) is not None
    assert diffusion.load(tmp_path).config["sample_size"] is not None


def test_weights_depend_on_their_seed_alone() -> None:
    torch.manual_seed(0)
    one = diffusion.network(TINY.model, (8, 8, 1), 0, seeds.noise(1)).state_dict()
    torch.manual_seed(1)
    two = diffusion.network(TINY.model, (8, 8, 1), 0, seeds.noise(1)).state_dict()
    other = diffusion.network(TINY.model, (8, 8, 1), 0, seeds.noise(2)).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_every_image_is_seen_once_an_epoch() -> None:
    rows = np.concatenate([train._rows((0,), 10, first, 4) for first in range(0, 40, 4)])
    for epoch in rows.reshape(4, 10):
        assert sorted(epoch) == list(range(10))


def test_a_loss_that_is_not_finite_stops_and_says_what_to_try() -> None:
    net = diffusion.network(TINY.model, (8, 8, 1), 0, seeds.noise(0))
    options = dataclasses.asdict(config.Train(steps=60, batch=8, warmup=1, learning_rate=1e20))
    with pytest.raises(FloatingPointError, match=r"step 50 of 60; try a smaller"):
        train.train(two_grey_levels(), net, config.Diffusion(), **options)


# features


def test_the_encoder_tells_labels_apart_and_is_kept(tmp_path: Path) -> None:
    digits = data.load("digits")
    extract = features.spaces(["encoder"], digits, folder=tmp_path)["encoder"]
    found = extract(digits)
    assert found.shape == (1797, 64)
    again = features.spaces(["encoder"], digits, folder=tmp_path)["encoder"]
    np.testing.assert_array_equal(again(digits), found)
    # The nearest other digit in this space is nearly always of the same class.
    from entroselect import nearest_distances

    nearest = nearest_distances(found).indices[:, 0]
    assert (digits.labels[nearest] == digits.labels).mean() > 0.97  # type: ignore[index]


def test_the_encoder_learns_without_labels(tmp_path: Path) -> None:
    digits = dataclasses.replace(data.load("digits"), labels=None).take(np.arange(300))
    assert features.spaces(["encoder"], digits, folder=tmp_path)["encoder"](digits).std() > 0


@pytest.mark.parametrize("space", ["dinov2", "inception"])
def test_missing_weights_are_named(space: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"measure\.(weights|spaces): .*"):
        features.spaces([space], data.load("digits"), folder=tmp_path, weights="nowhere")
