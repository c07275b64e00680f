"""The load generator counts right answers alone: it must know one."""

from __future__ import annotations

import json

import pytest
from rig.contenders import INPUT, LANES, OUTPUT, Lane
from rig.wire import BadAnswerError, body_span, build_request, status_of

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nServer: x\r\n\r\n"
PLAIN, TASK = (next(lane for lane in LANES if lane.is_task is is_task) for is_task in (False, True))


def answer_of(lane: Lane, output: object = OUTPUT, state: str = "completed") -> bytes:
    """Return the body that a right contender sends on this lane."""
    document = {"id": "1", "state": state, "output": output} if lane.is_task else output
    return json.dumps(document).encode()


@pytest.mark.parametrize("head", [HEAD, HEAD.replace(b"Content-L", b"content-l")])
def test_the_body_is_found_in_any_spelling_of_the_header(head: bytes) -> None:
    """Some servers write header names in lower case."""
    span = body_span(head + b"true")

    assert span == (len(head), len(head) + 4)


@pytest.mark.parametrize("cut", range(len(HEAD)))
def test_a_head_that_is_cut_short_has_no_body_yet(cut: int) -> None:
    """An answer may come in any number of pieces."""
    assert body_span(HEAD[:cut]) is None


def test_an_answer_without_a_length_is_refused() -> None:
    """The generator would wait for ever, or take the next answer for a part of this one."""
    with pytest.raises(BadAnswerError, match="no Content-Length"):
        body_span(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_the_status_is_read() -> None:
    """Only 200 counts."""
    assert status_of(HEAD) == 200
    with pytest.raises(BadAnswerError, match="not HTTP"):
        status_of(b"SSH-2.0-OpenSSH")


def test_a_request_carries_its_body() -> None:
    """With its length, and with the connection closed on demand."""
    request = build_request("POST", "/x", b"{}", close=True)

    assert request.startswith(b"POST /x HTTP/1.1\r\nHost: ")
    assert b"Connection: close\r\n" in request
    assert request.endswith(b"Content-Length: 2\r\n\r\n{}")


@pytest.mark.parametrize("lane", LANES, ids=lambda lane: lane.key)
def test_every_lane_sends_the_same_input(lane: Lane) -> None:
    """Otherwise the contenders would not do the same work."""
    document = json.loads(lane.request().partition(b"\r\n\r\n")[2])

    assert (document["input"] if lane.is_task else document) == INPUT


@pytest.mark.parametrize("lane", [PLAIN, TASK], ids=lambda lane: lane.key)
def test_a_right_answer_passes(lane: Lane) -> None:
    """The first is examined in full, those that follow are compared."""
    body = answer_of(lane)
    check = lane.judge(body)

    assert check(HEAD + body, len(HEAD))


@pytest.mark.parametrize("lane", [PLAIN, TASK], ids=lambda lane: lane.key)
def test_a_wrong_first_answer_is_refused(lane: Lane) -> None:
    """A contender that does other work is not measured at all."""
    with pytest.raises(BadAnswerError, match="answered"):
        lane.judge(answer_of(lane, {"summary": "", "words": 0}))


@pytest.mark.parametrize("lane", [PLAIN, TASK], ids=lambda lane: lane.key)
def test_a_later_wrong_answer_is_noticed(lane: Lane) -> None:
    """A server that breaks under load must not win by it."""
    check = lane.judge(answer_of(lane))
    wrong = answer_of(lane, {"summary": "", "words": 0})

    assert not check(HEAD + wrong, len(HEAD))


def test_a_task_that_did_not_complete_is_noticed() -> None:
    """Even if it has an output."""
    check = TASK.judge(answer_of(TASK))

    assert not check(HEAD + answer_of(TASK, state="failed"), len(HEAD))
    with pytest.raises(BadAnswerError, match="answered"):
        TASK.judge(answer_of(TASK, state="failed"))
