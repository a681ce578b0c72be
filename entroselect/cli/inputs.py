"""Pools for the commands: opened by the library, with or without their rows in memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect import _checks
from entroselect.cli.errors import bad_use, reading
from entroselect.cli.output import detail, say
from entroselect.io import Source, open_pool
from entroselect.io.convert import decoded
from entroselect.io.npy import load_npy, npy_header
from entroselect.io.parquet import open_parquet
from entroselect.io.rows import Rows
from entroselect.io.shards import files_in
from entroselect.io.stores import address_of, s3_at
from entroselect.results import Int64

KINDS = (
    "a .npy, .npz, .safetensors or .parquet file, a folder of such shards, a Zarr or Lance folder, "
    "or the address of one (s3://, https://, ...)"
)


@dataclass(frozen=True)
class Stores:
    """How addresses are opened; None where an option was not given.

    Attributes:
        endpoint_url: the server behind s3:// addresses.
        cache: the folder for local copies.
    """

    endpoint_url: str | None = None
    cache: Path | None = None

    def check(self, *paths: Path | None) -> None:
        """Ends the command if an option has no meaning for the command's inputs."""
        addresses = [str(address_of(path)) for path in paths if path and address_of(path)]
        if self.cache is not None and not addresses:
            bad_use("--cache", "has a meaning for addresses alone, such as s3://bucket/folder")
        if self.endpoint_url is None:
            return
        if not any(address.startswith("s3://") for address in addresses):
            bad_use("--endpoint-url", "has a meaning for addresses that begin with s3:// alone")
        try:
            s3_at(self.endpoint_url)
        except ValueError as error:
            bad_use("--endpoint-url", str(error).removeprefix("endpoint_url: "))
        except ImportError as error:
            raise RuntimeError(
                "--endpoint-url needs pyarrow: pip install 'entroselect[stores]'"
            ) from error

    def options(self, path: Path) -> dict[str, Any]:
        """Arguments of `open_pool` for a path."""
        address = address_of(path)
        if address is None:
            return {}
        own = self.endpoint_url is not None and address.startswith("s3://")
        return {"cache": self.cache, "filesystem": s3_at(str(self.endpoint_url)) if own else None}


@dataclass(frozen=True)
class Input:
    """A pool and its rows.

    Attributes:
        path: as it was given.
        source: where the rows come from.
        rows: (n, d), in memory, because a map of a file that becomes shorter would end the
            process; None where they stay in the file. bfloat16 becomes float32, which holds its
            values exactly.
    """

    path: Path
    source: Source
    rows: Any  # NDArray or None

    def take(self, rows: Int64) -> NDArray[Any]:
        """These rows, in this order."""
        if self.rows is not None:
            held: NDArray[Any] = self.rows[rows]
            return held
        distinct, places = np.unique(rows, return_inverse=True)
        values = self.source.take(distinct)[places]
        return _as_numbers(Rows(values, self.source.dtype))

    @property
    def key(self) -> str | None:
        """Which array of the file, None where there is one."""
        return self.source.key

    @property
    def shape(self) -> tuple[int, ...]:
        """As stored."""
        return self.source.stored_shape

    @property
    def dtype(self) -> str:
        """As stored."""
        return self.source.stored

    def describe(self) -> dict[str, Any]:
        """A description of the input for reports."""
        return self.source.describe()


_DEFAULT = Stores()


def read(
    path: Path,
    key: str | None = None,
    column: str | None = None,
    id_column: str | None = None,
    stores: Stores = _DEFAULT,
) -> Input:
    """The rows of a file or folder; see `entroselect.open_pool`.

    Prints a line on stderr when it flattens rows.

    Raises:
        ValueError, TypeError: naming the file, what is wrong with it and what to do.
    """
    return in_memory(outside(path, key, column, id_column, stores))


def outside(
    path: Path,
    key: str | None = None,
    column: str | None = None,
    id_column: str | None = None,
    stores: Stores = _DEFAULT,
) -> Input:
    """As `read`, but the rows stay in the file."""
    return Input(path, open_source(path, key, column, id_column, stores), None)


def in_memory(opened: Input) -> Input:
    """The same pool, with its rows in memory."""
    return replace(opened, rows=_rows(opened.source))


def open_source(
    path: Path,
    key: str | None = None,
    column: str | None = None,
    id_column: str | None = None,
    stores: Stores = _DEFAULT,
) -> Source:
    """The source that `read` reads."""
    _say_what_is_logged()
    source = open_pool(path, key=key, column=column, id_column=id_column, **stores.options(path))
    size = f"{source.n:,} rows of {source.d:,} columns"
    detail(f"{source.name}: {size}, {source.format}, {source.stored}")
    if len(source.stored_shape) > 2:
        say(f"{source.name}: shape {source.stored_shape} flattened to {source.shape}")
    return source


class _Said(logging.Handler):
    """Prints on stderr what the library logs."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def _say_what_is_logged() -> None:
    log = logging.getLogger("entroselect")
    if not any(isinstance(handler, _Said) for handler in log.handlers):
        log.addHandler(_Said())
        log.setLevel(logging.INFO)


def read_selected(path: Path) -> NDArray[Any]:
    """The contents of the file of --selected: row numbers of the pool if the array has one
    dimension, otherwise vectors, flattened as pools are."""
    if path.suffix.lower() == ".npy" and path.is_file():
        shape = npy_header(path).shape
        if len(shape) == 1 or shape[:1] == (0,):  # an empty array, which cannot be a pool
            return load_npy(path)
    return _rows(open_pool(path))


def read_column(given: str, option: str) -> NDArray[Any]:
    """The values that FILE[:COLUMN] names: a .npy file, or a column of a .parquet file or of those
    in a folder, in the order in which a pool has them."""
    name, colon, column = given.rpartition(":")
    path = Path(name) if colon and not Path(given).exists() else Path(given)
    with reading(path, option):
        if path.suffix != ".parquet" and not path.is_dir():
            return _npy_values(path)
        if path == Path(given):
            raise ValueError("holds columns; name one, as FILE:COLUMN")
        files = files_in(path, ".parquet") if path.is_dir() else [path]
        if not files:
            raise ValueError("holds no .parquet files")
        parts = [_parquet_values(file, column) for file in files]
        # Types of files without rows mean nothing, and would change those of the others.
        return np.concatenate([part for part in parts if len(part)] or parts[:1])


def read_ids(given: str) -> NDArray[Any]:
    """The ids that --keep names, (m,): as `read_column`, or the lines of a .txt file."""
    if Path(given).suffix == ".txt":
        with reading(Path(given), "--keep"):
            lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
        return np.array([line for line in lines if line], dtype=object)
    found = read_column(given, "--keep")
    with reading(Path(given), "--keep"):
        if found.ndim != 1:
            raise ValueError(f"expected one id per row to keep, got shape {found.shape}")
    return found


def read_scores(given: str, n: int) -> NDArray[Any]:
    """The numbers that --scores names, one per row of the pool."""
    found = read_column(given, "--scores")
    with reading(Path(given), "--scores"):
        if found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        return _checks.row_scores(found, n)


def _parquet_values(path: Any, column: str) -> NDArray[Any]:
    table = open_parquet(path)
    names = table.schema_arrow.names
    if not table.metadata.num_rows:
        return np.empty(0)
    if column not in names:
        raise ValueError(f"{path}: has no column {column!r}; its columns are {', '.join(names)}")
    return np.asarray(decoded(table.read(columns=[column]).column(0)))


def _npy_values(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ValueError("is neither a .npy file, as numpy.save writes, nor a .parquet file")
    return np.asarray(np.load(path, allow_pickle=False))


def _rows(source: Source) -> NDArray[Any]:
    values = _as_numbers(source.rows("pool"))
    return values.view(np.bool_) if source.stored == "bool" else values  # metrics of bits pack it


def _as_numbers(rows: Rows) -> NDArray[Any]:
    if rows.dtype != "bfloat16":
        return np.asarray(rows.values)
    # A bfloat16 is the upper half of the float32 of the same value.
    bits = rows.values.astype(np.uint32)
    bits <<= 16
    return np.asarray(bits.view(np.float32))
