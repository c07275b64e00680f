"""aiohttp's low-level server with our bounds: connections, slow readers, problem documents."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse
from aiohttp.web_server import Server

from kagent_sdk.config.models import HttpConfig
from kagent_sdk.errors import StartupError
from kagent_sdk.host.http.answers import problem_response
from kagent_sdk.host.http.connection import IDLE_S, DirectConnection, Handler, with_ready_answers
from kagent_sdk.host.http.direct import DirectCalls
from kagent_sdk.protocol.problems import internal_error, malformed_request

SWEEP_S = 1.0
LAST_ANSWERS_S = 1.0
"""At the end, when every task has ended, answers get this long to leave."""

MAX_UNSENT_BYTES = 256 * 1024 * 1024
"""Over this, what clients have not read yet is dropped, the longest-standing first."""

LOCAL = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - how to reach what listens everywhere

PROBE_PLACES = 8
"""Connections over ``http.max_connections`` for the probes: a healthy agent with many callers must
not be taken for a dead one."""

RESERVED_DESCRIPTORS = 128
"""For the host's own files, and for workers: one that is started needs eight for a moment."""


class _Protocol(DirectConnection):
    """One connection: errors below HTTP are answered with problem documents too."""

    __slots__ = ("_excess", "_first_request_s")

    def __init__(
        self,
        manager: _Server,
        excess: Callable[[], int],
        direct: DirectCalls | None,
        *,
        first_request_s: float,
        **options: Any,
    ) -> None:
        super().__init__(manager, direct, **options)
        self._excess = excess
        self._first_request_s = first_request_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._expect_first_request()
        excess = self._excess()
        if excess > PROBE_PLACES:
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
        elif excess > 0:
            self.serve_probes_alone()

    def _expect_first_request(self) -> None:
        """Close the connection when no whole head comes in time; behind it `IDLE_S` counts."""
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        close_at_s = self._loop.time() + self._first_request_s
        self._next_keepalive_close_time = close_at_s
        self._keepalive_handle = self._loop.call_at(close_at_s, self._process_keepalive)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """Answer a request that could not be parsed, or whose handler failed."""
        problem = malformed_request() if 400 <= status < 500 else internal_error()
        response = problem_response(problem)
        response.force_close()
        return response


class _Server(Server):
    """Makes our protocol, and counts connections."""

    def __init__(
        self, handler: Handler, config: HttpConfig, max_connections: int, direct: DirectCalls | None
    ) -> None:
        super().__init__(
            with_ready_answers(handler), request_factory=self._request, handler_cancellation=True
        )
        self._direct = direct
        self._max_connections = max_connections
        self._body_bytes = config.max_body_bytes
        self._first_request_s = min(config.read_timeout_s, IDLE_S)

    def _request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any
    ) -> BaseRequest:
        return BaseRequest(
            message, payload, protocol, writer, task, self._loop, client_max_size=self._body_bytes
        )

    def __call__(self) -> RequestHandler:
        return _Protocol(
            self,
            self._count_excess,
            self._direct,
            first_request_s=self._first_request_s,
            loop=self._loop,
            keepalive_timeout=IDLE_S,
            access_log=None,
            auto_decompress=False,
            lingering_time=1.0,
        )

    def _count_excess(self) -> int:
        return len(self.connections) - self._max_connections


class HttpServer:
    """Listens, and closes connections that stand still.

    Args:
        config: address, TLS and bounds.
        host: the address to bind.
        handler: answers every request; its cancellation means that the client is gone.
        tls: serve HTTPS with it.
        direct: takes plain calls; without it `handler` answers them too.

    Attributes:
        port: the port that it listens on.
        max_connections: the configured number, or fewer when the process may not open as many.
    """

    def __init__(
        self,
        config: HttpConfig,
        *,
        host: str,
        handler: Handler,
        tls: ssl.SSLContext | None,
        direct: DirectCalls | None = None,
    ) -> None:
        self._config = config
        self._host = host
        self._tls = tls
        self.max_connections = min(config.max_connections, room_for_connections())
        self._server = _Server(handler, config, self.max_connections, direct)
        self._listener: asyncio.Server | None = None
        self._unsent: dict[asyncio.Transport, tuple[int, float]] = {}
        self.port = config.port

    @property
    def url(self) -> str:
        """The address for a client on this machine."""
        host = LOCAL.get(self._host, self._host)
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            StartupError: the address cannot be bound.
        """
        # Not with `aiohttp.web`'s runner and site: the import of `aiohttp.web` is felt in a start.
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                self._server, self._host, self._config.port, ssl=self._tls, backlog=1024
            )
        except (OSError, socket.gaierror) as exc:
            raise StartupError(
                f"cannot listen on {self._host}:{self._config.port}: {exc.strerror or exc}; "
                "set http.port in config.yaml or AGENT_HTTP__PORT (0 takes a free port)"
            ) from exc
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, let open answers leave for `LAST_ANSWERS_S`, close every connection."""
        if self._listener is None:
            return
        self._listener.close()
        # Requests that came in just now begin to be handled before idle connections are closed.
        await asyncio.sleep(0)
        self._server.pre_shutdown()
        await self._server.shutdown(LAST_ANSWERS_S)

    async def sweep(self) -> None:
        """Abort connections whose client has stopped reading, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            self._sweep_once(loop.time())

    def _sweep_once(self, now_s: float) -> None:
        seen: dict[asyncio.Transport, tuple[int, float]] = {}
        for protocol in self._server.connections:
            transport = protocol.transport
            if not isinstance(transport, asyncio.Transport):
                continue
            size = transport.get_write_buffer_size()
            if size:
                before = self._unsent.get(transport)
                since_s = before[1] if before is not None and before[0] <= size else now_s
                seen[transport] = size, since_s
        total = sum(size for size, _ in seen.values())
        for transport, (size, since_s) in sorted(seen.items(), key=lambda item: item[1][1]):
            if now_s - since_s >= self._config.read_timeout_s or total > MAX_UNSENT_BYTES:
                transport.abort()
                total -= size
                del seen[transport]
        self._unsent = seen


def room_for_connections() -> int:
    """Return how many connections this process can hold and still do its work; at least one."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, descriptors - RESERVED_DESCRIPTORS)
