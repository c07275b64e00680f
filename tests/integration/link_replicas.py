"""Links over NATS that run in a test, and a caller's part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, Self

from kagent_sdk.link.nats.caller import NatsCaller, Submission
from kagent_sdk.link.nats.limits import NatsLimits
from kagent_sdk.link.nats.link import NatsLink
from kagent_sdk.link.settings import LinkSettings
from tests.integration.link_hosts import FakeHost
from tests.integration.nats_server import NatsServer

QUICK = NatsLimits(
    ack_wait_s=0.6, lost_after_s=1.0, registry_ttl_s=1.0, pull_s=2.0, look_s=0.5, backoff_s=0.05
)


@asynccontextmanager
async def linked(
    server: NatsServer, *hosts: FakeHost, limits: NatsLimits = QUICK
) -> AsyncIterator[list[Replica]]:
    """Run a link for each host; they are up when this gives them."""
    async with AsyncExitStack() as stack:
        replicas = [Replica(server, host, limits) for host in hosts]
        for replica in replicas:
            await stack.enter_async_context(replica)
        yield replicas


class Replica:
    """A link that runs."""

    def __init__(self, server: NatsServer, host: FakeHost, limits: NatsLimits = QUICK) -> None:
        settings = LinkSettings(server.url, "pull", timeout_s=2.0, heartbeat_s=0.2)
        self.link = NatsLink(settings, host, limits)
        self.host = host
        self._job: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._job = asyncio.create_task(self.link.run())
        await until(lambda: self.link.status.state == "up")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()
        await self.link.close(2)

    async def die(self) -> None:
        """Stop at once, as a process that is killed does: nothing is said to anybody."""
        assert self._job is not None
        self._job.cancel()
        await asyncio.gather(self._job, return_exceptions=True)
        session = self.link._session
        if session is not None:
            await session.bus.close()


async def until(condition: Callable[[], object], within_s: float = 60) -> None:
    """Return when a condition, or what it returns to be awaited, holds; no event tells of it."""
    async with asyncio.timeout(within_s):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.01)


def task(agent: str, id: str, **members: Any) -> Submission:
    """Return a task for the agent's echo."""
    return replace(Submission(id, "echo", b'{"say":"hi"}', agent), **members)


async def end_of(caller: NatsCaller, agent: str, id: str) -> dict[str, Any]:
    """Return a task when it has ended."""
    record = await caller.wait(agent, id, 20)
    assert record is not None
    assert record.has_ended, record
    return await caller.document(record)
