"""The host as a whole: what it owns, in which order it comes up, and how it goes down."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import CrashLoopError
from kagent_sdk.host.children import Children
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.health import AwakeClock
from kagent_sdk.host.lifecycle import Lifecycle, LifecycleState
from kagent_sdk.host.log_pump import LogPump
from kagent_sdk.host.pool import Pool
from kagent_sdk.host.reception import Reception
from kagent_sdk.host.shutdown import ShutdownSchedule, plan_shutdown
from kagent_sdk.host.signals import EarlySignals
from kagent_sdk.host.task import CancelReason
from kagent_sdk.host.vault import Vault
from kagent_sdk.host.watchdog import TICK_S, Watchdog
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.host.worker_process import WorkerProcess
from kagent_sdk.journal.memory import MemoryJournal
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure

if TYPE_CHECKING:
    from kagent_sdk.host.http.server import HttpServer
    from kagent_sdk.host.monitor import Monitor

CLOCK_TOLERANCE_S = 1.0
"""The host may be this late with its own ticks before the workers' silence stops counting."""


class Host:
    """Runs one agent. Built in the event loop; `serve` is its whole life.

    Args:
        directory: the agent's folder.
        config: the agent's configuration.
        vault: its secrets.
    """

    def __init__(self, directory: Path, config: AgentConfig, vault: Vault) -> None:
        self.directory = directory
        self.config = config
        self.vault = vault
        self.started_at = time.time()
        self.lifecycle = Lifecycle(self.started_at)
        self.counters = Counters()
        self.pump = LogPump(directory / "logs" / "runtime.log", agent=config.name or "agent")
        self.engine = Engine(
            config,
            MemoryJournal(
                retention_s=config.tasks.retention_s,
                retention_count=config.tasks.retention_count,
                retention_bytes=config.tasks.retention_bytes,
            ),
            self.counters,
            kill=self._kill,
        )
        self._loop = asyncio.get_running_loop()
        clock = AwakeClock(self._loop.time(), TICK_S + CLOCK_TOLERANCE_S)
        self._children = Children()
        reception = Reception(
            config,
            secrets=vault.exposed(config.secrets.expose),
            engine=self.engine,
            pump=self.pump,
            clock=clock,
            on_change=self._refresh,
        )
        self.pool = Pool(
            directory,
            config,
            reception=reception,
            children=self._children,
            pump=self.pump,
            clock=clock,
        )
        self.watchdog = Watchdog(
            config,
            lifecycle=self.lifecycle,
            pool=self.pool,
            engine=self.engine,
            pump=self.pump,
            clock=clock,
        )
        self.monitor: Monitor | None = None
        self._schedule: ShutdownSchedule | None = None
        self._stop_asked = asyncio.Event()
        self._hurry_asked = asyncio.Event()

    # Life

    async def serve(self, signals: EarlySignals) -> None:
        """Run until a stop is asked for, then stop in order.

        Raises:
            StartupError: the control plane cannot come up.
            CrashLoopError: the worker keeps crashing.
        """
        signals.hand_over(self._loop, self.ask_to_stop, self._refuse_reload)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._pumping())
            await stack.enter_async_context(self._parenting())
            processes = self.pool.start_first()
            stack.callback(_kill_all, processes)
            # Imported now: the workers start on another core meanwhile.
            from kagent_sdk.host.http.setup import build_server  # noqa: PLC0415

            server = build_server(self)
            await server.start()
            stack.push_async_callback(server.close)
            stack.enter_context(_Announcement(self, server))
            await self._run(processes, server)

    def ask_to_stop(self, why: str) -> None:
        """Begin the shutdown; asked again, skip to the cancellation of what still runs."""
        if self._stop_asked.is_set():
            self.pump.log("warning", "shutdown_hurried", why=why)
            self._hurry_asked.set()
            return
        self._schedule = plan_shutdown(
            self._loop.time(),
            grace_s=self.config.shutdown.grace_s,
            cancel_grace_s=self.config.tasks.cancel_grace_s,
        )
        if self.lifecycle.state is not LifecycleState.FAILED:
            self.lifecycle.enter(LifecycleState.DRAINING, time.time())
        self.watchdog.refresh()
        self.pump.log(
            "info", "shutdown_started", why=why, open_tasks=self.engine.dispatcher.running
        )
        self._stop_asked.set()

    def _kill(self, connection: WorkerConnection, reason: str) -> None:
        self.pool.kill(connection, reason)

    def _refresh(self) -> None:
        self.watchdog.refresh()

    def _refuse_reload(self) -> None:
        self.pump.log("warning", "reload_not_available", signal="SIGHUP")

    async def _run(self, processes: list[WorkerProcess], server: HttpServer) -> None:
        from kagent_sdk.host.monitor import Monitor  # noqa: PLC0415 - after the port is open

        self.monitor = Monitor(
            self.config,
            engine=self.engine,
            pids=self.pids,
            on_memory=lambda verdict: self.watchdog.note_memory(verdict.message),
            pump=self.pump,
        )
        jobs = [
            asyncio.create_task(job, name=name)
            for name, job in (
                ("watchdog", self.watchdog.run()),
                ("monitor", self.monitor.run()),
                ("sweep", server.sweep()),
            )
        ]
        pool = asyncio.create_task(self.pool.run(processes), name="pool")
        stopped = asyncio.create_task(self._stop_asked.wait(), name="stop")
        try:
            await asyncio.wait([pool, stopped, *jobs], return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                await self._shut_down(pool)
            self._raise_first([pool, *jobs])
        finally:
            stopped.cancel()
            for job in [*jobs, pool]:
                job.cancel()
            await asyncio.gather(*jobs, pool, stopped, return_exceptions=True)
            self._end_all()
            await self.engine.aclose()

    def _raise_first(self, jobs: list[asyncio.Task[None]]) -> None:
        for job in jobs:
            if not job.done() or job.cancelled():
                continue
            error = job.exception()
            if error is None:
                continue
            self.lifecycle.enter(LifecycleState.FAILED, time.time())
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            if isinstance(error, CrashLoopError):
                self.pump.log("error", "crash_loop", detail=str(error))
            raise error

    async def _shut_down(self, pool: asyncio.Task[None]) -> None:
        """Finish, cancel, stop, each until its deadline at the latest."""
        assert self._schedule is not None
        await self._finish_tasks()
        schedule = self._schedule
        if not self.engine.dispatcher.is_idle:
            self.engine.cancel_all(CancelReason.SHUTDOWN)
            await self._idle_until(schedule.interrupt_at_s)
            for task in self.engine.dispatcher.open_attempts():
                if task.worker is not None:
                    task.worker.send(Kind.INTERRUPT, task.number)
            await self._idle_until(schedule.cancel_until_s)
        self.lifecycle.enter(LifecycleState.STOPPING, time.time())
        await self.pool.stop(max(0.0, schedule.stop_until_s - self._loop.time()))
        await asyncio.wait([pool], timeout=max(0.1, schedule.flush_until_s - self._loop.time()))
        self._end_all()

    async def _finish_tasks(self) -> None:
        assert self._schedule is not None
        hurry = asyncio.create_task(self._hurry_asked.wait())
        idle = asyncio.create_task(self.engine.dispatcher.wait_idle())
        timeout_s = max(0.0, self._schedule.finish_until_s - self._loop.time())
        await asyncio.wait([hurry, idle], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for job in (hurry, idle):
            job.cancel()
        if self._hurry_asked.is_set():
            self._schedule = self._schedule.hurry(self._loop.time())

    async def _idle_until(self, at_s: float) -> None:
        try:
            async with asyncio.timeout_at(at_s):
                await self.engine.dispatcher.wait_idle()
        except TimeoutError:
            self.pump.log("warning", "tasks_still_open", count=self.engine.dispatcher.running)

    def _end_all(self) -> None:
        """Give whatever is still open its definite end."""
        gone = TaskFailure(ErrorCode.INTERRUPTED, "the agent stopped", retryable=True, status=503)
        for connection in list(self.engine.dispatcher.connections):
            self.engine.lose(connection, "shutdown", may_run_again=False)
        self.engine.abandon_queue(gone)

    def pids(self) -> list[int]:
        """Return the process ids of the host and its workers."""
        return [os.getpid(), *(place.pid for place in self.pool.places if place.pid is not None)]

    @asynccontextmanager
    async def _pumping(self) -> AsyncIterator[None]:
        self.pump.start()
        try:
            yield
        finally:
            if self.lifecycle.state is LifecycleState.STOPPING:
                self.lifecycle.enter(LifecycleState.STOPPED, time.time())
            self.pump.log("info", "host_stopped", lifecycle=str(self.lifecycle.state))
            left_s = (
                1.0 if self._schedule is None else self._schedule.flush_until_s - self._loop.time()
            )
            self.pump.close(max(0.2, min(2.0, left_s)))

    @asynccontextmanager
    async def _parenting(self) -> AsyncIterator[None]:
        self._children.start()
        try:
            yield
        finally:
            self._children.close()


def _kill_all(processes: list[WorkerProcess]) -> None:
    for process in processes:
        process.kill()


class _Announcement:
    """``runtime/host.json`` while the host listens, so that a local client finds it."""

    def __init__(self, host: Host, server: HttpServer) -> None:
        self._path = host.directory / "runtime" / "host.json"
        self._host = host
        self._server = server

    def __enter__(self) -> None:
        host = self._host
        document = {
            "pid": os.getpid(),
            "url": self._server.url,
            "agent": host.config.name,
            "version": host.config.version,
            "started_at": host.started_at,
        }
        temporary = self._path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(document, file)
        temporary.rename(self._path)
        host.pump.log("info", "host_started", url=self._server.url, pid_of_host=os.getpid())

    def __exit__(self, *error: object) -> None:
        self._path.unlink(missing_ok=True)
