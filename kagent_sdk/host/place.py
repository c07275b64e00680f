"""One place of the pool: the worker that holds it now, and what is known of those before."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kagent_sdk.host.backoff import CrashHistory
from kagent_sdk.host.health import Pulse
from kagent_sdk.host.logs.pump import WorkerOutput
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.host.worker_process import WorkerProcess
from kagent_sdk.protocol.manifest import Heartbeat, Hello


@dataclass(frozen=True, slots=True)
class Crash:
    """How a worker ended that was not asked to.

    Attributes:
        at: seconds since the epoch.
        how: ``SIGKILL``, ``exit code 1``, or why the host killed it.
        pid: of the worker.
        returncode: negative for a signal, as `subprocess` has it.
        traceback_text: where it hung if it stalled; else the last lines of its stderr.
    """

    at: float
    how: str
    pid: int
    returncode: int
    traceback_text: str


class Place:
    """A place of the pool.

    Attributes:
        process, connection, hello, heartbeat: of the present worker; None while there is none.
        pulse: what its health is judged by.
        frames_heard: `WorkerConnection.frames_read` at the watchdog's last look.
        started_at: when its process was started, in seconds since the epoch.
        kill_reason: why the host killed it, if it did.
        stack: what its threads were doing when it stalled.
        was_asked_for_stacks: since its last sign of life.
        was_stuck: its predecessor was replaced for being stuck, and it is not ready yet.
        was_ready: its predecessor was ready when it ended.
        history, last_crash, restarts: of all workers of this place.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: WorkerProcess | None = None
        self.connection: WorkerConnection | None = None
        self.connection_lost: asyncio.Event = asyncio.Event()
        self.output_ended: asyncio.Event = asyncio.Event()
        self.errors: WorkerOutput | None = None
        self.hello: Hello | None = None
        self.heartbeat: Heartbeat | None = None
        self.pulse: Pulse | None = None
        self.frames_heard = 0
        self.started_at = 0.0
        self.kill_reason: str | None = None
        self.stack: str | None = None
        self.was_asked_for_stacks = False
        self.was_stuck = False
        self.was_ready = False
        self.history = CrashHistory()
        self.last_crash: Crash | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The present worker's process id."""
        return None if self.process is None else self.process.pid

    @property
    def is_ready(self) -> bool:
        """Whether the present worker said READY."""
        return self.pulse is not None and self.pulse.ready_at_s is not None

    @property
    def stuck_stack(self) -> str | None:
        """Where its worker hangs, or hung if it is being replaced for that."""
        if self.stack is None and self.was_stuck and self.last_crash is not None:
            return self.last_crash.traceback_text
        return self.stack

    def inherit(self, other: Place) -> None:
        """Take over what a reload must not make forgotten: counts never fall."""
        self.restarts += other.restarts
        self.last_crash = self.last_crash or other.last_crash

    def vacate(self) -> None:
        """Forget the present worker; what is known of its end stays."""
        self.was_ready = self.is_ready
        self.process = None
        self.connection = None
        self.errors = None
        self.hello = None
        self.heartbeat = None
        self.pulse = None
        self.frames_heard = 0
        self.kill_reason = None
        self.stack = None
        self.was_asked_for_stacks = False
