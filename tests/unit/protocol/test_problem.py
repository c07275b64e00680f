"""Problem documents: one shape, whatever an author or an attacker puts into them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent_sdk.errors import KagentError
from kagent_sdk.protocol.problem import MAX_DETAIL_DEPTH, Problem, RequestError


def document_of(problem: Problem) -> dict[str, Any]:
    """Return the document as a strict client reads it."""

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    document: dict[str, Any] = json.loads(problem.to_bytes(), parse_constant=refuse)
    return document


def with_details(details: object) -> Problem:
    """Return a problem that carries an author's details."""
    return Problem(500, "Failed", "own", "no", {"error": {"details": details}}, is_ours=False)


def test_document_has_the_members_of_rfc_9457_and_a_code() -> None:
    """Clients of every language have a reader for exactly this shape."""
    problem = Problem(429, "Queue is full", "queue_full", "later", {"nearest": []}, {"A": "b"})

    assert document_of(problem) == {
        "type": "urn:kagent:problem:queue_full",
        "title": "Queue is full",
        "status": 429,
        "detail": "later",
        "code": "queue_full",
        "nearest": [],
    }


def test_an_authors_code_is_not_in_our_name_space() -> None:
    """A URN of ours must mean what our documentation says."""
    assert with_details(None).type == "about:blank"


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, 1 << 20_000, {1, 2}, object()],
    ids=["nan", "inf", "-inf", "huge integer", "set", "object"],
)
def test_details_that_json_cannot_say_become_null(value: object) -> None:
    """An author's odd error must not turn the answer into invalid JSON, or into a 500 of ours."""
    problem = with_details({"kept": [1, 2.5, True, None, "é"], "odd": (value,), 3: "key"})

    details = document_of(problem)["error"]["details"]
    assert details == {"kept": [1, 2.5, True, None, "é"], "odd": [None], "3": "key"}


def test_details_that_nest_without_end_are_cut() -> None:
    """A hostile or recursive structure must not exhaust the stack of the host."""
    endless: list[Any] = []
    endless.append(endless)

    text = with_details({"endless": endless, "deep": math.nan}).to_bytes()
    assert text.count(b"[") < MAX_DETAIL_DEPTH


@given(st.text(), st.text(st.characters(), max_size=20))
def test_any_text_makes_ascii_json_that_reads_back(detail: str, code: str) -> None:
    """Terminals, proxies and logs see the document too: lone surrogates and control characters."""
    problem = Problem(500, "Failed", code, detail)

    assert problem.to_bytes().isascii()
    assert document_of(problem)["detail"] == detail


def test_request_error_carries_the_answer_and_reads_well() -> None:
    """The handler's boundary answers it; a log that shows it should say what happened."""
    problem = Problem(404, "No such task", "unknown_task", "no task 'x'")
    error = RequestError(problem)

    assert isinstance(error, KagentError)
    assert error.problem is problem
    assert str(error) == "404 unknown_task: no task 'x'"
