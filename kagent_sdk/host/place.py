"""One place of the pool: the worker that holds it now, and what is known of those before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kagent_sdk.host.backoff import CrashHistory
from kagent_sdk.host.health import Pulse
from kagent_sdk.host.logs.pump import WorkerOutput
from kagent_sdk.host.worker_connection import WorkerConnection
from kagent_sdk.host.worker_process import WorkerProcess
from kagent_sdk.protocol.manifest import Heartbeat, Hello

if TYPE_CHECKING:
    from kagent_sdk.errors import SandboxError
    from kagent_sdk.host.task import Task
    from kagent_sdk.protocol.last_exit import WorkerExit
    from kagent_sdk.sandbox.controls import Finding


class Place:
    """A place of the pool.

    Attributes:
        process, connection, hello, heartbeat: of the present worker; None while there is none.
        pulse: what its health is judged by.
        frames_heard, bytes_heard: of its connection, at the watchdog's last sign of life.
        started_at: when its process was started, in seconds since the epoch.
        kill_reason: why the host killed it, if it did.
        stack: what its threads were doing when it stalled.
        status_text: what it says of itself, without secrets; a program of ``worker.command`` alone.
        stacks_until_s: until when its stacks are waited for; None where it was not asked for them
            since its last sign of life.
        stacks_asked: of a debug session that waits for its stacks: done with the dump, or with None when
            the worker is gone.
        was_stuck: its predecessor was replaced for being stuck, and it is not ready yet.
        was_ready: its predecessor was ready when it ended.
        findings: what the present or the last worker said of its confinement.
        not_confined: why the last worker could not be confined, and so did not run.
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
        self.bytes_heard = 0
        self.started_at = 0.0
        self.kill_reason: str | None = None
        self.stack: str | None = None
        self.status_text: str | None = None
        self.stacks_until_s: float | None = None
        self.stacks_asked: asyncio.Future[str | None] | None = None
        self.was_stuck = False
        self.was_ready = False
        self.findings: tuple[Finding, ...] = ()
        self.not_confined: SandboxError | None = None
        self.history = CrashHistory()
        self.last_crash: WorkerExit | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The present worker's process id, once it is there."""
        return None if self.process is None else self.process.inner_pid

    @property
    def is_ready(self) -> bool:
        """Whether the present worker said READY, and not yet that it is about to end."""
        pulse = self.pulse
        return pulse is not None and pulse.ready_at_s is not None and pulse.leaving_at_s is None

    @property
    def stuck_stack(self) -> str | None:
        """Where its worker hangs, or hung if it is being replaced for that."""
        if self.stack is None and self.was_stuck and self.last_crash is not None:
            return self.last_crash.traceback
        return self.stack

    def give_stacks(self, dump: str | None) -> bool:
        """Let the debug session that waits for the stacks have them; tell whether one does."""
        asked, self.stacks_asked = self.stacks_asked, None
        if asked is None:
            return False
        asked.set_result(dump)
        return True

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
        self.bytes_heard = 0
        self.kill_reason = None
        self.stack = None
        self.status_text = None
        self.stacks_until_s = None
        self.give_stacks(None)


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left of a worker that has ended.

    Attributes:
        returncode: as `subprocess` has it, negative for a signal.
        how: the same for people.
        kill_reason: why the host killed it, if it did.
        was_asked: whether it had been asked to stop.
        ready_s: for how long it was ready; None if it never was.
        stack: where it hung, if it stalled.
        tail: the last that it wrote to stderr.
        tasks: what it was running.
    """

    worker: int
    pid: int
    returncode: int
    how: str
    kill_reason: str | None
    was_asked: bool
    ready_s: float | None
    stack: str | None
    tail: str
    tasks: Sequence[Task]
