"""The failures that the orchestrator itself gives to tasks."""

from __future__ import annotations

from kagent_sdk.orchestrator.task import Target
from kagent_sdk.protocol.tasks import ErrorCode, TaskFailure

NO_AGENT = "no_agent"
AGENT_LOST = "agent_lost"
UNREADABLE_RESULT = "unreadable_result"


def no_agent(target: Target, waited_s: float) -> TaskFailure:
    """No agent offers what a task needs."""
    labels = f" with the labels {dict(target.labels)}" if target.labels else ""
    message = (
        f"no agent offers '{target}'{labels}, and none has come within {waited_s:g} s; "
        "GET /v1/capabilities lists what there is"
    )
    return TaskFailure(NO_AGENT, message, retryable=True)


def agent_lost(attempt: int) -> TaskFailure:
    """The agent that had the task is gone; what it did of it is not known."""
    message = f"the agent was lost while it had the task (attempt {attempt}), and has not come back with it"
    return TaskFailure(AGENT_LOST, message, retryable=True)


def timed_out(timeout_s: float) -> TaskFailure:
    """The caller's time is over."""
    return TaskFailure(ErrorCode.TIMEOUT, f"no result within {timeout_s:g} s", retryable=True)


def canceled() -> TaskFailure:
    """The caller wanted no more of it."""
    return TaskFailure(ErrorCode.CANCELED, "the task was canceled")


def cannot_deliver() -> TaskFailure:
    """An agent refused the task, and did not say why."""
    return TaskFailure(ErrorCode.INTERNAL_ERROR, "the agent does not take the task")


def unreadable_result() -> TaskFailure:
    """An agent reported an end that is none."""
    return TaskFailure(UNREADABLE_RESULT, "the agent reported an end that cannot be read")
