"""Every case in which the control plane says no."""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.protocol import problems
from kagent_sdk.protocol.problem import ProblemCode
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure
from tests.unit.protocol.test_problem import document_of

if TYPE_CHECKING:
    from kagent_sdk.protocol.problem import Problem

DETAILS = [{"loc": ["a", 0], "msg": "must be a number", "type": "float_type"}]

CASES = [
    (problems.invalid_json("a value is expected at byte 3"), 400, "invalid_json"),
    (problems.unknown_key("inputt", ["id", "input"]), 400, "unknown_key"),
    (problems.invalid_header("Prefer", "wait must be a number"), 400, "invalid_header"),
    (problems.invalid_query("limitt", "is not known", ["limit"]), 400, "invalid_query"),
    (problems.malformed_request(), 400, "malformed_request"),
    (problems.unauthenticated(sent=False), 401, "unauthenticated"),
    (problems.foreign_origin(), 403, "foreign_origin"),
    (problems.foreign_lease(), 403, "foreign_lease"),
    (problems.no_route(), 404, "no_route"),
    (problems.unknown_capability("digset", ["digest"]), 404, "unknown_capability"),
    (problems.unknown_task("t1"), 404, "unknown_task"),
    (problems.method_not_allowed("GET, HEAD"), 405, "method_not_allowed"),
    (problems.request_timeout(30), 408, "request_timeout"),
    (problems.id_conflict("t1"), 409, "id_conflict"),
    (problems.reload_failed("no worker came up"), 409, "reload_failed"),
    (problems.body_too_large(1024), 413, "body_too_large"),
    (problems.unsupported_media_type(), 415, "unsupported_media_type"),
    (problems.invalid_request(DETAILS), 422, "invalid_request"),
    (problems.invalid_input(DETAILS), 422, "invalid_input"),
    (problems.callback_refused("no"), 422, "invalid_request"),
    (problems.queue_full(2), 429, "queue_full"),
    (problems.outbox_full(30), 429, "outbox_full"),
    (problems.internal_error(), 500, "internal_error"),
    (problems.snapshot_running(), 409, "snapshot_running"),
    (problems.snapshot_failed("the disk is full"), 500, "snapshot_failed"),
    (problems.starting(1), 503, "starting"),
    (problems.draining(5), 503, "draining"),
    (problems.worker_down(1), 503, "worker_down"),
    (problems.memory_short(5), 503, "memory"),
    (problems.timed_out(1.5), 504, "timeout"),
]


@pytest.mark.parametrize(("problem", "status", "code"), CASES, ids=[case[2] for case in CASES])
def test_each_case_has_its_status_and_code(problem: Problem, status: int, code: str) -> None:
    """Programs decide by these two; they are in the documentation and must not move."""
    assert (problem.status, problem.code) == (status, code)
    assert problem.type == f"urn:kagent:problem:{code}"
    assert problem.detail
    assert document_of(problem)["status"] == status


def test_every_code_has_a_case() -> None:
    """A code that nothing sends, or a case without a code, is a lie in the documentation."""
    shown = {code for _, _, code in CASES}

    assert shown - set(ErrorCode) >= set(ProblemCode) - set(ErrorCode)


@pytest.mark.parametrize(
    ("problem", "name", "value"),
    [
        (problems.unauthenticated(sent=False), "WWW-Authenticate", 'Bearer realm="kagent"'),
        (
            problems.unauthenticated(sent=True),
            "WWW-Authenticate",
            'Bearer realm="kagent", error="invalid_token"',
        ),
        (problems.method_not_allowed("GET, HEAD"), "Allow", "GET, HEAD"),
        (problems.queue_full(2.1), "Retry-After", "3"),
        (problems.draining(0), "Retry-After", "1"),
        (problems.request_timeout(30), "Connection", "close"),
        (problems.unsupported_media_type(), "Accept", "application/json"),
    ],
)
def test_headers_that_the_standards_demand_are_there(
    problem: Problem, name: str, value: str
) -> None:
    """Retry loops, browsers and proxies read the headers, not the document."""
    assert problem.headers[name] == value


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "1"), (0.2, "1"), (1.5, "2"), (1e300, "3600"), (math.nan, "1")]
)
def test_retry_after_is_a_sane_number_of_whole_seconds(seconds: float, text: str) -> None:
    """The estimate divides by a rate that may be zero; the header must stay a header."""
    assert problems.retry_after(seconds) == {"Retry-After": text}


def test_unknown_capability_names_the_nearest_ones() -> None:
    """A typo is the commonest reason for a 404; the answer should already be the way out."""
    problem = problems.unknown_capability("Digset", ["digest", "triage", "digest_all"])

    assert problem.extra["nearest"][0] == "digest"
    assert "did you mean 'digest'" in problem.detail


def test_unknown_capability_without_a_neighbour_says_where_to_look() -> None:
    """Guessing wildly would be worse than saying where the list is."""
    problem = problems.unknown_capability("zzz", ["digest"])

    assert problem.extra["nearest"] == []
    assert "/v1/capabilities" in problem.detail


@pytest.mark.parametrize("known", [["limit", "after"], []])
def test_unknown_query_and_key_without_a_neighbour_have_a_way_out(known: list[str]) -> None:
    """The sentence must read well when there is nothing to suggest."""
    assert problems.invalid_query("zzz", "is not known", known).detail == (
        "query parameter 'zzz': is not known"
    )
    assert problems.unknown_key("zzz", ["id", "input"]).detail == (
        "unknown key 'zzz'; known are id, input"
    )


def test_nearest_names_are_found_among_very_many() -> None:
    """An agent may have a thousand capabilities; the right one must survive the shortlist."""
    many = [f"{a}{b}{c}" for a in string.ascii_lowercase[:10] for b in "0123456789" for c in "xyzw"]

    assert problems.nearest_names("digset", [*many, "digest"]) == ["digest"]
    assert problems.nearest_names("d" * 65, ["d" * 64]) == []


@given(st.text(max_size=300))
def test_what_the_caller_sent_is_shown_short_and_printable(name: str) -> None:
    """A detail ends up in terminals and logs: no escape sequence, no line break, no megabyte."""
    detail = problems.unknown_capability(name, ["digest"]).detail

    assert detail.isascii()
    assert detail.isprintable()
    assert len(detail) < 250


def test_invalid_request_names_the_first_fault_and_counts_the_others() -> None:
    """The sentence is what a person sees first."""
    more = problems.invalid_request([*DETAILS, {"loc": [], "msg": "x", "type": "y"}])

    assert more.detail == "a.0: must be a number (and 1 more)"
    assert problems.invalid_request([{"loc": [], "msg": "x", "type": "y"}]).detail == "body: x"
    assert more.extra["error"]["details"][0] == DETAILS[0]
    assert more.extra["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.INVALID_JSON, 400),
        (ErrorCode.CANCELED, 409),
        (ErrorCode.INVALID_INPUT, 422),
        (ErrorCode.INTERNAL_ERROR, 500),
        (ErrorCode.INVALID_OUTPUT, 500),
        (ErrorCode.OUTPUT_TOO_LARGE, 500),
        (ErrorCode.SECRET_IN_OUTPUT, 500),
        (ErrorCode.WORKER_CRASHED, 502),
        (ErrorCode.UNREACHABLE, 502),
        (ErrorCode.INTERRUPTED, 503),
        (ErrorCode.TIMEOUT, 504),
    ],
)
def test_a_failed_task_becomes_the_status_of_its_code(code: ErrorCode, status: int) -> None:
    """On the fast path the status is all that many clients look at."""
    problem = problems.from_failure(TaskFailure(code, "it failed", retryable=True))

    assert problem.status == status
    assert document_of(problem)["error"] == {
        "code": str(code),
        "message": "it failed",
        "retryable": True,
        "details": None,
    }


def test_every_error_code_of_ours_has_a_status() -> None:
    """A new code must not fall through to `about:blank`."""
    for code in ErrorCode:
        assert problems.from_failure(TaskFailure(code, "")).is_ours


def test_an_authors_own_status_and_code_are_kept() -> None:
    """`TaskError("quota", …, status=429)` is a promise of our documentation."""
    problem = problems.from_failure(TaskFailure("quota", "no more", status=429), 7)

    assert (problem.status, problem.code, problem.type) == (429, "quota", "about:blank")
    assert problem.title == "Too Many Requests"
    assert problem.headers == {"Retry-After": "7"}


def test_an_authors_own_status_wins_over_that_of_our_code() -> None:
    """An author may well say timeout and mean 408."""
    assert problems.from_failure(TaskFailure("timeout", "slow", status=408)).status == 408


def test_an_authors_401_carries_a_challenge() -> None:
    """RFC 9110 demands one, and clients break without it."""
    problem = problems.from_failure(TaskFailure("login", "who are you", status=401))

    assert "WWW-Authenticate" in problem.headers


def test_an_unregistered_status_still_has_a_title() -> None:
    """`TaskError` allows all of 400 to 599."""
    assert problems.from_failure(TaskFailure("own", "x", status=499)).title == "Error"
