"""What the caller passes: real rows, and functions that extract features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from entroselect.loop import given, resolve, run  # noqa: E402

IMAGES = np.random.default_rng(0).integers(0, 256, (700, 4, 4, 1), dtype=np.uint8)


def test_real_data_of_any_shape() -> None:
    images = given.images_of((IMAGES[..., 0], ["b", "a"] * 350))
    assert images.pixels.shape == IMAGES.shape
    assert images.are_images
    assert images.labels is not None
    assert (images.labels[:2].tolist(), images.names) == ([1, 0], ("a", "b"))
    rows = given.images_of(torch.arange(12.0).reshape(4, 3))
    assert (rows.pixels.dtype, rows.are_images, rows.labels) == (np.float32, False, None)
    assert not given.images_of(np.zeros((4, 8, 8, 1))).are_images  # of floats no picture is made
    assert given.images_of(images) is images


@pytest.mark.parametrize(
    ("real", "message"),
    [
        (IMAGES[:1], r"real: expected at least 2 images or rows \(n, ...\), got \(1, 4, 4, 1\)"),
        (np.arange(4.0), r"real: expected at least 2 .*, got \(4,\)"),
        (np.array([[1.0], [np.inf]]), "real: row 1 has a value that is not finite"),
        ([[1.0], [1.0, 2.0]], "real: not an array"),
        (np.array([["a"], ["b"]]), "real: expected an array of real numbers, got <U1"),
        ((IMAGES, [1, 2]), r"real: 700 rows but labels of shape \(2,\)"),
        ((IMAGES[:2], [0.5, 1]), "real: labels must be integers"),
    ],
)
def test_bad_real_data(real: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        given.images_of(real)


def flat(images: Any) -> Any:
    return images.reshape(len(images), -1).astype(np.float32)


def test_features_are_taken_in_parts() -> None:
    sizes: list[int] = []

    def function(images: Any) -> Any:
        sizes.append(len(images))
        images[:] = 0  # a copy
        return torch.from_numpy(flat(images)).requires_grad_()

    images = given.images_of(IMAGES)
    assert given.Space("flat", function)(images).shape == (700, 16)
    assert (sizes, images.pixels.any()) == ([512, 188], True)


def widening(images: Any) -> Any:
    return np.ones((len(images), len(images)))


def batch_norm(images: Any) -> Any:
    values = flat(images)
    return (values - values.mean(axis=0)) / (values.std(axis=0) + 1)


def fails(images: Any) -> Any:
    raise KeyError("width")


def test_what_a_function_raises_is_named() -> None:
    with pytest.raises(RuntimeError, match="features mine: KeyError: 'width'"):
        given.Space("mine", fails).try_out(given.images_of(IMAGES))


def test_features_of_half_precision() -> None:
    found = given.Space("mine", lambda x: torch.from_numpy(flat(x)).bfloat16())
    assert found(given.images_of(IMAGES)).dtype == np.float32


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (None, ".* cannot be called"),
        (lambda x: flat(x)[1:], r"expected \(n, d\) for 4 images, got \(3, 16\)"),
        (lambda x: flat(x)[:, 0], r"expected \(n, d\) for 4 images, got \(4,\)"),
        (lambda x: flat(x)[:, :0], r"expected \(n, d\) for 4 images, got \(4, 0\)"),
        (widening, "2 columns, but 4 before"),
        (lambda x: flat(x) * np.nan, "row 0 has a value that is not finite"),
        (lambda x: [None] * len(x), "expected an array of real numbers"),
        (batch_norm, r"depend on the batch: .* differ by .*call .eval\(\)"),
    ],
)
def test_bad_features_are_named_before_training(
    function: Any, message: str, tmp_path: Path
) -> None:
    options = resolve(None, settings=["measure.spaces=['mine','pixels']"])
    with pytest.raises(ValueError, match=f"features mine: {message}"):
        run(
            options, tmp_path / "run", generator="resample", real=IMAGES,
            features={"mine": function},
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_features_have_names(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="features: expected a mapping of names to functions"):
        run(resolve(None), tmp_path, generator="resample", real=IMAGES, features=[flat])  # type: ignore[arg-type]


def test_rounding_between_batches_is_no_dependence() -> None:
    def function(images: Any) -> Any:
        return flat(images) * np.float32(1 + 1e-6 * len(images))

    given.Space("mine", function).try_out(given.images_of(IMAGES))


def test_features_whose_width_changes_later_are_an_error() -> None:
    def function(images: Any) -> Any:
        return flat(images)[:, : 16 if len(images) <= 4 else 15]

    space = given.Space("mine", function)
    space.try_out(given.images_of(IMAGES))
    with pytest.raises(ValueError, match="features mine: 15 columns, but 16 before"):
        space(given.images_of(IMAGES))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (["clip"], "expected name=package.module:function, got 'clip'"),
        (["pixels=a:b"], "there is a space 'pixels' already"),
        (["a=b:c", "a=b:d"], "there is a space 'a' already"),
        (["a=tests.loop.test_given:IMAGES"], "features a: .*IMAGES cannot be called"),
        (["a=tests.loop.test_given:nothing"], "features a: tests.loop.test_given has no nothing"),
    ],
)
def test_bad_names_of_features(features: list[str], message: str, tmp_path: Path) -> None:
    options = resolve(None, features=tuple(features))
    with pytest.raises(ValueError, match=message):
        run(options, tmp_path / "run", generator="resample", real=IMAGES)


def test_names_are_found_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_me.py").write_text("class A:\n    def f(self): return 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path])
    found = given.by_name("generator", "beside_me:A.f")
    assert given.name_of(found) == "beside_me:A.f"
    assert given.file_of(found) == tmp_path / "beside_me.py"
    assert given.file_of(len) is None
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    with pytest.raises(ValueError, match="broken_module cannot be imported: ZeroDivisionError"):
        given.by_name("generator", "broken_module:A")
