"""Formats that other libraries decode: safetensors, parquet, Zarr, Lance, Arrow streams."""

from __future__ import annotations

import importlib.util
import io
import json
import struct
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.driver import Targets
from tests.fuzz.fuzz_files import X, joined, on_file, on_folder, packed, rows


def targets() -> Targets:
    found: Targets = {
        "safetensors": ([safetensors("F32"), safetensors("BF16")], on_file("safetensors", rows)),
        "parquet": (
            [parquet(compression="snappy"), parquet(compression="none", write_statistics=False),
             parquet(compression="zstd", use_dictionary=False, write_page_checksum=True)],
            on_file("parquet", rows),
        ),
        "parquet-shards": (
            [joined({"0.parquet": parquet(), "1.parquet": parquet()})], on_folder(rows)
        ),
        "arrow": ([saved()], on_folder(rows)),
    }  # fmt: skip
    if importlib.util.find_spec("zarr"):  # not for Python 3.10
        found["zarr"] = ([stored(2), stored(3), group()], on_folder(rows))
    if importlib.util.find_spec("lance"):
        found["lance"] = ([dataset()], on_folder(rows))
    return found


def table() -> pa.Table:
    vectors = pa.array(list(X), pa.list_(pa.float32()))
    return pa.table({"v": vectors, "id": [f"row {row}" for row in range(len(X))]})


def safetensors(kind: str) -> bytes:
    length = 96 if kind == "F32" else 48
    entries = {"x": {"dtype": kind, "shape": [8, 3], "data_offsets": [0, length]}}
    header = json.dumps({"__metadata__": {"a": "b"}, **entries}).encode()
    return struct.pack("<Q", len(header)) + header + X.tobytes()[:length]


def parquet(**options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table(), buffer, row_group_size=5, **options)
    return buffer.getvalue()


def saved() -> bytes:
    """As `datasets.Dataset.save_to_disk` writes it."""
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, table().schema) as stream:
        stream.write_table(table(), max_chunksize=5)
    state = json.dumps({"_data_files": [{"filename": "data.arrow"}]}).encode()
    return joined({"state.json": state, "data.arrow": buffer.getvalue()})


def stored(version: int) -> bytes:
    import zarr

    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(
            Path(folder) / "x", shape=X.shape, chunks=(5, 3), dtype="f4", zarr_format=version
        )
        array[:] = X
        return packed(Path(folder) / "x")


def dataset() -> bytes:
    """Of Lance, in two files."""
    import lance

    with tempfile.TemporaryDirectory() as folder:
        lance.write_dataset(table(), Path(folder) / "x", max_rows_per_file=5)
        return packed(Path(folder) / "x")


def group() -> bytes:
    import zarr

    with tempfile.TemporaryDirectory() as folder:
        inside = zarr.open_group(Path(folder) / "x", mode="w").create_group("deep")
        array = inside.create_array("y", shape=X.shape, chunks=(4, 3), shards=(8, 3), dtype="f4")
        array[:] = np.asarray(X)
        return packed(Path(folder) / "x")
