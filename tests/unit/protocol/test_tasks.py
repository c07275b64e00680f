"""The words of the wire are A2A's and ours, and stay."""

from __future__ import annotations

from kagent_sdk.protocol.tasks import FINAL_STATES, ErrorCode, TaskFailure, TaskState


def test_the_states_are_those_of_a2a() -> None:
    """Programs compare these strings."""
    assert [state.value for state in TaskState] == [
        "submitted",
        "working",
        "input_required",
        "completed",
        "failed",
        "canceled",
        "rejected",
    ]


def test_a_task_in_a_final_state_stays_there() -> None:
    """A client that waits can stop at exactly these."""
    assert {*TaskState} - FINAL_STATES == {
        TaskState.SUBMITTED,
        TaskState.WORKING,
        TaskState.INPUT_REQUIRED,
    }


def test_codes_are_stable_snake_case_names() -> None:
    """Callers branch on them."""
    assert all(code == code.lower() and code.isidentifier() for code in ErrorCode)


def test_a_failure_is_an_internal_matter_unless_it_says_otherwise() -> None:
    """Not retryable, 500, no details."""
    assert TaskFailure("a", "b") == TaskFailure("a", "b", retryable=False, details=None, status=500)
