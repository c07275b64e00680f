"""The error tree is what its drawing says, and every error carries what its caller needs."""

from __future__ import annotations

import inspect
import re

import pytest

from kagent_sdk import errors
from kagent_sdk.errors import FrameTooLargeError, KagentError, TaskError

ERRORS = [value for _, value in inspect.getmembers(errors, inspect.isclass)]


def test_the_drawing_shows_the_whole_tree_and_nothing_else() -> None:
    """Whoever reads the drawing decides by it what to catch."""
    drawn = set(re.findall(r"── (\w+)", errors.__doc__ or ""))

    assert drawn == {error.__name__ for error in ERRORS}


def test_one_base_catches_all_but_the_interrupt() -> None:
    """`except KagentError` is what the documentation promises."""
    assert [error.__name__ for error in ERRORS if not issubclass(error, KagentError)] == [
        "TaskInterrupted"
    ]


@pytest.mark.parametrize("status", [399, 600, 0])
def test_a_task_error_with_a_status_that_says_success_is_refused(status: int) -> None:
    """A failure that answers 200 would be taken for a result."""
    with pytest.raises(ValueError, match="must be 400 to 599"):
        TaskError("code", "message", status=status)


def test_a_task_error_carries_what_the_caller_s_program_needs() -> None:
    """The message is for people, the rest for programs."""
    error = TaskError("full", "no room", retryable=True, details=[1], status=599)

    assert str(error) == "full: no room"
    assert (error.code, error.message, error.retryable) == ("full", "no room", True)
    assert (error.details, error.status) == ([1], 599)


def test_a_frame_that_is_too_large_says_by_how_much() -> None:
    """The number tells which limit to raise."""
    error = FrameTooLargeError(20, 10)

    assert (error.size_bytes, error.limit_bytes) == (20, 10)
    assert str(error) == "frame of 20 bytes is over the limit of 10"
