"""Images of other modes and formats, and those that are refused."""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import zlib
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image, ImageFile
from PIL import __version__ as pillow_version

from entroselect.loop import decode as module
from entroselect.loop.decode import Notes, decode
from tests.support.encoded_images import RNG, png, saved, seen, tiff, to_eight

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
    content = saved(Image.frombytes("YCbCr", (6, 4), values.tobytes()), "TIFF")
    if int(pillow_version.split(".")[0]) < 13:  # does not read what it wrote
        with pytest.raises(ValueError, match="not an image that can be read"):
            seen(content)
        return
    made = seen(content)
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
    """libtiff fills up the picture and reports it only there; what other code prints meanwhile is
    passed on."""
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
