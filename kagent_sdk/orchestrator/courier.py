"""How tasks are brought to agents: the port, and what an agent's answer means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Protocol

from kagent_sdk.orchestrator import raw_json
from kagent_sdk.orchestrator.registry import Instance
from kagent_sdk.protocol.json_text import JsonTextError
from kagent_sdk.protocol.link import Offer
from kagent_sdk.protocol.tasks import TaskFailure

MAX_RETRY_AFTER_S = 30.0
MAX_CODE_CHARS = 64
MAX_MESSAGE_CHARS = 2000
FORBIDDEN_RETRY_S = 5.0


class Verdict(Enum):
    """What is known of an offer after it was made.

    ``TAKEN``: the agent has the task. ``REFUSED``: no agent will take it. ``BUSY``: this agent does not
    take it now. ``UNREACHABLE``: it never came there. ``UNCLEAR``: the agent may have it.
    """

    TAKEN = auto()
    REFUSED = auto()
    BUSY = auto()
    UNREACHABLE = auto()
    UNCLEAR = auto()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an offer.

    Attributes:
        verdict: in one word.
        failure: why no agent will take it.
        retry_after_s: how long the agent is to be left alone; None: it did not say.
        detail: for the log; no token, no URL.
    """

    verdict: Verdict
    failure: TaskFailure | None = None
    retry_after_s: float | None = None
    detail: str = ""


class Courier(Protocol):
    """Speaks to agents that take pushed tasks."""

    async def deliver(self, instance: Instance, offer: Offer) -> Outcome:
        """Offer a task; only a cancellation is raised."""
        ...

    async def cancel(self, instance: Instance, task_id: str) -> None:
        """Tell an agent that a task is not wanted any more; never fails: heartbeats say it too."""
        ...


def judge_answer(status: int, body: bytes, retry_after_s: float | None) -> Outcome:
    """Tell what an agent's answer to an offer means.

    Args:
        status: of the answer.
        body: of the answer, cut at some length; it may be anything.
        retry_after_s: the answer's Retry-After.
    """
    detail = f"status {status}"
    if status in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED}:
        return Outcome(Verdict.TAKEN)
    if status in {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.REQUEST_TIMEOUT,
    }:
        return Outcome(Verdict.BUSY, retry_after_s=_bounded(retry_after_s), detail=detail)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        # Another host listens there by now, or its token is a new one: it will register.
        return Outcome(Verdict.BUSY, retry_after_s=FORBIDDEN_RETRY_S, detail=detail)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        failure = _read_problem(body)
        if failure is None:
            # Not an agent: whatever listens there now has not taken the task.
            return Outcome(Verdict.UNREACHABLE, detail=detail)
        return Outcome(Verdict.REFUSED, failure, detail=detail)
    return Outcome(Verdict.UNCLEAR, detail=detail)


def _bounded(retry_after_s: float | None) -> float:
    return 1.0 if retry_after_s is None else min(max(retry_after_s, 0.1), MAX_RETRY_AFTER_S)


def _read_problem(body: bytes) -> TaskFailure | None:
    try:
        document = raw_json.value(body)
    except JsonTextError:
        return None
    if not isinstance(document, dict):
        return None
    code, detail = document.get("code"), document.get("detail")
    if not isinstance(code, str) or not isinstance(detail, str) or not code:
        return None
    error = document.get("error")
    details = error.get("details") if isinstance(error, dict) else None
    return TaskFailure(code[:MAX_CODE_CHARS], detail[:MAX_MESSAGE_CHARS], details=details)
