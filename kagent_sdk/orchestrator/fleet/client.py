"""Asks replicas how they are, through their own control planes, and trusts nothing that they answer."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from kagent_sdk.orchestrator.fleet.decisions import UNREACHABLE, Probe
from kagent_sdk.orchestrator.fleet.ownership import read_secret

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from kagent_sdk.orchestrator.fleet.layout import Place

PROBE_TIMEOUT_S = 3.0
SNAPSHOT_TIMEOUT_S = 300.0
MAX_ANSWER_BYTES = 1024 * 1024
MAX_HOST_FILE_BYTES = 64 * 1024
MAX_REASON_CHARS = 40
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Address:
    """How to reach a replica.

    Attributes:
        pid: of its host, as that says.
        url: of its control plane, on this machine.
        token: that opens it.
    """

    pid: int
    url: str
    token: str | None

    def __repr__(self) -> str:
        return f"Address(pid={self.pid}, url={self.url!r})"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a JSON document; status 0 when there was no answer."""

    status: int
    document: dict[str, Any]


def find_address(place: Place) -> Address | None:
    """Return what a running host has written of itself; it blocks.

    The file is the agent's own: an address outside of this machine is none.
    """
    document = read_json(place.host_file, MAX_HOST_FILE_BYTES)
    pid, url = document.get("pid"), document.get("url")
    if type(pid) is not int or pid < 2 or not isinstance(url, str) or not _is_local(url):
        return None
    try:
        return Address(pid, url.rstrip("/"), read_secret(place.token))
    except OSError:
        return None


def read_json(path: Path, limit_bytes: int) -> dict[str, Any]:
    """Return the object in a small file; an empty one where there is none."""
    try:
        with os.fdopen(os.open(path, _FLAGS), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return {}  # a pipe of the agent's
            document = json.loads(file.read(limit_bytes))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


class ReplicaClient:
    """Sends requests to replicas; open it and close it on the loop that uses it."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        from kagent_sdk.orchestrator.push import import_client  # noqa: PLC0415 - a fleet alone

        aiohttp = await asyncio.to_thread(import_client)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, resolver=aiohttp.ThreadedResolver(), force_close=True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def probe(self, address: Address) -> Probe:
        """Ask whether a replica is ready, and if not whether it is alive."""
        answer = await self.request("GET", address, "/readyz", timeout_s=PROBE_TIMEOUT_S)
        if answer.status == 200:
            return Probe(is_alive=True, is_ready=True)
        if answer.status == 0:
            return UNREACHABLE
        reason = str(answer.document.get("status", "not_ready"))[:MAX_REASON_CHARS]
        health = await self.request("GET", address, "/healthz", timeout_s=PROBE_TIMEOUT_S)
        return Probe(is_alive=health.status == 200, is_ready=False, reason=reason)

    async def request(
        self, method: str, address: Address, path: str, *, timeout_s: float, body: bytes = b""
    ) -> Answer:
        """Send a request and return its answer; only a cancellation is raised."""
        if self._session is None:
            return Answer(0, {})
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if address.token is not None:
            headers["Authorization"] = f"Bearer {address.token}"
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    method,
                    address.url + path,
                    data=body or None,
                    headers=headers,
                    allow_redirects=False,
                ) as response,
            ):
                content = await _read(response)
                return Answer(response.status, content)
        except TimeoutError:
            return Answer(0, {})
        except Exception:  # noqa: BLE001 - whatever a replica makes a library raise
            return Answer(0, {})


async def _read(response: aiohttp.ClientResponse) -> dict[str, Any]:
    parts = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        parts += chunk
        if len(parts) > MAX_ANSWER_BYTES:
            response.close()
            return {}
    try:
        document = json.loads(parts)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _is_local(url: str) -> bool:
    """Tell whether it is an address of this machine and no more: a path would be sent anywhere on it."""
    try:
        parts = urlsplit(url)
        host = ipaddress.ip_address(parts.hostname or "")
        is_bare = url.isprintable() and parts.path in {"", "/"} and not set(url) & set("?#@")
        return parts.scheme == "http" and host.is_loopback and bool(parts.port) and is_bare
    except ValueError:
        return False
