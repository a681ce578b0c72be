"""Local copies of objects: complete or absent."""

from __future__ import annotations

import functools
import re

import pytest

from entroselect import open_pool
from entroselect.io import remote, stores
from entroselect.io.copies import local_copy
from tests.support.stores import X, check, hang_up, npy, put

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")
pytest.importorskip("pyarrow.fs")


def test_a_copy_is_used_again_while_nothing_changed(server, store, tmp_path):
    server.objects["/bucket/x.npy"] = npy(X)
    for _ in range(2):
        pool = store("/bucket/x.npy", cache=tmp_path / "kept")
        check(pool)
        assert re.match(r"(http|s3)://.*bucket/x\.npy", pool.name)
    assert sum(method == "GET" for method, _, _ in server.asked) == 1
    server.objects["/bucket/x.npy"] = npy(-X)
    check(store("/bucket/x.npy", cache=str(tmp_path / "kept")), -X)
    check(pool)  # the copy of the first is whole


def test_a_copy_is_complete_or_absent(server, store, tmp_path):
    server.objects["/bucket/x.npy"] = npy(X)
    server.faults[:] = [hang_up] * 4
    with pytest.raises(ValueError, match=r"/bucket/x\.npy: cannot be read, 4 requests failed"):
        store("/bucket/x.npy", cache=tmp_path)
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {".lock"}

    def change(handler, content):
        server.objects["/bucket/x.npy"] = npy(-X)
        return content

    server.faults[:] = [change]
    with pytest.raises(ValueError, match=r"/bucket/x\.npy: changed"):
        store("/bucket/x.npy", cache=tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {".lock"}
    (tmp_path / "objects" / "killed.partial").write_bytes(b"half")
    (tmp_path / "pools" / "killed.partial").mkdir()
    pool = store("/bucket/x.npy", cache=tmp_path)
    check(pool, -X)
    assert not list(tmp_path.rglob("*.partial"))
    whole = next(path for path in (tmp_path / "pools").rglob("x.npy"))
    whole.write_bytes(b"cut short")  # the object as well: they are one file
    check(store("/bucket/x.npy", cache=tmp_path), -X)


def test_of_a_folder_only_what_changed_is_copied(server, tmp_path):
    for number in range(5):
        server.objects[f"/pool/{number}.npy"] = npy(X[number * 100 :][:100])
    for changed in (5, 1):
        server.asked.clear()
        pool = open_pool(server.url + "/pool/", cache=tmp_path)
        check(pool)
        gets = [path for method, path, _ in server.asked if (method, path[-1]) == ("GET", "y")]
        assert len(gets) == changed
        server.objects["/pool/3.npy"] += b"left over"


def test_many_processes_make_one_copy(server, tmp_path):
    server.objects["/x.npy"] = npy(X)
    found = remote.at_once(
        [functools.partial(open_pool, server.url + "/x.npy", cache=tmp_path)] * 4, 4
    )
    for pool in found:
        check(pool)
    assert sum(method == "GET" for method, _, _ in server.asked) == 1


def test_folders_of_chunks_are_read_from_a_copy(moto, tmp_path):
    zarr = pytest.importorskip("zarr")
    if not hasattr(zarr.Group, "members"):
        pytest.skip("zarr 2")
    zarr.save_array(str(tmp_path / "x.zarr"), X)
    for path in (tmp_path / "x.zarr").rglob("*"):
        if path.is_file():
            put(moto, f"bucket/{path.relative_to(tmp_path)}", path.read_bytes())
    with pytest.raises(ValueError, match=r"s3://bucket/x\.zarr: .*from a local copy.*--cache"):
        open_pool("s3://bucket/x.zarr", filesystem=moto)
    check(open_pool("s3://bucket/x.zarr", filesystem=moto, cache=tmp_path / "kept"))


def test_names_cannot_lead_out_of_the_cache(tmp_path):
    class Hostile:
        def find(self, key):
            return stores.Found(key, key == "bucket/pool", 3, "1")

        def list(self, key):
            return [stores.Found("bucket/pool/..", False), stores.Found("bucket/pool/a.npy", False)]

    path = remote.RemotePath(Hostile(), "bucket/pool", "s3://bucket/pool")
    with pytest.raises(ValueError, match=r"s3://bucket/pool/\.\.: has a name that no file may"):
        local_copy(path, tmp_path, lambda each: True)
    assert not list(tmp_path.iterdir())
