"""Calls through NATS: the same tasks, without an orchestrator in the middle."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from kagent_sdk.cli.boundary import CommandError
from kagent_sdk.cli.nats_session import SAME_ID, NatsSession, open_session
from kagent_sdk.cli.output import say
from kagent_sdk.cli.task_stream import TaskUpdate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator

    from kagent_sdk.cli.target import Target
    from kagent_sdk.link.nats.caller import NatsCaller, Submission
    from kagent_sdk.link.nats.records import TaskRecord

CANCEL_S = 5.0
AWAY_S = 60.0
"""How long a server that is lost in the middle of a call is waited for: it may be restarted."""

RETRY_S = 0.5


@contextmanager
def open_nats(target: Target) -> Iterator[NatsCalls]:
    """Connect to a NATS server, for the time of the block; see `open_session` for the errors."""
    with open_session(target) as session:
        yield NatsCalls(session)


class NatsCalls:
    """See `kagent_sdk.cli.calls.Calls`.

    Args:
        session: sends the tasks.
    """

    def __init__(self, session: NatsSession) -> None:
        self._session = session
        self._caller = session.caller
        self._sent: dict[str, str] = {}

    def start(self, document: dict[str, Any]) -> dict[str, Any]:
        """See `Calls.start`."""

        async def start() -> dict[str, Any]:
            record = await self._submit(_submission(document))
            return await self._caller.document(record)

        return self._session.run(start(), SAME_ID)

    def send(self, document: dict[str, Any]) -> Generator[TaskUpdate]:
        """See `Calls.send`."""
        return self._session.drain(
            follow(self._caller, partial(self._submit, _submission(document)))
        )

    def cancel(self, task_id: str) -> None:
        """See `Calls.cancel`."""
        from kagent_sdk.link.nats import jobs  # noqa: PLC0415 - the extra

        agent = self._sent.get(task_id)
        if agent is None:
            raise CommandError("it is not known to have been sent", code="unknown_task")

        async def cancel() -> None:
            await jobs.finish(self._caller.cancel(agent, task_id), CANCEL_S)

        self._session.run(cancel())

    def capabilities(self) -> list[dict[str, Any]]:
        """See `Calls.capabilities`."""
        found: dict[str, dict[str, Any]] = {}
        for agent in self._session.run(self._caller.registry.agents()):
            for one in agent.capabilities:
                # Replicas of one release say the same.
                entry = {"agent": agent.agent, **one.model_dump(mode="json")}
                found.setdefault(json.dumps(entry, sort_keys=True), entry)
        return sorted(found.values(), key=lambda one: (one["agent"], one["name"]))

    def follow_hint(self, task_id: str) -> str:
        """See `Calls.follow_hint`."""
        return f"wait for its end: type the same call with --id {task_id}"

    async def _submit(self, submission: Submission) -> TaskRecord:
        record = await self._caller.submit(submission)
        self._sent[record.task] = record.agent
        return record


async def follow(
    caller: NatsCaller, find: Callable[[], Awaitable[TaskRecord]]
) -> AsyncGenerator[TaskUpdate]:
    """Yield what happens to a task; when the server is lost, go on where it was as it is back.

    Args:
        caller: talks to NATS.
        find: finds the task, or sends it.
    """
    from kagent_sdk.link.nats.connection import FAILURES  # noqa: PLC0415 - the extra

    seen = (0, 0)
    lost_at_s: float | None = None
    while True:
        try:
            record = await find()
            async with aclosing(_events(caller, record)) as events:
                async for place, update in events:
                    lost_at_s = None
                    if place > seen:
                        seen = place
                        yield update
            ended = await caller.find(record.agent, record.task)
            if ended is not None and ended.has_ended:
                yield TaskUpdate("task", await caller.document(ended))
                return
        except FAILURES:
            now_s = time.monotonic()
            if lost_at_s is None:
                lost_at_s = now_s
                say("the NATS server does not answer; waiting for it")
            if now_s - lost_at_s > AWAY_S:
                raise
        await asyncio.sleep(RETRY_S)


async def _events(
    caller: NatsCaller, record: TaskRecord
) -> AsyncGenerator[tuple[tuple[int, int], TaskUpdate]]:
    """Yield the events of a task with their places; what is none is left out."""
    async with aclosing(caller.events(record.agent, record.task)) as events:
        async for event in events:
            try:
                payload = json.loads(event.payload)
            except (ValueError, RecursionError):
                continue
            if not isinstance(payload, dict) or payload.get("event") == "task":
                continue
            number = payload.get("id")
            place = (event.attempt, number if type(number) is int else 0)
            kind = str(payload.get("event"))
            yield place, TaskUpdate(kind, payload.get("data"), len(event.payload))


def _submission(document: dict[str, Any]) -> Submission:
    """Return a request of ``POST /v1/tasks`` as what NATS is given."""
    from kagent_sdk.link.nats.bodies import encode  # noqa: PLC0415 - the extra
    from kagent_sdk.link.nats.caller import Submission  # noqa: PLC0415

    agent, slash, name = str(document["capability"]).rpartition("/")
    return Submission(
        task=str(document["id"]),
        capability=name,
        input=encode(document["input"]),
        agent=agent if slash else None,
        timeout_s=document.get("timeout_s"),
    )
