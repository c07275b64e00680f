"""A task while the host works on it: the record, and who waits for it, runs it, reads it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from kagent_sdk.journal.record import TaskRecord
from kagent_sdk.protocol.tasks import FINAL_STATES

if TYPE_CHECKING:
    from kagent_sdk.host.follower import Followers
    from kagent_sdk.protocol.manifest import CapabilityManifest


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


@dataclass(slots=True)
class Submission:
    """What a caller asks for. ``input`` and ``metadata`` are raw JSON.

    Attributes:
        kept: the journal keeps the task, so that it can be found by its id.
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


class Task(TaskRecord):
    """A `TaskRecord` with the host's own book-keeping.

    Attributes:
        sequence: order of arrival.
        kept: whether the journal keeps it (a plain call is not kept).
        safe: what to wait for before the task may be acknowledged; None: nothing.
        timeout_s: the effective timeout; inf for none.
        deadline_at: on the loop's clock; inf for none.
        worker: the connection that runs the current attempt.
        number: the call number of the current attempt on that connection.
        cancel_reason: set once, when a cancellation was asked for.
        is_promised: a caller was told 202 and left: it goes on whoever else waits, or leaves.
        followers: readers of its events, created with the event log.
        on_done: called once when the task has finished, after those who wait were let go.
    """

    __slots__ = (
        "__weakref__",
        "cancel_reason",
        "deadline_at",
        "followers",
        "is_promised",
        "kept",
        "number",
        "on_done",
        "queued_at",
        "safe",
        "sequence",
        "timeout_s",
        "traceparent",
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
            metadata=submission.metadata,
            trace_id=submission.trace_id,
        )
        self.sequence = sequence
        self.kept = submission.kept
        self.traceparent = submission.traceparent
        self.safe: Awaitable[None] | None = None
        self.timeout_s = math.inf
        self.deadline_at = math.inf
        self.queued_at = 0.0
        self.worker: Worker | None = None
        self.number = 0
        self.cancel_reason: CancelReason | None = None
        self.is_promised = False
        self.waiters: list[asyncio.Future[None]] | None = None
        self.followers: Followers | None = None
        self.on_done: Callable[[], None] | None = None

    @property
    def is_watched(self) -> bool:
        """Whether anyone waits for the end or follows the events."""
        return bool(self.waiters) or (self.followers is not None and len(self.followers) > 0)

    async def wait(self) -> None:
        """Return when the task has finished; cancelling the wait leaves the task alone."""
        if self.state in FINAL_STATES:
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
