"""Where images are read from: what is read, what is passed over, classes and labels."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("diffusers")

from PIL import Image

from entroselect import _memory
from entroselect.loop import config, data
from entroselect.loop.labels import numbered

Make = Callable[[Path, Iterable[str]], str]


def png(value: int = 0, mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


def folder(at: Path, names: Iterable[str]) -> str:
    for number, name in enumerate(names):
        file = at / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(number))
    return str(at / "data")


def zipped(at: Path, names: Iterable[str]) -> str:
    with zipfile.ZipFile(at / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, name in enumerate(names):
            archive.writestr(name, png(number))
    return str(at / "data.zip")


both = pytest.mark.parametrize("make", [folder, zipped])


def load(source: str, **options: Any) -> tuple[data.Images, list[str]]:
    said: list[str] = []
    images = data.load(source, say=said.append, **options)
    return images, [line.removeprefix(f"data.source: {source}: ") for line in said]


def refusal(source: str, **options: Any) -> str:
    with pytest.raises(ValueError, match=r"^data\.source: ") as raised:
        data.load(source, say=lambda _: None, **options)
    return str(raised.value).removeprefix(f"data.source: {source}: ")


# folders and zips


@both
def test_hidden_files_and_folders_are_no_classes(tmp_path: Path, make: Make) -> None:
    names = ["cat/a.png", "dog/b.png", "cat/._a.png", ".ipynb_checkpoints/a-checkpoint.png"]
    names += ["__MACOSX/cat/a.png", "cat/@eaDir/a.png", ".c.png"]
    images, said = load(make(tmp_path, names))
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1]
    assert images.names == ("cat", "dog")
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 1]
    assert len(said) == 1
    assert said[0].startswith("hidden files and folders, passed over: 5 (first: ")


@both
def test_endings(tmp_path: Path, make: Make) -> None:
    read = ["A.PNG", "B.JPG", "c.jfif", "d.tif", "e.JPEG", "f.Webp", "g.pgm"]
    images, said = load(make(tmp_path, [*read, "h.txt", "labels.csv", "noending"]))
    assert len(images) == len(read)  # by content, whatever the ending says
    assert images.labels is None
    assert said == ["files without an image's ending, passed over: 3 (first: h.txt)"]


@both
def test_splits_are_no_classes(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path, ["train/cat/a.png", "train/dog/b.png", "test/cat/c.png"])
    assert refusal(source) == (
        "holds the splits test, train; choose one with data.split (--set data.split=train)"
    )
    images, said = load(source, split="train")
    assert images.labels is not None
    assert (images.labels.tolist(), images.names) == ([0, 1], ("cat", "dog"))
    assert said == ["images outside the split train, passed over: 1 (first: test/cat/c.png)"]
    images, _ = load(source, split="test")
    assert images.labels is None
    assert images.pixels.max() == 2
    assert refusal(source, split="val") == "data.split: no split 'val', only test, train"


@pytest.mark.parametrize(
    ("train", "test", "others"),
    [
        ("Training", "Validation", []),
        ("train2017", "val2017", []),
        ("training_set", "test_set", []),
        ("seg_train/seg_train", "seg_test/seg_test", ["seg_pred/9.png"]),
        ("archive/images/train", "archive/images/valid", ["archive/a.csv"]),
    ],
)
def test_splits_under_other_names(tmp_path: Path, train: str, test: str, others: list[str]) -> None:
    names = [f"{train}/cat/a.png", f"{train}/dog/b.png", f"{test}/cat/c.png", *others]
    source = folder(tmp_path, names)
    assert "data.split" in refusal(source)
    images, _ = load(source, split="train")
    assert (images.pixels.max(), images.names) == (1, ("cat", "dog"))


def test_splits_below_classes(tmp_path: Path) -> None:
    names = ["cat/train/a.png", "cat/test/b.png", "dog/train/c.png", "dog/test/d.png"]
    source = folder(tmp_path, names)
    assert "data.split" in refusal(source)
    images, _ = load(source, split="test")
    assert images.pixels[:, 0, 0, 0].tolist() == [1, 3]
    assert images.names == ("cat", "dog")


def test_a_train_is_a_class_beside_other_vehicles(tmp_path: Path) -> None:
    images, _ = load(folder(tmp_path, ["bus/a.png", "car/b.png", "train/c.png"]))
    assert images.names == ("bus", "car", "train")
    assert "no folders train, val and test" in refusal(str(tmp_path / "data"), split="train")
    names = ["bus", "car", "ship", "train", "test rig"]
    images, _ = load(folder(tmp_path / "1", [f"{name}/a.png" for name in names]))
    assert images.names == tuple(sorted(names))
    images, _ = load(folder(tmp_path / "2", ["steam train/a.png", "electric train/b.png"]))
    assert images.names == ("electric train", "steam train")


def test_a_lone_folder_train_hides_no_class(tmp_path: Path) -> None:
    images, said = load(folder(tmp_path, ["cat/a.png", "dog/train/b.png"]))
    assert (images.names, said) == (("cat", "dog/train"), [])


@both
def test_folders_above_everything_are_no_classes(tmp_path: Path, make: Make) -> None:
    images, said = load(make(tmp_path, ["archive/x/cat/a.png", "archive/x/dog/b.png"]))
    assert (images.names, said) == (("cat", "dog"), [])
    (tmp_path / "2").mkdir()
    images, _ = load(make(tmp_path / "2", ["archive/a.png", "archive/b.png"]))
    assert images.labels is None
    (tmp_path / "3").mkdir()
    images, _ = load(make(tmp_path / "3", ["train/cat/a.png", "train/dog/b.png"]))
    assert images.names == ("cat", "dog")


@both
def test_folders_and_zips_have_one_order(tmp_path: Path, make: Make) -> None:
    names = ["a-b/1.png", "a/2.png", "a/10.png", "B/3.png", "a b/4.png"]
    images, _ = load(make(tmp_path, names))
    assert images.names == tuple(sorted(["a-b", "a", "B", "a b"]))
    assert images.pixels[:, 0, 0, 0].tolist() == [3, 2, 1, 4, 0]


@both
@pytest.mark.parametrize("stray", ["overview.png", "cat/kittens/c.png"])
def test_images_beside_class_folders_are_refused(tmp_path: Path, make: Make, stray: str) -> None:
    assert "classes are folders beside each other" in refusal(
        make(tmp_path, ["cat/a.png", "dog/b.png", stray])
    )


@both
def test_without_images_it_is_said_what_was_there(tmp_path: Path, make: Make) -> None:
    message = refusal(make(tmp_path, ["a.heic", "train.parquet", ".hidden.png"]))
    assert message.startswith("no images in it (looked for .png")
    assert "passed over: 2 (first: a.heic)" in message


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    source = Path(folder(tmp_path, ["cat/a.png", "dog/b.png"]))
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "1").write_bytes(png(9))
    (source / "dog" / "c.png").symlink_to(tmp_path / "blobs" / "1")
    (source / "emu").symlink_to(source / "cat")
    images, _ = load(str(source))
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 1, 9, 0]
    assert images.names == ("cat", "dog", "emu")
    (source / "fox").symlink_to(source)
    assert refusal(str(source)) == "fox: a link to a folder above it; remove it"
    (source / "fox").unlink()
    (source / "dog" / "d.png").symlink_to("nowhere")
    assert refusal(str(source)).startswith("dog/d.png: cannot be read (No such file")


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    source = folder(tmp_path, ["a.png"])
    os.mkfifo(tmp_path / "data" / "b.png")  # reading it would never end
    assert load(source)[1] == ["what is no file, passed over: 1 (first: b.png)"]


def test_names_that_are_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    top = os.fsencode(tmp_path) + b"/data"
    for name in (b"caf\xe9", b"\x1b[31mred"):
        below = Path(os.fsdecode(top + b"/" + name))
        below.mkdir(parents=True)
        (below / "a.png").write_bytes(png())
        (below / os.fsdecode(b"\xe9.txt")).write_bytes(b"")
    images = data.load(str(tmp_path / "data"))
    assert images.names == (r"\x1b[31mred", r"caf\udce9")
    assert "passed over: 2" in capsys.readouterr().err


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    for make in (folder, zipped):
        source = Path(make(tmp_path, ["cat/a.png"]))
        if make is folder:
            (source / "cat/b.png").write_bytes(png()[:-30])
        else:
            with zipfile.ZipFile(source, "a") as archive:
                archive.writestr("cat/b.png", png()[:-30])
        assert refusal(str(source)).startswith("cat/b.png: not an image")


def test_long_files_are_not_read(tmp_path: Path) -> None:
    source = folder(tmp_path, ["a.png"])
    with (tmp_path / "data" / "b.png").open("wb") as file:
        file.truncate(2**31)
    assert refusal(source) == "b.png: has 2 GiB, an image may have 512 MiB"


# zips


def patched(source: str, at: int, value: bytes, marks: bytes = b"PK\x01\x02") -> None:
    """Writes into the last header of an archive that begins with `marks`."""
    content = bytearray(Path(source).read_bytes())
    begin = content.rindex(marks) + at
    content[begin : begin + len(value)] = value
    Path(source).write_bytes(content)


def test_a_bomb_in_a_zip_is_not_inflated(tmp_path: Path) -> None:
    source = zipped(tmp_path, ["a.png"])
    patched(source, 24, struct.pack("<I", 2**31))
    assert refusal(source) == "a.png: has 2 GiB, an image may have 512 MiB"


def test_an_entry_that_is_longer_than_declared_is_not_inflated(tmp_path: Path) -> None:
    tracemalloc = pytest.importorskip("tracemalloc")
    source = str(tmp_path / "data.zip")
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b.png", bytes(2**26))
    patched(source, 24, struct.pack("<I", 100))
    tracemalloc.start()
    assert refusal(source).startswith("b.png: ")
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path: Path, method: int) -> None:
    source = str(tmp_path / "data.zip")
    with zipfile.ZipFile(source, "w", method) as archive:
        archive.writestr("b.png", png())
    assert refusal(source).startswith(f"b.png: is compressed by method {method}; ")


def test_encrypted_zips_are_refused(tmp_path: Path) -> None:
    source = zipped(tmp_path, ["a.png"])
    patched(source, 8, b"\x01\x00")
    assert refusal(source).startswith("a.png: is encrypted")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_in_zips(tmp_path: Path) -> None:
    assert refusal(zipped(tmp_path, ["a.png", "a.png"])).startswith("a.png: is there twice")
    for name in ("../a.png", "x/../../a.png", "/etc/a.png"):
        assert "leads out of the zip" in refusal(zipped(tmp_path, [name]))
    images, _ = load(zipped(tmp_path, ["cat\\a.png", "dog\\b.png"]))
    assert images.names == ("cat", "dog")
    images, _ = load(zipped(tmp_path, ["./cat/a.png", "./dog/b.png"]))
    assert images.names == ("cat", "dog")


def test_damaged_zips_are_named(tmp_path: Path) -> None:
    source = Path(zipped(tmp_path, ["a.png", "b.png"]))
    whole = source.read_bytes()
    for cut in range(0, len(whole), 7):
        source.write_bytes(whole[:cut])
        refusal(str(source))
    content = bytearray(whole)
    content[60] ^= 1  # compressed bytes of a.png
    source.write_bytes(content)
    assert refusal(str(source)).startswith("a.png: cannot be read, the zip may be damaged")


def test_links_in_zips_are_passed_over(tmp_path: Path) -> None:
    source = zipped(tmp_path, ["a.png"])
    with zipfile.ZipFile(source, "a") as archive:
        link = zipfile.ZipInfo("b.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "a.png")
    assert load(source)[1] == ["links in the zip, passed over: 1 (first: b.png)"]


# .npz and .npy


def saved(at: Path, compressed: bool = False, **arrays: Any) -> str:
    (np.savez_compressed if compressed else np.savez)(at / "m.npz", **arrays)
    return str(at / "m.npz")


def stored(n: int = 4, value: int = 0) -> np.ndarray:
    return np.full((n, 8, 8), value, np.uint8)


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


# parquet


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., str]:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")

    def write(metadata: dict[str, Any] | None = None, **columns: Any) -> str:
        made = pa.table(columns)
        if metadata:
            made = made.replace_schema_metadata({"huggingface": json.dumps(metadata)})
        pq.write_table(made, tmp_path / "t.parquet")
        return str(tmp_path / "t.parquet")

    return write


IMAGES = [{"bytes": png(i), "path": None} for i in range(4)]
BYTES = [png(i) for i in range(4)]


def labels_of(source: str, **options: Any) -> tuple[list[int] | None, tuple[str, ...]]:
    images, _ = load(source, **options)
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert images.classes == len(images.names)
    return None if images.labels is None else images.labels.tolist(), images.names


def test_labels_of_any_kind(table: Callable[..., str]) -> None:
    pa = pytest.importorskip("pyarrow")
    for values, names in (
        (pa.array(["dog", "cat"] * 2), ("cat", "dog")),
        (pa.array(["dog", "cat"] * 2, pa.large_string()), ("cat", "dog")),
        (pa.array(["dog", "cat"] * 2, pa.string_view()), ("cat", "dog")),
        (pa.array(["dog", "cat"] * 2).dictionary_encode(), ("cat", "dog")),
        (pa.array([True, False] * 2), ("False", "True")),
        (pa.array([10**9, 0] * 2), ("0", "1000000000")),
        (pa.array([5, -1] * 2, pa.int8()), ("-1", "5")),
        (pa.array([2**64 - 1, 2**63] * 2, pa.uint64()), (str(2**63), str(2**64 - 1))),
        (pa.array([2**63, 0] * 2, pa.uint64()), ("0", str(2**63))),
        (pa.array([2.0, 1.0] * 2), ("1", "2")),
    ):
        assert labels_of(table(image=IMAGES, label=values)) == ([1, 0, 1, 0], names)
    for values in (
        pa.array([0.5, 1.0] * 2),
        pa.array([float("nan"), 1.0] * 2),
        pa.array([[1], [2]] * 2),
        pa.array([1, 2] * 2, pa.timestamp("s")),
    ):
        assert "column label: labels must be integers, strings or booleans, got" in refusal(
            table(image=IMAGES, label=values)
        )


def test_the_column_of_labels(table: Callable[..., str]) -> None:
    ids, marks = [139, 285, 632, 724], [0, 1, 0, 1]
    assert labels_of(table(image_id=ids, image=IMAGES, label=marks)) == ([0, 1] * 2, ("0", "1"))
    for name in ("Label", "labels", "class", "target", "y", "fine_label"):
        assert labels_of(table(image_id=ids, image=IMAGES, **{name: marks}))[0] == [0, 1, 0, 1]
    source = table(image=IMAGES, image_id=ids, width=[8] * 4)
    images, said = load(source)
    assert images.labels is None
    assert said == [
        "columns of which none is called label or the like (data.label_column chooses one): 2 "
        "(first: image_id)"
    ]
    assert labels_of(source, label_column="image_id")[1] == ("139", "285", "632", "724")
    source = table(image=IMAGES, fine_label=marks, coarse_label=[0] * 4)
    assert refusal(source) == (
        "fine_label, coarse_label could hold labels; choose one with data.label_column"
    )
    assert labels_of(source, label_column="fine_label")[0] == marks
    assert "there is no 'nope'" in refusal(source, label_column="nope")
    assert refusal(table(image=IMAGES, label=[0, 1, None, 1])).startswith("row 2: has no label")


def test_declared_classes_keep_their_numbers(table: Callable[..., str]) -> None:
    feature = {"names": ["ant", "bee", "cow"], "_type": "ClassLabel"}
    declared = {"info": {"features": {"animal": feature, "image": {"_type": "Image"}}}}
    source = table(declared, image=IMAGES, animal=[0, 2, 2, 0], id=[1, 2, 3, 4])
    assert labels_of(source) == ([0, 2, 2, 0], ("ant", "bee", "cow"))
    message = refusal(table(declared, image=IMAGES, animal=[0, -1, 2, 0]))
    assert message == "column animal: row 1: label -1 is not one of the 3 declared classes"
    assert labels_of(table({"info": "odd"}, image=IMAGES, label=[0] * 4))[1] == ("0",)


def test_the_column_of_images(table: Callable[..., str]) -> None:
    pa = pytest.importorskip("pyarrow")
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
        assert labels_of(table(picture=pa.array(BYTES, kind)))[0] is None
    assert labels_of(table(picture=pa.array(BYTES).dictionary_encode()))[0] is None
    other = BYTES[::-1]
    for name in ("thumb", "label"):
        images, said = load(table(image=IMAGES, **{name: other}))
        assert images.labels is None
        assert said == [f"columns of bytes beside the images, passed over: 1 (first: {name})"]
    source = table(left=IMAGES, right=IMAGES)
    assert refusal(source).startswith("left, right could hold images; choose one with data.image")
    assert labels_of(source, image_column="right")[0] is None
    assert "no column of encoded images; it holds image (string)" in refusal(
        table(image=["a.png"] * 4)
    )


def test_rows_without_an_image_are_named(table: Callable[..., str]) -> None:
    rows = [*IMAGES[:3], {"bytes": None, "path": "a/b.png"}]
    assert refusal(table(image=rows)).startswith("row 3: holds a path (a/b.png) and not the image")
    for nothing in ({"bytes": None, "path": None}, None):
        assert refusal(table(image=[*IMAGES[:3], nothing])).startswith("row 3: has no image")
    assert refusal(table(image=[*BYTES[:3], b"GIF89a"])).startswith("row 3: not an image")


def test_damaged_parquet(table: Callable[..., str]) -> None:
    source = Path(table(image=IMAGES, label=[0, 1, 0, 1]))
    whole = source.read_bytes()
    for cut in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        source.write_bytes(whole[:cut])
        assert refusal(str(source)).startswith("t.parquet: cannot be read")


# labels and options


def test_numbers_of_labels() -> None:
    for values, names in (
        (np.array(["b", "a\0", "b"]), ("a", "b")),
        (np.array([b"b", b"a", b"b"]), ("a", "b")),
        (np.array([3, 1, 3], np.uint8), ("1", "3")),
        (["b\0", "b", "b\0"], ("b", "b\0")),
    ):
        numbers, found = numbered(values)
        assert (numbers.tolist(), found) == ([1, 0, 1], names)


def test_names_go_along(tmp_path: Path) -> None:
    images, _ = load(saved(tmp_path, x=stored(), y=np.array([5, 9, 7, 5])))
    assert images.classes == 3
    assert images.take([0]).classes == 3  # a part knows all classes
    made = data.Images(images.pixels, images.labels, images.origins)
    assert data.stack([made, images]).names == ("5", "7", "9")
    assert made.classes == 3


@pytest.mark.parametrize("option", ["split", "image_column", "label_column"])
def test_options_without_a_meaning_are_refused(tmp_path: Path, option: str) -> None:
    np.save(tmp_path / "m.npy", stored())
    for source in ("digits", str(tmp_path / "m.npy")):
        assert f"data.{option}: 'train' has no meaning" in refusal(source, **{option: "train"})


def test_options_of_a_configuration(tmp_path: Path) -> None:
    from entroselect.loop.run import split

    settings = [f"data.source={saved(tmp_path, x_train=stored(), x_test=stored(4, 7))!r}"]
    settings += ["data.split=test", "data.label_column=none", "data.images=none"]
    real, _, _ = split(config.resolve("digits", settings=[*settings, "data.held_out=0"]))
    assert real.pixels.max() == 7
    with pytest.raises(ValueError, match=r"data\.split: 'tset' is unknown; did you mean test"):
        config.resolve("digits", settings=["data.split=tset"])


def test_without_a_function_it_is_said_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder(tmp_path, ["a.png", "a.txt"])
    data.load(source)
    assert capsys.readouterr() == (
        "",
        f"data.source: {source}: files without an image's ending, passed over: 1 (first: a.txt)\n",
    )
