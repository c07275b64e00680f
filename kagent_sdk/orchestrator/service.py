"""An orchestrator from its start to its end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from kagent_sdk.errors import OrchestratorError, StartupError
from kagent_sdk.host.http.auth import tls_context
from kagent_sdk.host.http.server import HttpServer
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.orchestrator.announcement import announce
from kagent_sdk.orchestrator.http.auth import Roles
from kagent_sdk.orchestrator.http.plane import Plane, probe_response
from kagent_sdk.orchestrator.port import Route, ServicePart
from kagent_sdk.orchestrator.registry import Registry
from kagent_sdk.orchestrator.settings import LOG_NAME, ServiceSettings

LOG_FLUSH_S = 5.0

__all__ = ["Service", "ServiceSettings"]


class Service:
    """The broker of tasks behind an HTTP server, and what runs beside it.

    Args:
        settings: where, for whom, and how much.
        parts: what runs beside it, such as the fleet; started in order, stopped in the reverse.
        registry: of the agents; give one to share it with a part.

    Attributes:
        registry: the agents that have registered.
        url: where it listens; empty before.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        parts: Sequence[ServicePart] = (),
        *,
        registry: Registry | None = None,
    ) -> None:
        self._settings = settings
        self._parts = tuple(parts)
        self.registry = Registry() if registry is None else registry
        self.id = secrets.token_urlsafe(16)
        self.url = ""
        self._stop = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop, by the event or by ``POST /v1/shutdown``.

        Raises:
            OrchestratorError: it cannot start.
            StorageError: its database cannot be opened.
            ConfigError: the files of TLS are wrong.
        """
        settings = self._settings
        settings.check()
        await asyncio.to_thread(settings.data.mkdir, parents=True, exist_ok=True, mode=0o700)
        async with AsyncExitStack() as stack:
            pump = await stack.enter_async_context(self._logging())
            plane = Plane(Roles(settings.agent_token, settings.operator_token), pump)
            plane.add(self._routes())
            for part in self._parts:
                plane.add(part.routes())
            server = await stack.enter_async_context(self._serving(plane))
            self.url = server.url
            stack.enter_context(
                announce(
                    settings.data, url=server.url, orchestrator=self.id, started_at=time.time()
                )
            )
            pump.log("info", "orchestrator_started", url=server.url)
            await self._live(stop)

    async def _live(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            jobs = [group.create_task(part.run(self.url)) for part in self._parts]
            await _first_of(stop, self._stop)
            for part in reversed(self._parts):
                await part.stop(self._settings.stop_s)
            for job in jobs:
                job.cancel()

    def ask_to_stop(self) -> None:
        """Begin the shutdown; returns at once."""
        self._stop.set()

    @asynccontextmanager
    async def _logging(self) -> AsyncIterator[LogPump]:
        pump = LogPump(
            self._settings.data / LOG_NAME, agent="orchestrator", config=self._settings.logs
        )
        pump.start()
        try:
            yield pump
        finally:
            pump.log("info", "orchestrator_stopped")
            await asyncio.to_thread(pump.close, LOG_FLUSH_S)

    @asynccontextmanager
    async def _serving(self, plane: Plane) -> AsyncIterator[HttpServer]:
        settings = self._settings
        tls = None if settings.tls is None else tls_context(settings.tls, settings.data)
        server = HttpServer(settings.http(), host=settings.host, handler=plane.handle, tls=tls)
        try:
            await server.start()
        except StartupError as exc:
            reason = str(exc).partition(";")[0]
            raise OrchestratorError(f"{reason}; choose another port, 0 takes a free one") from exc
        sweeping = asyncio.create_task(server.sweep())
        try:
            yield server
        finally:
            sweeping.cancel()
            await asyncio.wait([sweeping])
            await server.close()

    def _routes(self) -> list[Route]:
        return [Route("GET", "/healthz", self._healthz)]

    async def _healthz(self, request: BaseRequest) -> Response:
        return probe_response(is_ok=True, word="ok")


async def _first_of(*events: asyncio.Event) -> None:
    jobs = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for job in jobs:
            job.cancel()
