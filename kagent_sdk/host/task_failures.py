"""The errors that the host itself gives to tasks."""

from __future__ import annotations

from kagent_sdk.errors import StateQuotaError
from kagent_sdk.host.task import CancelReason
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure

LEASE_LOST = {"reason": CancelReason.LEASE.value}


def timeout_failure(timeout_s: float) -> TaskFailure:
    """Return the error of a task whose time was up."""
    message = f"not finished within {timeout_s:g} s"
    return TaskFailure(ErrorCode.TIMEOUT, message, retryable=True, status=504)


def canceled_failure(reason: CancelReason) -> TaskFailure:
    """Return the error of a task that was cancelled."""
    message = f"canceled ({reason.value})"
    details = LEASE_LOST if reason is CancelReason.LEASE else None
    return TaskFailure(ErrorCode.CANCELED, message, retryable=True, details=details, status=409)


def is_lease_lost(failure: TaskFailure | None) -> bool:
    """Whether a task ended because its lease was lost: nobody waits for that, and it may come again."""
    return failure is not None and failure.details == LEASE_LOST


def crash_failure(how: str) -> TaskFailure:
    """Return the error of a task whose worker died."""
    message = f"the worker ended while it ran this task ({how})"
    return TaskFailure(ErrorCode.WORKER_CRASHED, message, retryable=True, status=502)


def gone_failure(name: str) -> TaskFailure:
    """Return the error of a task that waited for a capability which is there no more."""
    message = f"a reload or restart removed the capability {name} while this task waited"
    return TaskFailure(ErrorCode.UNKNOWN_CAPABILITY, message)


def interrupted_failure() -> TaskFailure:
    """Return the error of a task that ran when the host before was killed, and may not run again."""
    message = "the agent was killed while it ran this task, which is not idempotent"
    return TaskFailure(ErrorCode.INTERRUPTED, message, retryable=True, status=503)


def left_failure() -> TaskFailure:
    """Return what the caller of a task is told that the next host goes on with."""
    message = "the agent stops before the task does; ask for it again by its id after the restart"
    return TaskFailure(ErrorCode.INTERRUPTED, message, retryable=True, status=503)


def journal_failure() -> TaskFailure:
    """Return the error of a task that the journal did not take."""
    message = "the agent's journal takes no tasks now, its disk may be full; try again later"
    return TaskFailure(ErrorCode.JOURNAL_UNAVAILABLE, message, retryable=True, status=503)


def conflict_failure(conflicts: int) -> TaskFailure:
    """Return the error of a task whose state others changed again and again."""
    message = f"others changed the state that the task had read, {conflicts} times in a row"
    return TaskFailure(ErrorCode.STATE_CONFLICT, message, retryable=True, status=503)


def quota_failure(error: StateQuotaError) -> TaskFailure:
    """Return the error of a task that would have made the state too large."""
    details = {"used_bytes": error.used_bytes, "quota_bytes": error.quota_bytes}
    return TaskFailure(ErrorCode.STATE_QUOTA_EXCEEDED, str(error), details=details, status=507)
