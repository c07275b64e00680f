"""Clears streams of tasks of messages that the server has forgotten to remove.

A nats-server that is killed may come back with a consumer that knows of an acknowledgement and a
stream that does not (seen with 2.9.10): such a message is never delivered again, and would take a
place in the stream for ever.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nats.js.errors import NotFoundError
from pydantic_core import from_json

from kagent_sdk.link.nats import names
from kagent_sdk.link.nats.connection import FAILURES, describe
from kagent_sdk.link.nats.record_store import RecordError, RecordStore

if TYPE_CHECKING:
    from nats.js.api import RawStreamMsg

    from kagent_sdk.link.nats.connection import Bus
    from kagent_sdk.link.port import LinkHost

MAX_LOOKED_AT = 10_000
"""Messages of one stream in one go; the rest has time until the server is restarted again."""


class Sweeper:
    """Looks after each interruption of the connection."""

    def __init__(self, bus: Bus, host: LinkHost) -> None:
        self._bus = bus
        self._host = host
        self._records = RecordStore(bus)
        self._wanted = asyncio.Event()

    def ask(self) -> None:
        """Have it looked at again."""
        self._wanted.set()

    async def run(self) -> None:
        """Sweep whenever it is asked for, until cancelled; what fails is left for the next time."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            for capability in self._host.registration().capabilities:
                try:
                    await self.sweep(capability.name)
                except FAILURES as exc:
                    self._host.log("debug", "link_sweep_failed", error=describe(exc))

    async def sweep(self, capability: str) -> int:
        """Remove messages of tasks that have ended and that no replica will be given; say how many.

        Raises:
            FAILURES: the server is away, or does not allow it.
        """
        agent = self._host.registration().agent
        stream = names.tasks_stream(agent, capability)
        js = self._bus.js
        try:
            consumer = await js.consumer_info(stream, names.CONSUMER)
            state = (await js.stream_info(stream)).state
        except NotFoundError:
            return 0
        known = (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)
        delivered = consumer.delivered.stream_seq if consumer.delivered else 0
        sequence, removed = state.first_seq, 0
        for _ in range(min(MAX_LOOKED_AT, state.messages)):
            if state.messages - removed <= known or sequence > delivered:
                break
            subject = names.tasks_subject(agent, capability)
            try:
                message = await js.get_msg(stream, seq=sequence, subject=subject, next=True)
            except NotFoundError:
                break
            sequence = (message.seq or sequence) + 1
            if message.seq is not None and await self._has_ended(agent, message):
                await js.delete_msg(stream, message.seq)
                removed += 1
        return removed

    async def _has_ended(self, agent: str, message: RawStreamMsg) -> bool:
        task = (message.headers or {}).get("Nats-Msg-Id") or _id_of(message.data)
        if task is None:
            return False
        try:
            record = (await self._records.read(agent, task)).record
        except RecordError:
            return False
        return record is not None and record.has_ended and record.sequence == message.seq


def _id_of(body: bytes | None) -> str | None:
    try:
        members = from_json(body or b"")
    except ValueError:
        return None
    found = members.get("id") if isinstance(members, dict) else None
    return found if isinstance(found, str) else None
