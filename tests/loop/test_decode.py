"""PNG and orientation: images are the pictures that viewers show, expected ones made in NumPy."""

from __future__ import annotations

import itertools
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image

from entroselect.loop import decode as module
from entroselect.loop.decode import Notes, decode, stack
from tests.support.encoded_images import RNG, on_white, png, saved, seen, to_eight

# PNG: every colour type and depth, after PngSuite

GREYS = [(depth, adam7) for depth in (1, 2, 4, 8, 16) for adam7 in (False, True)]


@pytest.mark.parametrize(("depth", "adam7"), GREYS)
def test_grey_png(depth: int, adam7: bool) -> None:
    values = RNG.integers(0, 2**depth, (9, 11))
    assert (seen(png(values[..., None], depth, 0, adam7)) == to_eight(values, depth)).all()


def test_sixteen_bits_of_grey_keep_their_levels() -> None:
    values = (np.arange(64).reshape(8, 8) * 1040).astype(np.uint16)
    expected = np.floor(values / 257 + 0.5)
    for content in (saved(Image.fromarray(values), "PNG"), saved(Image.fromarray(values), "TIFF")):
        assert (seen(content) == expected).all()
        assert len(np.unique(seen(content))) == 64


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_png_with_one_transparent_value(depth: int) -> None:
    values = np.arange(64).reshape(8, 8) % 2**depth
    key = 2**depth // 2
    made = seen(png(values[..., None], depth, 0, tRNS=struct.pack(">H", key)))
    expected = np.where(values == key, 255, to_eight(values, depth))
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize(("depth", "adam7"), [(8, False), (8, True), (16, False), (16, True)])
def test_colour_png(depth: int, adam7: bool) -> None:
    values = RNG.integers(0, 2**depth, (9, 11, 3))
    assert (seen(png(values, depth, 2, adam7)) == values >> (depth - 8)).all()
    key = values[2, 3]
    made = seen(png(values, depth, 2, adam7, tRNS=struct.pack(">3H", *key)))
    transparent = (values == key).all(2)[..., None]
    assert (made == np.where(transparent, 255, values >> (depth - 8))).all()
    assert transparent.sum() == 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("alphas", [None, "one", "many"])
def test_palette_png(depth: int, alphas: str | None) -> None:
    values = RNG.integers(0, 2**depth, (9, 11))
    palette = RNG.integers(0, 256, (2**depth, 3))
    more = {"PLTE": palette.astype(np.uint8).tobytes()}
    alpha = np.full(2**depth, 255)
    if alphas:
        alpha[: 2 if alphas == "many" else 1] = (0, 100)[: 2 if alphas == "many" else 1]
        more["tRNS"] = alpha[:2].astype(np.uint8).tobytes()  # shorter than the palette
    expected = on_white(palette[values], alpha[values])
    assert (seen(png(values[..., None], depth, 3, **more)) == expected).all()


@pytest.mark.parametrize("depth", [8, 16])
def test_png_with_alpha(depth: int) -> None:
    values = RNG.integers(0, 2**depth, (9, 11, 4))
    values[0, :, -1], values[1, :, -1] = 0, 2**depth - 1
    high = values >> (depth - 8)
    assert (seen(png(values, depth, 6)) == on_white(high[..., :3], high[..., 3])).all()
    made = seen(png(values[..., 2:], depth, 4))
    assert (made == on_white(high[..., 2], high[..., 3])).all()


def test_colours_under_alpha_0_do_not_matter() -> None:
    a = np.zeros((8, 8, 4), np.uint8)
    a[2:6, 2:6] = 10, 200, 30, 255
    b = a.copy()
    b[0, 0, :3] = 255, 0, 255
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        one, other = (seen(saved(Image.fromarray(x), kind, **options)) for x in (a, b))
        assert (one == other).all()
        assert (one[0, 0] == 255).all()
        assert (one[3, 3] == (10, 200, 30)).all()


def test_colour_profiles_are_said() -> None:
    notes = Notes()
    image = Image.new("RGB", (4, 4))
    decode("a", saved(image, "PNG", icc_profile=b"Display P3"), notes)
    decode("b", saved(image, "PNG", icc_profile=b"..sRGB.."), notes)
    decode("c", saved(image, "JPEG", icc_profile="sRGB".encode("utf-16-be")), notes)
    assert notes.lines() == [
        "images with a colour profile other than sRGB, not applied: 1 (first: a)"
    ]


# orientation

SIDES = {  # EXIF 2.3, 4.6.4 A: where the first row and the first column are seen
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_orientation(kind: str, orientation: int, mode: str) -> None:
    stored = np.full((32, 48, 3), 128, np.uint8)
    stored[:4], stored[:, :4] = 255, 0  # the first row is light, the first column dark
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(stored).convert(mode), kind, exif=exif, quality=100)
    picture = seen(content).astype(int)
    assert picture.shape[:2] == ((32, 48) if orientation < 5 else (48, 32))
    sides = {"top": picture[1], "bottom": picture[-2], "left": picture[:, 1]}
    sides = {n: side[10:-10] for n, side in {**sides, "right": picture[:, -2]}.items()}
    row, column = SIDES[orientation]
    assert sides.pop(row).min() > 230
    assert sides.pop(column).max() < 25
    for rest in sides.values():
        assert abs(rest - 128).max() < 20


def test_orientation_of_deep_and_palette_images() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    turned = seen(saved(Image.fromarray(deep), "PNG", exif=exif))
    assert (turned == to_eight(np.rot90(deep, -1), 16)).all()
    palette = Image.fromarray(deep.astype(np.uint8)).convert("P")
    assert seen(saved(palette, "PNG", exif=exif)).shape == (4, 3)


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_unknown_orientations_are_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
    assert (seen(saved(Image.fromarray(values), "PNG", exif=exif)) == values).all()


def test_exif_that_cannot_be_read_hides_no_image() -> None:
    values = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker" * 4
    whole = exif.tobytes()
    for cut in range(7, len(whole)):  # "Exif\0\0" and at least a byte
        notes = Notes()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # none leaks
            picture = decode("a", png(values[..., None], 8, 0, eXIf=whole[6:cut]), notes)
        assert picture.size == values.size
        if picture.shape == values.shape:
            assert notes.lines()


# many


def test_grey_beside_colour_is_widened() -> None:
    grey = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
    colours = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    named = [
        ("g", saved(Image.fromarray(grey), "PNG")),
        ("c", saved(Image.fromarray(colours), "PNG")),
    ]
    for order in itertools.product(named, repeat=3):
        notes = Notes()
        made = stack(order, 3, notes)
        wanted = [np.stack([grey] * 3, -1) if name == "g" else colours for name, _ in order]
        if all(name == "g" for name, _ in order):
            wanted = [grey] * 3
        assert (made == wanted).all()
        assert bool(notes.lines()) == (len(set(order)) == 2)


def test_memory_is_checked_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._memory, "available", lambda: 10_000)
    content = saved(Image.new("L", (10, 10)), "PNG")
    assert stack([("a", content)] * 100, 100, Notes()).shape == (100, 10, 10)
    with pytest.raises(ValueError, match="101 images of 10 x 10 would take"):
        stack([("a", content)] * 101, 101, Notes())


def test_names_are_printable(tmp_path: Path) -> None:
    assert module.shown("a\x1b[2J\n\udcff.png") == r"a\x1b[2J\n\udcff.png"
    with pytest.raises(ValueError, match=r"^a: not an image"):
        decode("a", b"\x1b[2J", Notes())
