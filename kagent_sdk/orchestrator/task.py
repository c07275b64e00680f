"""A task as the orchestrator knows it: what is on disk of it, and what is only in memory while open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from kagent_sdk.orchestrator.clock import Timer
from kagent_sdk.protocol.headers import format_time
from kagent_sdk.protocol.tasks import FINAL_STATES, TaskFailure, TaskState

RECORD_OVERHEAD_BYTES = 512
"""Of a row, its indices, and the object."""


class Target(NamedTuple):
    """Who may get a task. Tasks with the same target are served in their order.

    Attributes:
        agent: by name; None for any agent.
        capability: what it must offer.
        labels: what it must have, as sorted pairs.
    """

    agent: str | None
    capability: str
    labels: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Say it as callers do."""
        return self.capability if self.agent is None else f"{self.agent}/{self.capability}"


class Ending(NamedTuple):
    """How a task has ended. ``output`` is raw JSON; ``progress`` as in its document."""

    state: TaskState
    output: bytes | None = None
    failure: TaskFailure | None = None
    progress: Mapping[str, Any] | None = None


@dataclass(slots=True)
class TaskRecord:
    """What is on disk of a task; see `kagent_sdk.orchestrator.schema`."""

    seq: int
    id: str
    target: Target
    input: bytes
    metadata: bytes
    created_at: float
    deadline_at: float
    timeout_s: float | None = None
    traceparent: str = ""
    trace_id: str | None = None
    hops: int = 0
    state: TaskState = TaskState.SUBMITTED
    attempt: int = 0
    agent: str | None = None
    instance: str | None = None
    lease: str | None = None
    is_idempotent: bool = False
    max_attempts: int = 1
    is_canceling: bool = False
    started_at: float | None = None
    finished_at: float | None = None
    failure: TaskFailure | None = None
    progress: Mapping[str, Any] | None = None
    output: bytes | None = None
    size_bytes: int = 0
    away_at: float | None = None

    @property
    def is_ended(self) -> bool:
        """Whether the state is final."""
        return self.state in FINAL_STATES

    def close(self, ending: Ending, finished_at: float) -> None:
        """Take over the ending: from here on it is shown."""
        self.state, self.output, self.failure, progress = ending
        self.progress = progress or self.progress
        self.finished_at = finished_at

    def document(self, *, with_output: bool = True) -> bytes:
        """Return the task as JSON: an agent's document, and ``agent``.

        The raw JSON of output and metadata is spliced in as it is: both were checked when they
        came in.
        """
        head = {
            "id": self.id,
            "capability": self.target.capability,
            "agent": self.agent or self.target.agent,
            "state": self.state.value,
            "error": None if self.failure is None else self.failure.as_dict(),
            "progress": self.progress,
            "attempt": self.attempt,
            "created_at": _format(self.created_at),
            "started_at": _format(self.started_at),
            "finished_at": _format(self.finished_at),
            "trace_id": self.trace_id,
        }
        parts = [json.dumps(head, separators=(",", ":"))[:-1].encode(), b',"metadata":']
        parts.append(self.metadata)
        if with_output:
            parts += [b',"output":', b"null" if self.output is None else self.output]
        parts.append(b"}")
        return b"".join(parts)


class Phase(Enum):
    """Where an open task is; the orchestrator's own view, which its state does not tell.

    ``OFFERED``: it has a lease, and nobody has said yet that it has the task. ``HELD``: an agent
    has it. ``AWAY``: an agent has, or may have it, that has not been heard of. ``ENDING``: its end
    is being written.
    """

    QUEUED = auto()
    OFFERED = auto()
    HELD = auto()
    AWAY = auto()
    ENDING = auto()


@dataclass(slots=True, eq=False)
class OpenTask:
    """A task in memory.

    Attributes:
        record: what is shown, and on disk.
        phase: where it is.
        saved: done when the record is on disk.
        ended: set when its end is on disk.
        may_be_taken: the offer under way may have reached the agent.
        is_delivering: it is being brought to the agent at this moment.
        missed: beats in a row that did not name it.
        offered_beat: the agent's last one before it was offered; only later ones count.
        avoid: an instance that gets it only when there is no other.
        last_event, event_count, event_bytes: of its stream.
        last_agent_event: the last id of its holder's own stream.
        timers: what is due, by name.
        version: grows with everything that its followers want to know.
    """

    record: TaskRecord
    phase: Phase = Phase.QUEUED
    saved: asyncio.Future[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    may_be_taken: bool = False
    is_delivering: bool = False
    missed: int = 0
    offered_beat: int = 0
    avoid: str | None = None
    last_event: int = 0
    first_event: int = 1
    event_bytes: int = 0
    last_agent_event: int = 0
    timers: dict[str, Timer] = field(default_factory=dict)
    version: int = 0
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The task's id."""
        return self.record.id

    def is_current(self, lease: str) -> bool:
        """Whether a lease is the task's, and its end is still to come."""
        return self.phase is not Phase.ENDING and self.record.lease == lease

    def disarm(self, name: str) -> None:
        """Cancel a timer, if there is one."""
        timer = self.timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def wake(self) -> None:
        """Tell those who follow the task that there is news."""
        self.version += 1
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def news(self, version: int) -> None:
        """Return when there is news since a version."""
        if self.version == version:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self.waiters:
                    self.waiters.remove(waiter)


def _format(at_s: float | None) -> str | None:
    return None if at_s is None else format_time(at_s)
