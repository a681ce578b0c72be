"""safetensors and Zarr: every dtype, groups, and hostile metadata."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from entroselect import open_pool
from tests.support.sources import D, X, check, values, write_safetensors


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("F16", "<f2"), ("BF16", "bfloat16"), ("F32", "<f4"), ("F64", "<f8"), ("I16", "<i2"),
     ("I64", "<i8"), ("U8", "|u1"), ("BOOL", "|b1")],
)  # fmt: skip
def test_safetensors(tmp_path, name, dtype):
    given = values(dtype)
    write_safetensors(tmp_path / "x.safetensors", name, given)
    stored = "bfloat16" if dtype == "bfloat16" else None
    source = open_pool(tmp_path / "x.safetensors", key="x")
    check(source, given, stored)
    assert source.stored == (stored or given.dtype.name)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<i2", "<f8"])
def test_zarr(tmp_path, dtype, version):
    zarr = pytest.importorskip("zarr")
    given = values(dtype)
    array = zarr.create_array(
        tmp_path / "x.zarr", shape=given.shape, chunks=(20, 3), dtype=dtype, zarr_format=version
    )
    array[:] = given
    check(open_pool(tmp_path / "x.zarr"), given)


def test_zarr_groups(tmp_path):
    zarr = pytest.importorskip("zarr")
    given = values("<f4")
    group = zarr.open_group(tmp_path / "g", mode="w")
    group.create_array("one", shape=(3,), dtype="i4")
    group.create_array("deep/two", shape=given.shape, dtype="f4", chunks=(64, D))[:] = given
    check(open_pool(tmp_path / "g", key="deep/two"), given)
    with pytest.raises(ValueError, match=r"g: holds several arrays.*deep/two \(211, 7\)"):
        open_pool(tmp_path / "g")
    with pytest.raises(ValueError, match=r"one: is one Zarr array.*drop the key"):
        open_pool(tmp_path / "g/one", key="x")


# Zarr


def zarr_json(folder, **changes):
    about = json.loads((folder / ".zarray").read_text())
    (folder / ".zarray").write_text(json.dumps(about | changes))


@pytest.fixture
def store(tmp_path):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(tmp_path / "x.zarr", shape=X.shape, chunks=(20, 3), dtype="f4",
                              zarr_format=2)  # fmt: skip
    array[:] = X
    return tmp_path / "x.zarr"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"filters": [{"id": "pickle"}]}, "pickled Python objects.*never loaded"),
        ({"compressor": {"id": "pickle"}}, "pickled Python objects.*never loaded"),
        ({"compressor": {"id": "of-mine"}}, "'of-mine', which is not on the list of codecs"),
        ({"compressor": "zlib"}, "its codecs have no names"),
        ({"filters": [{"id": ["zlib"]}]}, "its codecs have no names"),
        ({"filters": 1.5}, "its codecs have no names"),
        ({"filters": {"id": "pickle"}}, "pickled Python objects"),
        ({"dtype": "|O"}, "pickled Python objects"),
        ({"dtype": "<M8[s]"}, "dtype datetime64.* is not supported"),
        ({"dtype": [["a", "<f4"]]}, "dtype .* is not supported"),
        ({"dtype": "<q4"}, "damaged"),
        ({"chunks": [0, 6]}, "its chunks are no 2 lengths"),
        ({"chunks": [-1, 3]}, "its chunks are no 2 lengths"),
        ({"chunks": [20]}, "its chunks are no 2 lengths"),
        ({"chunks": [1 << 60, 1 << 60]}, "larger than any store"),
        ({"chunks": [1 << 40, 3]}, "a row of chunks .* takes .*fewer rows to a chunk"),
        ({"shape": [-50, 3]}, "its shape is"),
        ({"shape": [50, 1 << 61]}, "larger than any store"),
        ({"shape": "many"}, "its shape is"),
    ],
)
def test_hostile_zarr(store, changes, says):
    zarr_json(store, **changes)
    with pytest.raises((ValueError, TypeError), match=rf"x\.zarr: .*{says}"):
        open_pool(store)


def test_zarr_that_unpickles_runs_nothing(store, tmp_path):
    """The chunk would make a file, were it loaded."""
    import pickle

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    zarr_json(store, filters=[{"id": "pickle"}], compressor=None)
    (store / "0.0").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="pickled"):
        open_pool(store).read(0, 50)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("codec", [{"name": "numcodecs.pickle"}, {"name": "vlen-utf8"}, "pickle",
                                   {"name": "sharding_indexed", "configuration":
                                    {"codecs": [{"name": "numcodecs.pickle"}]}}])  # fmt: skip
def test_hostile_zarr_3(tmp_path, codec):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(tmp_path / "g/x", shape=X.shape, chunks=(20, 3), dtype="f4")[:] = X
    (tmp_path / "g/zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    assert np.array_equal(open_pool(tmp_path / "g").read(0, 50), X)
    about = json.loads((tmp_path / "g/x/zarr.json").read_text())
    about["codecs"].append(codec)
    (tmp_path / "g/x/zarr.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"g: holds pickled Python objects"):
        open_pool(tmp_path / "g")
