"""One encoded image to the picture that a viewer shows, and many of one size to an array.

The only place that calls Pillow on bytes from outside. Formats come from a list. Without one,
Pillow tries all its formats on the content, independent of the file's name, and starts Ghostscript
on EPS.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from entroselect import _memory

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MOST_PIXELS = 8192 * 8192
MOST_BYTES = 8 * MOST_PIXELS  # of a file: four channels of 16 bits, stored plainly

_ORIENTATION = 0x0112
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # of TIFF
_SIGNED, _WHITE_IS_ZERO = 2, 0


class Refused(ValueError):
    """An image is refused; the message says why, and the caller names the file."""


class Notes:
    """Counts unexpected things by kind, and keeps the first of each."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, str]] = {}

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """One more of that kind, or `count` more."""
        before, first = self.found.get(kind, (0, example))
        self.found[kind] = before + count, first

    def lines(self) -> list[str]:
        """One line for each kind."""
        return [f"{kind}: {count} (first: {first})" for kind, (count, first) in self.found.items()]


def shown(name: str) -> str:
    """A name from outside as it can be printed: no control characters, no broken encoding."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def check_memory(what: str, bytes_: int) -> None:
    """Refuses what cannot fit, before it is allocated."""
    free = _memory.available()
    if free is not None and bytes_ > free:
        raise ValueError(
            f"{what} would take {_memory.in_words(bytes_)} of memory, "
            f"{_memory.in_words(free)} are free"
        )


def check_length(bytes_: int) -> None:
    """Refuses a file that is too long to be an image of the size that is allowed."""
    if bytes_ > MOST_BYTES:
        raise Refused(
            f"has {_memory.in_words(bytes_)}, an image may have {_memory.in_words(MOST_BYTES)}"
        )
    if bytes_ > 2**24:
        check_memory("reading it", bytes_)


def decode(name: str, content: bytes, notes: Notes) -> NDArray[np.uint8]:
    """The picture: (h, w) for grey modes and for palettes that show only grey, else (h, w, 3).

    Raises:
        ValueError: for every error of Pillow; its message begins with `name`.
    """
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES  # others set it; it would fill up with grey
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
            with _libtiff_heard(content):
                picture = _decode(name, content, notes)
        except Refused as error:
            raise ValueError(f"{name}: {error}") from None
        except UnidentifiedImageError:
            raise ValueError(
                f"{name}: not an image of {', '.join(FORMATS)}, or its beginning is damaged"
            ) from None
        except MemoryError:
            raise ValueError(f"{name}: not an image that can be read (out of memory)") from None
        except Exception as error:  # Pillow's parsers raise many types
            why = shown(str(error)) or type(error).__name__
            raise ValueError(f"{name}: not an image that can be read ({why})") from None
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = truncated
    if caught:
        text = " ".join(shown(str(caught[0].message)).split())
        notes.add("images that Pillow warns of", f"{name}: {text}")
    return picture


def stack(named: Iterable[tuple[str, bytes]], count: int, notes: Notes) -> NDArray[np.uint8]:
    """`count` images of one size: (count, h, w) if all are grey, otherwise (count, h, w, 3)."""
    pixels: NDArray[np.uint8] | None = None
    first, greys, done = "", 0, 0
    for name, content in named:
        picture = decode(name, content, notes)
        if pixels is None:
            first, pixels = name, _room((count, *picture.shape))
        height, width = pixels.shape[1:3]
        if picture.shape[:2] != (height, width):
            raise ValueError(
                f"{name} is {picture.shape[1]} x {picture.shape[0]} but {first} is {width} x "
                f"{height}; all must be of one size, so resize them first (ImageMagick: mogrify "
                "-resize 32x32^ -gravity center -extent 32x32 FILES, which overwrites them)"
            )
        if picture.ndim == 3 and pixels.ndim == 3:
            wider = _room((*pixels.shape, 3))
            wider[:done] = pixels[:done, ..., None]
            pixels = wider
        grey = picture.ndim == 2
        greys += grey
        pixels[done] = picture[..., None] if grey and pixels.ndim == 4 else picture
        done += 1
    if pixels is None:
        raise ValueError("holds no images")
    if done != count:
        raise ValueError(f"promises {count} images and holds {done}")
    if greys and pixels.ndim == 4:
        notes.add("grey images beside colour ones, widened to RGB", first, greys)
    return pixels


def _room(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    bytes_ = int(np.prod(shape, dtype=object))
    check_memory(f"{shape[0]} images of {shape[2]} x {shape[1]}", bytes_)
    return np.empty(shape, np.uint8)


def _decode(name: str, content: bytes, notes: Notes) -> NDArray[np.uint8]:
    check_length(len(content))
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        _check_size(*image.size)
        if image.format == "MPO":  # a JPEG with previews or the other eye's view behind it
            notes.add("JPEGs with further pictures, of which the first is taken", name)
        elif getattr(image, "is_animated", False):
            raise Refused("holds several pictures (an animation or pages); save one of them")
        if image.format in ("JPEG", "MPO"):
            _check_end(content)
        orientation = _orientation(name, image, notes)
        box = image.tile[0][1] if image.format == "GIF" else None
        image.load()
        if _profile(image):
            notes.add("images with a colour profile other than sRGB, not applied", name)
        picture = _composed(*_channels(image, content))
        if box is not None:
            picture = _on_screen(picture, box)
        if image.mode in ("P", "PA") and (picture == picture[..., :1]).all():
            picture = picture[..., 0]  # GIF has no other grey
    return _upright(picture, orientation)


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise Refused(f"has {width} x {height} pixels, an image may have {MOST_PIXELS}")
    if width * height > 2**22:
        check_memory(f"{width} x {height} pixels", 32 * width * height)  # with what is in between


def _on_screen(picture: NDArray[np.uint8], box: Any) -> NDArray[np.uint8]:
    """Makes the part of a GIF's screen outside its picture transparent; Pillow fills it."""
    left, top, right, bottom = box
    seen = np.full_like(picture, 255)
    seen[top:bottom, left:right] = picture[top:bottom, left:right]
    return seen


@contextlib.contextmanager
def _libtiff_heard(content: bytes) -> Iterator[None]:
    """Raises what libtiff only prints to descriptor 2 before it fills up the picture."""
    try:
        stderr = os.dup(2) if content[:2] in (b"II", b"MM") else -1
    except OSError:  # descriptor 2 is closed: messages cannot be read
        stderr = -1
    if stderr < 0:
        yield
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            said = file.read().decode(errors="replace").splitlines(keepends=True)
            ours = [line for line in said if re.match(r"(\w+|tempfile\.tif): |More samples", line)]
            others = "".join(line for line in said if line not in ours)
            with contextlib.suppress(OSError):
                os.write(2, others.encode())  # what another thread wrote meanwhile
        if ours:
            raise Refused(f"is damaged: {shown(ours[0].strip())}")


def _orientation(name: str, image: Image.Image, notes: Notes) -> int:
    if image.format == "TIFF":
        return 1  # Pillow turns these itself
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a viewer shows the image nevertheless
        notes.add("images with EXIF that cannot be read", name)
        return 1


def _check_end(content: bytes) -> None:
    """Refuses a JPEG whose scans are cut short; libjpeg would fill up the picture.

    Thumbnails have ends of their own, so only what follows the header counts.
    """
    at = 2
    while content[at : at + 2] != b"\xff\xda":
        if content[at : at + 1] != b"\xff" or at + 4 > len(content):
            return  # no header as it should be: Pillow says what is wrong
        fill = content[at + 1] == 0xFF
        at += 1 if fill else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    if content.find(b"\xff\xd9", at) < 0:
        raise Refused("is cut short or damaged: its end is missing")


def _profile(image: Image.Image) -> bool:
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return False
    return not any("sRGB".encode(code) in profile for code in ("ascii", "utf-16-be"))


def _channels(
    image: Image.Image, content: bytes
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Grey (h, w) or RGB (h, w, 3), and alpha (h, w) where there is one."""
    mode = image.mode
    bits = 8
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if _SIGNED in np.atleast_1d(tags.get(_SAMPLE_FORMAT, 1)):
            raise Refused("holds signed integers, whose white nobody knows; save 8 or 16 bits")
        bits = int(np.atleast_1d(tags.get(_BITS, 1))[0])
    if mode in ("I", "F") or mode.startswith("I;16"):
        return _deep(image, bits)
    if mode in ("P", "PA"):
        if mode == "PA" or "transparency" in image.info:
            return _split(image.convert("RGBA"))
        return np.asarray(image.convert("RGB")), None
    if mode in ("La", "LA"):
        return _split(image.convert("LA"))
    if mode in ("RGBa", "RGBA"):
        colours, alpha = _split(image.convert("RGBA"))
        # 16-bit grey with alpha, which Pillow widens.
        grey = image.format == "PNG" and content[25] == 4
        return colours[..., 0] if grey else colours, alpha
    colours = np.asarray(image.convert("L" if mode in ("1", "L") else "RGB"))
    transparent = image.info.get("transparency")
    if transparent is None or image.format != "PNG":
        return colours, None
    # One value, in the file's own bits, is transparent. Pillow has dropped the low byte of 16.
    bits = content[24]
    given = np.array(transparent, np.int64)
    if mode == "RGB":
        key = given >> (bits - 8)
        return colours, np.where((colours == key).all(2), 0, 255).astype(np.uint8)
    key = given if mode == "1" else given * 255 // (2**bits - 1)
    return colours, np.where(colours == key, 0, 255).astype(np.uint8)


def _deep(image: Image.Image, bits: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """More than 8 bits of grey to 8, by what the file declares as white."""
    values = np.asarray(image)
    transparent = image.info.get("transparency")
    alpha = None
    if isinstance(transparent, int):
        alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
    if image.mode == "F":
        if not (values >= 0).all() or not (values <= 1).all():  # NaN too
            raise Refused("holds floats that are not on 0 to 1; save it with 8 or 16 bits")
        grey = np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    else:
        if image.mode == "I" and image.format == "TIFF":
            raise Refused("holds 32-bit integers, whose white nobody knows; save 8 or 16 bits")
        white = 2**bits - 1 if image.format == "TIFF" else 65535  # Pillow scales PGM to that
        grey = ((values.astype(np.int64) * 255 + white // 2) // white).astype(np.uint8)
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # type: ignore[attr-defined]
        grey = 255 - grey
    return grey, alpha


def _split(image: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    values = np.asarray(image)
    colours = values[..., :-1]
    return colours[..., 0] if colours.shape[2] == 1 else colours, values[..., -1]


def _composed(colours: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """On white, as on a page: most drawings on transparent ground are dark."""
    if alpha is None:
        return colours
    opacity = alpha.astype(np.uint32)
    if colours.ndim == 3:
        opacity = opacity[..., None]
    mixed = (colours * opacity + 255 * (255 - opacity) + 127) // 255
    return mixed.astype(np.uint8)


def _upright(picture: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """EXIF says at which side of the picture the first row and the first column are shown."""
    turned: dict[int, Any] = {
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90,
    }
    return turned[orientation](picture) if orientation in turned else picture
