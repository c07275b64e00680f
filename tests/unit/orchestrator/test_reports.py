"""What agents and callers send is read with care, and payloads stay the bytes that came."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kagent_sdk.orchestrator.courier import Verdict, judge_answer
from kagent_sdk.orchestrator.push import write_offer
from kagent_sdk.orchestrator.reports import read_event, read_reports, read_result
from kagent_sdk.orchestrator.submission import parse_submission
from kagent_sdk.orchestrator.task import Target
from kagent_sdk.protocol.envelope import parse_envelope
from kagent_sdk.protocol.json_text import JsonTextError
from kagent_sdk.protocol.link import Offer
from kagent_sdk.protocol.problem import RequestError
from kagent_sdk.protocol.tasks import TaskState

ITEM = {"id": "r", "task": "t", "lease": "l" * 16, "kind": "result", "payload": 1}


def test_an_output_stays_the_bytes_that_the_agent_sent() -> None:
    """1.50 is not 1.5 for everybody, and large numbers are none of our business."""
    raw = b'{"output": {"a": 1.50, "b": 1e999, "a": 2}, "state": "completed", "new": []}'
    body = b'{"items":[{"payload":%b,"id":"r","task":"t","lease":"%b","kind":"result"}]}' % (
        raw,
        b"l" * 16,
    )
    (report,) = read_reports(body)
    ending = read_result(report.payload)

    assert ending is not None
    assert ending.output == b'{"a": 1.50, "b": 1e999, "a": 2}'


@pytest.mark.parametrize(
    "payload",
    [
        b"null",
        b"[]",
        b"{}",
        b'{"state":"working"}',
        b'{"state":"party"}',
        b'{"state":["completed"]}',
        b'{"state":"failed","error":{"details":1e999}}',
    ],
)
def test_what_is_no_end_is_none(payload: bytes) -> None:
    """Nor is what could not be written out again."""
    assert read_result(payload) is None


def test_a_failure_is_bounded_and_never_missing() -> None:
    """An agent's error is shown to callers, as far as it is one."""
    error = {"code": "c" * 100, "message": 1, "retryable": "yes", "details": [1]}
    ending = read_result(json.dumps({"state": "failed", "error": error}).encode())
    silent = read_result(b'{"state":"canceled"}')

    assert ending is not None
    assert ending.failure is not None
    assert (len(ending.failure.code), ending.failure.retryable) == (64, False)
    assert silent is not None
    assert (silent.state, silent.failure is None) == (TaskState.CANCELED, False)


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b'{"id":1,"event":"event","data":{"a":1.50}}', "event"),
        (b'{"id":"7","event":"progress","data":{"fraction":0.5}}', "progress"),
        (b'{"id":1,"event":"progress","data":[]}', None),
        (b'{"id":true,"event":"event"}', None),
        (b'{"id":1.5,"event":"event"}', None),
        (b'{"id":1e999,"event":"event"}', None),
        (b'{"id":99999999999999999999,"event":"event"}', None),
        (b'{"id":1,"event":"x\\ny"}', None),
        (b'{"event":"event"}', None),
        (b"7", None),
    ],
)
def test_events_are_read_or_none(payload: bytes, kind: str | None) -> None:
    """The kind goes into a stream of lines: nothing may forge one."""
    event = read_event(payload)

    assert (None if event is None else event.kind) == kind


@pytest.mark.parametrize(
    "change",
    [{"id": ""}, {"id": "x" * 129}, {"id": 1}, {"task": "a b"}, {"lease": "short"}, {"kind": 1}],
)
def test_reports_that_are_none_are_told_where(change: dict[str, Any]) -> None:
    """The agent's author finds it."""
    with pytest.raises(ValueError, match=r"^items\.0"):
        read_reports(json.dumps({"items": [{**ITEM, **change}]}).encode())


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"items":[1]}', b'{"items":[{}'])
def test_what_is_no_json_of_reports_is_refused(body: bytes) -> None:
    """As the link's contract says."""
    with pytest.raises(JsonTextError):
        read_reports(body)


def test_an_offer_is_what_an_agent_reads() -> None:
    """The orchestrator writes envelopes, and agents read them: one shape."""
    offer = Offer("t", "l" * 16, "echo", b'{"n": 1.50}', 2.5, b'{"m":1}', "", 2, 3, 4)
    body, headers = write_offer(offer)
    envelope = parse_envelope(body)

    assert (envelope.id, envelope.capability, envelope.input) == ("t", "echo", b'{"n": 1.50}')
    assert (envelope.timeout_s, envelope.metadata) == (2.5, b'{"m":1}')
    assert headers == {
        "Klink-Lease": "l" * 16,
        "Klink-Attempt": "2",
        "Klink-Hops": "3",
        "Klink-Beat": "4",
    }


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b"", Verdict.TAKEN),
        (202, b"\xff", Verdict.TAKEN),
        (204, b"", Verdict.UNCLEAR),
        (302, b"", Verdict.UNCLEAR),
        (401, b"", Verdict.BUSY),
        (404, b"not found", Verdict.UNREACHABLE),
        (404, b"[" * 100_000, Verdict.UNREACHABLE),
        (404, b'{"code":1,"detail":"x"}', Verdict.UNREACHABLE),
        (404, b'{"code":"x","detail":"y","error":{"details":NaN}}', Verdict.UNREACHABLE),
        (404, b'{"code":"unknown_capability","detail":"no"}', Verdict.REFUSED),
        (409, b'{"code":"id_conflict","detail":"no"}', Verdict.REFUSED),
        (413, b'{"code":"body_too_large","detail":"no"}', Verdict.REFUSED),
        (422, b'{"code":"invalid_input","detail":"no"}', Verdict.REFUSED),
        (429, b"", Verdict.BUSY),
        (500, b"", Verdict.UNCLEAR),
        (503, b"", Verdict.BUSY),
    ],
)
def test_every_answer_to_an_offer_means_something(
    status: int, body: bytes, verdict: Verdict
) -> None:
    """An agent's answer is a stranger's: it decides over its own task at the most."""
    assert judge_answer(status, body, None).verdict is verdict


def test_how_long_an_agent_may_ask_to_be_left_alone_is_bounded() -> None:
    """A wrong clock must not take a replica out for an hour."""
    assert judge_answer(503, b"", 1e9).retry_after_s == 30
    assert judge_answer(503, b"", None).retry_after_s == 1


def test_a_capability_may_name_its_agent() -> None:
    """And the input stays as it was sent."""
    body = b'{"labels":{"b":"2","a":"1"},"capability":"worker/echo","input":{"n":1.50},"id":"t"}'
    envelope, target = parse_submission(body)

    assert target == Target("worker", "echo", (("a", "1"), ("b", "2")))
    assert (envelope.id, envelope.capability, envelope.input) == ("t", "echo", b'{"n":1.50}')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"capability":"a/"}',
        b'{"capability":"/a"}',
        b'{"capability":"a b/c"}',
        b'{"capability":"a","labels":{"a":1e999}}',
        b'{"capability":"a","labels":{"a":"' + b"x" * 64 + b'"}}',
        b'{"capability":"a","labels":{"a":"x\\n"}}',
        b'{"capability":"a","callback_url":"https://x.example/"}',
    ],
)
def test_wrong_submissions_are_problems(body: bytes) -> None:
    """With the words of an agent, where an agent has words for it."""
    with pytest.raises(RequestError):
        parse_submission(body)
