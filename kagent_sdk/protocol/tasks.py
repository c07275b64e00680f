"""Task states and errors as they stand on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class TaskState(StrEnum):
    """The life of a task, in A2A's words (https://a2a-protocol.org, TaskState)."""

    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"


FINAL_STATES = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.REJECTED}
)


class ErrorCode(StrEnum):
    """Codes of task errors that the library itself gives. Authors add their own."""

    INVALID_JSON = "invalid_json"
    INVALID_INPUT = "invalid_input"
    INVALID_OUTPUT = "invalid_output"
    OUTPUT_TOO_LARGE = "output_too_large"
    SECRET_IN_OUTPUT = "secret_in_output"  # noqa: S105 - the name of an error
    TIMEOUT = "timeout"
    CANCELED = "canceled"
    WORKER_CRASHED = "worker_crashed"
    INTERRUPTED = "interrupted"
    INTERNAL_ERROR = "internal_error"
    STATE_CONFLICT = "state_conflict"
    STATE_QUOTA_EXCEEDED = "state_quota_exceeded"
    JOURNAL_UNAVAILABLE = "journal_unavailable"
    UNREACHABLE = "unreachable"
    UNKNOWN_CAPABILITY = "unknown_capability"
    TOO_MANY_CALLS = "too_many_calls"
    TOO_MANY_HOPS = "too_many_hops"
    ID_CONFLICT = "id_conflict"
    ITEMS_LOST = "items_lost"


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """A task's ``error`` as it stands in every answer.

    Attributes:
        code: stable name (`ErrorCode`, or the author's own).
        message: one sentence for a person; no traceback, secret or path of the library's.
        retryable: whether the same request may succeed later.
        details: JSON-compatible data, for ``invalid_input`` a list of ``{loc, msg, type}``.
        status: the HTTP status of the fast path.
    """

    code: str
    message: str
    retryable: bool = False
    details: Any = None
    status: int = 500

    def as_dict(self) -> dict[str, Any]:
        """Return the four public members; the HTTP status stays out."""
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "details": self.details,
        }
