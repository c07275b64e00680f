"""From an exception to a task's error."""

from __future__ import annotations

import asyncio
import json

import pytest

from kagent_sdk.capability import InvalidInput, InvalidOutput
from kagent_sdk.errors import CallError, TaskError, TaskInterrupted
from kagent_sdk.protocol.messages import decode_failure, encode_failure
from kagent_sdk.protocol.tasks import TaskFailure
from kagent_sdk.worker.failures import (
    MAX_DETAILS_BYTES,
    bound_details,
    describe,
    glimpse,
    is_expected,
)


def test_a_task_error_reaches_the_caller_whole() -> None:
    """It was raised for the caller."""
    error = TaskError("quota", "no more", retryable=True, details={"left": 0}, status=429)

    assert describe(error) == TaskFailure(
        "quota", "no more", retryable=True, details={"left": 0}, status=429
    )
    assert is_expected(error)


def test_a_failed_call_passes_its_error_on() -> None:
    """An author who does not handle it wants the caller to see it."""
    assert describe(CallError("unreachable", "no link")).code == "unreachable"


@pytest.mark.parametrize("kind", [InvalidInput, InvalidOutput])
def test_refusals_carry_their_failure(kind: type[InvalidInput | InvalidOutput]) -> None:
    """The capability has worked out what to say."""
    failure = TaskFailure("invalid_input", "no", status=422)

    assert describe(kind(failure)) is failure


def test_a_wrong_input_is_no_news_but_a_wrong_output_is() -> None:
    """The first is the caller's mistake, the second the author's."""
    failure = TaskFailure("x", "y")

    assert is_expected(InvalidInput(failure))
    assert not is_expected(InvalidOutput(failure))


@pytest.mark.parametrize("error", [asyncio.CancelledError(), TaskInterrupted()])
def test_a_cancellation_counts_only_if_the_host_asked(error: BaseException) -> None:
    """One that the author's code made up is a bug like any other."""
    assert describe(error, "timeout") == TaskFailure("canceled", "the task was canceled: timeout")
    assert is_expected(error, "timeout")
    assert describe(error).code == "internal_error"
    assert not is_expected(error)


def test_what_a_cancelled_task_raises_otherwise_is_told() -> None:
    """A clean-up that fails is a failure."""
    assert describe(ValueError("oh"), "caller").message == "ValueError: oh"


def test_a_group_of_task_errors_is_unwrapped() -> None:
    """`asyncio.TaskGroup` wraps what its jobs raise; the caller is told of the first."""
    error = TaskError("quota", "no more")
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [error])])

    other = TaskError("other", "no")
    assert describe(group).code == "quota"
    assert describe(ExceptionGroup("all", [group, other])).code == "quota"
    assert describe(ExceptionGroup("mixed", [other, ExceptionGroup("", [ValueError()])])).code == (
        "internal_error"
    )
    assert describe(ExceptionGroup("two", [error, ValueError()])).code == "internal_error"


def test_fields_of_wrong_types_are_made_to_fit() -> None:
    """A host that cannot read the frame would take the worker for broken."""
    error = TaskError("code" * 100, "m" * 20_000)
    error.code, error.message = 7, ValueError("v")  # type: ignore[assignment]
    failure = decode_failure(encode_failure(describe(error)))

    assert (failure.code, failure.message) == ("7", "v")


class Unspeakable(Exception):  # noqa: N818 - named for what it does
    """Has no text."""

    def __str__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("oh"), "ValueError: oh"),
        (ValueError(), "ValueError"),
        (Unspeakable(), "Unspeakable: (its message cannot be shown)"),
        (ValueError("\ud800"), "ValueError: \\ud800"),
    ],
)
def test_other_exceptions_give_a_glimpse(error: Exception, text: str) -> None:
    """Type and message help the caller report it; whatever they hold, they can be written."""
    assert glimpse(error) == text
    assert len(glimpse(ValueError("x" * 5000))) == 1000


class Thing:
    """Is not JSON."""

    def __repr__(self) -> str:
        return "<thing>"


def test_details_become_json() -> None:
    """An author puts anything in; the caller's program reads JSON."""
    circle: list[object] = []
    circle.append(circle)
    deep: object = 1
    for _ in range(230):
        deep = [deep]

    assert bound_details(None) is None
    assert bound_details({"a": Thing(), "nan": float("nan")}) == {"a": "<thing>", "nan": None}
    assert bound_details(circle) == ["..."]
    for wrong in (deep, "\ud800"):
        details = bound_details(wrong)
        assert isinstance(details, dict)
        assert "cannot be written as JSON" in details["omitted"]


def test_details_are_bounded() -> None:
    """An error is no channel for megabytes."""
    details = bound_details("x" * MAX_DETAILS_BYTES)

    assert details == {"omitted": f"{MAX_DETAILS_BYTES + 2} bytes of details, over 65536"}
    assert len(json.dumps(bound_details("x" * 60_000))) > 60_000
