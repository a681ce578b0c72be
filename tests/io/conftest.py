"""Servers of objects for the tests of pools in stores."""

from __future__ import annotations

import pytest

from entroselect import open_pool
from entroselect.io import remote
from tests.support.stores import ObjectServer, serving


@pytest.fixture(scope="module")
def running():
    with serving(ObjectServer()) as server:
        yield server


@pytest.fixture
def server(running, monkeypatch):
    running.objects.clear()
    running.faults.clear()
    running.asked.clear()
    running.gate = None
    running.ranges = True
    monkeypatch.setattr(remote, "WAITS", (0, 0, 0))
    return running


@pytest.fixture
def s3(server):
    """The same server as S3: HEAD and GET of objects are the same there."""
    fs = pytest.importorskip("pyarrow.fs")
    return fs.S3FileSystem(
        access_key="k",
        secret_key="s",
        region="us-east-1",
        endpoint_override=server.url,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
    )


@pytest.fixture(params=["http", "s3"])
def store(request, server):
    """A function that opens what the server has at a path."""
    if request.param == "http":
        return lambda path, **options: open_pool(server.url + path, **options)
    filesystem = request.getfixturevalue("s3")
    return lambda path, **options: open_pool(f"s3:/{path}", filesystem=filesystem, **options)


@pytest.fixture(scope="module")
def moto():
    """moto's S3, empty, as a file system of pyarrow."""
    pytest.importorskip("moto")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    made = pytest.importorskip("pyarrow.fs").S3FileSystem(
        access_key="k",
        secret_key="s",
        region="us-east-1",
        endpoint_override=f"http://127.0.0.1:{port}",
        allow_bucket_creation=True,
    )
    made.create_dir("bucket")
    yield made
    server.stop()
