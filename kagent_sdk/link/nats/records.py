"""The record of a task, and what a replica that gets the task makes of it. Pure.

The record is the one place where it is decided whose a task is and how it ended: a key of a bucket
that is only ever written over a revision that the writer has seen. A replica claims a task by writing
its lease; whoever writes next has seen that. So an agent that was lost and comes back cannot report
over the one that has the task now, and the first end is the only one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any

from pydantic import Field

from kagent_sdk.protocol.headers import format_time
from kagent_sdk.protocol.link import LinkPart, Word
from kagent_sdk.protocol.tasks import TaskFailure, TaskState

ACK_PATTERN = r"^\$JS\.ACK\.[^\s*>]+$"
"""Nothing else is published to for a record's sake: others may have written it."""

MAX_ATTEMPTS_BOUND = 1_000_000


class TaskRecord(LinkPart):
    """What is known of one task.

    Attributes:
        digest: of what was asked for, to tell a repetition from another task of the same id.
        lease, instance: who has it.
        attempt: how often it was given to an agent.
        sequence, delivery: the message in the stream, and how often that was delivered.
        ack: the subject on which the message is acknowledged.
        missed_at: since when its agent is missed, in seconds since the epoch.
        is_cancelled: its caller wants no more of it.
        result: the task as the agent answers it, once it has ended.
        result_object: the object that holds it, where it is too large for a record.
    """

    task: str
    agent: str
    capability: str
    state: TaskState = TaskState.SUBMITTED
    created_at: float
    digest: Annotated[str, Field(max_length=64)] | None = None
    lease: Word | None = None
    instance: Word | None = None
    attempt: int = Field(0, ge=0, le=MAX_ATTEMPTS_BOUND)
    sequence: int | None = None
    delivery: int = 0
    ack: Annotated[str, Field(pattern=ACK_PATTERN, max_length=1000)] | None = None
    missed_at: float | None = None
    is_cancelled: bool = False
    trace_id: str | None = None
    result: dict[str, Any] | None = None
    result_object: Annotated[str, Field(max_length=500)] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether there is a result."""
        return self.result is not None or self.result_object is not None

    def with_changes(self, **changes: Any) -> TaskRecord:
        """Return the record with other values, unchecked."""
        return self.model_copy(update=changes)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that came from a stream of tasks: which one, and for which time."""

    sequence: int
    count: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What the capability says of repetition."""

    is_idempotent: bool
    max_attempts: int
    lost_after_s: float


class Verdict(Enum):
    """What to do with a message."""

    CLAIM = "claim"
    """Take it on."""
    DROP = "drop"
    """Acknowledge it: the task has ended, or another message stands for it."""
    IGNORE = "ignore"
    """Do nothing: it was delivered again meanwhile."""
    CANCEL = "cancel"
    """End the task as cancelled."""
    WAIT = "wait"
    """Its agent is missed, and may come back."""
    BURY = "bury"
    """Give it up."""


def judge(record: TaskRecord | None, delivery: Delivery, rules: Rules, now_s: float) -> Verdict:
    """Say what to do with a message of a task that this replica does not hold."""
    if record is None:
        return Verdict.CLAIM
    if record.has_ended or record.sequence not in (None, delivery.sequence):
        return Verdict.DROP
    if record.is_cancelled and (record.lease is None or delivery.count > record.delivery):
        return Verdict.CANCEL
    if record.lease is None:
        return Verdict.CLAIM
    if delivery.count <= record.delivery:
        return Verdict.IGNORE
    return _judge_missed(record, rules, now_s)


def _judge_missed(record: TaskRecord, rules: Rules, now_s: float) -> Verdict:
    """Say what to do with a task whose agent did not say in time that it works on it."""
    if rules.is_idempotent:
        return Verdict.CLAIM if record.attempt < rules.max_attempts else Verdict.BURY
    is_over = record.missed_at is not None and now_s - record.missed_at >= rules.lost_after_s
    return Verdict.BURY if is_over else Verdict.WAIT


def lease_word(delivery: Delivery, random: str) -> str:
    """Return the lease of a delivery; ``random`` has 16 hexadecimal digits or more."""
    return f"{delivery.sequence % 10**15}-{delivery.count % 10**6}-{random}"


def end_document(record: TaskRecord, failure: TaskFailure, now_s: float) -> dict[str, Any]:
    """Return the task as an agent would answer it, for an end that the link itself gives it."""
    is_cancelled = failure.code == "canceled"
    return {
        "id": record.task,
        "capability": record.capability,
        "state": str(TaskState.CANCELED if is_cancelled else TaskState.FAILED),
        "output": None,
        "error": failure.as_dict(),
        "progress": None,
        "attempt": record.attempt,
        "created_at": format_time(record.created_at),
        "started_at": None,
        "finished_at": format_time(now_s),
        "trace_id": record.trace_id,
        "agent": record.agent,
    }


def seconds_left(timeout_s: float | None, stored_at: float, now_s: float) -> float | None:
    """Return what is left of the caller's time; 0 or less: it is over; None: there is no limit.

    A clock that is behind that of the server gives no more time than there was.
    """
    if timeout_s is None:
        return None
    return timeout_s - max(0.0, now_s - stored_at)
