"""A connection to NATS, with what this link keeps there."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

from kagent_sdk.errors import LinkError
from kagent_sdk.link.nats import jobs, streams
from kagent_sdk.link.nats.blobs import Blobs
from kagent_sdk.link.nats.limits import NatsLimits
from kagent_sdk.link.settings import LinkTls
from kagent_sdk.link.tls import client_context

FAILURES = (nats.errors.Error, OSError, TimeoutError)
"""What the client raises when the server is away, or does not do what it is asked for."""

PENDING_BYTES = 8 * 1024 * 1024
"""Held for a server that is away; whoever sends more is told, and tries again later."""

CLOSE_S = 1.0
"""For sending what is left at the end."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where NATS is, and as whom to connect.

    Attributes:
        url: ``nats://`` or ``tls://``.
        name: of the connection, for those who look at the server.
        inbox: the prefix of the subjects on which answers come.
        timeout_s: for one request.
        token: asked with every connection, so that a new one in the vault takes effect.
        tls: authorities and certificate; None for the system's and none.
    """

    url: str
    name: str
    inbox: str
    timeout_s: float
    token: Callable[[], str | None] = field(repr=False)
    tls: LinkTls | None = None

    @property
    def is_secure(self) -> bool:
        """Whether nothing may go over a connection without TLS."""
        return urlsplit(self.url).scheme == "tls" or self.tls is not None


class Bus:
    """A connection that comes back by itself; a closed one is to be replaced.

    Attributes:
        client, js: the connection, and JetStream through it.
        tasks: the records of tasks.
        agents: the registry.
        blobs: bodies that are too large for a message.
        closed: set when the connection has ended for good, such as for want of permission.
    """

    tasks: KeyValue
    agents: KeyValue
    blobs: Blobs

    def __init__(self, access: Access, limits: NatsLimits) -> None:
        self.access = access
        self.limits = limits
        self.client = Client()
        self.js: JetStreamContext = self.client.jetstream(timeout=access.timeout_s)
        self.closed = asyncio.Event()
        self.last_error: str | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def is_up(self) -> bool:
        """Whether there is a connection at present."""
        return self.client.is_connected

    @property
    def server(self) -> str:
        """The name of the server, as it calls itself."""
        return f"nats {self.client._server_info.get('server_name', '')}"[:100]  # noqa: SLF001 - there is no public name of it

    @property
    def inline_bytes(self) -> int:
        """Up to how many bytes a body goes into a message, whose headers need room too."""
        return min(self.limits.inline_bytes, self.client.max_payload // 2)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call a function, which must not fail, whenever the connection was lost or is back."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Call it no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    async def connect(self) -> None:
        """Connect, and nothing more. A server that cannot be reached is tried again without end.

        Raises:
            LinkError: the files of TLS cannot be used, or the connection is not secure.
            FAILURES: the server does not do what it is asked for.
        """
        context = await asyncio.to_thread(_tls_context, self.access.tls)
        await self.client.connect(
            self.access.url,
            name=self.access.name,
            token=self._token,
            tls=context,
            inbox_prefix=self.access.inbox,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            # A whole second for int, which the client's hints ask for, is too long and the same for all.
            reconnect_time_wait=random.uniform(0.2, 1.0),  # type: ignore[arg-type]  # noqa: S311 - jitter
            connect_timeout=max(1, int(self.access.timeout_s)),
            ping_interval=10,
            max_outstanding_pings=2,
            pending_size=PENDING_BYTES,
            error_cb=self._on_error,
            disconnected_cb=self._on_change,
            reconnected_cb=self._on_reconnect,
            closed_cb=self._on_closed,
        )
        if not self._is_secure_enough():
            raise LinkError("the NATS server does not offer TLS", is_permanent=True)

    async def open(self) -> None:
        """Connect, and make or find streams and buckets.

        Raises:
            LinkError, FAILURES: as with `connect`.
        """
        await self.connect()
        self.tasks = await streams.open_tasks(self.js, self.limits)
        self.agents = await streams.open_agents(self.js, self.limits)
        self.blobs = Blobs(await streams.open_blobs(self.js, self.limits), self.access.timeout_s)
        await streams.open_events(self.js, self.limits)
        await streams.open_dead(self.js, self.limits)
        self.last_error = None

    async def close(self) -> None:
        """End the connection; what is not sent by now is not sent."""
        self._listeners.clear()
        try:
            await jobs.finish(self.client.close(), CLOSE_S)
        except FAILURES:
            # It wanted to send what is left, to a server that is gone or takes nothing.
            transport = self.client._transport  # noqa: SLF001 - or it would stay open
            if transport is not None:
                transport.close()  # type: ignore[no-untyped-call]

    def _is_secure_enough(self) -> bool:
        is_tls = bool(self.client._server_info.get("tls_required"))  # noqa: SLF001 - what the client goes by
        return is_tls or not self.access.is_secure

    def _token(self) -> str:
        # Called when the server has said what it is, and before anything of ours is sent to it.
        if not self._is_secure_enough():
            raise nats.errors.SecureConnRequiredError
        return self.access.token() or ""

    async def _on_error(self, error: Exception) -> None:
        self.last_error = describe(error)
        self._tell()

    async def _on_change(self) -> None:
        self._give_up_requests()
        self._tell()

    def _give_up_requests(self) -> None:
        """Fail what waits for an answer over the connection that was lost: none comes over another.

        The client would let each wait for its whole time, and with it all that is behind it.
        """
        for answer in list(self.client._resp_map.values()):  # noqa: SLF001 - there is no public way
            if not answer.done():
                answer.set_exception(nats.errors.TimeoutError())

    async def _on_reconnect(self) -> None:
        if not self._is_secure_enough():
            await self.client.close()
        self._tell()

    async def _on_closed(self) -> None:
        self.closed.set()
        self._tell()

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener()


def describe(error: BaseException) -> str:
    """Say what went wrong, without addresses, tokens and paths."""
    if isinstance(error, LinkError):
        text = str(error)
    elif isinstance(error, nats.errors.AuthorizationError) or _is_refusal(error):
        text = "NATS refuses the token"
    elif isinstance(error, ssl.SSLError):
        text = "the connection is not secure: the certificate is not trusted, or TLS failed"
    elif isinstance(error, nats.errors.SecureConnRequiredError):
        text = "the NATS server does not offer TLS"
    elif isinstance(error, OSError) and not isinstance(error, TimeoutError) and error.strerror:
        text = f"no connection: {error.strerror}"
    elif isinstance(description := getattr(error, "description", None), str):
        text = f"NATS: {description}"
    elif type(error) is nats.errors.Error:  # what the server says, such as a permission that lacks
        text = f"NATS: {str(error).removeprefix('nats: ')}"
    else:
        text = f"NATS: {type(error).__name__}"
    return "".join(char if char.isprintable() else " " for char in text[:200])


def _is_refusal(error: BaseException) -> bool:
    # While it connects, the client passes on what the server says, as it is.
    return isinstance(error, nats.errors.Error) and "authorization violation" in str(error).lower()


def _tls_context(files: LinkTls | None) -> ssl.SSLContext:
    try:
        return client_context(files)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or type(exc).__name__
        raise LinkError(
            f"a file of orchestrator.tls cannot be used: {reason}", is_permanent=True
        ) from None
