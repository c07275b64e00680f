"""Tests of `kagent_sdk.cli.problems`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kagent_sdk.cli.problems import MAX_REASONS, ProblemError, input_reasons, problem_error
from kagent_sdk.protocol import problems as agent_problems
from kagent_sdk.protocol.problem import Problem


def told(problem: Problem) -> ProblemError:
    """Return the command line's error for a problem of the control plane, over the wire."""
    document = json.loads(problem.to_bytes())
    return problem_error(problem.status, document, problem.headers.get("Retry-After"))


@pytest.mark.parametrize(
    ("problem", "message", "exit_code"),
    [
        (
            agent_problems.unknown_capability("gret", ["greet"]),
            "no capability 'gret'; did you mean 'greet'?",
            2,
        ),
        (
            agent_problems.unknown_capability("xyz", ["greet"]),
            "no capability 'xyz'; see what there is: kos-agent capabilities",
            2,
        ),
        (
            agent_problems.unauthenticated(sent=False),
            "a token is required; name the file that holds it with --token-file FILE",
            3,
        ),
        (
            agent_problems.unauthenticated(sent=True),
            "the bearer token is wrong; name the file that holds it with --token-file FILE",
            3,
        ),
        (
            agent_problems.queue_full(3),
            "as many tasks wait as may wait; try again in 3 s",
            1,
        ),
        (
            agent_problems.draining(5),
            "the agent finishes its tasks and takes no new ones; try again in 5 s",
            1,
        ),
        (
            agent_problems.id_conflict("t1"),
            (
                "id 't1' belongs to a task with another capability or input; "
                "take a new id for a new task"
            ),
            2,
        ),
        (agent_problems.body_too_large(10), "the body is over the limit of 10 bytes", 2),
    ],
)
def test_what_the_agent_refuses_is_told_for_a_command_line(
    problem: Problem, message: str, exit_code: int
) -> None:
    """The agent speaks to programs that write HTTP; here somebody types commands."""
    error = told(problem)

    assert str(error) == message
    assert error.exit_code == exit_code
    assert error.code == problem.code


def test_a_wrong_input_is_told_reason_by_reason() -> None:
    """One round must be enough to correct all of it."""
    details: list[dict[str, object]] = [
        {"loc": ["point", "x"], "msg": "Input should be >= 0", "type": "greater_than_equal"},
        {"loc": ["tags", 2], "msg": "Input should be a string", "type": "string_type"},
        {"loc": [], "msg": "Field required", "type": "missing"},
    ]

    error = told(agent_problems.invalid_input(details))

    assert error.is_invalid_input
    assert error.exit_code == 2
    assert error.notes == (
        "  point.x: Input should be >= 0",
        "  tags[2]: Input should be a string",
        "  input: Field required",
    )


def test_a_thousand_reasons_are_not_all_listed() -> None:
    """The first ones are what can be read."""
    reasons = input_reasons({"details": [{"loc": ["a"], "msg": "no"}] * 1000})

    assert len(reasons) == MAX_REASONS + 1
    assert reasons[-1] == "and 950 more"


@pytest.mark.parametrize(
    ("status", "document", "message"),
    [
        (502, {}, "the agent answered with status 502 (bad gateway)"),
        (599, {}, "the agent answered with status 599"),
        (500, {"title": "Internal error."}, "Internal error"),
        (500, {"detail": 7, "code": [], "error": "x", "details": {}}, "the agent answered with"),
        (400, {"detail": "evil \x1b[2J\nerror: fine"}, r"evil \x1b[2J error: fine"),
    ],
)
def test_an_answer_that_is_no_problem_document_is_told_too(
    status: int, document: dict[str, Any], message: str
) -> None:
    """Proxies and strangers answer with anything."""
    error = problem_error(status, document, "soon")

    assert str(error).startswith(message)
    assert error.exit_code in {1, 2}


def test_a_program_gets_the_whole_document() -> None:
    """With --json nothing that the agent said is lost."""
    error = told(agent_problems.queue_full(3))

    assert error.document()["error"]["code"] == "queue_full"
    assert error.document()["error"]["details"]["status"] == 429
