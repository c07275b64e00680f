"""One generation of workers: starts them, watches them, and puts a new one where one died."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import CrashLoopError, ProtocolError, StartupError
from kagent_sdk.host.backoff import is_stable, restart_delay_s
from kagent_sdk.host.children import Children
from kagent_sdk.host.exits import Exits, running_tasks
from kagent_sdk.host.health import Pulse
from kagent_sdk.host.logs.pump import LogPump, WorkerOutput
from kagent_sdk.host.place import Place, Remains
from kagent_sdk.host.reception import Reception
from kagent_sdk.host.stacks import format_dump, parse_dump
from kagent_sdk.host.task import Worker
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.host.worker_kind import WorkerEvents, WorkerKind
from kagent_sdk.host.worker_process import WorkerProcess, describe_exit

if TYPE_CHECKING:
    from kagent_sdk.protocol.last_exit import WorkerExit
    from kagent_sdk.sandbox.report import LaunchReport

LAST_FRAMES_S = 1.0
"""After a worker's exit its last frames are read until its end of the socket is closed. A child
that it left behind may hold that end open; then this long."""

LAST_WORDS_S = 2.0
"""A worker that closed its socket may still write a traceback and exit by itself; then it is
killed."""

SPAWN_RETRY_S = 1.0

LAST_OUTPUT_S = 0.5
"""The same for its last lines on stderr, which tell of the crash."""


class Pool:
    """Keeps `worker.count` workers running.

    Args:
        config: the agent's configuration.
        kind: starts and ends them.
        reception: told of those that are gone; one for each generation.
        children: learns of exits.
        pump: takes what the workers print.
        exits: says how they ended, and puts it on record.

    Attributes:
        config: the configuration of this generation, for its whole life.
        generation: counts from 1; each reload makes the next.
        changed: set whenever a worker has become ready, has recovered or is lost.
        on_end: called when the last of its workers is gone.
        is_trial: it may follow the present generation: no crash of it is made good.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        kind: WorkerKind,
        reception: Reception,
        children: Children,
        pump: LogPump,
        exits: Exits,
    ) -> None:
        self.kind = kind
        self.reception = reception
        self._children = children
        self._pump = pump
        self._exits = exits
        self._clock = reception.clock
        self._loop = asyncio.get_running_loop()
        self._closed = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self.changed = asyncio.Event()
        self.config = config
        self.generation = 1
        self.is_trial = False
        self.on_end: Callable[[], None] = lambda: None
        self.places = [Place(index) for index in range(config.worker.count)]

    def start_first(self) -> list[WorkerProcess]:
        """Start a process for every place.

        Raises:
            StartupError: descriptors, processes or memory are used up.
        """
        started: list[WorkerProcess] = []
        try:
            started.extend(self.start_one() for _ in self.places)
        except OSError as exc:
            for process in started:
                process.kill()
            raise StartupError(f"cannot start a worker: {exc}") from exc
        return started

    def start_one(self) -> WorkerProcess:
        """Start a process for a place.

        Raises:
            OSError: descriptors, processes or memory are used up.
        """
        process = self.kind.spawn()
        self.adopt([process])
        return process

    def adopt(self, processes: list[WorkerProcess]) -> None:
        """Take over processes that were started before there was a pool."""
        for process in processes:
            # Known before the loop can hear of its end, or it would be taken for an orphan.
            _ = self._children.watch(process)

    async def run(self, started: list[WorkerProcess]) -> None:
        """Keep every place filled until `stop`.

        Raises:
            CrashLoopError: in an exception group, when a place cannot be filled.
            SandboxError: the same, when a worker cannot be confined.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for place, process in zip(self.places, started, strict=True):
                    group.create_task(self._hold(place, process), name=f"worker-{place.index}")
        finally:
            self.on_end()

    def kill(self, worker: Worker, reason: str) -> None:
        """End the worker behind a connection; its place gets a new one."""
        for place in self.places:
            if place.connection is worker:
                self.kill_worker(place, reason)

    def kill_worker(self, place: Place, reason: str) -> None:
        """End the worker of a place, and everything in its process group."""
        if place.process is not None:
            place.kill_reason = place.kill_reason or reason
            self._pump.log("warning", "worker_killed", worker=place.index, reason=reason)
            self.kind.kill(place.process, reason)

    def stuck_stack(self) -> str | None:
        """Return where a worker hangs, or hung if it is being replaced for that."""
        return next((place.stuck_stack for place in self.places if place.stuck_stack), None)

    @property
    def connections(self) -> list[WorkerConnection]:
        """The connections of the present workers."""
        return [place.connection for place in self.places if place.connection is not None]

    async def stop(self, within_s: float) -> None:
        """Let every worker end by itself, kill those still there, and wait."""
        self._stop_asked.set()
        self.close()
        for place in self.places:
            self.kind.ask_to_stop(place, within_s)
        async with asyncio.TaskGroup() as group:
            for place in self.places:
                group.create_task(self._kill_after(place, within_s))

    def close(self) -> None:
        """Start no worker any more, and end those that are not ready; the others take no tasks."""
        self._closed.set()
        self.reception.close()
        for place in self.places:
            if place.connection is not None:
                place.connection.is_open = False
            if not place.is_ready and place.process is not None:
                place.process.kill()

    async def _kill_after(self, place: Place, within_s: float) -> None:
        process = place.process
        if process is None:
            return
        exited = self._children.watch(process)
        done, _ = await asyncio.wait([exited], timeout=within_s)
        if not done:
            self.kill_worker(place, "shutdown")
            await asyncio.shield(exited)

    # One place

    async def _hold(self, place: Place, process: WorkerProcess) -> None:
        while True:
            await self._run_worker(place, process)
            if self._closed.is_set() or self.is_trial:
                return
            if place.not_confined is not None and not place.restarts:
                raise place.not_confined  # it is no crash: the next would end the same
            limits = self.config.worker
            if place.history.is_loop(limits.crash_limit):
                assert place.last_crash is not None
                raise CrashLoopError(
                    f"the worker crashed {place.history.unstable} times in a row "
                    f"without becoming stable; last: {place.last_crash.how}",
                    place.last_crash.traceback or "",
                )
            delay_s = restart_delay_s(
                max(1, place.history.unstable),
                initial_s=limits.backoff_initial_s,
                max_s=limits.backoff_max_s,
                random=random.random,
            )
            await _wait_for(self._closed, delay_s)
            next_process = await self._spawn_when_possible(place)
            if next_process is None:
                return
            place.restarts += 1
            process = next_process

    def _on_launched(self, place: Place, report: LaunchReport) -> None:
        place.findings = report.findings
        place.not_confined = report.error
        if report.error is not None:
            self._pump.log(
                "error", "worker_not_confined", worker=place.index, error=str(report.error)
            )

    async def _spawn_when_possible(self, place: Place) -> WorkerProcess | None:
        """Start a worker; None when the pool stops before there is room for one.

        Descriptors, processes or memory may be used up for a while: no reason to end the agent.
        """
        while not self._closed.is_set():
            try:
                return self.start_one()
            except OSError as exc:
                self._pump.log("error", "worker_not_started", worker=place.index, error=str(exc))
            await _wait_for(self._closed, SPAWN_RETRY_S)
        return None

    async def _run_worker(self, place: Place, process: WorkerProcess) -> None:
        exited = self._children.watch(process)
        self._occupy(place, process)
        events = WorkerEvents(
            on_lost=lambda error: self._on_lost(place, error),
            on_stacks=lambda dump: self._on_stacks(place, dump),
            on_launched=lambda report: self._on_launched(place, report),
            kill=lambda reason: self.kill_worker(place, reason),
        )
        try:
            async with self.kind.attach(place, process, events):
                returncode = await asyncio.shield(exited)
                await self._bury(place, process, returncode)
        finally:
            place.vacate()
            self.reception.on_change()

    def _occupy(self, place: Place, process: WorkerProcess) -> None:
        place.process = process
        place.started_at = time.time()
        place.pulse = Pulse(self._clock.read(self._loop.time()))
        place.connection_lost.clear()
        place.output_ended.clear()

        def ended() -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(place.output_ended.set)

        place.errors = WorkerOutput(
            process.stderr_fd, stream="stderr", pid=process.pid, on_end=ended
        )
        self._pump.attach(place.errors)
        self._pump.attach(WorkerOutput(process.stdout_fd, stream="stdout", pid=process.pid))
        self._pump.log(
            "info",
            "worker_started",
            worker=place.index,
            worker_pid=process.pid,
            generation=self.generation,
        )

    async def _bury(self, place: Place, process: WorkerProcess, returncode: int) -> None:
        await _wait_for(place.connection_lost, LAST_FRAMES_S)
        await _wait_for(place.output_ended, LAST_OUTPUT_S)
        was_asked = self._stop_asked.is_set() or (self._closed.is_set() and not place.is_ready)
        end = await self._examine(self._remains(place, process, returncode, was_asked=was_asked))
        if was_asked:
            self._pump.log("info", "worker_stopped", worker=place.index, how=end.how)
        else:
            self._note_crash(place, end)
        self.reception.lose(place, end.how)

    def _remains(
        self, place: Place, process: WorkerProcess, returncode: int, *, was_asked: bool
    ) -> Remains:
        ready_at_s = None if place.pulse is None else place.pulse.ready_at_s
        now_s = self._clock.read(self._loop.time())
        return Remains(
            worker=place.index,
            pid=process.pid,
            returncode=returncode,
            how=describe_exit(returncode),
            kill_reason=place.kill_reason,
            was_asked=was_asked,
            ready_s=None if ready_at_s is None else now_s - ready_at_s,
            stack=place.stack,
            tail="" if place.errors is None else place.errors.tail,
            tasks=running_tasks([place]),
        )

    async def _examine(self, remains: Remains) -> WorkerExit:
        try:
            return await asyncio.to_thread(self._exits.examine, remains)
        except RuntimeError:
            # No thread is to be had: a fork bomb has used up what the cgroup allows.
            return self._exits.examine(remains)

    def _note_crash(self, place: Place, end: WorkerExit) -> None:
        was_stable = is_stable(
            end.ready_s,
            finished_a_task=place.connection is not None and place.connection.answered > 0,
            stable_s=self.config.worker.stable_s,
        )
        place.history = place.history.after_crash(was_stable=was_stable)
        place.last_crash = end
        self._pump.log(
            "error",
            "worker_crashed",
            worker=place.index,
            worker_pid=end.pid,
            cause=end.cause,
            how=end.how,
            oom=end.oom,
            tasks=[task.id for task in end.tasks],
            was_stable=was_stable,
        )

    def _on_lost(self, place: Place, error: ProtocolError | None) -> None:
        place.connection_lost.set()
        if error is not None:
            self._pump.log("error", "worker_broke_protocol", worker=place.index, error=str(error))
            place.kill_reason = place.kill_reason or "protocol_error"
        if place.process is not None and not self._stop_asked.is_set():
            delay_s = 0 if error else LAST_WORDS_S
            self._loop.call_later(delay_s, self._kill_silent, place, place.process)

    def _kill_silent(self, place: Place, process: WorkerProcess) -> None:
        if place.process is process and process.popen.returncode is None:
            self.kill_worker(place, place.kill_reason or "connection_closed")

    def _on_stacks(self, place: Place, dump: str) -> None:
        if place.give_stacks(dump) and (place.stacks_until_s is None or place.stack is not None):
            return  # the watchdog has not asked, or has been answered
        # What cannot be read is told as it came.
        text = format_dump(parse_dump(dump)) or dump
        redacted = self._pump.redactor.redact(text.encode(errors="backslashreplace"))
        place.stack = redacted.decode(errors="replace")
        self._pump.log("warning", "worker_stack", worker=place.index, stack=place.stack)


async def _wait_for(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
