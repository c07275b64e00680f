"""From an exception to a task's error: what the caller may know. Pure."""

from __future__ import annotations

from asyncio import CancelledError

from pydantic_core import from_json, to_json

from kagent_sdk.capability import InvalidInput, InvalidOutput
from kagent_sdk.errors import TaskError, TaskInterrupted
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure

MAX_CODE_CHARS = 100
MAX_MESSAGE_CHARS = 10_000
"""What `kagent_sdk.protocol.messages` keeps of an author's message."""

MAX_INTERNAL_CHARS = 1000
"""Of an exception that was not meant for the caller a glimpse is enough; the log has the rest."""

MAX_DETAILS_BYTES = 64 * 1024


def describe(exc: BaseException, cancel_reason: str = "") -> TaskFailure:
    """Return what a caller is told about an exception.

    Args:
        exc: what a capability raised, of any kind.
        cancel_reason: why the host cancelled the task; empty when it did not.
    """
    if isinstance(exc, InvalidInput | InvalidOutput):
        return exc.failure
    if cancel_reason and isinstance(exc, CancelledError | TaskInterrupted):
        return TaskFailure(ErrorCode.CANCELED, f"the task was canceled: {cancel_reason}")
    meant = find_task_error(exc)
    if meant is None:
        return TaskFailure(ErrorCode.INTERNAL_ERROR, glimpse(exc))
    return TaskFailure(
        str(meant.code)[:MAX_CODE_CHARS],
        str(meant.message)[:MAX_MESSAGE_CHARS],
        bool(meant.retryable),
        bound_details(meant.details),
        int(meant.status),
    )


def is_expected(exc: BaseException, cancel_reason: str = "") -> bool:
    """Tell whether an exception is an ordinary answer, which needs no traceback in the log."""
    if isinstance(exc, InvalidInput):
        return True
    if isinstance(exc, CancelledError | TaskInterrupted):
        return bool(cancel_reason)
    return find_task_error(exc) is not None


def find_task_error(exc: BaseException) -> TaskError | None:
    """Return the `TaskError` that this is, or the first one of a group that has no others.

    A job of an `asyncio.TaskGroup` that raises one comes out wrapped in a group; two calls that fail
    together come out as two.
    """
    first: TaskError | None = None
    waiting = [exc]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting += reversed(each.exceptions)
        elif isinstance(each, TaskError):
            first = first or each
        else:
            return None
    return first


def bound_details(details: object) -> object:
    """Return details as plain JSON data; what is not JSON becomes its ``repr``.

    Over `MAX_DETAILS_BYTES`, or with a circle inside, they are replaced by a note.
    """
    if details is None:
        return None
    try:
        raw = to_json(details, fallback=repr, inf_nan_mode="null", serialize_unknown=True)
        if len(raw) > MAX_DETAILS_BYTES:
            return {"omitted": f"{len(raw)} bytes of details, over {MAX_DETAILS_BYTES}"}
        return from_json(raw)
    except (ValueError, RecursionError) as exc:
        return {"omitted": f"details cannot be written as JSON: {type(exc).__name__}"}


def glimpse(exc: BaseException) -> str:
    """Return type and message of an exception, in at most `MAX_INTERNAL_CHARS`."""
    try:
        text = str(exc)
    except Exception:  # noqa: BLE001 - an author's __str__ may raise anything
        text = "(its message cannot be shown)"
    name = type(exc).__name__
    whole = (f"{name}: {text}" if text else name)[:MAX_INTERNAL_CHARS]
    # A lone surrogate, from a file name for example, cannot be written as UTF-8.
    return whole.encode(errors="backslashreplace").decode()[:MAX_INTERNAL_CHARS]
