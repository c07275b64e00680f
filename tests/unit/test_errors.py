"""The error tree is what callers program against."""

from __future__ import annotations

import inspect

import pytest

from kagent_sdk import errors
from kagent_sdk.errors import (
    ConfigError,
    CrashLoopError,
    FrameTooLargeError,
    KagentError,
    StartupError,
    TaskError,
    TaskInterrupted,
)


def test_one_base_catches_everything_that_the_library_raises() -> None:
    """``except KagentError`` must be enough."""
    classes = [value for value in vars(errors).values() if inspect.isclass(value)]

    assert len(classes) > 5
    assert [c for c in classes if not issubclass(c, KagentError)] == [TaskInterrupted]
    assert not issubclass(TaskInterrupted, Exception)
    assert all(c.__name__ in (errors.__doc__ or "") for c in classes)


@pytest.mark.parametrize("status", [200, 399, 600, 0])
def test_a_task_error_has_the_status_of_an_error(status: int) -> None:
    """A failed task that answered 200 would be taken for a success."""
    with pytest.raises(ValueError, match="400 to 599"):
        TaskError("quota", "no more", status=status)


def test_a_task_error_carries_what_the_caller_needs() -> None:
    """Code for programs, message for people, and whether to try again."""
    error = TaskError("quota", "no more", retryable=True, details={"left": 0}, status=429)

    assert (error.code, error.message, error.retryable) == ("quota", "no more", True)
    assert (error.details, error.status, str(error)) == ({"left": 0}, 429, "quota: no more")


def test_errors_that_end_the_host_carry_its_exit_code() -> None:
    """Exit codes are a contract with orchestrators."""
    assert ConfigError.exit_code == 78
    assert StartupError.exit_code == 3
    assert CrashLoopError("loop", "Traceback …").exit_code == 75
    assert CrashLoopError("loop", "Traceback …").traceback_text == "Traceback …"
    assert FrameTooLargeError(10, 5).limit_bytes == 5
