"""A caller of an orchestrator who does not give up, whatever dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Self

import aiohttp

from tests.integration.mesh_load import Seen

RETRY_S = 0.2
POLL_WAIT_S = 10
ANSWER_TIMEOUT_S = 20.0
FINAL_STATES = frozenset({"completed", "failed", "canceled", "rejected"})
BROKEN = (aiohttp.ClientError, OSError)
"""What a client sees of a server that is gone, or frozen."""

COUNTED = ("retries", "lost_leases", "refused_reports")


class OrchestratorCaller:
    """Hands orders to an orchestrator, over all its starts; used with ``async with``.

    Args:
        find_url: returns where it listens, or last did.
        token: of an operator; None: it asks for none.
    """

    def __init__(self, find_url: Callable[[], str], token: str | None = None) -> None:
        self._find_url = find_url
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession | None = None
        self._figures: dict[str, dict[str, int]] = {}

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        self._session = aiohttp.ClientSession(timeout=timeout, headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def settle(self, seen: Seen) -> None:
        """Hand an order in, then poll for its end."""
        order = seen.order
        body = {"id": order.token, "capability": order.capability, "input": order.input}
        headers = {"Prefer": "respond-async"}
        while seen.end is None:
            status, document = await self._request(seen, "POST", "/v1/tasks", body, headers)
            if status not in (200, 202):
                seen.wrongs.append(f"not taken: {status} {document}")
                return
            seen.is_accepted = True
            while document.get("state") not in FINAL_STATES:
                path = f"/v1/tasks/{order.token}?wait_s={POLL_WAIT_S}"
                status, document = await self._request(seen, "GET", path)
                if status != 200:
                    seen.wrongs.append(f"an accepted task is gone: {status} {document}")
                    return
            seen.note_end(document)

    async def ask_again(self, seen: Seen) -> None:
        """Read an order's task, and hand the order in again: both must tell of the same end."""
        order = seen.order
        body = {"id": order.token, "capability": order.capability, "input": order.input}
        for method, path, sent in (
            ("GET", f"/v1/tasks/{order.token}", None),
            ("POST", "/v1/tasks", body),
        ):
            status, document = await self._request(seen, method, path, sent)
            if status == 200:
                seen.note_end(document)
            else:
                seen.wrongs.append(f"{method} after the end: {status} {document}")

    async def look(self) -> None:
        """Take note of the figures that it shows."""
        try:
            async with self._client.get(f"{self._find_url()}/status") as answer:
                status = await answer.json()
        except BROKEN:
            return
        self._figures[status["orchestrator"]["id"]] = {
            **{name: status["tasks"][name] for name in COUNTED},
            "lost_agents": status["lost_agents"],
        }

    def figures(self) -> Mapping[str, int]:
        """Return them, summed over all starts; what came after the last look is missing."""
        found: Counter[str] = Counter()
        for figures in self._figures.values():
            found.update(figures)
        return found

    @property
    def _client(self) -> aiohttp.ClientSession:
        assert self._session is not None
        return self._session

    async def _request(
        self,
        seen: Seen,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Send a request until somebody answers it; what is sent twice has the same id."""
        while True:
            url = f"{self._find_url()}{path}"
            try:
                async with self._client.request(method, url, json=body, headers=headers) as answer:
                    status, document = answer.status, await answer.json(content_type=None)
            except BROKEN:
                seen.retries += 1
            else:
                if status not in (429, 503):
                    return status, document
                seen.refusals += 1
            await asyncio.sleep(RETRY_S)
