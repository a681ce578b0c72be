"""Servers of objects on the loopback: a plain one that can misbehave, and moto's S3."""

from __future__ import annotations

import hashlib
import io
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

X = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)
ROWS = np.array([0, 3, 4, 250, 251, 499])

Fault = Callable[["_Handler", bytes], bytes | None]


class ObjectServer(ThreadingHTTPServer):
    """Objects by their paths, with ranges and ETags. It also is what S3 clients need to read.

    Attributes:
        objects: path -> content.
        faults: taken one for each GET, first the first: gets the answer's content and returns
            another, or None once the request was dealt with.
        asked: (method, path, range) of all requests.
        ranges: whether ranges are heeded.
        gate: a status with which all requests are answered; None: none.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str, str | None]] = []
        self.ranges = True
        self.gate: int | None = None
        self.url = f"http://127.0.0.1:{self.server_port}"

    def index(self, folder: str) -> bytes:
        """A page with links to what is in a folder."""
        inner = {path.removeprefix(folder) for path in self.objects if path.startswith(folder)}
        names = {name.partition("/")[0] + ("/" if "/" in name else "") for name in inner}
        return "".join(f'<a href="{name}">{name}</a>\n' for name in sorted(names)).encode()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that clients give up are expected."""


class _Handler(BaseHTTPRequestHandler):
    server: ObjectServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def _answer(self, send: bool) -> None:
        path = self.path.partition("?")[0]
        wanted = self.headers.get("Range")
        self.server.asked.append((self.command, path, wanted))
        if self.server.gate is not None:
            self.fail(self.server.gate)
            return
        content = self.server.objects.get(path)
        if path.endswith("/"):
            content = self.server.index(path)
        if content is None:
            self.fail(404)
            return
        status, start, size, tag = 200, 0, len(content), hashlib.md5(content).hexdigest()
        if wanted and self.server.ranges:
            first, last = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted).groups()
            status, start = 206, int(first)
            content = content[start : int(last) + 1]
        if send and self.server.faults:
            faulty = self.server.faults.pop(0)(self, content)
            if faulty is None:
                return
            content = faulty
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{tag}"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{size}")
        self.end_headers()
        if send:
            self.wfile.write(content)

    def fail(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """No lines on stderr."""


def hang_up(handler: _Handler, content: bytes) -> None:
    """Ends the connection in the middle of the answer."""
    handler.send_response(206)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def answer_short(handler: _Handler, content: bytes) -> bytes:
    """Fewer bytes than were asked for, as if the object had no more."""
    return content[:-1]


def refuse(status: int) -> Fault:
    """A fault: an HTTP status in place of the content."""

    def fault(handler: _Handler, content: bytes) -> None:
        handler.fail(status)

    return fault


@contextmanager
def serving(server: Any) -> Iterator[Any]:
    """Runs a server in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def parquet(array, first=0):
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    ids = [f"row{first + row}" for row in range(len(array))]
    pq.write_table(pa.table({"v": list(array), "id": ids}), file, row_group_size=100)
    return file.getvalue()


def npz(array):
    file = io.BytesIO()
    np.savez_compressed(file, x=array)
    return file.getvalue()


def safetensors(array):
    numpy = pytest.importorskip("safetensors.numpy")
    return numpy.save({"other": array[:3], "x": array})


FILES = {"npy": npy, "npz": npz, "parquet": parquet, "safetensors": safetensors}


def put(filesystem, key, content):
    with filesystem.open_output_stream(key) as file:
        file.write(content)


def check(pool, rows=X):
    assert pool.shape == rows.shape
    assert np.array_equal(pool.read(0, len(rows)), rows)
    assert np.array_equal(pool.read(7, 300), rows[7:300])
    assert np.array_equal(pool.take(ROWS), rows[ROWS])
    assert np.array_equal(pool.rows("pool").values, rows)
