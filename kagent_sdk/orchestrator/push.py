"""Brings tasks to agents over HTTP, and trusts nothing that comes back.

aiohttp's client costs 100 ms and megabytes: it is imported, in a thread, with the first push.
"""

from __future__ import annotations

import asyncio
import io
import json
import ssl
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from kagent_sdk import __version__
from kagent_sdk.journal.delivery import parse_retry_after
from kagent_sdk.orchestrator.courier import Outcome, Verdict, judge_answer
from kagent_sdk.orchestrator.registry import Instance
from kagent_sdk.protocol.link import ATTEMPT_HEADER, BEAT_HEADER, HOPS_HEADER, LEASE_HEADER, Offer

if TYPE_CHECKING:
    from types import ModuleType

    import aiohttp

PUSH_TIMEOUT_S = 10.0
"""For the connection, the task and the answer: an agent answers when its journal has it."""

CANCEL_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0
MAX_ANSWER_BYTES = 256 * 1024
DRAIN_S = 1.0
CONNECTIONS_PER_AGENT = 16

HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": f"kagent-sdk/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Prefer": "respond-async",
}


def write_offer(offer: Offer) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of an offer, in both ways of delivery."""
    timeout_s = "null" if offer.timeout_s is None else f"{offer.timeout_s:.3f}"
    head = (
        f'{{"id":{json.dumps(offer.task)},"capability":{json.dumps(offer.capability)},'
        f'"timeout_s":{timeout_s},"metadata":'
    )
    body = b"".join((head.encode(), offer.metadata, b',"input":', offer.input, b"}"))
    headers = {
        LEASE_HEADER: offer.lease,
        ATTEMPT_HEADER: str(offer.attempt),
        HOPS_HEADER: str(offer.hops),
        BEAT_HEADER: str(offer.beat),
    }
    if offer.traceparent:
        headers["traceparent"] = offer.traceparent
    return body, headers


class PushCourier:
    """Posts to agents: no redirects, no cookies, no proxies, no names and passwords of a netrc.

    Args:
        tls: makes the context for agents behind https, in a thread.
    """

    def __init__(self, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def deliver(self, instance: Instance, offer: Offer) -> Outcome:
        """Offer a task; only a cancellation is raised."""
        body, headers = write_offer(offer)
        return await self._post(instance, "/v1/tasks", body, headers, PUSH_TIMEOUT_S)

    async def cancel(self, instance: Instance, task_id: str) -> None:
        """Tell an agent that a task is not wanted any more; never fails: heartbeats say it too."""
        path = f"/v1/tasks/{quote(task_id, safe='')}/cancel"
        await self._post(instance, path, b"", {}, CANCEL_TIMEOUT_S)

    async def _post(
        self,
        instance: Instance,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> Outcome:
        try:
            session = await self._open()
        except (OSError, ssl.SSLError) as exc:
            return Outcome(Verdict.UNREACHABLE, detail=f"the files of TLS: {type(exc).__name__}")
        import aiohttp  # noqa: PLC0415 - imported already

        registration = instance.registration
        url = f"{(registration.url or '').rstrip('/')}{path}"
        headers = {**HEADERS, **headers}
        if registration.token is not None:
            headers["Authorization"] = f"Bearer {registration.token}"
        try:
            async with asyncio.timeout(timeout_s):
                return await _send(session, url, headers, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, ValueError):
            # ValueError: what the agent gave for its address or its token is none.
            return Outcome(Verdict.UNREACHABLE, detail="no connection")
        except TimeoutError:
            return Outcome(Verdict.UNCLEAR, detail=f"no answer within {timeout_s:g} s")
        except Exception as exc:  # noqa: BLE001 - whatever an agent makes a library raise
            return Outcome(Verdict.UNCLEAR, detail=type(exc).__name__)

    async def _open(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                aiohttp = await asyncio.to_thread(import_client)
                tls = True if self._tls is None else await asyncio.to_thread(self._tls)
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(
                        limit=0,
                        limit_per_host=CONNECTIONS_PER_AGENT,
                        resolver=aiohttp.ThreadedResolver(),
                        ssl=tls,
                    ),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    auto_decompress=False,
                    # The whole time is kept by `_post`.
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                )
            return self._session

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()


def import_client() -> ModuleType:
    """Return aiohttp with its client; it blocks."""
    import aiohttp  # noqa: PLC0415 - see the module

    # Commands register the package without its client: asking for it brings it.
    _ = aiohttp.ClientSession
    return aiohttp


async def _send(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], body: bytes
) -> Outcome:
    # As a file: aiohttp warns of large bytes, which it would copy in one go.
    async with session.post(
        url, data=io.BytesIO(body), headers=headers, allow_redirects=False
    ) as response:
        retry_after = parse_retry_after(response.headers.get("Retry-After"), time.time())
        answer = b""
        try:
            async with asyncio.timeout(DRAIN_S):
                answer = await _drain(response)
        except Exception:  # noqa: BLE001 - the status says enough
            response.close()
        return judge_answer(response.status, answer, retry_after)


async def _drain(response: aiohttp.ClientResponse) -> bytes:
    parts = []
    left = MAX_ANSWER_BYTES
    while left > 0 and (chunk := await response.content.read(left)):
        parts.append(chunk)
        left -= len(chunk)
    if left <= 0:
        response.close()
    return b"".join(parts)
