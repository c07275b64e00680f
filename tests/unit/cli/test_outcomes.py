"""Tests of `kagent_sdk.cli.outcomes`."""

from __future__ import annotations

from typing import Any

import pytest

from kagent_sdk.cli.outcomes import TaskFailedError, check_completed, task_error


def failed(**error: Any) -> dict[str, Any]:
    """Return a task that ended with an error."""
    return {"id": "t1", "capability": "greet", "state": "failed", "error": error}


def test_a_completed_task_is_no_error() -> None:
    """The rule that the exit code rests on."""
    check_completed({"state": "completed"})
    with pytest.raises(TaskFailedError):
        check_completed(failed(code="x"))


def test_a_failure_is_told_with_its_code_and_message() -> None:
    """The code is for looking up, the message for understanding."""
    error = task_error(failed(code="quota", message="no more today", retryable=False, details=None))

    assert str(error) == "greet failed: quota: no more today"
    assert error.exit_code == 1
    assert error.notes == ()


def test_a_failure_that_may_pass_says_so_and_shows_its_details() -> None:
    """The way out is to try again."""
    error = task_error(failed(code="quota", message="later", retryable=True, details={"in_s": 5}))

    assert str(error) == "greet failed: quota: later; it may succeed when tried again"
    assert error.notes == ('  details: {"in_s":5}',)


def test_a_wrong_input_is_a_usage_error() -> None:
    """The command line has to change, not the agent: exit code 2."""
    details = [{"loc": ["name"], "msg": "Field required", "type": "missing"}]
    error = task_error(failed(code="invalid_input", message="…", details=details))

    assert str(error) == "greet does not take this input"
    assert error.exit_code == 2
    assert error.notes == ("  name: Field required",)
    assert error.is_invalid_input


def test_a_canceled_task_names_itself() -> None:
    """Somebody else may have canceled it: its id leads to who."""
    error = task_error({"id": "t1", "capability": "greet", "state": "canceled", "error": None})

    assert str(error) == "greet was canceled (task t1)"


def test_a_hostile_task_document_is_told_without_harm() -> None:
    """The agent may be anybody's."""
    error = task_error({"capability": "\x1b[2J", "state": ["x"], "error": {"message": {"a": 1}}})

    assert "\x1b" not in str(error)
    assert error.exit_code == 1
