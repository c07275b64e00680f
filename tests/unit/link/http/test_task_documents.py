"""What an orchestrator says of a call is read without building its output, and believed in parts only."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kagent_sdk.link.decisions import ContactError
from kagent_sdk.link.http.messages import Answer
from kagent_sdk.link.http.task_documents import (
    MAX_MESSAGE_CHARS,
    RemoteTask,
    encode_call,
    lost_items,
    parse_task,
    read_refusal,
    timed_out,
)
from kagent_sdk.link.port import OutgoingCall
from kagent_sdk.protocol.tasks import TaskFailure, TaskState


def problem(status: int, **members: Any) -> Answer:
    """Return a problem document."""
    headers = {"Content-Type": "application/problem+json"}
    return Answer(status, headers, json.dumps(members).encode())


def test_a_call_is_written_with_what_it_has() -> None:
    """Members that are not given are left out."""
    plain = OutgoingCall("c1", None, "add", b"")
    assert encode_call(plain, None) == b'{"id": "c1", "capability": "add","input":{}}'

    full = OutgoingCall("c1", "calc", "add", b"[1.50]", {"zone": "b"})
    body = encode_call(full, 2.5)
    assert json.loads(body) == {
        "id": "c1",
        "capability": "calc/add",
        "timeout_s": 2.5,
        "labels": {"zone": "b"},
        "input": [1.5],
    }
    assert b"[1.50]" in body


@pytest.mark.parametrize("state", ["submitted", "working", "input_required"])
def test_a_task_that_goes_on_has_no_result(state: str) -> None:
    """Whatever else it says."""
    task = parse_task(b'{"output": 1, "state": "%b"}' % state.encode())

    assert task == RemoteTask(TaskState(state))
    assert not task.is_finished


def test_an_output_stays_the_bytes_that_it_is() -> None:
    """Like everything that passes through a host."""
    task = parse_task(b' { "id": "c1", "output": [1.50, "\\u00e9"], "state": "completed" } ')

    assert task.output == b'[1.50, "\\u00e9"]'
    assert task.is_finished


@pytest.mark.parametrize(
    ("state", "error", "failure"),
    [
        ("failed", {"code": "too_long", "message": "no"}, TaskFailure("too_long", "no")),
        ("failed", {"code": "Not A Code"}, TaskFailure("internal_error", "")),
        (
            "failed",
            {"code": "x", "message": "y" * 9999},
            TaskFailure("x", "y" * MAX_MESSAGE_CHARS),
        ),
        (
            "rejected",
            None,
            TaskFailure("internal_error", "the task has ended as rejected, and nobody says why"),
        ),
        (
            "canceled",
            "nonsense",
            TaskFailure("canceled", "the task has ended as canceled, and nobody says why"),
        ),
    ],
)
def test_a_task_that_failed_says_why(state: str, error: object, failure: TaskFailure) -> None:
    """As far as it can be believed."""
    body = json.dumps({"state": state, "error": error}).encode()

    assert parse_task(body).failure == failure


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"state": "merry"}',
        b'{"state": 7}',
        b'{"state": "\xff"}',
        b'{"state": "completed"',
        b'{"state": "completed", "output": %b' % (b"[" * 5000),
        b"{%b}" % b",".join(b'"k%d": 1' % n for n in range(200)),
    ],
)
def test_what_is_no_task_is_refused(body: bytes) -> None:
    """A proxy's page, or something made up."""
    with pytest.raises(ContactError, match="not kLink"):
        parse_task(body)


@pytest.mark.parametrize("status", [200, 202, 408, 425, 500, 503])
def test_a_call_that_may_be_taken_later_is_no_failure(status: int) -> None:
    """Or that has been taken."""
    assert read_refusal(problem(status, code="starting", detail="x")) is None


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (
            problem(404, code="unknown_capability", detail="no capability"),
            TaskFailure("unknown_capability", "no capability", status=404),
        ),
        (
            problem(429, code="queue_full", detail="full"),
            TaskFailure("queue_full", "full", retryable=True, status=429),
        ),
        (
            problem(422, code="invalid_input", error={"code": "invalid_input", "message": "n"}),
            TaskFailure("invalid_input", "n", status=422),
        ),
    ],
)
def test_a_problem_becomes_the_failure_of_the_call(answer: Answer, failure: TaskFailure) -> None:
    """The author of the calling agent sees what the orchestrator says."""
    assert read_refusal(answer) == failure


@pytest.mark.parametrize(
    "answer",
    [
        problem(401, code="unauthenticated", detail="the bearer token is wrong"),
        problem(404, code="x", detail=7),
        Answer(404, {}, b"<html>"),
        Answer(429, {}, b""),
        Answer(302, {}, b""),
    ],
)
def test_what_is_no_word_of_an_orchestrator_s_is_unreachable(answer: Answer) -> None:
    """The link is at fault, not the call: it may work later."""
    failure = read_refusal(answer)

    assert failure is not None
    assert (failure.code, failure.retryable, failure.status) == ("unreachable", True, 502)


def test_a_call_that_timed_out_says_whether_anybody_answered() -> None:
    """A slow agent and an orchestrator that is gone are two things."""
    call = OutgoingCall("c1", None, "add", b"{}", timeout_s=3.0)

    assert timed_out(call, "").message == "no result of add within 3 s"
    assert "no connection" in timed_out(call, "no connection").message


def test_lost_items_do_not_come_back() -> None:
    """To call again is the author's choice: the other agent has done its work."""
    assert not lost_items().retryable
