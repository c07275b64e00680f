"""Takes a message of a stream of tasks: claims the task, and gives it to the host."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kagent_sdk.link.nats import names
from kagent_sdk.link.nats.blobs import BlobMissingError
from kagent_sdk.link.nats.bodies import digest, encode
from kagent_sdk.link.nats.holdings import ACK, Holding
from kagent_sdk.link.nats.record_store import RecordError, RecordRaceError, RecordStore, Seen
from kagent_sdk.link.nats.records import (
    Delivery,
    Rules,
    TaskRecord,
    Verdict,
    end_document,
    judge,
    lease_word,
    seconds_left,
)
from kagent_sdk.link.port import OfferRefusedError
from kagent_sdk.protocol.envelope import EnvelopeError, parse_envelope
from kagent_sdk.protocol.headers import parse_traceparent
from kagent_sdk.protocol.json_text import SMALL_BYTES
from kagent_sdk.protocol.link import HOPS_HEADER, MAX_HOPS, Offer
from kagent_sdk.protocol.tasks import TaskFailure, TaskState

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from kagent_sdk.link.nats.connection import Bus
    from kagent_sdk.link.nats.holdings import Holdings
    from kagent_sdk.link.port import LinkHost
    from kagent_sdk.protocol.envelope import Envelope
    from kagent_sdk.protocol.manifest import CapabilityManifest

MAX_RACES = 5
LOST = TaskFailure(
    "agent_lost",
    "the agents that had the task were lost, and it is not tried again",
    retryable=True,
)
CANCELED = TaskFailure("canceled", "canceled by its caller")
TIMED_OUT = TaskFailure("timeout", "its time was over before an agent took it", retryable=True)
CIRCLE = TaskFailure("too_many_hops", f"the call has passed {MAX_HOPS} agents: it goes in a circle")


@dataclass(frozen=True, slots=True)
class Task:
    """What came in one message."""

    message: Msg
    envelope: Envelope
    id: str
    delivery: Delivery
    stored_at: float
    capability: CapabilityManifest
    traceparent: str
    hops: int


class Taker:
    """Decides what becomes of messages, one after the other."""

    def __init__(self, bus: Bus, host: LinkHost, holdings: Holdings, max_body_bytes: int) -> None:
        self._bus = bus
        self._host = host
        self._holdings = holdings
        self._records = RecordStore(bus)
        self._max_body_bytes = max_body_bytes

    async def take(self, message: Msg, capability: CapabilityManifest) -> None:
        """Deal with a message; it is acknowledged, given back or held when this returns.

        Raises:
            FAILURES: the server is away; the message comes again.
        """
        if not await self._has_room():
            await message.nak()  # to a replica that has room
            return
        try:
            task = await self._read(message, capability)
        except (EnvelopeError, BlobMissingError, ValueError) as exc:
            self._host.log("warning", "link_task_malformed", error=str(exc)[:200])
            await self._bury(message, capability.name, None, "malformed")
            await message.term()
            return
        for _ in range(MAX_RACES):
            if await self._settle(task):
                return
        raise RecordRaceError

    async def _has_room(self) -> bool:
        try:
            async with asyncio.timeout(self._bus.limits.room_s):
                await self._host.wait_for_room()
        except TimeoutError:
            return False
        return True

    async def _read(self, message: Msg, capability: CapabilityManifest) -> Task:
        body = await self._bus.blobs.unpack(message.data, message.headers, self._max_body_bytes)
        if len(body) > self._max_body_bytes:
            raise ValueError(f"the task has {len(body)} bytes, over {self._max_body_bytes}")
        if len(body) > SMALL_BYTES:
            envelope = await asyncio.to_thread(parse_envelope, body)
        else:
            envelope = parse_envelope(body)
        if envelope.capability != capability.name:
            raise ValueError("the task is for another capability than the stream")
        found = message.metadata
        headers = message.headers or {}
        hops = headers.get(HOPS_HEADER, "0")
        sequence = found.sequence.stream
        return Task(
            message,
            envelope,
            envelope.id or names.task_id_of(capability.name, sequence, found.timestamp),
            Delivery(sequence, found.num_delivered),
            found.timestamp.timestamp(),
            capability,
            headers.get("traceparent", "")[:100],
            int(hops) if hops.isascii() and hops.isdecimal() and len(hops) < 6 else 0,
        )

    async def _settle(self, task: Task) -> bool:
        """Do what the record says; False when the record was written meanwhile."""
        agent = self._host.registration().agent
        try:
            seen = await self._records.read(agent, task.id)
        except RecordError as exc:
            self._host.log("warning", "link_record_malformed", task_id=task.id, error=str(exc))
            await self._bury(task.message, task.capability.name, task.id, "malformed_record")
            await task.message.term()
            return True
        if self._is_ours(task, seen.record):
            return await self._renew(task, seen)
        return await self._act(task, self._without_own_claim(task, seen), agent)

    async def _act(self, task: Task, seen: Seen, agent: str) -> bool:
        limits, capability = self._bus.limits, task.capability
        rules = Rules(capability.idempotent, capability.max_attempts, limits.lost_after_s)
        record = seen.record or self._fresh(agent, task)
        match judge(seen.record, task.delivery, rules, time.time()):
            case Verdict.CLAIM:
                return await self._claim(task, record, seen.revision)
            case Verdict.CANCEL:
                return await self._end(task, record, CANCELED)
            case Verdict.WAIT:
                return await self._wait(task, record, seen.revision)
            case Verdict.BURY:
                await self._bury(task.message, capability.name, task.id, "agent_lost")
                return await self._end(task, record, LOST)
            case Verdict.DROP | Verdict.IGNORE as verdict:
                if verdict is Verdict.DROP:
                    await task.message.ack()
                return True

    def _is_ours(self, task: Task, record: TaskRecord | None) -> bool:
        if record is None or record.lease is None or record.has_ended:
            return False
        if record.sequence != task.delivery.sequence:
            return False
        if self._holdings.find(task.id, record.lease) is not None:
            return True
        return self._holdings.names_of_host().get(task.id) == record.lease

    def _without_own_claim(self, task: Task, seen: Seen) -> Seen:
        """Overlook a claim that this host has written and nobody has confirmed to it.

        The connection was lost meanwhile, and the task never given to the host: what a host has, it
        names. Without this a task that must not run twice would wait in vain for this very agent.
        """
        record = seen.record
        if (
            record is None
            or record.lease is None
            or record.has_ended
            or record.sequence != task.delivery.sequence
            or record.instance != self._host.registration().instance
        ):
            return seen
        unclaimed = record.with_changes(lease=None, instance=None, attempt=record.attempt - 1)
        return Seen(unclaimed, seen.revision)

    async def _renew(self, task: Task, seen: Seen) -> bool:
        """Keep on with a task that was delivered again to the replica that has it."""
        assert seen.record is not None
        renewed = seen.record.with_changes(
            delivery=task.delivery.count, ack=task.message.reply, missed_at=None
        )
        written = await self._records.write(renewed, seen.revision)
        if written is None:
            return False
        self._holdings.add(renewed, written)
        self._host.confirm([Holding(renewed, written).held])
        self._holdings.settle(renewed)
        await task.message.in_progress()
        return True

    def _fresh(self, agent: str, task: Task) -> TaskRecord:
        """Return the record of a task that was published by hand."""
        trace = parse_traceparent(task.traceparent)
        return TaskRecord(
            task=task.id,
            agent=agent,
            capability=task.capability.name,
            created_at=task.stored_at,
            digest=digest(task.capability.name, task.envelope.input),
            trace_id=trace.trace_id if trace else None,
        )

    async def _claim(self, task: Task, record: TaskRecord, revision: int) -> bool:
        left_s = seconds_left(task.envelope.timeout_s, task.stored_at, time.time())
        if left_s is not None and left_s <= 0:
            return await self._end(task, record, TIMED_OUT)
        if task.hops > MAX_HOPS:
            return await self._end(task, record, CIRCLE)
        claimed = record.with_changes(
            state=TaskState.WORKING,
            lease=lease_word(task.delivery, secrets.token_hex(12)),
            instance=self._host.registration().instance,
            attempt=record.attempt + 1,
            sequence=task.delivery.sequence,
            delivery=task.delivery.count,
            ack=task.message.reply,
            missed_at=None,
        )
        written = await self._records.write(claimed, revision)
        if written is None:
            return False
        if record.lease is not None:
            await self._tell_others(task.id, claimed.agent)
        await self._offer(task, claimed, written, left_s)
        return True

    async def _offer(
        self, task: Task, record: TaskRecord, revision: int, left_s: float | None
    ) -> None:
        assert record.lease is not None
        offer = Offer(
            task=task.id,
            lease=record.lease,
            capability=record.capability,
            input=task.envelope.input,
            timeout_s=left_s,
            metadata=task.envelope.metadata,
            traceparent=task.traceparent,
            attempt=record.attempt,
            hops=task.hops,
        )
        self._holdings.add(record, revision)
        try:
            await self._host.take(offer)
        except OfferRefusedError as exc:
            self._holdings.drop(record)
            if exc.failure.retryable:
                await self._give_back(task, record, revision, exc.retry_after_s)
            else:
                await self._end(task, record, exc.failure)
        else:
            self._holdings.settle(record)

    async def _give_back(
        self, task: Task, record: TaskRecord, revision: int, retry_after_s: float
    ) -> None:
        released = record.with_changes(
            state=TaskState.SUBMITTED, lease=None, instance=None, attempt=record.attempt - 1
        )
        await self._records.write(released, revision)
        await task.message.nak(delay=max(retry_after_s, 0.01))

    async def _wait(self, task: Task, record: TaskRecord, revision: int) -> bool:
        """Give the agent that has the task time to come back: it must not run twice."""
        if record.missed_at is None:
            missed = record.with_changes(missed_at=time.time())
            if await self._records.write(missed, revision) is None:
                return False
            await self._tell_others(task.id, record.agent)
        await task.message.nak(delay=max(self._bus.limits.lost_after_s / 10, 0.05))
        return True

    async def _end(self, task: Task, record: TaskRecord, failure: TaskFailure) -> bool:
        document = encode(end_document(record, failure, time.time()))
        reason = await self._records.end(record, document, is_by_holder=False)
        if reason == "lease_lost":
            return False
        self._host.log("info", "link_task_ended", task_id=task.id, code=failure.code)
        await self._bus.client.publish(task.message.reply, ACK)
        return True

    async def _bury(self, message: Msg, capability: str, task_id: str | None, reason: str) -> None:
        """Keep a copy of what nobody is given any more."""
        agent = self._host.registration().agent
        found = message.metadata
        kept = {key: value for key, value in (message.headers or {}).items() if "Nats-" not in key}
        headers = kept | {
            "Nats-Msg-Id": f"{found.stream}:{found.sequence.stream}",
            "Klink-Reason": reason,
            **({"Klink-Task": task_id} if task_id else {}),
        }
        await self._bus.js.publish(
            names.dead_subject(agent, capability), message.data, headers=headers
        )
        self._host.log("warning", "link_task_buried", task_id=task_id, reason=reason)

    async def _tell_others(self, task: str, agent: str) -> None:
        await self._bus.client.publish(names.look_subject(agent), task.encode())
