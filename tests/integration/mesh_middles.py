"""What `tests.integration.mesh_chaos` can put between callers and agents."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Self

from tests.integration.mesh_caller import OrchestratorCaller
from tests.integration.mesh_processes import link_environment, prepare_orchestrator, signal_tree

RETURN_S = 6.0
"""Longer than any fault lasts, so that what an agent has kept comes back with it."""


class HttpMiddle(OrchestratorCaller):
    """The orchestrator of the package, as a process of its own.

    Args:
        directory: that it keeps its data in.
    """

    def __init__(self, directory: Path) -> None:
        self.orchestrator = prepare_orchestrator(directory, return_s=RETURN_S)
        super().__init__(lambda: self.orchestrator.url)
        self.kills = 0

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        await super().__aexit__()

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
