"""An orchestrator that a test commands, for real agents: `kagent_sdk.testing.AgentProcess`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kagent_sdk.testing.link_server import LinkServer, Seen
from kagent_sdk.testing.waiting import until

if TYPE_CHECKING:
    from kagent_sdk.testing.process import AgentProcess


class FakeOrchestrator(LinkServer):
    """Speaks kLink over HTTP with the agents that a test starts, and does what the test says.

    ::

        async with (
            FakeOrchestrator() as orchestrator,
            AgentProcess(folder, config=orchestrator.config) as process,
        ):
            await orchestrator.wait_registered()
            task_id = orchestrator.send("greet", {"name": "Ada"})
            report = await orchestrator.wait_result(task_id)
            assert report["state"] == "completed"

    Agents fetch their tasks (``orchestrator.delivery: pull``). It keeps its port when it goes away
    and comes back.
    """

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Be gone, with every connection."""
        await self.stop()

    @property
    def config(self) -> dict[str, Any]:
        """What an agent's config.yaml must say to find it; for `AgentProcess`."""
        link = {
            "url": self.url,
            "delivery": "pull",
            "heartbeat_s": self.heartbeat_s,
            "timeout_s": 5,
        }
        return {"orchestrator": link}

    # What comes

    async def came(self, path: str, count: int = 1) -> Seen:
        """Wait until so many requests have come to a path; return the last of them.

        Args:
            path: ``agents``, ``heartbeat``, ``fetch``, ``reports`` or ``goodbye``.
            count: since it was made.
        """
        await until(lambda: len(self.at(path)) >= count, f"request {count} to {path}")
        return self.at(path)[count - 1]

    async def wait_registered(self) -> dict[str, Any]:
        """Wait until an agent is registered with this start of the orchestrator; return what it said."""
        await until(lambda: bool(self.agents), "a registration")
        return list(self.agents.values())[-1]

    def results(self, task_id: str) -> list[dict[str, Any]]:
        """Return the ends of a task that were reported: documents, as ``GET /v1/tasks/{id}`` answers."""
        return [
            report["payload"]
            for report in self.reports
            if (report["task"], report["kind"]) == (task_id, "result")
        ]

    async def wait_result(self, task_id: str, count: int = 1) -> dict[str, Any]:
        """Wait until a task's end was reported so often; return the last of them."""
        await until(lambda: len(self.results(task_id)) >= count, f"the end of {task_id}")
        return self.results(task_id)[count - 1]

    # What is sent

    def send(
        self,
        capability: str,
        input: object = None,
        *,
        id: str | None = None,
        lease: str | None = None,
        attempt: int = 1,
    ) -> str:
        """Give a task to the next agent that asks; return the task's id.

        Args:
            capability: its name.
            input: anything that JSON can hold; an empty object if None.
            id: the task's; a new one if None.
            lease: the word for this attempt; a new one if None. Another lease for the same task says
                that the orchestrator has lost sight of the attempt before.
            attempt: which one it is.
        """
        task_id = id or f"task-{token_hex(8)}"
        body = {"id": task_id, "capability": capability, "input": {} if input is None else input}
        self.offer(
            json.dumps(body).encode(),
            Klink_Lease=lease or _make_lease(),
            Klink_Attempt=str(attempt),
            Klink_Hops="1",
        )
        return task_id

    async def deliver_twice(
        self, capability: str, input: object = None, *, id: str | None = None
    ) -> list[dict[str, Any]]:
        """Deliver one task twice at the same moment, and once more after its end.

        The third has another lease, as when the orchestrator has not heard of the end. Proof: all
        three were fetched. Return the ends that were reported: the same one under each lease.
        """
        task_id, lease, later = id or f"task-{token_hex(8)}", _make_lease(), _make_lease()
        for _ in range(2):
            self.send(capability, input, id=task_id, lease=lease)
        await self.wait_result(task_id)
        await until(lambda: not self.offers, "the second delivery")
        self.send(capability, input, id=task_id, lease=later, attempt=2)
        await until(lambda: not self.offers, "the third delivery")
        await until(lambda: later in self._leases_told(task_id), "the end under the other lease")
        return self.results(task_id)

    def _leases_told(self, task_id: str) -> set[str]:
        return {
            report["lease"]
            for report in self.reports
            if (report["task"], report["kind"]) == (task_id, "result")
        }

    # What goes wrong

    @asynccontextmanager
    async def away(self, process: AgentProcess | None = None) -> AsyncIterator[None]:
        """Be gone for the time of the block: the port is closed, as are all connections.

        After the block it listens again, knows nobody, and waits until the agent has registered anew,
        unless it has ended.

        Args:
            process: an agent that is to notice. Proof: its ``/status`` shows the link as ``down``,
                with the reason, before the block begins.
        """
        before = bool(self.agents)
        await self.stop()
        try:
            await self._assert_refused()
            if process is not None:
                await _wait_down(process)
            yield
        finally:
            await self.start()
        if before and (process is None or process.exit_code is None):
            await self.wait_registered()

    async def _assert_refused(self) -> None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return
        writer.close()
        raise AssertionError("the orchestrator's port still takes connections")


def _make_lease() -> str:
    return f"lease-{token_hex(12)}"


async def _wait_down(process: AgentProcess) -> None:
    async def is_down() -> bool:
        link = (await process.status())["link"]
        return bool(link["state"] == "down" and link["last_error"])

    await process.wait_until(is_down, "the agent's notice that its orchestrator is gone")
