"""What `tests.integration.mesh_chaos` can put between callers and agents."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.integration.mesh_chaos import Seen
from tests.integration.mesh_processes import link_environment, prepare_orchestrator, signal_tree

RETRY_S = 0.2
RETURN_S = 6.0
"""Longer than any fault lasts, so that what an agent has kept comes back with it."""

POLL_WAIT_S = 10
ANSWER_TIMEOUT_S = 20.0
FINAL_STATES = frozenset({"completed", "failed", "canceled", "rejected"})
BROKEN = (aiohttp.ClientError, OSError)
"""What a client sees of a server that is gone, or frozen."""

COUNTED = ("retries", "lost_leases", "refused_reports")


class HttpMiddle:
    """The orchestrator of the package, as a process of its own.

    Args:
        directory: that it keeps its data in.
    """

    def __init__(self, directory: Path) -> None:
        self.orchestrator = prepare_orchestrator(directory, return_s=RETURN_S)
        self._session: aiohttp.ClientSession | None = None
        self._figures: dict[str, dict[str, int]] = {}
        self.kills = 0

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        self._session = aiohttp.ClientSession(timeout=timeout)
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        if self._session is not None:
            await self._session.close()

    def find_port(self) -> int | None:
        """Return where it listens now."""
        return self.orchestrator.find_port()

    def environment(self, url: str, delivery: str, address: str) -> dict[str, str]:
        """Return the environment of an agent."""
        return link_environment(url, delivery, address=address if delivery == "push" else None)

    async def start(self) -> None:
        """Start it."""
        self.orchestrator.start()
        await asyncio.to_thread(self.orchestrator.wait_ready)

    async def kill(self) -> None:
        """Kill it."""
        await asyncio.to_thread(self.orchestrator.kill)
        assert self.orchestrator.process is not None
        self.kills += self.orchestrator.process.returncode == -signal.SIGKILL

    async def stop(self) -> int:
        """Ask it to end; return its exit code."""
        return await asyncio.to_thread(self.orchestrator.stop)

    def send_signal(self, number: signal.Signals) -> int:
        """Send a signal to it."""
        return signal_tree(self.orchestrator.pid, number)

    async def wait_agents(self, count: int) -> None:
        """Wait until so many agents are ready."""
        await asyncio.to_thread(self.orchestrator.wait_replicas, count)

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
            async with self._client.get(f"{self.orchestrator.url}/status") as answer:
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
            url = f"{self.orchestrator.url}{path}"
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
