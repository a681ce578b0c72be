"""Folders and zips of images: what is read, what is skipped, classes and labels."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("diffusers")

from entroselect.loop import config, data
from entroselect.loop.labels import numbered
from tests.support.images import Make, both, folder, load, png, refusal, saved, stored, zipped

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
    from entroselect.loop.plan import split

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
