"""How a finished task is told: its error as an error of the command line. Pure."""

from __future__ import annotations

from typing import Any

from kagent_sdk.cli.boundary import EXIT_FAILED, EXIT_USAGE, CommandError
from kagent_sdk.cli.problems import input_reasons
from kagent_sdk.cli.text import clean_line, safe_json

INVALID_INPUT = "invalid_input"
COMPLETED = "completed"
MAX_DETAIL_CHARS = 2000

Task = dict[str, Any]
"""A task document, not trusted."""


class TaskFailedError(CommandError):
    """A task did not complete.

    Exit code 1; or 2 when its input does not fit the capability, for then the command line is what
    has to change.
    """

    def __init__(self, message: str, task: Task, *, code: str, notes: tuple[str, ...]) -> None:
        exit_code = EXIT_USAGE if code == INVALID_INPUT else EXIT_FAILED
        super().__init__(message, exit_code=exit_code, code=code, details=task, notes=notes)

    @property
    def is_invalid_input(self) -> bool:
        """Whether the input is what was wrong."""
        return self.code == INVALID_INPUT


def check_completed(task: Task) -> None:
    """Accept a finished task that completed.

    Raises:
        TaskFailedError: it ended in another way.
    """
    if task.get("state") != COMPLETED:
        raise task_error(task)


def task_error(task: Task) -> TaskFailedError:
    """Return the error for a task that ended without completing."""
    error = task.get("error")
    failure = error if isinstance(error, dict) else {}
    name = clean_line(task.get("capability", "the task"))
    state = clean_line(task.get("state", "failed"))
    code = clean_line(failure.get("code", state))
    if code == INVALID_INPUT:
        reasons = tuple(f"  {reason}" for reason in input_reasons(failure))
        return TaskFailedError(f"{name} does not take this input", task, code=code, notes=reasons)
    if state == "canceled":
        message = f"{name} was canceled (task {clean_line(task.get('id'))})"
        return TaskFailedError(message, task, code=code, notes=())
    said = clean_line(failure.get("message", "it does not say why"))
    again = "; it may succeed when tried again" if failure.get("retryable") is True else ""
    message = f"{name} {state}: {code}: {said}{again}"
    return TaskFailedError(message, task, code=code, notes=_details(failure))


def _details(failure: dict[str, Any]) -> tuple[str, ...]:
    details = failure.get("details")
    if details is None:
        return ()
    return (f"  details: {clean_line(safe_json(details), limit_chars=MAX_DETAIL_CHARS)}",)
