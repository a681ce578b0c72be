"""Images in .npz and .npy, CIFAR's files and digits."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from entroselect import _memory

pytest.importorskip("diffusers")

from PIL import Image

from entroselect.loop import data
from tests.support.images import load, pixels, refusal, saved, stored


@pytest.mark.parametrize(
    ("images", "labels"),
    [("train_images", "train_labels"), ("x_train", "y_train"), ("X_train", "Y_train"),
     ("images", "labels"), ("x", "y"), ("X", "y"), ("data", "target"), ("whatever", "label"),
     ("x_train", "y")],
)  # fmt: skip
def test_names_in_npz(tmp_path: Path, images: str, labels: str) -> None:
    values = np.array([[3], [7]] * 2)
    loaded, said = load(saved(tmp_path, **{images: stored(), labels: values}))
    assert loaded.labels is not None
    assert loaded.labels.tolist() == [0, 1, 0, 1]
    assert (loaded.names, loaded.classes, said) == (("3", "7"), 2, [])


def test_splits_in_npz(tmp_path: Path) -> None:
    arrays = {f"{s}_images": stored(4, i) for i, s in enumerate(("train", "val", "test"))}
    arrays |= {f"{s}_labels": np.arange(4) + i for i, s in enumerate(("train", "val", "test"))}
    source = saved(tmp_path, **arrays)
    images, said = load(source)
    assert (images.pixels.max(), images.names) == (0, ("0", "1", "2", "3"))
    assert said == ["arrays outside the split train, passed over: 2 (first: val_images)"]
    images, _ = load(source, split="test")
    assert (images.pixels.max(), images.names) == (2, ("2", "3", "4", "5"))
    source = saved(tmp_path, x_val=stored(), x_test=stored())
    assert refusal(source).startswith("data.split: choose one of test, val; ")
    assert refusal(source, split="train").startswith("data.split: choose one of test, val; ")
    assert "no images for 'test'" in refusal(saved(tmp_path, x=stored()), split="test")


def test_a_bool_array_train_marks_the_split(tmp_path: Path) -> None:
    pixels = np.arange(4, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    source = saved(tmp_path, x=pixels, y=np.arange(4) % 2, train=np.array([1, 0, 1, 1], bool))
    assert load(source)[0].pixels[:, 0, 0, 0].tolist() == [0, 2, 3]
    assert load(source, split="test")[0].pixels[:, 0, 0, 0].tolist() == [1]
    assert refusal(source, split="val").startswith("train: marks")


def test_npz_that_could_mean_several_things_asks(tmp_path: Path) -> None:
    source = saved(tmp_path, x=stored(), images=stored(4, 1), y=np.arange(4), label=np.ones(4, int))
    assert "choose one with data.image_column" in refusal(source)
    assert "y, label could hold labels; choose one with data.label_column" in refusal(
        source, image_column="images"
    )
    images, _ = load(source, image_column="images", label_column="label")
    assert (images.pixels.max(), images.classes) == (1, 1)
    assert "there is no 'z'" in refusal(source, image_column="z")
    assert "there is no 'z'" in refusal(source, image_column="x", label_column="z")
    assert refusal(saved(tmp_path, x=stored(), y=np.full(4, 0.5))).startswith(
        "y: labels must be integers, strings or booleans, got float64"
    )
    assert "one-hot" in refusal(saved(tmp_path, x=stored(), y=np.eye(4)))
    assert "no array of images; it holds y (4,)" in refusal(saved(tmp_path, y=np.arange(4)))


@pytest.mark.parametrize("kind", ["float32", "float64", "uint16", "bool", "int64", "complex64"])
def test_arrays_of_other_numbers_are_refused_with_the_line_that_converts(
    tmp_path: Path, kind: str
) -> None:
    source = saved(tmp_path, x=stored().astype(kind))
    np.save(tmp_path / "m.npy", stored().astype(kind))
    for message in (refusal(source), refusal(str(tmp_path / "m.npy"))):
        assert f"images must be uint8 on 0 to 255, got {kind}; save (" in message
        assert message.endswith(".astype('uint8') in their place")


def test_rows_are_no_images_and_the_message_says_where_they_go(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros((8, 3), np.float32))
    assert "got (8, 3); rows that are no images are passed in Python" in refusal(
        str(tmp_path / "m.npy")
    )


def test_an_array_that_is_one_picture_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros((8, 8, 3), np.uint8))
    assert "one image?" in refusal(str(tmp_path / "m.npy"))


@pytest.mark.parametrize("shape", [(0, 8, 8), (4, 0, 8), (4, 8, 0, 1)])
def test_arrays_without_pixels_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert "holds no images" in refusal(saved(tmp_path, x=np.zeros(shape, np.uint8)))


def test_order_in_memory_does_not_matter(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
    for array in (values, np.asfortranarray(values), np.moveaxis(values, -1, 1)):
        np.save(tmp_path / "m.npy", array)
        for source in (str(tmp_path / "m.npy"), saved(tmp_path, x=array)):
            made = load(source)[0].pixels
            assert (made == values).all()
            assert made.flags.c_contiguous


def header(shape: str, descr: str = "'|u1'", version: int = 1) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


@pytest.mark.parametrize(
    "content",
    [
        header("(4, 8, 8)") + bytes(255), header("(4, 8, 8)") + bytes(257),
        header("(-4, 8, -8)") + bytes(256), header("(10**9, 8, 8)"), header("(3(, 8)"),
        header("(4, 8, 8") + bytes(256), header("(99999999999999999999, 8, 8)"), b"", b"\x93NUMPY",
        header("(4, 8, 8)", version=9) + bytes(256), header("(" * 300), header("(4, 8, 8)", "'|O'"),
        header("(4, 8, 8)", "'nonsense'"), b"PK\x03\x04", b"\x80\x04K\x01.",
    ],
)  # fmt: skip
def test_damaged_npy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.npy").write_bytes(content)
    message = refusal(str(tmp_path / "m.npy"))
    assert "allow_pickle" not in message
    with zipfile.ZipFile(tmp_path / "m.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    assert refusal(str(tmp_path / "m.npz")).startswith("x")


@pytest.mark.parametrize("flipped", [1, 7, 40])
def test_compressed_bytes_that_are_damaged_are_named(tmp_path: Path, flipped: int) -> None:
    path = tmp_path / "m.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).integers(0, 255, (4, 8, 8), np.uint8))
    content = bytearray(path.read_bytes())
    first = 30 + content[26] + content[28]  # behind the entry's name and extra field
    content[first : first + flipped] = b"\xff" * flipped
    path.write_bytes(content)
    assert "x.npy: cannot be read, the zip may be damaged" in refusal(str(path))


def test_pickles_in_npz_are_refused_where_they_are_wanted(tmp_path: Path) -> None:
    names = np.array(["cat", {}], dtype=object)
    assert len(load(saved(tmp_path, x=stored(), y=np.arange(4), names=names))[0]) == 4
    for arrays in ({"x": stored(2), "y": names}, {"x": names.reshape(1, 1, 2)}):
        message = refusal(saved(tmp_path, **arrays))
        assert "holds pickled Python objects" in message
        assert "allow_pickle" not in message


def test_npz_is_checked_against_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(tmp_path, compressed=True, x=np.zeros((800, 32, 32), np.uint8), other=stored())
    assert len(load(source, image_column="x")[0]) == 800
    monkeypatch.setattr(_memory, "available", lambda: 500 * 1024)
    assert refusal(source, image_column="x") == ("x would take 800 KiB of memory, 500 KiB are free")
    assert len(load(source, image_column="other")[0]) == 4  # only what is wanted is read


# CIFAR


def test_cifar(tmp_path: Path) -> None:
    records = np.zeros((6, 3073), np.uint8)
    records[:, 0] = [3, 1, 0, 9, 3, 3]
    records[:3].tofile(tmp_path / "data_batch_1.bin")
    records[3:5].tofile(tmp_path / "data_batch_2.bin")
    records[5:].tofile(tmp_path / "test_batch.bin")
    images, said = load(str(tmp_path))
    assert images.labels is not None
    assert (images.labels.tolist(), images.classes) == ([3, 1, 0, 9, 3], 10)
    assert said == ["files of the split test, passed over: 1 (first: test_batch.bin)"]
    assert len(load(str(tmp_path), split="test")[0]) == 1
    assert "no files of CIFAR's for 'val'" in refusal(str(tmp_path), split="val")
    records[0, 0] = 10
    records.tofile(tmp_path / "data_batch_1.bin")
    assert "label 10 of 10" in refusal(str(tmp_path / "data_batch_1.bin"))


def test_cifar_100(tmp_path: Path) -> None:
    records = np.zeros((3, 3074), np.uint8)
    records[:, 0], records[:, 1], records[:, 2] = [19, 0, 1], [99, 5, 7], [1, 2, 3]
    records.tofile(tmp_path / "train.bin")
    for source in (tmp_path, tmp_path / "train.bin"):
        images, _ = load(str(source))
        assert images.labels is not None
        assert (images.labels.tolist(), images.classes) == ([99, 5, 7], 100)
        assert images.pixels[:, 0, 0, 0].tolist() == [1, 2, 3]
    records[0, 1] = 100
    records.tofile(tmp_path / "train.bin")
    assert "label 100 of 100" in refusal(str(tmp_path))


def encoded_png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


# every format


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
            archive.writestr(name, encoded_png(image))
            (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "folder" / name).write_bytes(encoded_png(image))
    encoded = [{"bytes": encoded_png(image), "path": ""} for image in images]
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
    (tmp_path / "mixed" / "a.png").write_bytes(encoded_png(pixels()[0]))
    (tmp_path / "mixed" / "b.png").write_bytes(encoded_png(pixels(1, 9)[0]))
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
