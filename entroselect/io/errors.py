"""Messages about files that cannot be read: the file first, then what is wrong and what to do."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from entroselect._memory import available, in_words


class Empty(ValueError):
    """A pool, or a part of one, without rows or columns."""

    shape: tuple[int, ...] = ()


class StoreError(ValueError):
    """A store's answer that cannot be used; the message names the address."""


def shown(path: object) -> str:
    """A path as messages have it: what a terminal would obey, and what cannot be encoded (names
    that are not UTF-8), stand as escapes.

    Example:
        >>> print(shown("a\\x1b[2Jb.npy"))
        a\\x1b[2Jb.npy
    """
    return "".join(
        # Control, format (text direction, say), surrogate, unassigned; line and paragraph ends.
        _escaped(c) if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" else c
        for c in str(path)
    )


def printable(text: object) -> str:
    r"""The text with everything that a terminal would obey, and everything that no encoding holds,
    as its escape.

    Example:
        >>> printable("a\x1b[2Jb\nc")
        'a\\x1b[2Jb\\nc'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that the file system's encoding does not know
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


@contextmanager
def reading(path: object) -> Iterator[None]:
    """Turns every exception that a library raises for a file into an error that names the file.

    Only calls of libraries belong in the block: codecs and parsers raise exceptions of any type.

    Raises:
        ValueError: in place of any Exception but the next; a StoreError is left as it is.
        MemoryError: naming the file.
    """
    try:
        yield
    except StoreError:  # says all that there is to say
        raise
    except MemoryError as error:
        raise MemoryError(f"{shown(path)}: reading it takes more memory than there is") from error
    except OSError as error:
        if error.errno is None or error.strerror is None:  # Arrow's, about the file's contents
            raise damaged(path, error) from error
        raise ValueError(f"{shown(path)}: cannot be read: {error.strerror}") from error
    except Exception as error:
        raise damaged(path, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a failure inside a library written in Rust
            raise
        raise damaged(path, error) from error


def damaged(path: object, why: object) -> ValueError:
    """The error for a file that is cut short or contradicts itself; `why`: what was found."""
    if isinstance(why, BaseException):
        # NumPy's and Arrow's own words; some errors have none.
        why = " ".join(str(why).split()) or type(why).__name__
        why = why if len(why) < 300 else why[:300] + "..."
    return ValueError(
        f"{shown(path)}: cannot be read, it may be cut short or damaged; copy or write it again "
        f"({shown(why)})"
    )


def pickled(path: object, key: str | None = None) -> ValueError:
    """The error for a file that holds Python objects."""
    entry = "" if key is None else f" under {key!r}"
    return ValueError(
        f"{shown(path)}: holds pickled Python objects{entry}, which are never loaded; save plain "
        "numbers, for example numpy.save(path, array.astype('float32'))"
    )


def needs(path: object, package: str) -> ValueError:
    """The error for a format whose library is not installed."""
    return ValueError(f"{shown(path)}: reading it needs {package}: pip install 'entroselect[io]'")


def check_fits(path: object, bytes_: int, what: str = "it", instead: str = "") -> None:
    """To be called before memory is allocated of a size that a file declares.

    Raises:
        ValueError: if it is larger than the memory that is available.
    """
    left = available()
    if left is not None and bytes_ > left:
        raise ValueError(
            f"{shown(path)}: {what} takes {in_words(bytes_)} and {in_words(left)} of memory are "
            f"available{instead}"
        )


def one_key(path: object, key: str | None, shapes: Mapping[str, Any]) -> str:
    """The key of the array that is meant, of a file that may hold several."""
    path = shown(path)
    if key is None and len(shapes) == 1:
        return next(iter(shapes))
    if key in shapes:
        return str(key)
    if not shapes:
        raise ValueError(f"{path}: holds no array")
    names = ", ".join(f"{shown(name)} {'(?)' if s is None else s}" for name, s in shapes.items())
    if key is None:
        raise ValueError(f"{path}: holds several arrays, choose one with key (--key): {names}")
    raise ValueError(f"{path}: holds no array {key!r}, choose one with key (--key): {names}")
