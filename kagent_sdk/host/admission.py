"""Whether to take a task: pure decisions from plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Refusal(StrEnum):
    """Why a task is not taken now; each is answered with ``Retry-After``."""

    STARTING = "starting"
    DRAINING = "draining"
    WORKER_DOWN = "worker_down"
    STALLED = "stalled"
    MEMORY = "memory"
    QUEUE_FULL = "queue_full"
    QUEUE_BYTES = "queue_bytes"
    OUTBOX = "outbox"
    CANCELING = "canceling"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may wait: a number of tasks, and the bytes of their inputs."""

    tasks: int
    bytes: int


def admit(
    gate: Refusal | None,
    *,
    can_start: bool,
    queued: int,
    queued_bytes: int,
    input_bytes: int,
    limits: QueueLimits,
) -> Refusal | None:
    """Decide on one task; None means: take it.

    Args:
        gate: why the agent takes nothing at all, if so.
        can_start: whether a worker and the capability have a free place right now.
        queued: tasks that wait already.
        queued_bytes: bytes of their inputs.
        input_bytes: bytes of this task's input.
        limits: what may wait.
    """
    if gate is not None:
        return gate
    if can_start and not queued:
        return None
    if queued >= limits.tasks:
        return Refusal.QUEUE_FULL
    if queued_bytes + input_bytes > limits.bytes:
        return Refusal.QUEUE_BYTES
    return None


def retry_after_s(refusal: Refusal, *, queued: int, finished_per_s: float) -> int:
    """Guess when to come back, in whole seconds from 1 to 60: the time the queue takes to empty."""
    if refusal in (Refusal.QUEUE_FULL, Refusal.QUEUE_BYTES) and finished_per_s > 0:
        return max(1, min(60, round(queued / finished_per_s)))
    if refusal in (Refusal.DRAINING, Refusal.MEMORY, Refusal.OUTBOX):
        return 5
    return 1
