"""The files of a selection: indices.npy, selection.csv, selection.parquet and joined.parquet."""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroselect.cli import inputs
from entroselect.cli.nearest_before import nearest_before
from entroselect.cli.result_folder import Folder
from entroselect.io import Source
from entroselect.io.columns import Tables
from entroselect.results import AnyMetric, Float64, Int64

# Bytes of a row group of joined.parquet, which are held until it is written.
_ROW_GROUP = 32 << 20


@dataclass(frozen=True)
class PickedRows:
    """Rows picked by any of the methods.

    Attributes:
        indices: int64 (k,), in pick order; none where --min-distance leaves none.
        distances, thresholds: float64 (k,), None where the method has none.
        radius: the largest distance of any pool row to its nearest pick; None if not known yet.
        backend: what computed it.
        profile: where the time went; empty for a random draw.
        anchored: what an anchored selection reached.
        counts: with groups, how many rows of each.
    """

    indices: Int64
    distances: Float64 | None
    thresholds: Float64 | None
    radius: float | None
    backend: str
    profile: dict[str, Any] = field(default_factory=dict)
    anchored: dict[str, Any] | None = None
    counts: dict[Any, int] | None = None


def write_indices(picked: PickedRows, folder: Folder) -> None:
    """Writes indices.npy and selection.csv."""
    with folder.file("indices.npy") as file:
        np.save(file, picked.indices)
    columns: dict[str, list[Any]] = {
        "rank": list(range(1, len(picked.indices) + 1)),
        "index": picked.indices.tolist(),
    }
    if picked.distances is not None:
        columns["distance"] = picked.distances.tolist()
    if picked.thresholds is not None:
        columns["threshold"] = picked.thresholds.tolist()
    write_csv(columns, folder)


def write_csv(columns: Mapping[str, Iterable[Any]], folder: Folder) -> None:
    """Writes selection.csv."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    folder.write("selection.csv", lines.getvalue())


def table(
    pool: inputs.Input,
    picked: PickedRows,
    kept: NDArray[Any],
    before: NDArray[Any] | None,
    ids: NDArray[Any] | None,
    metric: AnyMetric,
    backend: str,
) -> dict[str, Any]:
    """Columns of selection.parquet. A masked value is written as null: the id of a row without one,
    the distance of a pick that has none before it, and the nearest pick if it is a vector of
    --selected that is not a row of the pool."""
    k = len(picked.indices)
    columns: dict[str, Any] = {
        "rank": np.arange(1, k + 1),
        "index": picked.indices,
        "id": ids,
    }
    if picked.distances is None:  # random and anchored picks have none before them
        return columns
    given = before is not None and before.ndim == 1 and len(before) > 0
    vectors = pool.take(before) if given and before is not None else before
    if vectors is not None and not len(vectors):
        vectors = None
    positions, _ = nearest_before(kept, vectors, metric, backend)
    # Positions count the rows of --selected, then the picks; -1 is none.
    rows = np.full(0 if vectors is None else len(vectors), -1)
    if given and before is not None:
        rows = before
    nearest = np.concatenate([rows, picked.indices]).astype(np.int64)[positions]
    known = (positions >= 0) & (nearest >= 0)
    columns["distance"] = np.ma.array(picked.distances, mask=~np.isfinite(picked.distances))
    columns["nearest_index"] = np.ma.array(nearest, mask=~known)
    columns["nearest_id"] = None
    if ids is not None:
        found = pool.source.ids(np.where(known, nearest, 0))
        columns["nearest_id"] = np.ma.array(found, mask=~known)
    return columns


def write_parquet(columns: dict[str, Any], folder: Folder) -> None:
    """Writes selection.parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name, values in columns.items():
        if values is None:
            arrays[name] = pa.nulls(len(columns["rank"]), pa.string())
        else:
            arrays[name] = _array(values)
    with folder.file("selection.parquet") as file:
        pq.write_table(pa.table(arrays), file)


def tables_to_join(source: Source, names: Iterable[str]) -> Tables:
    """The tables of a pool, for `write_joined` with columns of these names.

    Raises:
        ValueError: naming the pool, if it has none, or a column has one of the names.
    """
    tables = Tables(source)
    for name in names:
        if name in tables.schema.names:
            raise ValueError(
                f"{source.name}: has a column {name!r}, as --join writes one; rename it"
            )
    return tables


def write_joined(
    tables: Tables, rows: Int64, columns: Mapping[str, NDArray[Any]], folder: Folder
) -> None:
    """Writes joined.parquet: the picked rows in the order of the pool, in which it is read, with
    `columns`, (k,) in pick order, before their own. A masked value is written as null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    order = np.argsort(rows)
    added = pa.table({name: _array(values[order]) for name, values in columns.items()})
    schema = pa.schema([*added.schema, *tables.schema])
    with folder.file("joined.parquet") as file, pq.ParquetWriter(file, schema) as writer:
        held: list[Any] = []
        start = 0
        for table in tables.take(rows[order]):
            part = added.slice(start, len(table)).columns
            held.append(pa.table([*part, *table.columns], schema=schema))
            start += len(table)
            if sum(each.nbytes for each in held) >= _ROW_GROUP:
                writer.write_table(pa.concat_tables(held))
                held = []
        if held:
            writer.write_table(pa.concat_tables(held))


def _array(values: NDArray[Any]) -> Any:
    import pyarrow as pa

    mask = np.ma.getmaskarray(values) if np.ma.isMaskedArray(values) else None
    return pa.array(np.ma.getdata(values), mask=mask)


def versions() -> dict[str, str]:
    """Versions of the software that the figures in a report depend on."""
    return {
        "entroselect": version("entroselect"),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
