"""The life of a host: in which order it comes up, what it waits for, and how it goes down."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from kagent_sdk.errors import CrashLoopError, KagentError
from kagent_sdk.host.announcement import announce
from kagent_sdk.host.lifecycle import LifecycleState
from kagent_sdk.host.own_memory import hide_memory
from kagent_sdk.host.parts import HostParts
from kagent_sdk.host.shutdown import ShutdownSchedule, plan_shutdown
from kagent_sdk.host.signals import EarlySignals
from kagent_sdk.host.task import CancelReason
from kagent_sdk.host.worker_process import WorkerProcess
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure

if TYPE_CHECKING:
    from kagent_sdk.host.http.server import HttpServer

GC_THRESHOLD = 10_000
"""Objects between two collections of the youngest generation, instead of 700: a request makes some
hundred, and collecting after every seventh costs 7 % of the rate."""

SETTLED_AFTER_S = 1.0
"""From here on most workers are ready, and no import of the host's takes time from theirs."""

FLUSH_S = 2.0
"""For the last answers, for callbacks under way, and for the record of the end."""

LOG_FLUSH_S = 10.0
"""A full pipe is written in milliseconds; a machine that is busy or a slow disk may take its time, and
what a worker has said last is what is asked for first."""

STATE_FLUSH_S = 10.0
"""A state of some hundred megabytes takes seconds to write as text."""

MIN_FLUSH_S = 0.1
"""What the last answers and log lines get even when the budget is used up."""


class Host:
    """Runs one agent; `serve` is its whole life.

    Args:
        parts: what it is made of.
    """

    def __init__(self, parts: HostParts) -> None:
        self._parts = parts
        self._engine = parts.engine
        self._lifecycle = parts.lifecycle
        self._pump = parts.pump
        self._loop = asyncio.get_running_loop()
        self._schedule: ShutdownSchedule | None = None
        self._stop_asked = asyncio.Event()
        self._hurry_asked = asyncio.Event()

    async def serve(self, signals: EarlySignals, workers: list[WorkerProcess]) -> None:
        """Run until a stop is asked for, then stop in order.

        Args:
            signals: what came until now.
            workers: those that run already: as many as configured, or none.

        Raises:
            StartupError: the control plane cannot come up.
            CrashLoopError: the worker keeps crashing.
        """
        parts = self._parts
        signals.hand_over(self._loop, self.ask_to_stop, self._ask_to_reload, self._pump.reopen)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._pumping())
            stack.enter_context(self._recording())
            parts.children.start()
            stack.callback(parts.children.close)
            stack.callback(_kill_all, workers)
            parts.pool.adopt(workers)
            server = await self._listen(stack)
            stack.enter_context(parts.pool.kind.prepare())
            processes = workers or parts.pool.start_first()
            stack.callback(_kill_all, processes)
            debug_facts = await self._open_debug_socket(stack)
            stack.enter_context(
                announce(
                    parts.directory / "runtime" / "host.json",
                    url=server.url,
                    agent=parts.config.name or "agent",
                    version=parts.config.version,
                    started_at=parts.started_at,
                    **debug_facts,
                )
            )
            parts.exits.start()
            _settle_process(parts)
            gc.freeze()  # what is there now stays: no collection needs to look at it again
            gc.set_threshold(GC_THRESHOLD)
            gc.enable()
            self._pump.log("info", "host_started", url=server.url, host_pid=os.getpid())
            await self._run(processes, server)

    async def _listen(self, stack: AsyncExitStack) -> HttpServer:
        # Imported late: what went before has its own ways to fail, and needs none of this.
        from kagent_sdk.host.http.lean_aiohttp import put_off_client  # noqa: PLC0415

        put_off_client()
        from kagent_sdk.host.http.setup import build_server  # noqa: PLC0415

        server = build_server(self._parts, self.ask_to_stop)
        await server.start()
        stack.push_async_callback(self._close, server)
        self._parts.link.listen_at(server.url)
        return server

    async def _open_debug_socket(self, stack: AsyncExitStack) -> dict[str, str]:
        debug = self._parts.debug
        if debug is None:
            return {}
        stack.push_async_callback(debug.aclose)
        return await debug.open()

    def ask_to_stop(self, why: str) -> None:
        """Begin the shutdown; asked again, skip to the cancellation of what still runs."""
        if self._stop_asked.is_set():
            self._pump.log("warning", "shutdown_hurried", why=why)
            self._hurry_asked.set()
            return
        self._parts.exits.note_stop(why)
        config = self._parts.config
        self._schedule = plan_shutdown(
            self._loop.time(),
            grace_s=config.shutdown.grace_s,
            cancel_grace_s=config.tasks.cancel_grace_s,
        )
        if self._lifecycle.state is not LifecycleState.FAILED:
            self._lifecycle.enter(LifecycleState.DRAINING, time.time())
        self._parts.reloader.abandon()
        self._parts.snapshots.abandon()
        self._parts.watchdog.refresh()
        self._parts.keeper.stop()
        self._parts.link.drain()
        if self._parts.debug is not None:
            self._parts.debug.drain()
        if self._parts.service_manager is not None:
            self._parts.service_manager.stopping()
        self._pump.log(
            "info", "shutdown_started", why=why, open_tasks=self._engine.dispatcher.running
        )
        self._stop_asked.set()

    def _ask_to_reload(self) -> None:
        _ = self._parts.reloader.ask("SIGHUP")  # the log and /status tell the outcome

    async def _run(self, processes: list[WorkerProcess], server: HttpServer) -> None:
        parts = self._parts
        jobs = [
            asyncio.create_task(job, name=name)
            for name, job in (
                ("pool", parts.succession.run(processes)),
                ("journal", parts.durability.run()),
                ("reloader", parts.reloader.run()),
                ("watchdog", parts.watchdog.run()),
                ("monitor", self._monitor()),
                ("vault", parts.keeper.run()),
                ("callbacks", self._call_back()),
                ("egress", parts.egress.run(self._pump.log, self._find_secret)),
                ("sweep", server.sweep()),
            )
        ]
        if parts.service_manager is not None:
            jobs.append(asyncio.create_task(parts.service_manager.run(), name="service_manager"))
        if parts.link.is_on:
            jobs.append(asyncio.create_task(parts.link.run(), name="link"))
        stopped = asyncio.create_task(self._wait_for_stop(), name="stop")
        try:
            await asyncio.wait([stopped, *jobs], return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                await self._shut_down(jobs[0])
            self._raise_first(jobs)
        finally:
            for job in (stopped, *jobs):
                job.cancel()
            await asyncio.gather(stopped, *jobs, return_exceptions=True)
            parts.exits.keep_tasks()
            self._end_all()
            await self._engine.aclose(self._left_s(FLUSH_S))
            await parts.link.aclose(self._left_s(FLUSH_S))
            await parts.snapshots.aclose()
            await parts.durability.aclose(self._left_s(STATE_FLUSH_S))

    async def _monitor(self) -> None:
        from kagent_sdk.host.http.setup import import_reports  # noqa: PLC0415 - as in `_listen`

        async with asyncio.TaskGroup() as group:
            group.create_task(self._parts.monitor.run())
            # Behind the start, and before anyone asks what is wrong: no imports during a stall.
            await asyncio.sleep(SETTLED_AFTER_S)
            await asyncio.to_thread(import_reports)
            await self._parts.audit.run()

    async def _call_back(self) -> None:
        await self._parts.durability.opened.wait()
        await self._parts.callbacks.run()

    def _find_secret(self, name: str) -> object:
        return self._parts.keeper.vault.known((name,)).get(name)

    async def _wait_for_stop(self) -> None:
        await self._stop_asked.wait()

    def _raise_first(self, jobs: list[asyncio.Task[None]]) -> None:
        for job in jobs:
            error = job.exception() if job.done() and not job.cancelled() else None
            if error is None:
                continue
            self._lifecycle.enter(LifecycleState.FAILED, time.time())
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            if isinstance(error, CrashLoopError):
                self._pump.log("error", "crash_loop", detail=str(error))
            raise error

    # Going down

    async def _shut_down(self, pool: asyncio.Task[None]) -> None:
        """Finish, cancel, stop: each until its deadline at the latest."""
        schedule = await self._finish_tasks()
        dispatcher = self._engine.dispatcher
        if not dispatcher.is_idle:
            self._engine.cancel_all(CancelReason.SHUTDOWN)
            await self._idle_until(schedule.interrupt_at_s)
            for task in dispatcher.open_attempts():
                if task.worker is not None:
                    task.worker.send(Kind.INTERRUPT, task.number)
            await self._idle_until(schedule.cancel_until_s)
        self._lifecycle.enter(LifecycleState.STOPPING, time.time())
        self._parts.exits.keep_tasks()
        await self._parts.succession.stop(max(0.0, schedule.stop_until_s - self._loop.time()))
        await asyncio.wait([pool], timeout=max(0.1, schedule.flush_until_s - self._loop.time()))
        flush_s = self._left_s(FLUSH_S)
        await asyncio.gather(
            self._parts.callbacks.finish(flush_s), self._parts.link.finish(flush_s)
        )

    async def _finish_tasks(self) -> ShutdownSchedule:
        schedule = self._schedule
        assert schedule is not None
        waits = [
            asyncio.create_task(self._engine.dispatcher.wait_idle()),
            asyncio.create_task(self._wait_for_hurry()),
        ]
        timeout_s = max(0.0, schedule.finish_until_s - self._loop.time())
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return schedule.hurry(self._loop.time()) if self._hurry_asked.is_set() else schedule

    async def _wait_for_hurry(self) -> None:
        await self._hurry_asked.wait()

    async def _idle_until(self, at_s: float) -> None:
        try:
            async with asyncio.timeout_at(at_s):
                await self._engine.dispatcher.wait_idle()
        except TimeoutError:
            count = self._engine.dispatcher.running
            self._pump.log("warning", "tasks_still_open", count=count)

    def _end_all(self) -> None:
        """Give whatever is still open its definite end."""
        gone = TaskFailure(ErrorCode.INTERRUPTED, "the agent stopped", retryable=True, status=503)
        dispatcher = self._engine.dispatcher
        for connection in [*dispatcher.connections, *dispatcher.retiring]:
            self._engine.lose(connection, "shutdown", may_run_again=False)
        self._engine.abandon_queue(gone)

    async def _close(self, server: HttpServer) -> None:
        try:
            async with asyncio.timeout(self._left_s(FLUSH_S)):
                await server.close()
        except TimeoutError:
            self._pump.log("warning", "answers_cut_off")

    def _left_s(self, limit_s: float) -> float:
        """How long a part of the flush may still take: up to a limit within the budget."""
        if self._schedule is None:
            return limit_s
        return min(limit_s, max(MIN_FLUSH_S, self._schedule.flush_until_s - self._loop.time()))

    @asynccontextmanager
    async def _pumping(self) -> AsyncIterator[None]:
        self._pump.start()
        try:
            yield
        finally:
            if self._lifecycle.state is LifecycleState.STOPPING:
                self._lifecycle.enter(LifecycleState.STOPPED, time.time())
            self._pump.log("info", "host_stopped", lifecycle=str(self._lifecycle.state))
            self._pump.close(self._left_s(LOG_FLUSH_S))

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Put on record how this host ends; nothing more can go wrong behind it but the log."""
        exits = self._parts.exits
        try:
            yield
        except BaseException as exc:
            if not isinstance(exc, KagentError):
                self._pump.log_exception("host_failed", exc)
            elif not isinstance(exc, CrashLoopError):  # that is in the log already
                self._pump.log("error", "host_failed", error=str(exc))
            exits.end(exc, within_s=self._left_s(FLUSH_S))
            raise
        exits.end(None, within_s=self._left_s(FLUSH_S))


def _settle_process(parts: HostParts) -> None:
    """Do what can wait until the port is open: all of it needs ctypes."""
    from kagent_sdk.host.allocator import return_large_buffers  # noqa: PLC0415

    parts.children.take_orphans()
    hide_memory()
    return_large_buffers()


def _kill_all(processes: list[WorkerProcess]) -> None:
    for process in processes:
        process.kill()
