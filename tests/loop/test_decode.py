"""Encoded images are the pictures that viewers show: expected ones are made in NumPy."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image, ImageFile

from entroselect.loop import decode as module
from entroselect.loop.decode import Notes, decode, stack

RNG = np.random.default_rng(0)


def seen(content: bytes) -> np.ndarray:
    notes = Notes()
    picture = decode("a", content, notes)
    assert notes.lines() == []
    return picture


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(samples: np.ndarray, depth: int, colour: int, adam7: bool = False, **more: bytes) -> bytes:
    """(h, w, channels) integers as a PNG; `more` are chunks before the pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        check = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)

    def lines(part: np.ndarray) -> bytes:
        bits = (part[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(bits.reshape(len(part), -1).astype(np.uint8), axis=1)
        return b"".join(b"\0" + row.tobytes() for row in packed)

    passes = [(0, 0, 1, 1)]
    if adam7:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)]
        passes += [(2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    height, width = samples.shape[:2]
    parts = (samples[y::dy, x::dx] for y, x, dy, dx in passes)
    body = b"".join(lines(part) for part in parts if part.size)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(adam7))
    chunks = [(b"IHDR", head), *((name.encode(), text) for name, text in more.items())]
    chunks += [(b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)


def tiff(
    values: np.ndarray, photometric: int = 1, kind: int = 1, bits: int = 0, order: str = "<"
) -> bytes:
    """(h, w) or (h, w, channels) numbers as an uncompressed TIFF of one strip."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    bits = bits or 8 * values.dtype.itemsize
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if bits == 12:
        pairs = np.unpackbits(values.astype(">u2").view(np.uint8)).reshape(height, width, 16)
        data = np.packbits(pairs[..., 4:].reshape(height, -1), axis=1).tobytes()
    tags = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 0), (277, 3, channels), (278, 3, height), (279, 4, len(data)), (339, 3, kind)]
    begin = 8 + 2 + 12 * len(tags) + 4
    ifd = struct.pack(order + "H", len(tags))
    for tag, size, value in tags:
        value = begin if tag == 273 else value
        packed = struct.pack(order + ("H2x" if size == 3 else "I"), value)
        ifd += struct.pack(order + "HHI", tag, size, 1) + packed
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8) + ifd + bytes(4) + data


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha / 255 if colours.ndim == 2 else alpha[..., None] / 255
    return np.floor(colours * share + 255 * (1 - share) + 0.5).astype(np.uint8)


def to_eight(values: np.ndarray, depth: int) -> np.ndarray:
    return np.floor(values * (255 / (2**depth - 1)) + 0.5).astype(np.uint8)


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


# other modes and formats


def test_tiff_of_numbers() -> None:
    deep = RNG.integers(0, 2**16, (5, 6), dtype=np.uint16)
    for order in "<>":
        assert (seen(tiff(deep, order=order)) == to_eight(deep, 16)).all()
    assert (seen(tiff(deep, photometric=0)) == to_eight(65535 - deep, 16)).all()
    twelve = RNG.integers(0, 4096, (5, 6), dtype=np.uint16)
    assert (seen(tiff(twelve, bits=12)) == to_eight(twelve, 12)).all()
    eight = RNG.integers(0, 256, (5, 6), dtype=np.uint8)
    assert (seen(tiff(eight)) == eight).all()
    assert (seen(tiff(eight, photometric=0)) == 255 - eight).all()
    for order in "<>":
        floats = np.linspace(0, 1, 30, dtype=np.float32).reshape(5, 6)
        assert (seen(tiff(floats, kind=3, order=order)) == np.rint(floats * 255)).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tiff(np.array([[0, 1.5]], np.float32), kind=3), "floats that are not on 0 to 1"),
        (tiff(np.array([[0, -0.1]], np.float32), kind=3), "floats that are not on 0 to 1"),
        (tiff(np.array([[0, np.nan]], np.float32), kind=3), "floats that are not on 0 to 1"),
        (tiff(np.array([[0, 7]], np.uint32)), "32-bit integers"),
        (tiff(np.array([[0, 7]], np.int32), kind=2), "signed"),
        (tiff(np.array([[0, 7]], np.int16), kind=2), "signed"),
        (tiff(np.array([[0, 7]], np.int8), kind=2), "signed"),
    ],
)
def test_tiff_without_a_known_white_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^cat/a.tif: .*{message}"):
        decode("cat/a.tif", content, Notes())


def test_cmyk_is_inks_on_paper() -> None:
    inks = RNG.integers(0, 256, (4, 6, 4), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    ours = (255 - inks[..., :3].astype(float)) * (255 - inks[..., 3:].astype(float)) / 255
    image = Image.frombytes("CMYK", (48, 32), inks.tobytes())
    assert abs(seen(saved(image, "TIFF")) - ours).max() <= 1
    # Adobe's JPEGs are stored inverted, and as YCCK or CMYK.
    assert abs(seen(saved(image, "JPEG", quality=100, subsampling=0)) - ours).mean() < 3


def test_lab_and_ycbcr_tiff() -> None:
    grey = np.zeros((2, 3, 3), np.uint8)
    grey[..., 0], grey[..., 1:] = 255, 0  # L* = 100, a* = b* = 0: white
    grey[1, :, 0] = 0
    made = seen(saved(Image.frombytes("LAB", (3, 2), grey.tobytes()), "TIFF"))
    assert made[0].min() >= 254
    assert made[1].max() <= 1
    values = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    y, cb, cr = np.moveaxis(values.astype(float), -1, 0)
    rgb = [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)]
    rgb.append(y + 1.772 * (cb - 128))
    made = seen(saved(Image.frombytes("YCbCr", (6, 4), values.tobytes()), "TIFF"))
    assert abs(made - np.clip(np.stack(rgb, -1), 0, 255)).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG"])
def test_plain_images_of_every_format(kind: str) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"quality": 100}
    grey = np.linspace(0, 255, 48, dtype=np.uint8).reshape(6, 8)
    colours = np.stack([grey, grey[::-1], grey.T.reshape(6, 8) // 2], -1)
    close = 3 if kind == "JPEG" else 0
    made = seen(saved(Image.fromarray(grey), kind, **options))
    assert abs((made if made.ndim == 2 else made[..., 0]) - grey.astype(int)).max() <= close
    assert made.ndim == (3 if kind == "WEBP" else 2)  # WebP has no grey
    made = seen(
        saved(Image.fromarray(colours), kind, **options, **({"subsampling": 0} if close else {}))
    )
    assert abs(made - colours.astype(int)).max() <= (6 if close else 0)
    two = grey > 99
    made = seen(saved(Image.fromarray(two), kind, **options))
    assert ((made if made.ndim == 2 else made[..., 0]) > 127).tolist() == two.tolist()


WITH_ALPHA = [("TIFF", "LA"), ("TIFF", "PA"), ("TIFF", "RGBA"), ("WEBP", "LA"), ("WEBP", "PA")]
WITH_ALPHA += [("WEBP", "RGBA"), ("GIF", "RGBA"), ("PNG", "LA"), ("PNG", "RGBA")]


@pytest.mark.parametrize(("kind", "alpha"), WITH_ALPHA)
def test_transparency_of_every_format(kind: str, alpha: str) -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 255, 0))
    image.paste((40, 40, 40, 255), (2, 2, 6, 6))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    if alpha == "PA":
        mixed = Image.new("PA", (8, 8))
        mixed.putpalette([255, 0, 255, 40, 40, 40])
        mixed.paste((1, 255), (2, 2, 6, 6))
        image = mixed
    made = seen(saved(image.convert(alpha), kind, **options))
    expected = np.full((8, 8), 255)
    expected[2:6, 2:6] = 40
    assert ((made if made.ndim == 2 else made[..., 0]) == expected).all()
    assert made.ndim == 2 or (made == made[..., :1]).all()


@pytest.mark.parametrize("transparent", [{}, {"transparency": 1}])
def test_a_gif_that_leaves_some_of_its_screen(transparent: dict[str, int]) -> None:
    image = Image.fromarray(np.array([[0, 0, 0, 1]] * 4, np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    content = bytearray(saved(image, "GIF", **transparent))
    content[6:10] = struct.pack("<HH", 8, 9)
    begin = content.index(b"\x2c\0\0\0\0") + 1
    content[begin : begin + 4] = struct.pack("<HH", 2, 1)
    expected = np.full((9, 8, 3), 255)
    expected[1:5, 2:5], expected[1:5, 5] = (255, 0, 0), (0, 0, 255)
    if transparent:
        expected[1:5, 5] = 255
    assert (seen(bytes(content)) == expected).all()


def test_ppm_of_other_whites() -> None:
    assert (seen(b"P5 3 1 100\n" + bytes([0, 50, 100])) == [[0, 128, 255]]).all()
    assert (seen(b"P5 2 1 1000\n" + struct.pack(">2H", 500, 1000)) == [[128, 255]]).all()
    assert (seen(b"P2 2 1 65535\n257 65535\n") == [[1, 255]]).all()
    assert (seen(b"P6 1 1 65535\n" + struct.pack(">3H", 0, 257, 65535)) == [[[0, 1, 255]]]).all()


# refused


def test_animations_and_pages_are_refused() -> None:
    pages = [Image.new("RGB", (8, 8), (i * 80, 0, 0)) for i in range(3)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        content = saved(pages[0], kind, save_all=True, append_images=pages[1:])
        with pytest.raises(ValueError, match=r"^b: holds several pictures"):
            decode("b", content, Notes())


def test_the_picture_of_a_jpeg_with_others_behind_it_is_taken() -> None:
    pages = [Image.new("RGB", (8, 8), (i * 80, 0, 0)) for i in range(3)]
    notes = Notes()
    made = decode("b", saved(pages[1], "MPO", save_all=True, append_images=pages[2:]), notes)
    assert abs(made.astype(int) - (80, 0, 0)).max() < 4
    assert len(notes.lines()) == 1


@pytest.mark.parametrize("size", [(8193, 8192), (20000, 20000), (2**31 - 1, 2**31 - 1)])
def test_sizes_are_checked_before_decoding(size: tuple[int, int]) -> None:
    content = bytearray(png(np.zeros((1, 1, 1), int), 8, 0))
    content[16:24] = struct.pack(">II", *size)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(ValueError, match=r"^a: .*(pixels|Image size)"):
        decode("a", bytes(content), Notes())


def test_postscript_is_never_given_to_ghostscript(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    def run(*_: Any, **__: Any) -> None:
        raise AssertionError("Ghostscript")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    content = saved(Image.new("RGB", (4, 4)), "EPS")
    with pytest.raises(ValueError, match=r"^a.png: not an image of PNG, JPEG"):
        decode("a.png", content, Notes())


def test_truncated_images_are_errors_even_where_others_allow_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    content = saved(Image.fromarray(RNG.integers(0, 256, (16, 16), dtype=np.uint8)), "PNG")
    with pytest.raises(ValueError, match=r"^a: "):
        decode("a", content[:-100], Notes())
    assert ImageFile.LOAD_TRUNCATED_IMAGES


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}), ("GIF", {}), ("BMP", {}), ("PPM", {}),
    ("JPEG", {}), ("JPEG", {"progressive": True}),
    ("WEBP", {"lossless": True}), ("WEBP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}), ("TIFF", {"compression": "packbits"}),
    ("TIFF", {"compression": "jpeg"}), ("TIFF", {"compression": "group4"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_cut_anywhere_an_image_is_whole_or_an_error(kind: str, options: dict[str, Any]) -> None:
    values = RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    if options.get("compression") == "group4":
        image = image.convert("1")
    content = saved(image, kind, **options)
    whole, errors = seen(content), 0
    tails = [b"", bytes(64)] if kind == "JPEG" else [b""]  # zeros: a download that broke off
    for cut, tail in itertools.product(range(len(content)), tails):
        try:
            picture = decode("a", content[:cut] + tail, Notes())
        except ValueError as error:
            errors += str(error).startswith("a: ")
        else:
            np.testing.assert_array_equal(picture, whole, err_msg=f"cut at {cut}")
    assert errors > 0.9 * len(content)


def test_what_libtiff_prints_is_raised(capfd: pytest.CaptureFixture[str]) -> None:
    """It fills up the picture and tells nobody else; what others print meanwhile is passed on."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 2, (16, 16)).astype(bool))
    content = saved(image, "TIFF", compression="group4")
    raised = []
    for end in range(9, 80):  # of 72 bytes of codes, zeros from there on
        with contextlib.suppress(ValueError):
            decode("a", content[:end] + bytes(80 - end) + content[80:], Notes())
            continue
        raised.append(end)
    assert len(raised) > 10
    with pytest.raises(ValueError, match=r"^a: is damaged: Fax4Decode: "):
        decode("a", content[: raised[-1]] + bytes(80 - raised[-1]) + content[80:], Notes())
    assert capfd.readouterr() == ("", "")
    with module._libtiff_heard(content):
        os.write(2, b"30 % done\n")
    assert capfd.readouterr() == ("", "30 % done\n")


def test_nothing_of_pillow_leaks(capfd: pytest.CaptureFixture[str]) -> None:
    broken = [b"", b"\0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF0000WEBPVP8 "]
    for content in broken:
        with pytest.raises(ValueError, match=r"^a: "):
            decode("a", content, Notes())
    assert capfd.readouterr() == ("", "")


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
