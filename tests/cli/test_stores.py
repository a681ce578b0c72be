"""Addresses of object stores as pools of the commands."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

import entroselect
from tests.support.commands import fails, ok
from tests.support.stores import ObjectServer, serving

pytest.importorskip("aiohttp")
pytest.importorskip("pyarrow.fs")


@pytest.fixture
def server(folder, monkeypatch):
    """A server with the pool of `folder`, for https and for S3."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    with serving(ObjectServer()) as server:
        file = io.BytesIO()
        np.save(file, np.load("pool.npy"))
        server.objects["/bucket/x.npy"] = file.getvalue()
        yield server


def test_commands_read_addresses(server):
    pool, url = np.load("pool.npy"), server.url + "/bucket/x.npy"
    expected = entroselect.greedy_select(pool, 5).indices.tolist()
    ok("select", url, "-k", 5, "-o", "out", "--cache", "kept")
    assert np.load("out/indices.npy").tolist() == expected
    report = json.loads(Path("out/report.json").read_text())
    assert report["input"]["path"] == report["options"]["pool"] == url
    assert report["options"]["cache"] == "kept"
    asked = len(server.asked)
    s3 = ("s3://bucket/x.npy", "--endpoint-url", server.url)
    found = json.loads(ok("entropy", *s3, "--json", "--memory-limit", "512MiB").stdout)
    assert found["entropy_nats"] == float(entroselect.kl_entropy(pool))
    assert found["input"]["path"] == s3[0]
    assert len(server.asked) > asked
    ok("deduplicate", *s3, "--distance", 1, "-o", "kept-rows")
    kept = entroselect.deduplicate(pool, 1.0).indices
    assert np.load("kept-rows/indices.npy").tolist() == kept.tolist()
    asked = [method for method, _, _ in server.asked].count("GET")
    ok("nearest", url, "pool.npy", "-o", "near", "--cache", "kept")
    assert not np.load("near/distances.npy").any()
    assert [method for method, _, _ in server.asked].count("GET") == asked
    ok("diagnose", s3[0], url, *s3[1:], "--cache", "kept")


def test_bad_use_of_addresses(server):
    url, out = server.url + "/bucket/none.npy?signature=secret", ("-o", "out", "-k", 3)
    found = fails(1, "select", url, *out, saying=["/bucket/none.npy: no such object"])
    assert "secret" not in found.output
    assert not Path("out").exists()
    fails(2, "select", "pool.npy", *out, "--cache", "kept", saying=["--cache", "addresses"])
    fails(2, "select", url, *out, "--endpoint-url", "http://x", saying=["--endpoint-url", "s3://"])
    for wrong in ("localhost:9000", "ftp://x"):
        s3 = ("s3://bucket/x.npy", "--endpoint-url", wrong)
        fails(2, "entropy", *s3, saying=["--endpoint-url", "expected http://", wrong])
    fails(
        1, "entropy", server.url + "/bucket/x.npy", "--cache", "pool.npy", saying=["--cache: pool"]
    )
