"""Sends one webhook over HTTP, and trusts nothing that comes back.

aiohttp's client costs 100 ms and megabytes, of which an agent without callbacks needs nothing: it
is imported, in a thread, with the first message.
"""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kagent_sdk import __version__
from kagent_sdk.journal.delivery import Answer, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    import aiohttp

MAX_ANSWER_BYTES = 64 * 1024
"""Read of an answer, to use the connection again; whoever sends more loses it."""

DRAIN_S = 1.0
"""For the rest of an answer whose status is known already."""

HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": f"kagent-sdk/{__version__}",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, and how long that may take, the connection and the answer included."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout_s: float


class WebhookClient:
    """Posts to receivers: no redirects, no cookies, no proxies, no names and passwords of a netrc.

    Args:
        limit: connections at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def post(self, request: Request) -> Answer:
        """Send a request and return what came of it; only a cancellation is raised."""
        session = await self._open()
        try:
            async with asyncio.timeout(request.timeout_s):
                return await self._post(session, request)
        except TimeoutError:
            return Answer(error=f"no answer within {request.timeout_s:g} s")
        except Exception as exc:  # noqa: BLE001 - whatever a receiver makes a library raise
            return Answer(error=_describe(exc))

    async def _post(self, session: aiohttp.ClientSession, request: Request) -> Answer:
        from yarl import URL  # noqa: PLC0415 - comes with the client

        # As a file: aiohttp warns of large bytes, which it would copy in one go.
        async with session.post(
            URL(request.url, encoded=True),
            data=io.BytesIO(request.body),
            headers={**HEADERS, **request.headers},
            allow_redirects=False,
        ) as response:
            retry_after = parse_retry_after(response.headers.get("Retry-After"), time.time())
            answer = Answer(response.status, retry_after_s=retry_after)
            try:
                async with asyncio.timeout(DRAIN_S):
                    await _drain(response)
            except Exception:  # noqa: BLE001 - the status says it all
                response.close()
            return answer

    async def _open(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                aiohttp = await asyncio.to_thread(_import_client)
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(
                        limit=self._limit, resolver=aiohttp.ThreadedResolver()
                    ),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    auto_decompress=False,
                    timeout=aiohttp.ClientTimeout(total=None),  # `post` keeps the time
                )
            return self._session

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()


def _import_client() -> ModuleType:
    import aiohttp  # noqa: PLC0415 - see the module

    # The host has registered the package without its client: asking for it brings it.
    _ = aiohttp.ClientSession
    return aiohttp


async def _drain(response: aiohttp.ClientResponse) -> None:
    left = MAX_ANSWER_BYTES
    while left > 0 and (chunk := await response.content.read(left)):
        left -= len(chunk)
    if left <= 0:
        response.close()


def _describe(error: Exception) -> str:
    """Say what went wrong without the URL, which many messages of aiohttp hold."""
    import aiohttp  # noqa: PLC0415 - imported already

    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "the connection is not secure: the certificate is not trusted, or TLS failed"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host's name cannot be resolved"
    if isinstance(error, OSError) and error.strerror and "://" not in error.strerror:
        return f"no connection: {error.strerror}"
    return f"no answer: {type(error).__name__}"
