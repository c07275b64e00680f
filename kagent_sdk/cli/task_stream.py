"""The events of one task, as they come, up to the task itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from kagent_sdk.cli.boundary import UnreachableError
from kagent_sdk.cli.client import MAX_ANSWER_BYTES, AgentClient, Answer, path_of
from kagent_sdk.errors import ProtocolError
from kagent_sdk.protocol.sse import SseParser

if TYPE_CHECKING:
    from collections.abc import Generator

    from kagent_sdk.protocol.sse import SseEvent

TASKS_PATH = "/v1/tasks"


class TaskUpdate(NamedTuple):
    """One event of a task: ``state``, ``progress``, ``event``, ``gap``, and at the end ``task``."""

    kind: str
    data: object
    size_bytes: int = 0


def send_task(client: AgentClient, document: object) -> Generator[TaskUpdate]:
    """Send a task and yield what happens to it; the last update is the finished task.

    Raises:
        ProblemError: the agent does not take the task.
        UnreachableError: the agent is not there, or the connection broke off.
    """
    return _updates(client, "POST", TASKS_PATH, document)


def follow_task(client: AgentClient, task_id: str) -> Generator[TaskUpdate]:
    """Yield what has happened and happens to a task; the last update is the finished task.

    Raises:
        ProblemError: there is no such task.
        UnreachableError: the agent is not there, or the connection broke off.
    """
    return _updates(client, "GET", f"{TASKS_PATH}{path_of(task_id)}/events")


def _updates(
    client: AgentClient, method: str, path: str, document: object = None
) -> Generator[TaskUpdate]:
    with client.stream(method, path, document) as answer:
        if isinstance(answer, Answer):
            yield TaskUpdate("task", client.answered(answer))
            return
        parser = SseParser(limit_bytes=MAX_ANSWER_BYTES)
        for chunk in answer:
            for event in _feed(parser, chunk):
                yield _parse(event)
                if event.event == "task":
                    return
    raise UnreachableError(
        "the agent ended the connection before the task was done; see: kos-agent tasks",
        code="connection_lost",
    )


def _feed(parser: SseParser, chunk: bytes) -> list[SseEvent]:
    try:
        return parser.feed(chunk)
    except ProtocolError as exc:
        raise UnreachableError(f"the agent sends more than is safe to read: {exc}") from exc


def _parse(event: SseEvent) -> TaskUpdate:
    try:
        return TaskUpdate(event.event, json.loads(event.data), len(event.data))
    except (ValueError, RecursionError):
        raise UnreachableError(
            f"the agent sent an event '{event.event[:40]}' that is not JSON; is the address right?"
        ) from None
