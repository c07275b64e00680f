"""A NATS server with JetStream between callers and agents, for `tests.integration.mesh_chaos`."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import nats

from kagent_sdk.link.nats.caller import NatsCaller, Submission
from kagent_sdk.link.nats.client import connect_caller
from kagent_sdk.link.nats.connection import FAILURES
from kagent_sdk.link.nats.limits import NatsLimits
from kagent_sdk.link.nats.streams import open_queue
from kagent_sdk.link.port import CallFailedError
from tests.integration.mesh_load import Seen
from tests.integration.mesh_processes import HEARTBEAT_S, free_port, is_listening
from tests.integration.waiting import wait_until

AGENT = "ledger"
CAPABILITIES = ("count", "charge")
ACK_WAIT_S = 2.0
"""Agents take the queues that they find: with these a task of an agent that is silent is soon another's."""

RETRY_S = 0.05
WAIT_S = 10.0
RETRYABLE = frozenset({"unreachable", "overloaded", "unknown_capability"})


class NatsMiddle:
    """A server, which keeps its streams in a folder, and the connection of the callers.

    Args:
        directory: of the server; made here.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._port = free_port()
        self._stack = AsyncExitStack()
        self._caller: NatsCaller | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self.kills = 0

    async def __aenter__(self) -> Self:
        await self.start()
        async with await nats.connect(self._url) as client:
            limits = NatsLimits(ack_wait_s=ACK_WAIT_S)
            for capability in CAPABILITIES:
                await open_queue(client.jetstream(), AGENT, capability, limits)
        caller = connect_caller(self._url, timeout_s=5)
        self._caller = await self._stack.enter_async_context(caller)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        await self.kill()

    def find_port(self) -> int | None:
        """Return where it listens, whether it does or not."""
        return self._port

    def environment(self, url: str, delivery: str, address: str) -> dict[str, str]:
        """Return the environment of an agent."""
        return {
            "AGENT_ORCHESTRATOR__URL": url.replace("http://", "nats://"),
            "AGENT_ORCHESTRATOR__HEARTBEAT_S": str(HEARTBEAT_S),
            "AGENT_ORCHESTRATOR__REQUIRED": "true",
        }

    async def start(self) -> None:
        """Start it."""
        words = ["-js", "-sd", str(self._directory), "-a", "127.0.0.1", "-p", str(self._port)]
        await asyncio.to_thread(self._spawn, words)
        self._starts += 1
        await asyncio.to_thread(wait_until, lambda: is_listening(self._port))

    def _spawn(self, words: list[str]) -> None:
        with (self._directory.parent / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(["nats-server", *words], stdout=log, stderr=log)

    async def kill(self) -> None:
        """Kill it."""
        assert self._process is not None
        self._process.kill()
        self.kills += await asyncio.to_thread(self._process.wait) == -signal.SIGKILL

    async def stop(self) -> int:
        """Ask it to end; it has 1 as its exit code after a signal."""
        assert self._process is not None
        await self._stack.aclose()
        self._process.terminate()
        return 0 if await asyncio.to_thread(self._process.wait) in (0, 1) else 70

    def send_signal(self, number: signal.Signals) -> int:
        """Send a signal to it."""
        assert self._process is not None
        self._process.send_signal(number)
        return int(self._process.poll() is None)

    async def wait_agents(self, count: int) -> None:
        """Wait until so many agents are registered."""
        async with asyncio.timeout(60):
            while True:
                try:
                    agents = await self._calls.registry.agents()
                except FAILURES:
                    agents = ()
                if sum(one.status.ready for one in agents) >= count:
                    return
                await asyncio.sleep(RETRY_S)

    async def settle(self, seen: Seen) -> None:
        """Publish an order, then wait for its end."""
        while seen.end is None and not seen.wrongs:
            document = await self._attempt(seen)
            if document is not None:
                seen.note_end(document)
            else:
                await asyncio.sleep(RETRY_S)

    async def ask_again(self, seen: Seen) -> None:
        """Publish an order once more: it must be the task that has ended."""
        for _ in range(100):
            document = await self._attempt(seen)
            if document is not None:
                return seen.note_end(document)
            await asyncio.sleep(RETRY_S)
        seen.wrongs.append("no end when asked again")
        return None

    async def look(self) -> None:
        """Do nothing: the server counts nothing of ours."""

    def figures(self) -> Mapping[str, int]:
        """Return how often it was started."""
        return {"starts of nats-server": self._starts}

    @property
    def _url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    @property
    def _calls(self) -> NatsCaller:
        assert self._caller is not None
        return self._caller

    async def _attempt(self, seen: Seen) -> dict[str, Any] | None:
        """Send an order, or find it, and wait; return its end, or None to try again."""
        order = seen.order
        body = json.dumps(order.input).encode()
        submission = Submission(order.token, order.capability, body, agent=AGENT)
        try:
            record = await self._calls.submit(submission)
            seen.is_accepted = True
            ended = await self._calls.wait(record.agent, record.task, WAIT_S)
            if ended is None:
                seen.wrongs.append("an accepted task is gone")
                return None
            return await self._calls.document(ended) if ended.has_ended else None
        except FAILURES:
            seen.retries += 1
        except CallFailedError as exc:
            if exc.failure.code not in RETRYABLE:
                seen.wrongs.append(f"not taken: {exc.failure}")
            seen.refusals += 1
        return None
