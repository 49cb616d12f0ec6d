"""An S3 server of a few requests on loopback that keeps conditions and fails exactly as a test asks.

Faults are put in a queue and each is taken by the next request of its method. Objects are in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from tests.s3_server import set_credentials


@dataclass(frozen=True)
class Fault:
    """What happens to one request of `method`.

    `status` and `code`: an error instead of an answer. `cut`: the body stops after so many bytes, by a reset of
    the connection (`how="reset"`), a silent stall until the test's end ("stall") or an orderly close ("close").
    `lost`: the request takes effect, and the connection breaks before the answer. `replace`: the object has
    this content from just before the request on.
    """

    method: str = "GET"
    status: int = 0
    code: str = "SlowDown"
    cut: int | None = None
    how: str = "close"
    lost: bool = False
    replace: bytes | None = None


@dataclass
class FaultServer:
    """Objects by `bucket/key`, the queue of faults, a log of (method, path, range), the signature of each request and
    the status of each answer.
    """

    endpoint: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)
    ignore_ranges: bool = False

    def url(self, place: str = "bucket") -> str:
        """The storage URL of `bucket/prefix` on this server."""
        return f"s3://{place}?endpoint={self.endpoint}"

    def take(self, method: str) -> Fault:
        with self.lock:
            for fault in self.faults:
                if fault.method == method:
                    self.faults.remove(fault)
                    return fault
        return Fault()


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: FaultServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _begin(self) -> tuple[str, Fault, bytes]:
        """Read the request, log it, and apply what a fault does beforehand; key, fault and body."""
        key = unquote(urlsplit(self.path).path).lstrip("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.state.log.append((self.command, key, self.headers.get("Range")))
        self.state.signatures.append(self.headers.get("Authorization", ""))
        fault = self.state.take(self.command)
        if fault.replace is not None:
            self.state.objects[key] = fault.replace
        return key, fault, body

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.state.answers.append(status)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>as asked</Message></Error>".encode())

    def _break(self, how: str) -> None:
        """End the connection: with a reset, after a stall until the test's end, or in order."""
        self.close_connection = True
        self.wfile.flush()
        if how == "stall":
            self.state.released.wait(60)
        if how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            if how == "close":
                self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()

    def do_GET(self) -> None:
        key, fault, _ = self._begin()
        query = parse_qs(urlsplit(self.path).query)
        if fault.status:
            return self._error(fault.status, fault.code)
        if "list-type" in query:
            return self._list(key, query.get("prefix", [""])[0])
        data = self.state.objects.get(key)
        if data is None:
            return self._error(404, "NoSuchKey")
        if self.headers.get("If-Match", etag(data)) != etag(data):
            return self._error(412, "PreconditionFailed")
        part, status, headers = data, 200, {"ETag": etag(data)}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked and not self.state.ignore_ranges:
            start, end = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
            if start >= len(data):
                return self._error(416, "InvalidRange")
            part, status = data[start : end + 1], 206
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        if fault.cut is None:
            return self._answer(status, part, headers)
        self._answer(status, part[: fault.cut], headers | {"Content-Length": str(len(part))})
        return self._break(fault.how)

    def do_HEAD(self) -> None:
        key, fault, _ = self._begin()
        if fault.status:
            return self._error(fault.status, fault.code)
        data = self.state.objects.get(key)
        if data is None:
            return self._answer(404)
        return self._answer(200, headers={"Content-Length": str(len(data)), "ETag": etag(data)})

    def do_PUT(self) -> None:
        key, fault, body = self._begin()
        if fault.status:
            return self._error(fault.status, fault.code)
        with self.state.lock:
            found = self.state.objects.get(key)
            wanted = self.headers.get("If-Match")
            if self.headers.get("If-None-Match") == "*" and found is not None:
                return self._error(412, "PreconditionFailed")
            if wanted is not None and found is None:
                return self._error(404, "NoSuchKey")
            if wanted is not None and found is not None and wanted != etag(found):
                return self._error(412, "PreconditionFailed")
            self.state.objects[key] = body
        if fault.lost:
            return self._break("reset")
        return self._answer(200, headers={"ETag": etag(body)})

    def do_DELETE(self) -> None:
        key, _, _ = self._begin()
        self.state.objects.pop(key, None)
        self._answer(204)

    def _list(self, bucket: str, prefix: str) -> None:
        root = bucket.rstrip("/") + "/"
        items = []
        for name, data in sorted(self.state.objects.items()):
            if name.startswith(root + prefix):
                key = escape(name.removeprefix(root))
                items.append(
                    f"<Contents><Key>{key}</Key><Size>{len(data)}</Size><ETag>{escape(etag(data))}</ETag></Contents>"
                )
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(items)}</ListBucketResult>"
        self._answer(200, body.encode(), {"Content-Type": "application/xml"})


@contextlib.contextmanager
def serving() -> Iterator[FaultServer]:
    """Run a server on a port the system chooses until the block ends."""
    state = FaultServer()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def fault_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """A fresh server with credentials in the environment."""
    set_credentials(monkeypatch)
    with serving() as state:
        yield state
