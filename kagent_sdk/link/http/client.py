"""Sends requests to an orchestrator, and trusts nothing that comes back.

No redirects, no cookies, no proxies, no names and passwords of a netrc; every answer is bounded in
size and time. aiohttp's client and the TLS files are loaded in a thread, with the first request.
"""

from __future__ import annotations

import asyncio
import io
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kagent_sdk import __version__
from kagent_sdk.link.decisions import ContactError, Fault
from kagent_sdk.link.http.messages import Answer
from kagent_sdk.link.settings import LinkTls
from kagent_sdk.link.tls import client_context

if TYPE_CHECKING:
    from types import ModuleType

    import aiohttp

MAX_ANSWER_BYTES = 64 * 1024
"""Of an answer that holds no task."""

LARGE_BODY_BYTES = 512 * 1024
"""From here on a body is sent as a file: aiohttp copies large bytes in one go, and warns of it."""

KEEP_ALIVE_S = 10.0
"""A connection that is idle for longer is closed by us: a request would meet a server's own closing."""

HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": f"kagent-sdk/{__version__}",
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. ``timeout_s`` covers the connection and the answer.

    Attributes:
        path: below the orchestrator's URL, with its query.
        limit_bytes: of the answer's body.
    """

    method: str
    path: str
    body: bytes | None
    timeout_s: float
    headers: Mapping[str, str] = field(default_factory=dict)
    limit_bytes: int = MAX_ANSWER_BYTES


@dataclass(slots=True)
class _Pool:
    """Connections that were made with the same files of TLS."""

    session: aiohttp.ClientSession
    users: int = 0


class LinkClient:
    """Speaks HTTP with one orchestrator.

    Args:
        url: where it is.
        token: returns the bearer token as it is now; None for none.
        tls: for ``https``.
        limit: connections at a time.
    """

    def __init__(
        self, url: str, token: Callable[[], str | None], tls: LinkTls | None, limit: int
    ) -> None:
        self._url = url
        self._token = token
        self._tls = tls
        self._is_secure = url.startswith("https:")
        self._limit = limit
        self._pool: _Pool | None = None
        self._retired: list[_Pool] = []
        self._opening = asyncio.Lock()
        self._is_closed = False

    async def send(self, request: Request) -> Answer:
        """Send a request and return its answer, whatever its status.

        Raises:
            ContactError: there is none, or none that could be read within its bounds.
        """
        try:
            async with asyncio.timeout(request.timeout_s), self._lend() as pool:
                response = await self._begin(pool, request)
                try:
                    body = await _read(response, request.limit_bytes)
                finally:
                    response.close()  # the connection is kept if all was read
        except TimeoutError:
            raise ContactError(f"no answer within {request.timeout_s:g} s") from None
        return Answer(response.status, response.headers, body)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; give its answer, to be read with `read_chunk`, once its head is there.

        Raises:
            ContactError: it is not there in time.
        """
        async with self._lend() as pool:
            try:
                async with asyncio.timeout(request.timeout_s):
                    response = await self._begin(pool, request)
            except TimeoutError:
                raise ContactError(f"no answer within {request.timeout_s:g} s") from None
            try:
                yield response
            finally:
                response.close()

    async def _begin(self, pool: _Pool, request: Request) -> aiohttp.ClientResponse:
        from yarl import URL  # noqa: PLC0415 - comes with the client

        headers = {**HEADERS, **request.headers, **_authorize(self._token())}
        try:
            return await pool.session.request(
                request.method,
                URL(self._url + request.path, encoded=True),
                data=_wrap(request.body),
                headers=headers,
                allow_redirects=False,
            )
        except TimeoutError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever a peer makes a library raise
            if self._is_secure:
                self._retire(pool)
            raise _translate(exc, is_secure=self._is_secure) from None

    @asynccontextmanager
    async def _lend(self) -> AsyncIterator[_Pool]:
        pool = await self._open()
        pool.users += 1
        try:
            yield pool
        finally:
            pool.users -= 1
            if pool in self._retired and not pool.users:
                self._retired.remove(pool)
                await pool.session.close()

    async def _open(self) -> _Pool:
        async with self._opening:
            if self._is_closed:
                raise ContactError("the link is closed", Fault.REFUSED)
            if self._pool is None:
                aiohttp, context = await asyncio.to_thread(
                    _prepare, self._tls, is_secure=self._is_secure
                )
                connector = aiohttp.TCPConnector(
                    limit=self._limit,
                    resolver=aiohttp.ThreadedResolver(),
                    ssl=context,
                    keepalive_timeout=KEEP_ALIVE_S,
                )
                session = aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    auto_decompress=False,
                    timeout=aiohttp.ClientTimeout(total=None),  # `send` keeps the time
                )
                self._pool = _Pool(session)
            return self._pool

    def _retire(self, pool: _Pool) -> None:
        """Let the next request read the files of TLS anew: they may have been replaced."""
        if self._pool is pool:
            self._pool = None
            self._retired.append(pool)

    async def aclose(self) -> None:
        """Close every connection; no request is sent any more."""
        self._is_closed = True
        pools = [*self._retired, *([self._pool] if self._pool else [])]
        for pool in pools:
            await pool.session.close()


def import_client() -> ModuleType:
    """Import the client of HTTP; call it in a thread."""
    import aiohttp  # noqa: PLC0415 - see the module

    # A host has registered the package without its client: asking for it brings it.
    _ = aiohttp.ClientSession
    return aiohttp


def _prepare(tls: LinkTls | None, *, is_secure: bool) -> tuple[ModuleType, ssl.SSLContext | bool]:
    aiohttp = import_client()
    if not is_secure:
        return aiohttp, True
    try:
        context = client_context(tls)
    except (OSError, ValueError):
        # Not even the name of the file: paths are nobody's business who may read /status.
        reason = "the files of orchestrator.tls cannot be read as certificates and a key"
        raise ContactError(reason, Fault.REFUSED) from None
    return aiohttp, context


def _authorize(token: str | None) -> dict[str, str]:
    if token is None:
        return {}
    if not (token.isascii() and token.isprintable()):
        reason = "the token of orchestrator.token holds what no header can: it cannot be sent"
        raise ContactError(reason, Fault.REFUSED)
    return {"Authorization": f"Bearer {token}"}


def _wrap(body: bytes | None) -> bytes | io.BytesIO | None:
    if body is None or len(body) < LARGE_BODY_BYTES:
        return body
    return io.BytesIO(body)


async def read_chunk(response: aiohttp.ClientResponse) -> bytes:
    """Return what has come of an answer's body, once there is something; empty at its end.

    Raises:
        ContactError: the connection broke.
    """
    try:
        return await response.content.readany()
    except Exception as exc:  # noqa: BLE001 - whatever a peer makes a library raise
        raise _translate(exc, is_secure=False) from None


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    body = bytearray()
    while chunk := await read_chunk(response):
        body += chunk
        if len(body) > limit_bytes:
            reason = f"the orchestrator's answer is over the limit of {limit_bytes} bytes"
            raise ContactError(reason, Fault.REFUSED, status=response.status)
    return bytes(body)


def _translate(error: Exception, *, is_secure: bool) -> ContactError:
    """Say what went wrong without the URL, which many messages of aiohttp hold."""
    import aiohttp  # noqa: PLC0415 - imported already

    if isinstance(error, ssl.SSLError | ssl.CertificateError | aiohttp.ClientSSLError):
        return ContactError(
            "the connection is not secure: a certificate is not trusted, or TLS failed; "
            "see orchestrator.tls",
            Fault.REFUSED,
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ContactError("the orchestrator's name cannot be resolved")
    if isinstance(error, aiohttp.ClientResponseError):
        return ContactError("what answers does not speak HTTP as it should", Fault.REFUSED)
    reason = f"no answer: {type(error).__name__}"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        reason = f"no connection: {os.strerror(error.errno)}"
    if is_secure and not isinstance(error, aiohttp.ClientConnectorError):
        # A server that does not trust a client says so after the handshake (TLS 1.3), and hangs up.
        reason += "; perhaps the certificate of orchestrator.tls is not trusted"
    return ContactError(reason)
