"""Parquet with a column of encoded images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entroselect.io.errors import damaged
from entroselect.loop.decode import Notes, check_memory, shown, stack
from entroselect.loop.labels import NAMES, chosen, numbered
from entroselect.loop.pictures import Read

IMAGES = ("image", "images", "img")


def read_parquet(path: Path, image: str | None, label: str | None, notes: Notes) -> Read:
    """Images and labels by the names of the columns; see data.load."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError("reading parquet needs pyarrow: pip install pyarrow") from None
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            declared = _declared(schema)
            images, labels = _columns(schema, declared, image, label, notes)
            values: list[Any] = []
            pixels = stack(_rows(file, images, labels, values), rows, notes)
    except (pa.ArrowException, OSError, KeyError, IndexError, OverflowError) as error:
        raise damaged(path.name, shown(str(error))) from None
    if labels is None:
        return pixels, None, ()
    try:
        return pixels, *numbered(values, declared.get(labels, ()))
    except ValueError as error:
        raise ValueError(f"column {shown(labels)}: {error}") from None


def _rows(
    file: Any, images: str, labels: str | None, values: list[Any]
) -> Iterator[tuple[str, bytes]]:
    """(row, encoded image) one by one; the labels are put into `values` on the way."""
    for group in range(file.num_row_groups):
        check_memory(f"row group {group}", file.metadata.row_group(group).total_byte_size)
    row = 0
    for batch in file.iter_batches(64, columns=[images, *([labels] if labels else ())]):
        here = batch.column(images).to_pylist()
        marks = batch.column(labels).to_pylist() if labels else [None] * len(here)
        for item, mark in zip(here, marks, strict=True):
            name = f"row {row}"
            if isinstance(item, dict):
                path, item = item.get("path"), item["bytes"]
                if item is None and path:
                    raise ValueError(
                        f"{name}: holds a path ({shown(str(path))}) and not the image; write the "
                        "images into the table, or give the folder"
                    )
            if item is None:
                raise ValueError(f"{name}: has no image; drop such rows")
            if labels and mark is None:
                raise ValueError(f"{name}: has no label in {shown(labels)}; drop such rows")
            values.append(mark)
            yield name, item
            row += 1


def _columns(
    schema: Any, declared: dict[str, list[str]], image: str | None, label: str | None, notes: Notes
) -> tuple[str, str | None]:
    names = schema.names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"has two columns {shown(twice)}; drop or rename one")
    types = {name: _brief(schema.field(name).type) for name in names}
    encoded = {name: types[name] for name in names if _encoded(schema.field(name).type)}
    if not encoded:
        listed = ", ".join(f"{shown(name)} ({kind})" for name, kind in types.items())
        raise ValueError(f"no column of encoded images; it holds {listed}")
    images = chosen("images", "data.image_column", image, encoded, IMAGES)
    if images is None and len(encoded) > 1:
        raise ValueError(
            f"{', '.join(map(shown, encoded))} could hold images; choose one with data.image_column"
        )
    images = images or next(iter(encoded))
    rest = {name: kind for name, kind in types.items() if name not in encoded}
    for name in encoded:
        if name != images:
            notes.add("columns of bytes beside the images, passed over", shown(name))
    labels = chosen("labels", "data.label_column", label, rest, {*NAMES, *map(str.lower, declared)})
    if labels is None and rest:
        notes.add(
            "columns of which none is called label or the like (data.label_column chooses one)",
            shown(next(iter(rest))),
            len(rest),
        )
    return images, labels


def _encoded(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _encoded(kind.field(at).type)
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


def _brief(kind: Any) -> str:
    text = str(kind)
    return text if len(text) <= 40 else text[:37] + "..."


def _declared(schema: Any) -> dict[str, list[str]]:
    """Names of classes by column, as Hugging Face datasets writes them into the file."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
