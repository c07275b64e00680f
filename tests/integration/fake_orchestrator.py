"""The orchestrator of the testing kit, with a token that agents must show."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kagent_sdk.testing import FakeOrchestrator
from kagent_sdk.testing.link_server import FakeTask, Fault, Seen, problem
from kagent_sdk.testing.waiting import until

__all__ = [
    "TOKEN",
    "FakeOrchestrator",
    "FakeTask",
    "Fault",
    "Seen",
    "problem",
    "running_orchestrator",
    "until",
]

TOKEN = "s3cret-token"  # noqa: S105 - the test's own


@asynccontextmanager
async def running_orchestrator(
    tls: ssl.SSLContext | None = None, *, heartbeat_s: float = 0.2
) -> AsyncIterator[FakeOrchestrator]:
    """Run an orchestrator for the time of the block."""
    orchestrator = FakeOrchestrator(tls, heartbeat_s=heartbeat_s)
    orchestrator.token = TOKEN
    async with orchestrator:
        yield orchestrator
