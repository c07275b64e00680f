"""An orchestrator under a test's command: it notes what agents say, and answers as it is told."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.agents import Answer
from tests.integration.waiting import wait_until

HEARTBEAT_S = 0.2
OFFER_WAIT_S = 0.2
"""How long a fetch waits here: a test must be able to stop the stub."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of agents that go away."""


@dataclass
class StubOrchestrator:
    """Keeps its port when it is stopped and started again.

    Attributes:
        token: what agents must show; None for nothing.
        registrations, heartbeats, goodbyes, reports: what came, in order.
        shown: the bearer tokens that came.
        offers: what agents that pull are given: a body and headers.
        lost, cancel: what the next heartbeat is told.
        is_deaf: reports are answered with 503.
        is_sick: everything is.
    """

    token: str | None = None
    registrations: list[dict[str, Any]] = field(default_factory=list)
    heartbeats: list[dict[str, Any]] = field(default_factory=list)
    goodbyes: list[str] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    shown: list[str | None] = field(default_factory=list)
    offers: deque[tuple[bytes, dict[str, str]]] = field(default_factory=deque)
    lost: list[dict[str, str]] = field(default_factory=list)
    cancel: list[dict[str, str]] = field(default_factory=list)
    is_deaf: bool = False
    is_sick: bool = False
    port: int = 0
    _server: _Server | None = None
    _thread: threading.Thread | None = None
    _connections: set[socket.socket] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = _Server(("127.0.0.1", self.port), _handler_of(self))
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        """Let nobody in any more, and cut off who is."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._server = None

    def wait_registered(self, count: int = 1) -> dict[str, Any]:
        """Wait for so many registrations, and return the last."""
        wait_until(lambda: len(self.registrations) >= count)
        return self.registrations[-1]

    def results(self, task_id: str) -> list[dict[str, Any]]:
        """Return the reports of a task's end."""
        return [
            one for one in list(self.reports) if (one["task"], one["kind"]) == (task_id, "result")
        ]

    def wait_result(self, task_id: str) -> dict[str, Any]:
        """Wait until a task's end was told, and return the report."""
        wait_until(lambda: bool(self.results(task_id)))
        return self.results(task_id)[-1]

    def wait_held(self, *held: tuple[str, str]) -> None:
        """Wait for a heartbeat that names just these tasks and leases."""
        wanted = sorted(held)
        wait_until(
            lambda: (
                bool(self.heartbeats)
                and sorted((one["task"], one["lease"]) for one in self.heartbeats[-1]["tasks"])
                == wanted
            )
        )

    def push(
        self,
        task_id: str,
        lease: str,
        capability: str = "echo",
        input: Any = None,
        *,
        token: str | None = None,
        **headers: str,
    ) -> Answer:
        """Offer a task to the agent that was registered last."""
        agent = self.registrations[-1]
        body = {"id": task_id, "capability": capability, "input": {"text": "hi"}}
        if input is not None:
            body["input"] = input
        request = urllib.request.Request(
            f"{agent['url']}/v1/tasks",
            json.dumps(body).encode(),
            {
                "Content-Type": "application/json",
                "Authorization": f"Bearer {token or agent['token']}",
                "Prefer": "respond-async",
                "Klink-Lease": lease,
                "Klink-Attempt": "1",
                "Klink-Hops": "1",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as exc:
            with exc:
                return Answer(exc.code, dict(exc.headers), exc.read())

    def answer(self, what: str, body: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        """Answer one message of an agent; called in a thread of its own."""
        known = {"orchestrator": "stub", "lease_s": 5, "heartbeat_s": HEARTBEAT_S}
        if self.is_sick or (self.is_deaf and what == "reports"):
            return 503, b"{}", {}
        if what == "agents":
            self.registrations.append(body)
        elif what == "heartbeat":
            known["lost"], self.lost = self.lost, []
            known["cancel"], self.cancel = self.cancel, []
            self.heartbeats.append(body)
        elif what == "reports":
            self.reports += body["items"]
            outcomes = [{"id": one["id"], "outcome": "taken"} for one in body["items"]]
            return 200, json.dumps({"items": outcomes}).encode(), {}
        elif what == "goodbye":
            self.goodbyes.append(body["phase"])
            return 204, b"", {}
        elif what == "fetch":
            return self._offer()
        return 200, json.dumps(known).encode(), {}

    def _offer(self) -> tuple[int, bytes, dict[str, str]]:
        try:
            offered, headers = self.offers.popleft()
        except IndexError:
            threading.Event().wait(OFFER_WAIT_S)
            return 204, b"", {}
        return 200, offered, headers


def _handler_of(stub: StubOrchestrator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            """Begin a connection."""
            stub._connections.add(self.request)
            super().setup()

        def finish(self) -> None:
            """End it."""
            stub._connections.discard(self.request)
            with suppress(OSError):
                super().finish()

        def do_POST(self) -> None:
            """Answer a message."""
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            sent = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
            stub.shown.append(sent)
            if sent == stub.token:
                what = self.path.partition("?")[0].rpartition("/")[2]
                status, answer, headers = stub.answer(what, body)
            else:
                status, answer, headers = 401, b"{}", {}
            with suppress(OSError):
                self._send(status, answer, headers)

        def _send(self, status: int, answer: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_values: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def running_stub(token: str | None = None) -> Iterator[StubOrchestrator]:
    """Run one."""
    stub = StubOrchestrator(token)
    stub.start()
    try:
        yield stub
    finally:
        stub.stop()
