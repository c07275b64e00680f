"""The tasks that this replica has: they are kept, and let go of when they are another's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kagent_sdk.link.nats import names
from kagent_sdk.link.nats.connection import FAILURES, describe
from kagent_sdk.link.nats.record_store import RecordError, RecordStore, Seen
from kagent_sdk.link.nats.records import TaskRecord
from kagent_sdk.protocol.headers import is_task_id
from kagent_sdk.protocol.link import Held

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from kagent_sdk.link.nats.connection import Bus
    from kagent_sdk.link.port import LinkHost, LinkStatus

IN_PROGRESS = b"+WPI"
ACK = b"+ACK"
"""https://docs.nats.io/reference/reference-protocols/nats_api_reference (Acknowledging Messages)"""

BEATS_PER_WAIT = 3
"""How often a task is kept in the time that the server waits: two words may be lost."""


@dataclass(slots=True)
class Holding:
    """A task that this replica has.

    Attributes:
        record: as this replica has written it.
        revision: of that record.
        is_cancelled: its host knows that its caller wants no more of it.
    """

    record: TaskRecord
    revision: int
    is_cancelled: bool = False

    @property
    def held(self) -> Held:
        """What the host knows it by."""
        return Held(task=self.record.task, lease=self.record.lease or "")


class Holdings:
    """Keeps what this replica has."""

    def __init__(self, bus: Bus, host: LinkHost, status: LinkStatus) -> None:
        self._bus = bus
        self._host = host
        self._status = status
        self._records = RecordStore(bus)
        self._held: dict[str, Holding] = {}
        self.ack_wait_s = bus.limits.ack_wait_s

    def find(self, task: str, lease: str | None = None) -> Holding | None:
        """Return a task that is held, under this lease if one is given."""
        holding = self._held.get(task)
        if holding is None or lease not in (None, holding.record.lease):
            return None
        return holding

    def add(self, record: TaskRecord, revision: int) -> None:
        """Hold a task from now on, in the place of what is held of it."""
        self._held[record.task] = Holding(record, revision, is_cancelled=record.is_cancelled)

    def settle(self, record: TaskRecord) -> None:
        """Tell the host, which has the task by now, what it may not have heard: that it is cancelled."""
        holding = self.find(record.task, record.lease)
        if holding is not None and holding.is_cancelled:
            self._host.cancel(holding.held)

    def drop(self, record: TaskRecord) -> None:
        """Hold it no more."""
        if self.find(record.task, record.lease):
            del self._held[record.task]

    def names_of_host(self) -> dict[str, str]:
        """Return the tasks that the host says it has, and their leases."""
        return {held.task: held.lease for held in self._host.heartbeat().tasks}

    async def acknowledge(self, record: TaskRecord) -> None:
        """Let go of a task's message: its end is written."""
        self.drop(record)
        if record.ack is not None:
            await self._bus.client.publish(record.ack, ACK)

    async def keep(self) -> None:
        """Tell the server again and again that what is held is worked on; until cancelled."""
        while True:
            await asyncio.sleep(self.ack_wait_s / BEATS_PER_WAIT)
            if not self._bus.is_up:
                continue
            try:
                for holding in list(self._held.values()):
                    if holding.record.ack is not None:
                        await self._bus.client.publish(holding.record.ack, IN_PROGRESS)
            except FAILURES as exc:
                self._host.log("debug", "link_keep_failed", error=describe(exc))

    async def listen(self, agent: str) -> None:
        """Look at the records of tasks when others say so; until the connection ends."""
        await self._bus.client.subscribe(names.look_subject(agent), cb=self._on_look)

    async def _on_look(self, message: Msg) -> None:
        task = bytes(message.data[:200]).decode("utf-8", "replace")
        if is_task_id(task) and task in self._held:
            await self._look_safely(task)

    async def look(self) -> None:
        """Look at the record of every task that this replica or its host has.

        Raises:
            FAILURES: the server is away.
        """
        for task, lease in self.names_of_host().items():
            if task not in self._held:
                await self._resume(task, lease)
        for task in list(self._held):
            await self._look_at(task)

    async def _resume(self, task: str, lease: str) -> None:
        """Take up a task that the host has from before: it, or the connection, was restarted."""
        registration = self._host.registration()
        try:
            seen = await self._records.read(registration.agent, task)
        except RecordError as exc:
            self._host.log("warning", "link_record_malformed", task_id=task, error=str(exc))
            return
        record = seen.record
        if record is None or (record.lease == lease and record.has_ended):
            # Nothing to keep: its end, when it comes, is judged then; if it was not begun it is not.
            self._host.confirm([Held(task=task, lease=lease)], in_force=False)
            return
        if record.lease != lease:
            self._lose(Held(task=task, lease=lease))
            return
        await self.adopt(record, seen.revision)

    async def adopt(self, record: TaskRecord, revision: int) -> None:
        """Hold a task that is this agent's by its lease, and write that it is missed no more."""
        instance = self._host.registration().instance
        kept = record.with_changes(instance=instance, missed_at=None)
        written = await self._records.write(kept, revision)
        if written is None:
            return  # the next look sees what has been written
        self.add(kept, written)
        self._host.confirm([Holding(kept, written).held])
        self.settle(kept)
        if kept.ack is not None:
            await self._bus.client.publish(kept.ack, IN_PROGRESS)

    async def _look_safely(self, task: str) -> None:
        try:
            await self._look_at(task)
        except FAILURES as exc:
            self._host.log("debug", "link_look_failed", task_id=task, error=describe(exc))

    async def _look_at(self, task: str) -> None:
        holding = self._held.get(task)
        if holding is None:
            return
        try:
            seen = await self._records.read(holding.record.agent, task)
        except RecordError as exc:
            self._host.log("warning", "link_record_malformed", task_id=task, error=str(exc))
            return
        if self._held.get(task) is holding and seen.revision > holding.revision:
            await self._compare(holding, seen)

    async def _compare(self, holding: Holding, seen: Seen) -> None:
        """Act on what others have written since this replica wrote."""
        record = seen.record
        if record is None:
            return
        if record.lease != holding.record.lease or record.has_ended:
            self.drop(holding.record)
            if record.lease != holding.record.lease:
                self._lose(holding.held)
            return
        holding.record, holding.revision = record, seen.revision
        if record.is_cancelled and not holding.is_cancelled:
            holding.is_cancelled = True
            self._host.cancel(holding.held)
        if record.missed_at is not None:
            await self.adopt(record, seen.revision)

    def _lose(self, held: Held) -> None:
        self._status.lost += 1
        self._host.log("warning", "link_lease_lost", task_id=held.task)
        self._host.lose(held)
