"""One generation of workers: starts them, watches them, and puts a new one where one died."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import CrashLoopError, ProtocolError
from kagent_sdk.host.backoff import is_stable, restart_delay_s
from kagent_sdk.host.children import Children
from kagent_sdk.host.health import AwakeClock, Pulse
from kagent_sdk.host.logs.pump import LogPump, WorkerOutput
from kagent_sdk.host.place import Crash, Place
from kagent_sdk.host.reception import Reception
from kagent_sdk.host.stack_reader import StackReader
from kagent_sdk.host.stacks import format_dump, parse_dump
from kagent_sdk.host.task import Worker
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.host.worker_process import WorkerProcess, describe_exit, spawn_worker
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.messages import SECONDS

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
        directory: the agent's folder.
        config: the agent's configuration.
        reception: makes their connections; one for each generation.
        children: learns of exits.
        pump: takes what the workers print.
        clock: of all stamps.

    Attributes:
        config: the configuration of this generation, for its whole life.
        generation: counts from 1; each reload makes the next.
        changed: set whenever a worker has become ready, has recovered or is lost.
        is_trial: it may follow the present generation: no crash of it is made good.
    """

    def __init__(
        self,
        directory: Path,
        config: AgentConfig,
        *,
        reception: Reception,
        children: Children,
        pump: LogPump,
        clock: AwakeClock,
    ) -> None:
        self._directory = directory
        self.reception = reception
        self._children = children
        self._pump = pump
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._closed = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self.changed = asyncio.Event()
        self.config = config
        self.generation = 1
        self.is_trial = False
        self.places = [Place(index) for index in range(config.worker.count)]

    def start_first(self) -> list[WorkerProcess]:
        """Start a process for every place."""
        return [self.start_one() for _ in self.places]

    def start_one(self) -> WorkerProcess:
        """Start a process for a place.

        Raises:
            OSError: descriptors, processes or memory are used up.
        """
        process = spawn_worker(self._directory, self.config.entrypoint, os.environ)
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
        """
        async with asyncio.TaskGroup() as group:
            for place, process in zip(self.places, started, strict=True):
                group.create_task(self._hold(place, process), name=f"worker-{place.index}")

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
            place.process.kill()

    def stuck_stack(self) -> str | None:
        """Return where a worker hangs, or hung if it is being replaced for that."""
        return next((place.stuck_stack for place in self.places if place.stuck_stack), None)

    @property
    def connections(self) -> list[WorkerConnection]:
        """The connections of the present workers."""
        return [place.connection for place in self.places if place.connection is not None]

    async def stop(self, within_s: float) -> None:
        """Let every worker run its ``on_shutdown`` hooks, kill those still there, and wait."""
        self._stop_asked.set()
        self.close()
        for place in self.places:
            if place.connection is not None:
                place.connection.send(Kind.STOP, 0, SECONDS.pack(within_s))
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
            limits = self.config.worker
            if place.history.is_loop(limits.crash_limit):
                assert place.last_crash is not None
                raise CrashLoopError(
                    f"the worker crashed {place.history.unstable} times in a row "
                    f"without becoming stable; last: {place.last_crash.how}",
                    place.last_crash.traceback_text,
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
        stacks = StackReader(process.stacks_fd, lambda dump: self._on_stacks(place, dump))
        try:
            await self._loop.create_unix_connection(
                lambda: self.reception.connect(place, lambda error: self._on_lost(place, error)),
                sock=process.socket,
            )
            returncode = await asyncio.shield(exited)
            await self._bury(place, process, returncode)
        finally:
            process.kill()
            if place.connection is not None:
                place.connection.abort()
            stacks.close()
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
        how = place.kill_reason or describe_exit(returncode)
        if self._stop_asked.is_set() or (self._closed.is_set() and not place.is_ready):
            self._pump.log("info", "worker_stopped", worker=place.index, how=how)
        else:
            self._note_crash(place, process, how, returncode)
        self.reception.lose(place, how)

    def _note_crash(self, place: Place, process: WorkerProcess, how: str, returncode: int) -> None:
        now_s = self._clock.read(self._loop.time())
        ready_at_s = None if place.pulse is None else place.pulse.ready_at_s
        was_stable = is_stable(
            None if ready_at_s is None else now_s - ready_at_s,
            finished_a_task=place.connection is not None and place.connection.answered > 0,
            stable_s=self.config.worker.stable_s,
        )
        place.history = place.history.after_crash(was_stable=was_stable)
        tail = place.stack or ("" if place.errors is None else place.errors.tail)
        place.last_crash = Crash(time.time(), how, process.pid, returncode, tail)
        self._pump.log(
            "error",
            "worker_crashed",
            worker=place.index,
            worker_pid=process.pid,
            how=how,
            was_stable=was_stable,
        )

    def _on_lost(self, place: Place, error: ProtocolError | None) -> None:
        place.connection_lost.set()
        if error is not None:
            self._pump.log("error", "worker_broke_protocol", worker=place.index, error=str(error))
            place.kill_reason = place.kill_reason or "protocol_error"
        if place.process is not None and not self._stop_asked.is_set():
            self._loop.call_later(0 if error else LAST_WORDS_S, place.process.kill)

    def _on_stacks(self, place: Place, dump: str) -> None:
        # What cannot be read is told as it came.
        place.stack = format_dump(parse_dump(dump)) or dump
        self._pump.log("warning", "worker_stack", worker=place.index, stack=place.stack)


async def _wait_for(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
