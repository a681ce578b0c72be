"""Pools in object stores: right rows or an error, from real HTTP servers."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from entroselect import greedy_select, open_pool
from entroselect.io import remote, source, stores
from tests.support.stores import (
    FILES,
    ROWS,
    X,
    answer_short,
    check,
    hang_up,
    npy,
    parquet,
    put,
    refuse,
)

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")
fs = pytest.importorskip("pyarrow.fs")


@pytest.mark.parametrize("format", FILES)
def test_every_format_gives_the_same_rows(server, store, format):
    server.objects[f"/bucket/x.{format}"] = FILES[format](X)
    pool = store(f"/bucket/x.{format}", key="x" if format == "safetensors" else None)
    check(pool)
    assert pool.name.endswith(f"/bucket/x.{format}")
    ids = pool.ids(ROWS)
    assert (ids is None) == (format != "parquet")
    assert ids is None or ids.tolist() == [f"row{row}" for row in ROWS]


def test_folders_of_shards_in_s3(moto, tmp_path):
    """moto's real listing: names in order, ids beside, hidden files left out."""
    for number, first in enumerate(range(0, 500, 200)):
        part = X[first : first + 200]
        put(moto, f"bucket/pool/img_{number}.npy", npy(part))
        put(moto, f"bucket/pool/meta_{number}.parquet", parquet(part, first))
    put(moto, "bucket/pool/_hidden.npy", npy(X[:, :3]))
    put(moto, "bucket/pool/inner/x.npy", npy(X[:, :3]))
    expected = greedy_select(X, 30).indices.tolist()
    for options in ({}, {"cache": tmp_path}):
        pool = open_pool("s3://bucket/pool/", filesystem=moto, **options)
        check(pool)
        assert pool.name == "s3://bucket/pool/"
        assert pool.ids(ROWS).tolist() == [f"row{row}" for row in ROWS]
        assert greedy_select(pool, 30, memory_limit="256MiB").indices.tolist() == expected
    with pytest.raises(ValueError, match=r"s3://bucket/: holds no .*; its folders are .*pool"):
        open_pool("s3://bucket/", filesystem=moto)
    for address in ("s3://bucket/pool/img_9.npy", "s3://bucket/nothing/", "s3://other/x.npy"):
        with pytest.raises(ValueError, match=rf"{address}: no such object or folder"):
            open_pool(address, filesystem=moto)


def test_an_address_that_says_all_and_the_environment(server, monkeypatch):
    server.objects["/bucket/x.npy"] = npy(X)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    where = server.url.removeprefix("http://")
    check(open_pool(f"s3://bucket/x.npy?scheme=http&region=x&endpoint_override={where}"))
    check(open_pool([Path("s3://bucket/x.npy")], filesystem=stores.s3_at(server.url)))


def test_folders_behind_an_index_page(server):
    for number, first in enumerate(range(0, 500, 100)):
        server.objects[f"/pool/{number}.npy"] = npy(X[first : first + 100])
    check(open_pool(server.url + "/pool/"))
    check(open_pool(Path(server.url + "/pool/")))  # which has lost two slashes


def test_a_server_without_ranges(server):
    server.objects["/x.npy"] = npy(X)
    pool = open_pool(server.url + "/x.npy")
    server.ranges = False
    with pytest.raises(ValueError, match=r"/x\.npy: .*does.*support range requests"):
        pool.read(10, 20)


@pytest.mark.parametrize("fault", [hang_up, answer_short, refuse(503), refuse(500)])
@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_a_failed_request_is_made_again(server, store, format, fault):
    server.objects["/bucket/x"] = FILES[format](X)
    pool = store("/bucket/x")
    for _ in range(2):
        server.faults[:] = [fault] * 2
        assert np.array_equal(pool.read(100, 300), X[100:300])
        assert not server.faults
        pool._release()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (hang_up, r"4 requests failed .*check the network and the store"),
        (answer_short, r"4 requests failed \(.*\d+ bytes.*\)"),
        (refuse(503), r"4 requests failed"),
        (refuse(404), r"is not there|4 requests failed"),
        (refuse(403), r"access was refused .*AWS_SECRET_ACCESS_KEY.*a filesystem"),
    ],
)
def test_a_request_that_always_fails_is_an_error(server, store, fault, says):
    server.objects["/bucket/x.npy"] = npy(X)
    pool = store("/bucket/x.npy")
    server.faults[:] = [fault] * 8
    with pytest.raises(ValueError, match=rf"/bucket/x\.npy: .*{says}"):
        pool.read(0, 500)
    server.faults.clear()
    check(pool)


def test_credentials_that_are_missing(server, store):
    server.gate = 403
    with pytest.raises(ValueError, match=r"/bucket/x\.npy: access was refused .*credentials"):
        store("/bucket/x.npy")


def test_a_late_answer_is_a_failed_request(server, monkeypatch):
    monkeypatch.setattr(stores, "LATE", 0.2)
    server.objects["/x.npy"] = npy(X)

    def late(handler, content):
        time.sleep(0.6)
        return content

    pool = open_pool(server.url + "/x.npy")
    server.faults[:] = [late]
    assert np.array_equal(pool.read(0, 500), X)
    server.faults[:] = [late] * 4
    with pytest.raises(ValueError, match=r"/x\.npy: cannot be read, 4 requests failed"):
        pool.read(0, 500)


@pytest.mark.parametrize("format", FILES)
def test_a_changed_object_is_an_error(server, store, format):
    """Same size, same second: the ETag alone tells."""
    path, key = f"/bucket/x.{format}", "x" if format == "safetensors" else None
    server.objects[path] = FILES[format](X)
    pool = store(path, key=key)
    changed = bytearray(server.objects[path])
    changed[len(changed) // 2] ^= 1
    server.objects[path] = bytes(changed)
    if format == "npz":  # which is in memory
        check(pool)
        return
    for asks in (lambda: pool.read(0, 500), lambda: pool.take(ROWS), lambda: pool.rows("pool")):
        with pytest.raises(ValueError, match=rf"/bucket/x\.{format}: changed since it was opened"):
            asks()


@pytest.mark.parametrize("format", ["npy", "npz", "parquet"])
def test_an_object_that_changes_while_it_is_read(server, store, format):
    path = f"/bucket/x.{format}"
    old, new = FILES[format](X), FILES[format](-X)
    server.objects[path] = old
    pool = None if format == "npz" else store(path)

    def change(handler, content):
        server.objects[path] = new
        return content

    server.faults[:] = [change]
    with pytest.raises(ValueError, match=rf"/bucket/x\.{format}: changed since it was opened"):
        (pool or store(path)).read(0, 500)


def test_one_shard_that_changed(server, store):
    for number in range(3):
        server.objects[f"/pool/{number}.npy"] = npy(X)
    base = server.url + "/pool/"
    pool = open_pool([f"{base}{number}.npy" for number in range(3)])
    server.objects["/pool/1.npy"] = npy(-X)
    assert np.array_equal(pool.read(0, 500), X)  # of the first shard
    with pytest.raises(ValueError, match=r"/pool/1\.npy: changed"):
        pool.take(np.array([0, 700, 1200]))


def test_requests_are_few_and_parallel(server, store, monkeypatch):
    monkeypatch.setattr(source, "PART", 64 * 100)  # a row has 64 bytes
    server.objects["/bucket/x.npy"] = npy(X)
    pool = store("/bucket/x.npy")
    pool._read_through = 64 * 10
    server.asked.clear()
    both = threading.Barrier(2, timeout=10)

    def together(handler, content):
        both.wait()  # breaks unless two requests are there at a time
        return content

    server.faults[:] = [together] * 4
    assert np.array_equal(pool.read(0, 400), X[:400])
    gets = [wanted for method, _, wanted in server.asked if method == "GET"]
    assert len(gets) == 4
    server.asked.clear()
    rows = np.array([0, 5, 10, 40, 41, 200, 299, 305])
    before = pool.bytes_read
    assert np.array_equal(pool.take(rows), X[rows])
    gets = [wanted for method, _, wanted in server.asked if method == "GET"]
    # 0 to 10 through gaps, 40 to 41, 200; 299 and 305 stand in two windows
    assert len(gets) == 5
    assert pool.bytes_read - before == 64 * (11 + 2 + 1 + 1 + 1)
    heads = sum(method == "HEAD" for method, _, _ in server.asked)
    assert 1 <= heads <= 1 + remote.AT_ONCE  # S3: each connection asks once


def test_signatures_and_passwords_are_not_shown(server):
    server.objects["/x.npy"] = npy(X)
    pool = open_pool(server.url + "/x.npy?signature=secret")
    check(pool)
    assert "secret" not in str(pool.describe())
    del server.objects["/x.npy"]
    for gate in (None, 403, 503):
        server.gate = gate
        for asks in (lambda: pool.read(0, 3), lambda: open_pool(server.url + "/x.npy?sig=secret")):
            with pytest.raises(ValueError, match=r"/x\.npy: ") as caught:
                asks()
            assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="holds a password") as caught:
        open_pool("s3://key:secret@bucket/x.npy")
    assert "secret" not in str(caught.value)


def test_what_cannot_be_opened(tmp_path, server, monkeypatch):
    np.save(tmp_path / "x.npy", X)
    check(open_pool(f"file://{tmp_path}/x.npy"))
    check(open_pool(str(tmp_path / "x.npy"), filesystem=fs.LocalFileSystem()))
    with pytest.raises(ValueError, match=r"cache: .*x\.npy is on this machine; drop cache"):
        open_pool(tmp_path / "x.npy", cache=tmp_path / "kept")
    with pytest.raises(ValueError, match=r"filesystem, cache: .*got ndarray"):
        open_pool(X, cache=tmp_path / "kept")
    with pytest.raises(TypeError, match="cache: expected the path of a folder, got 3"):
        open_pool("s3://bucket/x.npy", cache=3)
    with pytest.raises(TypeError, match=r"filesystem: expected one of pyarrow\.fs .*got int"):
        open_pool("s3://bucket/x.npy", filesystem=3)
    with pytest.raises(ValueError, match=r"nope://x/y\.npy: its store cannot be opened .*nope"):
        open_pool("nope://x/y.npy")
    server.objects["/x.npy"] = npy(X)
    with pytest.raises(ValueError, match=r"cache: .*x\.npy cannot hold a copy of http"):
        open_pool(server.url + "/x.npy", cache=tmp_path / "x.npy")
    for package, address in (("fsspec", "https://x/y.npy"), ("pyarrow", "s3://x/y.npy")):
        with monkeypatch.context() as patch:
            for name in [name for name in sys.modules if name.partition(".")[0] == package]:
                patch.setitem(sys.modules, name, None)
            with pytest.raises(ValueError, match=rf"{address}: .*needs {package}.*\[stores\]"):
                open_pool(address)
