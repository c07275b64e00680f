"""A task while the host works on it: the record, and who waits for it, runs it, reads it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from kagent_sdk.journal.record import Ending, TaskRecord
from kagent_sdk.protocol.tasks import FINAL_STATES, TaskState

if TYPE_CHECKING:
    from kagent_sdk.host.follower import Followers
    from kagent_sdk.journal.rows import StoredTask
    from kagent_sdk.protocol.manifest import CapabilityManifest
    from kagent_sdk.protocol.state import Transaction
    from kagent_sdk.storage.receipt import Receipt

LEFT = Ending(TaskState.SUBMITTED, 0.0)
"""The agent stops before the task: it stays in the journal, and goes on after the restart."""


class Worker(Protocol):
    """Where an attempt runs: something that takes frames."""

    def send(self, kind: int, number: int, payload: bytes = b"") -> None:
        """Send a frame; dropped when the worker is gone."""
        ...


class CancelReason(StrEnum):
    """Why a task is being cancelled, as the worker is told."""

    CALLER = "caller"
    TIMEOUT = "timeout"
    DISCONNECT = "disconnect"
    SHUTDOWN = "shutdown"
    RELOAD = "reload"
    LEASE = "lease_lost"


@dataclass(slots=True)
class Submission:
    """What a caller asks for. ``input`` and ``metadata`` are raw JSON.

    Attributes:
        kept: the journal keeps the task, so that it can be found by its id.
        callback_url: told of the task's end.
        lease: the orchestrator's word for this attempt; None for a task that comes from elsewhere.
        hops: how many agents have passed it on.
        beat: the last one of this agent that the orchestrator had heard; 0: not known.
        is_own: a task of this agent's sent it; it is taken while the agent drains too, or that task
            could not finish.
    """

    task_id: str
    capability: str
    input: bytes
    timeout_s: float | None = None
    metadata: bytes = b"{}"
    traceparent: str = ""
    trace_id: str | None = None
    kept: bool = False
    is_own: bool = False
    callback_url: str | None = None
    lease: str | None = None
    hops: int = 0
    beat: int = 0


class Task(TaskRecord):
    """A `TaskRecord` with the host's own book-keeping.

    Attributes:
        safe: what to wait for before the task may be acknowledged; None: nothing.
        deadline_at: on the loop's clock; inf for none.
        clock_s: for how long its clock was set; inf for none.
        worker: the connection that runs the current attempt.
        number: the call number of the current attempt on that connection.
        is_accepted: the journal was given it.
        is_sent: the worker was told of the current attempt.
        transaction: what the current attempt read and changed of the state.
        cancel_reason: set once, when a cancellation was asked for.
        is_unconfirmed: a host before took it under a lease that may be another's by now: it must
            not start before the orchestrator has confirmed the lease.
        is_promised: a caller was told 202 and left: it goes on whoever else waits, or leaves.
        followers: readers of its events, created with the event log.
        on_done: called once when the task has finished, after those who wait were let go.
    """

    __slots__ = (
        "__weakref__",
        "cancel_reason",
        "clock_s",
        "deadline_at",
        "followers",
        "is_accepted",
        "is_promised",
        "is_sent",
        "is_unconfirmed",
        "number",
        "on_done",
        "queued_at",
        "safe",
        "transaction",
        "waiters",
        "worker",
    )

    def __init__(
        self,
        submission: Submission,
        capability: CapabilityManifest,
        *,
        created_at: float,
        sequence: int,
    ) -> None:
        super().__init__(
            submission.task_id,
            capability,
            submission.input,
            created_at=created_at,
            sequence=sequence,
        )
        self.kept = submission.kept
        self.metadata = submission.metadata
        self.traceparent = submission.traceparent
        self.trace_id = submission.trace_id
        self.callback_url = submission.callback_url
        self.lease = submission.lease
        self.hops = submission.hops
        self.safe: Receipt | None = None
        self.deadline_at = math.inf
        self.clock_s = math.inf
        self.queued_at = 0.0
        self.worker: Worker | None = None
        self.number = 0
        self.is_accepted = False
        self.is_sent = True
        self.transaction: Transaction | None = None
        self.cancel_reason: CancelReason | None = None
        self.is_promised = False
        self.is_unconfirmed = False
        self.waiters: list[asyncio.Future[None]] | None = None
        self.followers: Followers | None = None
        self.on_done: Callable[[], None] | None = None

    @classmethod
    def revive(cls, row: StoredTask, capability: CapabilityManifest) -> Task:
        """Make a task of what the journal has of it; the rest is for `journal.rows.unpack`."""
        submission = Submission(row.id, row.capability, row.input, kept=True)
        task = cls(submission, capability, created_at=row.created_at, sequence=row.seq)
        task.is_accepted = True
        return task

    @property
    def is_ended(self) -> bool:
        """Whether this host is done with it: its end is decided, shown or not, or it is left."""
        return self.ending is not None

    @property
    def is_left(self) -> bool:
        """Whether it stays in the journal for the next host."""
        return self.ending is LEFT

    @property
    def is_watched(self) -> bool:
        """Whether anyone waits for the end or follows the events."""
        return bool(self.waiters) or (self.followers is not None and len(self.followers) > 0)

    async def wait(self) -> None:
        """Return when the task has finished, or `is_left`; cancelling the wait leaves it alone."""
        if self.state in FINAL_STATES or self.is_left:
            return
        waiter: asyncio.Future[None] = asyncio.Future()
        if self.waiters is None:
            self.waiters = [waiter]
        else:
            self.waiters.append(waiter)
        try:
            await waiter
        finally:
            self._drop(waiter)

    def _drop(self, waiter: asyncio.Future[None]) -> None:
        if self.waiters is not None and waiter in self.waiters:
            self.waiters.remove(waiter)

    def wake(self) -> None:
        """Let everyone go who waits for the end."""
        waiters, self.waiters = self.waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        on_done, self.on_done = self.on_done, None
        if on_done is not None:
            on_done()
