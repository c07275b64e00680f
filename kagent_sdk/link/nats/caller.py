"""Sends tasks to agents over NATS: for agents that call agents, for tools and for tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from kagent_sdk.link.nats import bodies, jobs, names
from kagent_sdk.link.nats.blobs import BlobMissingError
from kagent_sdk.link.nats.record_store import RecordRaceError, RecordStore
from kagent_sdk.link.nats.records import TaskRecord, end_document
from kagent_sdk.link.nats.registry import Registry
from kagent_sdk.link.nats.task_index import TaskIndex
from kagent_sdk.link.port import CallFailedError
from kagent_sdk.protocol.headers import is_task_id, parse_traceparent
from kagent_sdk.protocol.link import ATTEMPT_HEADER, HOPS_HEADER
from kagent_sdk.protocol.tasks import TaskFailure, TaskState

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js.api import RawStreamMsg

    from kagent_sdk.link.nats.connection import Bus

MAX_RESULT_BYTES = 64 * 1024 * 1024
MAX_RACES = 10
_QUEUE_FULL = 10077
"""The server's code for a stream that takes no more messages."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A task for an agent. ``input`` and ``metadata`` are raw JSON.

    Attributes:
        task: its id: the same when it is sent again.
        agent: by name; None for any agent that offers the capability and has the labels.
    """

    task: str
    capability: str
    input: bytes
    agent: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    metadata: bytes = b"{}"
    traceparent: str = ""
    hops: int = 0


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One event of a task: ``payload`` is ``{"id": n, "event": name, "data": …}``, as raw JSON."""

    attempt: int
    payload: bytes


class NatsCaller:
    """Submits tasks and follows them. All methods raise `FAILURES` when the server is away.

    What was begun and failed may be done again, with the same id: it is the same task.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._records = RecordStore(bus)
        self.registry = Registry(bus)
        self.index = TaskIndex(bus)

    async def submit(self, submission: Submission) -> TaskRecord:
        """Send a task, or find the one of this id; return its record.

        Raises:
            CallFailedError: nobody offers the capability, its queue is full, or the id is that of
                another task.
        """
        if not is_task_id(submission.task):
            raise CallFailedError(TaskFailure("invalid_input", "this cannot be a task's id"))
        agent = await self._agent_for(submission)
        digest = bodies.digest(submission.capability, submission.input)
        for _ in range(MAX_RACES):
            seen = await self._records.read(agent, submission.task)
            record, revision = seen.record, seen.revision
            if record is None:
                record = _new_record(submission, agent, digest)
                written = await self._records.write(record, revision)
                if written is None:
                    continue
                revision = written
            if record.digest not in (None, digest):
                raise CallFailedError(
                    TaskFailure("conflict", "the id is that of a task with another input")
                )
            if not record.has_ended and record.sequence is None:
                await self._publish(submission, record, revision)
            return record
        raise RecordRaceError

    async def find(self, agent: str, task: str) -> TaskRecord | None:
        """Return the record of a task; None when there is none."""
        return (await self._records.read(agent, task)).record

    async def wait(self, agent: str, task: str, wait_s: float | None = None) -> TaskRecord | None:
        """Return the record of a task when the task has ended, or as it is when the time is over."""
        with suppress(jobs.OverdueError):
            await jobs.finish(self._end_of(agent, task), wait_s)
        return await self.find(agent, task)

    async def _end_of(self, agent: str, task: str) -> None:
        async for _ in self.events(agent, task, with_items=False):
            pass

    async def document(self, record: TaskRecord) -> dict[str, Any]:
        """Return a task as its agent answers it, whether it has ended or not.

        Raises:
            CallFailedError: its end is known, but its output is not kept any more.
        """
        if record.result is not None:
            return {**record.result, "agent": record.agent}
        if record.result_object is not None:
            try:
                body = await self._bus.blobs.get(record.result_object, MAX_RESULT_BYTES)
                return {**await bodies.decode_object(body), "agent": record.agent}
            except (BlobMissingError, ValueError):
                raise CallFailedError(
                    TaskFailure("unreachable", "the task has ended, but its output is gone")
                ) from None
        return self.summary(record)

    @staticmethod
    def summary(record: TaskRecord) -> dict[str, Any]:
        """Return a task as a list of tasks has it: without its output, and without asking further."""
        if record.result is not None:
            return {**record.result, "output": None, "agent": record.agent}
        document = end_document(record, TaskFailure("", ""), record.created_at)
        return document | {"state": str(record.state), "error": None, "finished_at": None}

    async def cancel(self, agent: str, task: str) -> None:
        """Say that nobody wants a task any more; one that waits ends at once."""
        for _ in range(MAX_RACES):
            seen = await self._records.read(agent, task)
            record = seen.record
            if record is None or record.has_ended or record.is_cancelled:
                return
            cancelled = record.with_changes(is_cancelled=True)
            if record.lease is None:
                failure = TaskFailure("canceled", "canceled by its caller")
                cancelled = cancelled.with_changes(
                    state=TaskState.CANCELED, result=end_document(record, failure, time.time())
                )
            if await self._records.write(cancelled, seen.revision) is not None:
                client = self._bus.client
                if record.lease is None:
                    await client.publish(names.ended_subject(agent, task))
                else:
                    await client.publish(names.look_subject(agent), task.encode())
                return
        raise RecordRaceError

    async def events(
        self, agent: str, task: str, *, with_items: bool = True
    ) -> AsyncGenerator[TaskEvent]:
        """Yield the events of a task from its first one on, until it has ended.

        When an agent is lost and another one begins anew, its events follow, with a higher attempt;
        what still comes of the attempts before is left out.

        Args:
            agent: its name.
            task: the task's id; it is waited for when there is none as yet.
            with_items: False to yield nothing, and return at the end.
        """
        look = asyncio.Event()

        async def on_message(_: Msg) -> None:
            look.set()

        self._bus.listen(look.set)
        subjects = [names.ended_subject(agent, task)]
        if with_items:
            subjects.append(names.events_subject(agent, task))
        subscriptions = [await self._bus.client.subscribe(one, cb=on_message) for one in subjects]
        reader = _EventReader(self._bus, names.events_subject(agent, task))
        try:
            while True:
                look.clear()
                record = await self.find(agent, task)
                if with_items:
                    async for event in reader.read():
                        yield event
                if record is not None and record.has_ended:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._bus.limits.look_s):
                        await look.wait()
        finally:
            self._bus.unlisten(look.set)
            if not self._bus.client.is_closed:
                for subscription in subscriptions:
                    await subscription.unsubscribe()

    async def _agent_for(self, submission: Submission) -> str:
        if submission.agent is not None:
            return submission.agent
        key = names.route_key(submission.task)
        try:
            return await self._route(key)
        except NotFoundError:
            pass
        agent = await self.registry.choose(submission.capability, submission.labels)
        if agent is None:
            raise CallFailedError(_unknown(submission))
        try:
            await self._bus.tasks.create(key, agent.encode())
        except APIError:
            # Sent twice at once: the first choice is the one.
            return await self._route(key)
        return agent

    async def _route(self, key: str) -> str:
        return bytes((await self._bus.tasks.get(key)).value or b"").decode()

    async def _publish(self, submission: Submission, record: TaskRecord, revision: int) -> None:
        body = bodies.envelope(
            submission.task,
            submission.capability,
            submission.input,
            submission.timeout_s,
            submission.metadata,
        )
        name = f"input.{names.task_key(record.agent, record.task)}"
        body, headers = await self._bus.blobs.pack(name, body, self._bus.inline_bytes)
        headers |= {"Nats-Msg-Id": submission.task, HOPS_HEADER: str(submission.hops)}
        if submission.traceparent:
            headers["traceparent"] = submission.traceparent
        subject = names.tasks_subject(record.agent, record.capability)
        try:
            await self._bus.js.publish(subject, body, headers=headers)
        except NoStreamResponseError:
            failure = _unknown(submission)
        except APIError as exc:
            if exc.err_code != _QUEUE_FULL:
                raise
            failure = TaskFailure("queue_full", "too many tasks wait for this", retryable=True)
        else:
            return
        await self._bus.tasks.delete(names.task_key(record.agent, record.task), last=revision)
        raise CallFailedError(failure)


class _EventReader:
    """Reads on in the events of one task, whatever became of the connection meanwhile."""

    def __init__(self, bus: Bus, subject: str) -> None:
        self._bus = bus
        self._subject = subject
        self._next = 1
        self._attempt = 0

    async def read(self) -> AsyncIterator[TaskEvent]:
        """Yield what has come since."""
        while (message := await self._fetch()) is not None:
            self._next = (message.seq or 0) + 1
            headers = message.headers or {}
            text = headers.get(ATTEMPT_HEADER, "0")[:9]
            attempt = int(text) if text.isascii() and text.isdecimal() else 0
            if attempt < self._attempt:
                continue
            self._attempt = attempt
            try:
                body = await self._bus.blobs.unpack(message.data, headers, MAX_RESULT_BYTES)
            except BlobMissingError:
                continue
            yield TaskEvent(attempt, body)

    async def _fetch(self) -> RawStreamMsg | None:
        try:
            return await self._bus.js.get_msg(
                names.EVENTS, seq=self._next, subject=self._subject, next=True, direct=True
            )
        except NotFoundError:
            return None


def _new_record(submission: Submission, agent: str, digest: str) -> TaskRecord:
    trace = parse_traceparent(submission.traceparent)
    return TaskRecord(
        task=submission.task,
        agent=agent,
        capability=submission.capability,
        created_at=time.time(),
        digest=digest,
        trace_id=trace.trace_id if trace else None,
    )


def _unknown(submission: Submission) -> TaskFailure:
    who = f"agent {submission.agent}" if submission.agent else "no agent that is there"
    what = "does not offer" if submission.agent else "offers"
    labels = " with these labels" if submission.labels else ""
    return TaskFailure(
        "unknown_capability", f"{who} {what} {submission.capability[:64]}{labels}", retryable=True
    )
