"""The host's side of an agent that runs in a test's own event loop: engine, state, calls, no HTTP.

The parts are those of a real host, and so is what they decide: admission, deadlines, the ladder of a
cancellation, attempts, the state's transactions. What is missing is what an agent cannot tell:
processes, sockets, files, the sandbox.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kagent_sdk.config.models import MAX_THREADS, AgentConfig
from kagent_sdk.errors import ProtocolError, StartupError
from kagent_sdk.host.counters import Counters
from kagent_sdk.host.durability import build_journal
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.event_flow import EVENT_WINDOW
from kagent_sdk.host.own_calls import FindLink, OwnCalls
from kagent_sdk.host.state_frames import StateFrames
from kagent_sdk.host.state_keeper import StateKeeper
from kagent_sdk.host.task import CancelReason, Worker
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.host.worker_frames import WorkerFrames
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.manifest import Hello, Welcome
from kagent_sdk.protocol.messages import SECONDS
from kagent_sdk.protocol.state import Transaction, Write
from kagent_sdk.storage.thread import Storage
from kagent_sdk.testing.clock import Clock
from kagent_sdk.testing.wire import join_protocols
from kagent_sdk.worker.connection import Connection
from kagent_sdk.worker.parts import AgentParts
from kagent_sdk.worker.runtime import Ending, Runtime
from kagent_sdk.worker.services import Services

NO_HEARTBEAT_S = 365 * 24 * 3600.0
"""Nobody watches over the loop that the test itself runs in."""

MIN_FRAME_BYTES = 8 * 1024 * 1024
"""Room for a HELLO with many schemas, as a real host gives it."""

STOP_S = 5.0
"""What ``on_shutdown`` gets by the loop's clock, as long as ``shutdown.grace_s`` is not less."""


class _NoLog:
    def log(self, level: str, event: str, **values: object) -> None:
        """Write nothing: what the host itself has to say is not the agent's."""


class InProcessWorker:
    """One life of the agent: from HELLO to STOP, or until it is lost.

    Attributes:
        connection: the host's end of it.
        runtime: the worker's.
        job: what the runtime runs in.
        ready: done with READY.
    """

    def __init__(self, parts: AgentParts, connection: WorkerConnection, context: Context) -> None:
        self.connection = connection
        self.runtime = Runtime(parts)
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self._context = context
        serving = self.runtime.serve_over(self._connect)
        self.job = loop.create_task(serving, name="worker", context=context)

    async def _connect(self, connection: Connection) -> None:
        join_protocols(self.connection, connection, self._context)

    async def wait_ready(self) -> None:
        """Return with READY.

        Raises:
            StartupError: an ``on_startup`` function failed.
        """
        await asyncio.wait((self.job, self.ready), return_when=asyncio.FIRST_COMPLETED)
        if self.ready.done():
            return
        failure = self.runtime.failure
        if self.job.result() is Ending.STARTUP_FAILED and failure is not None:
            message = f"an on_startup function failed: {type(failure).__name__}: {failure}"
            raise StartupError(message) from failure
        raise StartupError(f"the agent did not start: {self.job.result().value}")


class InProcessHost:
    """Runs one agent, and what a host does for it.

    Args:
        parts: what the author declared.
        config: the agent's configuration.
        clock: what the state's times are measured by.
        link: the way to other agents.

    Attributes:
        engine: has the tasks.
        secrets: what the agent may read; changed by `rotate`.
        worker: the present one.
        context: what the agent's code runs in.
        restarts: how many were lost.
    """

    engine: Engine
    worker: InProcessWorker

    def __init__(
        self, parts: AgentParts, config: AgentConfig, *, clock: Clock, link: FindLink
    ) -> None:
        self.secrets: dict[str, Any] = {}
        self.restarts = 0
        self._parts = parts
        self._config = config
        self._clock = clock
        self._link = link
        self._is_closing = False
        self._folder = TemporaryDirectory(prefix="kagent-")
        self._lives: set[asyncio.Task[Any]] = set()

    async def start(self, state: Mapping[str, bytes], secrets: Mapping[str, Any]) -> None:
        """Come up; the worker's jobs run in a copy of the present context.

        Args:
            state: what the state begins with, as raw JSON.
            secrets: what the agent may read.

        Raises:
            StartupError: an ``on_startup`` function failed.
        """
        self.secrets = dict(secrets)
        self.context = copy_context()
        await self._open_storage()
        if state:
            writes = tuple(Write(key, value) for key, value in state.items())
            transaction = Transaction(writes=writes)
            await self._storage.write(lambda database: self._keeper.apply(database, transaction))
        self.worker = self._start_worker()
        await self.worker.wait_ready()
        await self.engine.recover([], 0)
        self.engine.gate = None

    async def _open_storage(self) -> None:
        config, clock = self._config, self._clock.time
        self._storage = storage = Storage(None, "none", clock=clock)
        self._keeper = keeper = StateKeeper(
            storage,
            Path(self._folder.name),
            config,
            pump=_NoLog(),
            is_idle=lambda: False,
            clock=clock,
        )
        journal = build_journal(storage, config.tasks, apply_state=keeper.apply)
        self.engine = Engine(config, journal, Counters(), self._kill)
        self._calls = OwnCalls(self.engine, config.name or "agent", self._link)
        self._state_frames = StateFrames(keeper, clock=clock)
        self._frames = WorkerFrames(self.engine, max_output_bytes=config.tasks.max_output_bytes)
        await keeper.open(await storage.open())
        await journal.open()

    @property
    def services(self) -> Services:
        """What the tasks and loops of the present worker share."""
        services = self.worker.runtime.services
        assert services is not None
        return services

    async def settle(self) -> None:
        """Return when the database has done what it was asked for so far."""
        if self._storage.is_open:
            await self._storage.read(lambda _database: None)

    def rotate(self, secrets: Mapping[str, Any]) -> None:
        """Give the agent other secrets."""
        self.secrets = dict(secrets)
        payload = json.dumps(self.secrets).encode()
        self.worker.connection.send(Kind.SECRETS, 0, payload)

    async def lose_worker(self) -> None:
        """Cut the connection to the worker, as its sudden death would, and start another one."""
        lost = self.worker
        lost.connection.abort()
        await asyncio.wait([lost.job])
        await self.worker.wait_ready()
        assert self.worker is not lost

    async def aclose(self) -> None:
        """Cancel what runs, run ``on_shutdown``, and let go of everything."""
        self._is_closing = True
        try:
            if hasattr(self, "worker"):
                await self._stop_worker()
        finally:
            if hasattr(self, "engine"):
                await self.engine.aclose(STOP_S)
                await self._storage.aclose()
            self._folder.cleanup()

    async def _stop_worker(self) -> None:
        from kagent_sdk.host.admission import Refusal  # noqa: PLC0415 - beside its only use

        self.engine.gate = Refusal.DRAINING
        self.engine.cancel_all(CancelReason.SHUTDOWN)
        grace_s = min(STOP_S, self._config.shutdown.grace_s)
        self.worker.connection.send(Kind.STOP, 0, SECONDS.pack(grace_s))
        _, late = await asyncio.wait(self._lives, timeout=grace_s + STOP_S)
        for job in late:
            job.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._lives, return_exceptions=True)

    # The worker

    def _start_worker(self) -> InProcessWorker:
        worker = InProcessWorker(self._parts, self._connection(), self.context)
        self._lives.add(worker.job)
        return worker

    def _connection(self) -> WorkerConnection:
        handlers: dict[int, Callable[[WorkerConnection, int, bytes], Any]] = {
            **self._frames.handlers(),
            **self._state_frames.handlers(),
            **self._calls.handlers(),
            Kind.HELLO: lambda connection, _number, payload: self._on_hello(connection, payload),
            Kind.READY: lambda connection, _number, _payload: self._on_ready(connection),
            Kind.HEARTBEAT: lambda _connection, _number, _payload: None,
        }
        tasks = self._config.tasks
        connection = WorkerConnection(
            limit_bytes=max(MIN_FRAME_BYTES, tasks.max_output_bytes),
            places=tasks.max_concurrency,
            handlers=handlers,
            on_room=lambda: self._on_room(connection),
            on_lost=self._on_lost,
        )
        return connection

    def _on_hello(self, connection: WorkerConnection, payload: bytes) -> None:
        hello = Hello.model_validate_json(payload)
        capabilities = {manifest.name: manifest for manifest in hello.capabilities}
        connection.capabilities = {name: index for index, name in enumerate(capabilities)}
        self.engine.declare(capabilities)
        welcome = self._welcome().model_dump_json().encode()
        connection.send(Kind.WELCOME, 0, welcome)

    def _welcome(self) -> Welcome:
        config = self._config
        tasks = config.tasks
        return Welcome(
            agent_name=config.name or "agent",
            agent_version=config.version,
            worker_index=0,
            log_level=config.logs.level,
            heartbeat_s=NO_HEARTBEAT_S,
            threads=config.worker.threads or min(tasks.max_concurrency, MAX_THREADS),
            max_output_bytes=tasks.max_output_bytes,
            event_window=EVENT_WINDOW,
            secrets=self.secrets,
        )

    def _on_ready(self, connection: WorkerConnection) -> None:
        connection.is_open = True
        self.engine.dispatcher.connections.append(connection)
        self.engine.dispatcher.settle()
        if not self.worker.ready.done():
            self.worker.ready.set_result(None)

    def _on_room(self, connection: WorkerConnection) -> None:
        self._calls.on_room(connection)
        self.engine.dispatcher.settle()

    def _on_lost(self, connection: WorkerConnection, error: ProtocolError | None) -> None:
        self._calls.forget(connection)
        self._state_frames.forget(connection)
        if self._is_closing:
            self.engine.lose(connection, "the harness was closed")
            return
        was_ready = self.worker.ready.done()
        self.engine.lose(connection, "lost by the test" if error is None else str(error))
        # One that never came up would not come up again.
        if was_ready:
            self.restarts += 1
            self.worker = self._start_worker()

    def _kill(self, worker: Worker, reason: str) -> None:
        del reason
        assert isinstance(worker, WorkerConnection)
        worker.abort()
