"""A receiver of webhooks under test: a real HTTP server that answers by a script, or not at all."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.integration.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Received:
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer.

    Attributes:
        status: 0 cuts the connection off without an answer.
        body: sent as it is.
        raw: sent in place of everything else.
        waits: not before the receiver's `go` is set.
    """

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    raw: bytes = b""
    waits: bool = False


RESET = Reply(0)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away."""


class Receiver:
    """Runs on a port of its own, which it keeps when it is stopped and started again.

    Attributes:
        requests: what came, in order.
        go: lets answers go that wait.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.go = threading.Event()
        self._scripts: defaultdict[str, deque[Reply]] = defaultdict(deque)
        self._tls = tls
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._port = 0
        self._connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def script(self, path: str, *replies: Reply) -> None:
        """Answer the next requests to a path like this; later ones get 204."""
        self._scripts[path].extend(replies)

    def at(self, path: str) -> list[Received]:
        """Return the requests that came to a path."""
        return [request for request in list(self.requests) if request.path == path]

    def wait_for(self, path: str, count: int = 1) -> list[Received]:
        """Wait until so many requests came to a path."""
        wait_until(lambda: len(self.at(path)) >= count)
        return self.at(path)

    def start(self) -> None:
        """Listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def setup(self) -> None:
                super().setup()
                receiver._connections.add(self.connection)

            def finish(self) -> None:
                receiver._connections.discard(self.connection)
                super().finish()

            def do_POST(self) -> None:
                receiver._answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and cut off every connection."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self._server = None
        self.go.set()
        server.shutdown()
        thread.join()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed by the other side
        server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        script = self._scripts[handler.path]
        reply = script.popleft() if script else Reply()
        self.requests.append(Received(handler.path, dict(handler.headers), body))
        if reply.waits:
            self.go.wait(60)
        if reply.raw:
            handler.wfile.write(reply.raw)
            handler.close_connection = True
        elif not reply.status:
            linger = struct.pack("ii", 1, 0)  # the kernel sends RST instead of FIN
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.close_connection = True
            handler.connection.close()
        else:
            handler.send_response(reply.status)
            for name, value in reply.headers.items():
                handler.send_header(name, value)
            if reply.status != 204:
                handler.send_header("Content-Length", str(len(reply.body)))
            handler.end_headers()
            handler.wfile.write(reply.body)


@contextmanager
def running_receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a receiver for the time of the block."""
    receiver = Receiver(tls)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()
