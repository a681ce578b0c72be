"""Result folders that are either complete or not there."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What the commands write: a folder that holds anything else is never replaced.
OURS = frozenset(
    {
        "indices.npy",
        "distances.npy",
        "selection.csv",
        "selection.parquet",
        "report.json",
        "report.html",
        "index.html",
    }
)


@contextmanager
def new_folder(out: Path, force: bool) -> Iterator[Path]:
    """A working folder beside `out`, renamed to `out` when the block ends well.

    However else the block ends, Ctrl-C included, the working folder is removed and `out` is as it
    was. An `out` that exists is an error unless `force`, and then stays until the new one is
    complete.

    Raises:
        ValueError: before the block runs, if `out` cannot be made there or may not be replaced.
    """
    out = out.resolve()
    if not out.parent.exists():
        raise ValueError(f"{out.parent}: no such folder; create it or choose another --out")
    if not out.parent.is_dir():
        raise ValueError(f"{out.parent}: is a file, not a folder; choose another --out")
    if out.exists():
        _check_replaceable(out, force)
    work = out.parent / f".{out.name}.{secrets.token_hex(4)}.partial"
    try:
        work.mkdir()
    except OSError as error:
        raise ValueError(
            f"{out.parent}: cannot be written to ({error.strerror}); choose another --out"
        ) from error
    try:
        yield work
        _put_in_place(work, out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _check_replaceable(out: Path, force: bool) -> None:
    if not out.is_dir():
        raise ValueError(f"{out}: is a file; choose another --out")
    if not force:
        raise ValueError(f"{out}: exists already; choose another --out, or --force to replace it")
    strange = sorted(entry.name for entry in out.iterdir() if entry.name not in OURS)
    if strange:
        raise ValueError(
            f"{out}: holds files that entroselect did not write ({strange[0]}), so --force does "
            "not replace it; choose another --out"
        )


def _put_in_place(work: Path, out: Path) -> None:
    if not out.exists():
        work.rename(out)
        return
    old = work.with_suffix(".old")
    try:
        out.rename(old)
        work.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Strict JSON: infinities and NaN are an error here, not in whoever reads the file."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
