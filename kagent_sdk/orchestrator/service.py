"""An orchestrator from its start to its end."""

from __future__ import annotations

import asyncio
import os
import secrets
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kagent_sdk.errors import (
    OrchestratorError,
    StartupError,
    StorageLockedError,
    StorageVersionError,
)
from kagent_sdk.host.announcement import announce
from kagent_sdk.host.http.auth import tls_context
from kagent_sdk.host.http.bodies import BodyReader
from kagent_sdk.host.http.server import HttpServer
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.orchestrator.agents import Agents
from kagent_sdk.orchestrator.basis import Basis
from kagent_sdk.orchestrator.book import Book
from kagent_sdk.orchestrator.broker import Broker
from kagent_sdk.orchestrator.clock import LoopClock
from kagent_sdk.orchestrator.dispatcher import Dispatcher
from kagent_sdk.orchestrator.http.auth import Roles
from kagent_sdk.orchestrator.http.link import LinkRoutes
from kagent_sdk.orchestrator.http.observation import ObservationRoutes, Probes
from kagent_sdk.orchestrator.http.plane import Plane
from kagent_sdk.orchestrator.http.streams import EventStream
from kagent_sdk.orchestrator.http.tasks import TaskRoutes
from kagent_sdk.orchestrator.leases import Leases
from kagent_sdk.orchestrator.port import ServicePart
from kagent_sdk.orchestrator.push import PushCourier
from kagent_sdk.orchestrator.registry import Registry
from kagent_sdk.orchestrator.report import CONTENT_TYPE, Identity, render_metrics, take_figures
from kagent_sdk.orchestrator.schema import ORCHESTRATOR_SCHEMA
from kagent_sdk.orchestrator.settings import (
    ANNOUNCEMENT_NAME,
    DATABASE_NAME,
    LOG_NAME,
    ServiceSettings,
)
from kagent_sdk.protocol.headers import TaskIds
from kagent_sdk.storage.thread import Storage

if TYPE_CHECKING:
    from kagent_sdk.orchestrator.fleet.news import News

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
        id: told to agents; another one each time.
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
        self._started_at = time.time()
        self._stop = asyncio.Event()
        self._jobs: set[asyncio.Task[None]] = set()
        self._pump: LogPump | None = None
        self._failure: Exception | None = None

    def ask_to_stop(self) -> None:
        """Begin the shutdown; returns at once."""
        self._stop.set()

    def note(self, news: News) -> None:
        """Write what has happened in a part into the log."""
        if self._pump is None:
            return
        level = "warning" if news.is_bad else "info"
        values = {"of": news.agent, "replica": news.replica, **news.values}
        self._pump.log(
            level, news.event, **{k: v for k, v in values.items() if v not in (None, "")}
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop, by the event or by ``POST /v1/shutdown``.

        Raises:
            OrchestratorError: it cannot start, or a part has failed.
            StorageError: its database cannot be opened.
            ConfigError: the files of TLS are wrong.
        """
        settings = self._settings
        settings.check()
        await asyncio.to_thread(_make_data, settings.data)
        async with AsyncExitStack() as stack:
            pump = self._pump = await stack.enter_async_context(self._logging())
            storage = await stack.enter_async_context(self._storing(pump))
            courier = PushCourier(self._client_tls)
            stack.push_async_callback(courier.aclose)
            stack.push_async_callback(self._end_jobs)
            broker, agents = self._brokerage(storage, courier, pump)
            taken_up = await broker.load()
            self._spawn(broker.book.keep_tidy())
            plane = self._plane(broker, agents, storage, pump)
            server = await stack.enter_async_context(self._serving(plane))
            self.url = server.url
            stack.enter_context(self._announcing())
            pump.log("info", "orchestrator_started", url=server.url, open_tasks=taken_up)
            await self._live(stop, broker)

    def _brokerage(
        self, storage: Storage, courier: PushCourier, pump: LogPump
    ) -> tuple[Broker, Agents]:
        settings = self._settings
        basis = Basis(self.id, LoopClock(), settings.limits, expects=settings.expects, log=pump.log)
        book = Book(storage, settings.limits, basis.clock)
        leases = Leases(book, self.registry, courier, spawn=self._spawn, basis=basis)
        dispatcher = Dispatcher(
            book, self.registry, leases, courier, spawn=self._spawn, basis=basis
        )
        ids = TaskIds(self._started_at, os.urandom(8))
        broker = Broker(book, self.registry, leases, dispatcher, ids=ids, basis=basis)
        agents = Agents(self.registry, book, leases, dispatcher, basis)
        return broker, agents

    def _plane(self, broker: Broker, agents: Agents, storage: Storage, pump: LogPump) -> Plane:
        settings = self._settings
        http = settings.http()
        plane = Plane(Roles(settings.agent_token, settings.operator_token), pump)
        bodies = BodyReader(http.model_copy(update={"max_body_bytes": settings.max_body_bytes}))
        reports = BodyReader(http.model_copy(update={"max_body_bytes": settings.max_report_bytes}))
        streams = EventStream(broker.book, write_timeout_s=http.read_timeout_s)
        probes = Probes(
            status=lambda: self._status(broker, plane, storage),
            metrics=lambda: _metrics(broker, plane),
            openapi=self._openapi,
            trouble=lambda: storage.trouble,
            shut_down=self.ask_to_stop,
        )
        plane.add(ObservationRoutes(broker, LoopClock(), probes).routes())
        plane.add(TaskRoutes(broker, bodies, streams).routes())
        plane.add(LinkRoutes(agents, bodies, reports).routes())
        for part in self._parts:
            plane.add(part.routes())
        return plane

    def _status(self, broker: Broker, plane: Plane, storage: Storage) -> dict[str, Any]:
        from kagent_sdk.orchestrator.mesh_report import (  # noqa: PLC0415 - with the first request
            build_status,
        )

        document = build_status(
            broker,
            take_figures(broker, plane.answered),
            Identity(self.id, self.url, self._started_at),
            trouble=storage.trouble,
        )
        for part in self._parts:
            document |= part.status()
        return document

    def _openapi(self) -> bytes:
        from kagent_sdk.orchestrator.http.openapi import (  # noqa: PLC0415 - with the first request
            openapi_bytes,
        )

        return openapi_bytes(has_tokens=self._settings.operator_token is not None)

    async def _live(self, stop: asyncio.Event, broker: Broker) -> None:
        jobs = [asyncio.create_task(self._run_part(part)) for part in self._parts]
        try:
            await _first_of(stop, self._stop)
            broker.stop()
            # The link goes on meanwhile: their agents report the ends of their tasks.
            for part in reversed(self._parts):
                await self._stop_part(part)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        if self._failure is not None:
            raise OrchestratorError("a part of it has failed; see its log") from self._failure

    async def _run_part(self, part: ServicePart) -> None:
        try:
            await part.run(self.url)
        except Exception as exc:  # noqa: BLE001 - the others are stopped in order
            self._note_failure("part_failed", exc)
            self._stop.set()

    async def _stop_part(self, part: ServicePart) -> None:
        try:
            await part.stop(self._settings.stop_s)
        except Exception as exc:  # noqa: BLE001 - as above
            self._note_failure("part_not_stopped", exc)

    def _note_failure(self, event: str, error: Exception) -> None:
        self._failure = self._failure or error
        if self._pump is not None:
            self._pump.log_exception(event, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._note_done)

    def _note_done(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        error = None if job.cancelled() else job.exception()
        if error is not None and self._pump is not None:
            self._pump.log_exception("job_failed", error)

    async def _end_jobs(self) -> None:
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    def _announcing(self) -> Any:
        return announce(
            self._settings.data / ANNOUNCEMENT_NAME,
            url=self.url,
            orchestrator=self.id,
            started_at=self._started_at,
        )

    def _client_tls(self) -> ssl.SSLContext:
        settings = self._settings
        context = ssl.create_default_context(cafile=settings.agent_ca)
        if settings.tls is not None:
            folder = settings.data
            context.load_cert_chain(folder / settings.tls.certificate, folder / settings.tls.key)
        return context

    @asynccontextmanager
    async def _logging(self) -> AsyncIterator[LogPump]:
        settings = self._settings
        pump = LogPump(settings.data / LOG_NAME, agent="orchestrator", config=settings.logs)
        pump.start()
        try:
            yield pump
        finally:
            pump.log("info", "orchestrator_stopped")
            await asyncio.to_thread(pump.close, LOG_FLUSH_S)

    @asynccontextmanager
    async def _storing(self, pump: LogPump) -> AsyncIterator[Storage]:
        settings = self._settings

        def tell(trouble: str | None) -> None:
            if trouble is None:
                pump.log("info", "storage_recovered")
            else:
                pump.log("error", "storage_failed", detail=trouble)

        storage = Storage(
            settings.data / DATABASE_NAME,
            settings.durability,
            schema=ORCHESTRATOR_SCHEMA,
            on_trouble=tell,
        )
        try:
            try:
                report = await storage.open()
            except StorageLockedError:
                raise OrchestratorError(
                    f"another orchestrator has {DATABASE_NAME} there; stop it first, or give this one "
                    "another folder"
                ) from None
            except StorageVersionError as exc:
                raise OrchestratorError(
                    f"{DATABASE_NAME} has schema version {exc.found}, and this release knows up to "
                    f"{exc.known}: install a newer kagent-sdk, or use another folder"
                ) from None
            if report.quarantined is not None:
                pump.log("error", "storage_damaged", put_aside=report.quarantined)
            yield storage
        finally:
            await storage.aclose()

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


def _make_data(folder: Path) -> None:
    """Make the folder, and see that files can be made in it.

    Raises:
        OrchestratorError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        reason = "it is no folder" if isinstance(exc, FileExistsError) else exc.strerror
        raise OrchestratorError(
            f"the orchestrator cannot keep its data in {folder}: {reason}"
        ) from None


def _metrics(broker: Broker, plane: Plane) -> Any:
    figures = take_figures(broker, plane.answered)
    return lambda: (render_metrics(figures), CONTENT_TYPE)


async def _first_of(*events: asyncio.Event) -> None:
    jobs = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for job in jobs:
            job.cancel()
