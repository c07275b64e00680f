"""An egress proxy and the servers behind it, in the test's own event loop."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

import trustme
from aiohttp import web

from kagent_sdk.config.sandbox import parse_destination
from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.means import Access, Bounds, Injection, Means, Resolve
from kagent_sdk.sandbox.egress.passage import Passage
from kagent_sdk.sandbox.egress.proxy import Proxy
from kagent_sdk.sandbox.egress.rules import Rules, parse_authority, show
from kagent_sdk.sandbox.policy import Destination

TOKEN = "0123456789abcdef"  # noqa: S105 - of the test's own proxy
NAME = "api.example.com"
"""The servers' name; the rig's resolver leads it to this machine."""


authority = functools.cache(trustme.CA)
"""Signs the servers' certificates; the proxy and `Rig.client_tls` trust it."""


class Observer:
    """What the proxy told.

    Attributes:
        opened_passages: those that were allowed.
        ended: those that have ended, with the error.
        refusals: reasons and destinations.
        faults: of the proxy itself.
    """

    def __init__(self) -> None:
        self.opened_passages: list[Passage] = []
        self.ended: list[tuple[Passage, EgressError | None]] = []
        self.refusals: list[tuple[str, str]] = []
        self.faults: list[Exception] = []
        self._told = asyncio.Event()

    def opened(self, passage: Passage) -> None:
        """Note a passage."""
        self.opened_passages.append(passage)
        self._told.set()

    def closed(self, passage: Passage, error: EgressError | None, took_s: float) -> None:
        """Note a passage's end."""
        self.ended.append((passage, error))
        self._told.set()

    def refused(self, error: EgressError, host: str, port: int) -> None:
        """Note a refusal."""
        self.refusals.append((error.reason, show(host, port)))
        self._told.set()

    def broke(self, error: Exception) -> None:
        """Note a fault."""
        self.faults.append(error)
        self._told.set()

    async def wait_until(self, condition: Callable[[Observer], bool]) -> None:
        """Wait until what was told is so."""
        while not condition(self):
            self._told.clear()
            await self._told.wait()

    async def wait_ended(self, count: int = 1) -> list[tuple[Passage, EgressError | None]]:
        """Return the passages that have ended once there are so many."""
        await self.wait_until(lambda told: len(told.ended) >= count)
        return self.ended


class Resolver:
    """Answers from a table, each answer of a name in its turn; the last one stays.

    Attributes:
        asked: the names that were asked for.
    """

    def __init__(self, table: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._table = {name: list(answers) for name, answers in table.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return addresses."""
        self.asked.append(host)
        answers = self._table.get(host)
        if not answers:
            raise OSError("no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]


@dataclass
class Rig:
    """A running proxy.

    Attributes:
        proxy, observer, resolver: its parts.
        access: of whoever has `TOKEN`.
        port: where it listens on 127.0.0.1.
    """

    proxy: Proxy
    observer: Observer
    resolver: Resolver
    port: int
    access: Access

    @property
    def url(self) -> str:
        """The proxy's, with the token."""
        return f"http://agent:{TOKEN}@127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> str:
        """What the worker knows as ``AGENT_EGRESS_URL``."""
        return f"http://127.0.0.1:{self.port}/{TOKEN}"

    def client_tls(self) -> ssl.SSLContext:
        """Return what a client verifies servers by."""
        return trusting_context()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a bare connection to the proxy."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, request: bytes) -> bytes:
        """Send bytes; return all that comes back until the proxy hangs up."""
        reader, writer = await self.connect()
        writer.write(request)
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


def credentials(token: str = TOKEN) -> bytes:
    """Return the header that shows a token."""
    coded = base64.b64encode(f"agent:{token}".encode()).decode()
    return f"Proxy-Authorization: Basic {coded}\r\n".encode()


def connect_request(target: str, token: str = TOKEN) -> bytes:
    """Return a CONNECT."""
    return (
        f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode() + credentials(token) + b"\r\n"
    )


def trusting_context() -> ssl.SSLContext:
    """Return a context that trusts the test's authority."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


@contextlib.asynccontextmanager
async def running_proxy(
    allow: Sequence[str],
    *,
    names: Mapping[str, Sequence[Sequence[str]]] | None = None,
    inject: Mapping[str, Injection] | None = None,
    secrets: Mapping[str, str] | None = None,
    bounds: Bounds | None = None,
    resolve: Resolve | None = None,
) -> AsyncIterator[Rig]:
    """Run a proxy.

    Args:
        allow: as in config.yaml.
        names: what the resolver answers; `NAME` leads to this machine unless it says otherwise.
        inject: by destination.
        secrets: of the vault; read at each request.
        bounds: see there.
        resolve: in place of the table.
    """
    resolver = Resolver({NAME: [["127.0.0.1"]], **(names or {})})
    observer = Observer()
    vault = {} if secrets is None else secrets
    means = Means(resolve or resolver, trusting_context, vault.get, observer, bounds or Bounds())
    proxy = Proxy(means)
    access = Access(
        Rules(Destination(*parse_destination(text)) for text in allow),
        {parse_authority(to): (one,) for to, one in (inject or {}).items()},
    )
    proxy.admit(TOKEN, access)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(proxy.serve(listener))
        try:
            yield Rig(proxy, observer, resolver, listener.getsockname()[1], access)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            assert observer.faults == []


@contextlib.asynccontextmanager
async def running_upstream(*, tls: bool = False, name: str = NAME) -> AsyncIterator[Upstream]:
    """Run a server, with TLS for a name if asked."""
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority().issue_cert(name).configure_cert(context)
    upstream = Upstream()
    runner = web.ServerRunner(
        web.Server(upstream.handle, handler_cancellation=True), shutdown_timeout=1
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    upstream.port = runner.addresses[0][1]
    try:
        yield upstream
    finally:
        await runner.cleanup()


class Upstream:
    """A server that remembers what it was asked.

    Attributes:
        port: where it listens on 127.0.0.1.
        requests: method, path and headers of each request.
        bodies: theirs.
        asked: a request came.
        cancelled: the one for ``/wait``, which is never answered, was given up by its client.
    """

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()

    @property
    def allow(self) -> list[str]:
        """What lets a proxy reach it by name: its address is this machine's."""
        return [f"{NAME}:{self.port}", f"127.0.0.1:{self.port}"]

    @property
    def where(self) -> str:
        """Host and port."""
        return f"{NAME}:{self.port}"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer by the path."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, request.path_qs, headers))
        self.bodies.append(body)
        self.asked.set()
        if request.path == "/wait":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        if request.path == "/stream":
            response = web.StreamResponse()
            response.enable_chunked_encoding()
            await response.prepare(request)
            for part in (b"one ", b"two ", b"three"):
                await response.write(part)
            await response.write_eof()
            return response
        if request.path == "/endless":
            endless = web.StreamResponse()
            await endless.prepare(request)
            while True:
                await endless.write(bytes(65536))
        if request.path == "/large":
            return web.Response(body=bytes(3_000_000))
        if request.path == "/moved":
            return web.Response(status=307, headers={"Location": "https://elsewhere.example/"})
        return web.Response(body=body or b"hello", headers={"X-Seen": "yes"})
