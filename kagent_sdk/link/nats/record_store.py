"""The records of tasks, in their bucket: every write is over what the writer has seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nats.js.errors import KeyDeletedError, KeyNotFoundError, KeyWrongLastSequenceError
from pydantic import ValidationError

from kagent_sdk.link.nats import names
from kagent_sdk.link.nats.bodies import decode_object
from kagent_sdk.link.nats.records import TaskRecord
from kagent_sdk.protocol.tasks import FINAL_STATES, TaskState

if TYPE_CHECKING:
    from kagent_sdk.link.nats.connection import Bus

MAX_RACES = 20
"""Writes that somebody else was faster with; nobody writes so often unless something is wrong."""


class RecordRaceError(TimeoutError):
    """The record was written by others again and again; to be tried later."""


class RecordError(Exception):
    """The record is none: somebody has written what no agent writes."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A record, and the revision at which it was seen; 0 where there was none."""

    record: TaskRecord | None
    revision: int


class RecordStore:
    """Reads and writes records. All methods raise `FAILURES` when the server is away."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def read(self, agent: str, task: str) -> Seen:
        """Return a task's record.

        Raises:
            RecordError: what is there is no record.
        """
        return await self.read_key(names.task_key(agent, task))

    async def read_key(self, key: str) -> Seen:
        """Return the record of a key of the bucket; see `read`."""
        try:
            entry = await self._bus.tasks.get(key)
        except KeyDeletedError as exc:
            return Seen(None, exc.entry.revision or 0)
        except KeyNotFoundError:
            return Seen(None, 0)
        revision = entry.revision or 0
        try:
            return Seen(TaskRecord.model_validate_json(entry.value or b""), revision)
        except ValidationError:
            raise RecordError(f"the record {key} is malformed") from None

    async def write(self, record: TaskRecord, revision: int) -> int | None:
        """Write a record over the revision that was seen; None when it was written meanwhile."""
        key = names.task_key(record.agent, record.task)
        body = record.model_dump_json(exclude_defaults=True).encode()
        try:
            return await self._bus.tasks.update(key, body, last=revision)
        except KeyWrongLastSequenceError:
            return None

    async def end(
        self, record: TaskRecord, document: bytes, *, is_by_holder: bool = True
    ) -> str | None:
        """Write how a task has ended, if it is still the writer's.

        Args:
            record: the task as the writer knows it: its lease is what entitles to this.
            document: the task as an agent answers it, a JSON object.
            is_by_holder: the agent that has the task says so; else its lease is no more.

        Returns:
            None when it is written, by now or before; otherwise why it is refused.

        Raises:
            RecordError: what is there is no record.
            ValueError: the document is no task that has ended.
        """
        ended = await self._with_result(record, document)
        for _ in range(MAX_RACES):
            seen = await self.read(record.agent, record.task)
            if seen.record is not None:
                if seen.record.lease != record.lease:
                    return "ended" if seen.record.has_ended else "lease_lost"
                if seen.record.has_ended:
                    return None
                ended = seen.record.with_changes(
                    state=ended.state,
                    result=ended.result,
                    result_object=ended.result_object,
                    **({} if is_by_holder else {"lease": None}),
                )
            if await self.write(ended, seen.revision) is not None:
                await self._bus.client.publish(names.ended_subject(record.agent, record.task))
                return None
        raise RecordRaceError

    async def _with_result(self, record: TaskRecord, document: bytes) -> TaskRecord:
        result = await decode_object(document)
        state = TaskState(result.get("state", ""))
        if state not in FINAL_STATES:
            raise ValueError(f"a task that is {state} has not ended")
        if len(document) <= self._bus.inline_bytes:
            return record.with_changes(state=state, result=result)
        # With the lease in its name, nobody who lost the task writes over it.
        name = f"result.{names.task_key(record.agent, record.task)}.{record.lease or 'none'}"
        await self._bus.blobs.put(name, document)
        return record.with_changes(state=state, result_object=name)
